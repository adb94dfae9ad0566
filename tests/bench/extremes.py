"""Build from input of extreme size; print seconds, peak memory and sizes.

::

    python -m tests.bench.extremes [wheel] [packages] [notebook]

The packages are made up and come from an index on loopback; the base is a few files. ``together`` and ``largest`` are
those of `tests.bench.memory`. The wheel takes four times its 5 GB of disk for a while, below ``TMPDIR``.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.memory import Measured, measured
from tests.unit.index.server import Reply, Request, json_page, serving
from tests.unit.world import Made, World, make_world, notebook, pipfile_lock, wheel

__all__ = ["built", "file_reply", "giant_wheel", "heavy_notebook", "locked_giant", "many_packages", "noise", "sparse"]

_PIECE = 1 << 20


# -- what is large -----------------------------------------------------------------------------------------


def noise() -> bytes:
    """A piece of bytes that do not shrink."""
    return random.Random(0).randbytes(_PIECE)


def sparse() -> bytes:
    """A piece that shrinks to a sixtieth: about the most that does not look like a bomb."""
    return random.Random(0).randbytes(_PIECE // 62).ljust(_PIECE, b"\0")


def giant_wheel(path: Path, piece: bytes, deflated: int, stored: int, level: int) -> dict[str, tuple[int, str]]:
    """Write a wheel ``giant`` of two large members of ``piece`` again and again, as `zipfile` writes what is large.

    ``deflated`` and ``stored`` count the pieces of each; ``level`` is zlib's, where 0 copies. Gives size and sha256
    (hex) of each large member by its name.
    """
    found = {}
    info = "giant-1.0.dist-info"
    rows = ""
    with zipfile.ZipFile(path, "w") as archive:
        for name, method, pieces in (
            ("giant/deflated.bin", zipfile.ZIP_DEFLATED, deflated),
            ("giant/stored.bin", zipfile.ZIP_STORED, stored),
        ):
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o100644 << 16
            member.compress_type = method
            # Python 3.13 made this attribute public as `compress_level`.
            setattr(member, "compress_level" if sys.version_info >= (3, 13) else "_compresslevel", level)
            value = hashlib.sha256()
            with archive.open(member, "w", force_zip64=True) as stream:
                for _ in range(pieces):
                    stream.write(piece)
                    value.update(piece)
            found[name] = (pieces * len(piece), value.hexdigest())
            rows += f"{name},sha256={_unpadded(value.digest())},{pieces * len(piece)}\n"
        small = {
            "METADATA": "Metadata-Version: 2.1\nName: giant\nVersion: 1.0\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        for name, text in small.items():
            archive.writestr(f"{info}/{name}", text)
            rows += f"{info}/{name},sha256={_unpadded(hashlib.sha256(text.encode()).digest())},{len(text)}\n"
        archive.writestr(f"{info}/RECORD", f"{rows}{info}/RECORD,,\n")
    return found


def _unpadded(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")


def file_reply(path: Path) -> Reply:
    """Answer with a file, a piece at a time."""

    def reply(request: Request) -> None:
        handler = request.handler
        handler.send_response(200)
        handler.send_header("Content-Length", str(path.stat().st_size))
        handler.end_headers()
        with path.open("rb") as stream:
            shutil.copyfileobj(stream, handler.wfile, _PIECE)

    return reply


def locked_giant(world: World, path: Path) -> Path:
    """A notebook that locks `giant_wheel`'s file ``path``, which the index then has."""
    with path.open("rb") as stream:
        value = hashlib.sha256()
        while piece := stream.read(_PIECE):
            value.update(piece)
    filename = "giant-1.0-py3-none-any.whl"
    size = path.stat().st_size
    row = {"filename": filename, "url": f"../../files/{filename}", "hashes": {"sha256": value.hexdigest()}}
    world.server.on("/simple/giant/", json_page([{**row, "size": size}]))
    world.server.on(f"/files/{filename}", file_reply(path))
    url = f"{world.server.url}/files/{filename}"
    lock = (
        'lock-version = "1.0"\ncreated-by = "a test"\nrequires-python = "==3.11.*"\n'
        '[[packages]]\nname = "giant"\nversion = "1.0"\n'
        f'wheels = [{{url = "{url}", size = {size}, hashes = {{sha256 = "{value.hexdigest()}"}}}}]\n'
    )
    return notebook(world.work, lock, "giant.ipynb")


