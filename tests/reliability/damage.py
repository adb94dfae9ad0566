"""Damage a cache, and check that the next build finds it, makes it good, and has the same digest.

::

    python -m tests.reliability.damage [--seed 1] [--folder DIR]

For each room of the cache and each kind of damage: all its files are damaged in a cache that holds a build of the
example, layers are taken out where the room would not be read otherwise, and the example is built again from loopback.
A line of JSON each: files damaged, files fetched again, and what was wrong: a build that failed, another digest or
other outputs, a blob that still has other bytes than its name says. Exit code 1 if anything was.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nb2image.cache import Store
from tests.reliability.kills import damaged_blobs, sha256_of
from tests.reliability.loopback import EXAMPLE, OPTIONS, Loopback, loopback

__all__ = ["KINDS", "damage"]


def _flipped(path: Path, chosen: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    _rewritten(path, data)


def _truncated(path: Path, chosen: random.Random) -> None:
    data = path.read_bytes()
    _rewritten(path, data[: chosen.randrange(max(1, len(data)))])


def _rewritten(path: Path, data: bytes | bytearray) -> None:
    """Other bytes under the old permissions, and no other name of the file."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("not ours")


KINDS: Mapping[str, Callable[[Path, random.Random], None]] = {
    "one bit": _flipped,
    "cut short": _truncated,
    "empty": lambda path, _: _rewritten(path, b""),
    "gone": lambda path, _: path.unlink(),
    "a folder": lambda path, _: _a_folder(path),
}


class Room(NamedTuple):
    """``take``: what else to take out, so that the room is read. Only bytecode needs a base unpacked."""

    take: tuple[str, ...] = ()
    option: str = "--no-bytecode"


ROOMS: Mapping[str, Room] = {
    "layers": Room(),
    "records": Room(),
    "roots": Room(option="--bytecode"),
    "wheels": Room(("layers",)),
    "bases": Room(("layers", "roots", "records")),
}


def damage(store: Store, room: str, kind: str, chosen: random.Random) -> int:
    """Damage every regular file in a room; returns how many."""
    found = [p for p in sorted((store.root / "v1" / room).rglob("*")) if p.is_file() and not p.is_symlink()]
    for path in found:
        KINDS[kind](path, chosen)
    return len(found)


def _build(folder: Path, served: Loopback, option: str) -> dict[str, str]:
    """Build into new outputs; what they are. Raises `subprocess.CalledProcessError`."""
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    (folder / "outputs").mkdir()
    outputs = ("-o", "outputs/image.tar", "-o", "outputs/layout", "--sbom", "outputs/sbom.json")
    subprocess.run(
        [sys.executable, "-m", "nb2image", "build", *OPTIONS, option, EXAMPLE.name, *outputs, "--quiet"],
        cwd=folder,
        env={**served.environ, "NB2IMAGE_CACHE_DIR": str(folder / "cache")},
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    files = (path for path in (folder / "outputs").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


def _problems(folder: Path, served: Loopback, option: str, wanted: Mapping[str, str]) -> Iterator[str]:
    try:
        found = _build(folder, served, option)
    except subprocess.CalledProcessError as error:
        yield f"exit code {error.returncode}: {error.stderr}"
        return
    if found != wanted:
        yield f"other outputs: {sorted(set(found.items()) ^ set(wanted.items()))}"
    yield from damaged_blobs(Store(folder / "cache"))


def _one_layer_of_bytecode(folder: Path) -> Path:
    """The smallest that there is, in the cache."""
    layers = Path("v1", "layers")
    plain = {path.name for path in (folder / "--no-bytecode" / layers).rglob("*")}
    files = (path for path in (folder / "cache" / layers).rglob("*") if path.is_file() and path.name not in plain)
    return min(files, key=lambda path: path.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="Where to work; a new folder in it is used, and removed.")
    options = parser.parse_args()
    chosen, problems = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        with loopback(folder, Store.default()) as served:
            shutil.copy(EXAMPLE, folder)
            store, wanted = Store(folder / "cache"), {}
            for option in ("--no-bytecode", "--bytecode"):
                wanted[option] = _build(folder, served, option)
                shutil.copytree(store.root, folder / option, symlinks=True)
            for room, (take, option) in ROOMS.items():
                for kind in KINDS:
                    shutil.rmtree(store.root)
                    subprocess.run(["cp", "-al", folder / option, store.root], check=True)
                    for other in take:
                        shutil.rmtree(store.root / "v1" / other, ignore_errors=True)
                    if room == "roots":
                        _one_layer_of_bytecode(folder).unlink()
                    served.server.requests.clear()
                    row = {"room": room, "damage": kind, "files": damage(store, room, kind, chosen)}
                    wrong = list(_problems(folder, served, option, wanted[option]))
                    fetched = sum(not path.startswith("/simple/") for path in served.server.paths())
                    print(json.dumps({**row, "fetched": fetched, "wrong": wrong}), flush=True)
                    problems += len(wrong)
    print(f"{problems} wrong")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