def many_packages(world: World, count: int) -> tuple[Path, list[Made]]:
    """A notebook that locks ``count`` packages, hashes only, and their wheels, which the index has."""
    made = [wheel(f"package-{n:04}", requires=[f"package-{n - 1:04}"] if n else []) for n in range(count)]
    world.offer(*made)
    lock = pipfile_lock(*made, index=world.server.simple)
    return notebook(world.work, None, "many.ipynb", requirements_lock=lock), made


def heavy_notebook(world: World, size: int, picture: int = 2 << 20) -> Path:
    """A notebook of about ``size`` bytes, nearly all of them pictures that its cells left behind."""
    path = world.locked(wheel("demo"), name="heavy.ipynb")
    chance = random.Random(0)
    document = json.loads(path.read_text())
    for number in range(size * 3 // 4 // picture):
        data = {"image/png": base64.b64encode(chance.randbytes(picture)).decode(), "text/plain": ["<Figure>"]}
        output = {"output_type": "display_data", "metadata": {}, "data": data}
        cell = {"cell_type": "code", "metadata": {}, "execution_count": number, "source": f"draw({number})"}
        document["cells"].append({**cell, "id": f"c{number}", "outputs": [output]})
    path.write_text(json.dumps(document))
    return path


def built(world: World, source: Path, output: str = "layout") -> tuple[Measured, dict[str, Any]]:
    """Build with the real command, under measurement; gives its document too. Raises RuntimeError where it fails."""
    command = world.command("build", source, "--base", world.base, "-o", output, "--json", "-q")
    done = measured(command, world.environ, world.work)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done, json.loads(done.stdout)


# -- the three measurements ------------------------------------------------------------------------------------


def _row(title: str, result: tuple[Measured, dict[str, Any]]) -> None:
    done, document = result
    print(
        f"{title:<52} {done.seconds:7.2f} s  cpu {done.cpu:6.2f} s  together {done.together / 1e6:4.0f} MB  "
        f"largest {done.largest / 1e6:4.0f} MB  {len(document['layers']):3} layers  "
        f"image {document['size'] / 1e6:5.0f} MB",
        flush=True,
    )
    for line in done.stderr.splitlines():
        print(f"    {line}", flush=True)


def _changed(source: Path) -> Path:
    document = json.loads(source.read_text())
    cell = {"cell_type": "markdown", "id": f"n{os.urandom(4).hex()}", "metadata": {}, "source": "x"}
    document["cells"].append(cell)
    source.write_text(json.dumps(document))
    return source


def _wheel(world: World) -> None:
    path = world.folder / "giant.whl"
    giant_wheel(path, noise(), 4200, 600, 0)
    print(f"a wheel of {path.stat().st_size / 1e9:.2f} GB, one of its members {4200 << 20:,} bytes")
    source = locked_giant(world, path)
    _row("downloaded and built into a layout", built(world, source))
    _row("the notebook changed", built(world, _changed(source)))
    shutil.rmtree(world.work / "layout")
    _row("the notebook changed, into an archive", built(world, _changed(source), "image.tar"))


def _packages(world: World) -> None:
    source, made = many_packages(world, 3000)
    print(f"{len(made)} packages, locked by hashes alone")
    _row("the index asked, downloaded and built", built(world, source))
    _row("nothing changed", built(world, source))
    _row("the notebook changed", built(world, _changed(source)))
    made[1500] = wheel(made[1500].name, "1.1")
    world.offer(made[1500])
    lock = pipfile_lock(*made, index=world.server.simple)
    _row("one package upgraded", built(world, notebook(world.work, None, "many.ipynb", requirements_lock=lock)))


def _notebook(world: World) -> None:
    source = heavy_notebook(world, 200_000_000)
    print(f"a notebook of {source.stat().st_size / 1e6:.0f} MB")
    _row("built into a layout", built(world, source))
    _row("nothing changed", built(world, source))
    folder = world.work / "repository"
    folder.mkdir()
    source.rename(folder / source.name)
    _row("in a repository", built(world, folder))


@contextlib.contextmanager
def _world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="nb2image-bench-") as name, serving() as server:
        home = Path(name) / "home"
        home.mkdir()
        yield make_world(Path(name), home, server)


_MEASUREMENTS: dict[str, Callable[[World], None]] = {"wheel": _wheel, "packages": _packages, "notebook": _notebook}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.extremes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("what", nargs="*", metavar="|".join(_MEASUREMENTS), default=[])
    given = parser.parse_args()
    for name in given.what or _MEASUREMENTS:
        if name not in _MEASUREMENTS:
            parser.error(f"there is no {name!r}")
        with _world() as world:
            _MEASUREMENTS[name](world)


if __name__ == "__main__":
    main()
