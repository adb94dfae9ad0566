"""Look into an image with `nb2image bases probe`.

::

    python -m tests.bench.probes [--size MB] [--layers N] [--repeat N] [--image IMAGE]

Without IMAGE one is made: the files of nb2image's own bookworm, and copies of them in other folders until there are
SIZE megabytes (10^6) of files, in N layers as Docker's compression leaves them. The whole command is measured, in wall
seconds: the median with the shortest and the longest, and the time of no more than inflating and hashing each byte as
often as its digests need, in as many processes as there are processors.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from nb2image.bases.debian.provider import DebianProvider
from nb2image.cache import Store
from nb2image.image.layout import write_layout
from nb2image.image.model import LAYER_GZIP, Config, Descriptor, Image
from nb2image.image.read import read_layout
from nb2image.image.streams import layer_tar
from nb2image.processes import workers
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.bench.__main__ import measured
from tests.unit.image.making import MemoryLayer

__all__: list[str] = []


def make(folder: Path, size: int, layers: int) -> Path:
    """An OCI layout with ``size`` bytes of files."""
    provider = DebianProvider(Store.default(), platform=Platform())
    bookworm = next(each for each in provider.candidates() if each.name == "bookworm")
    base = provider.deliver(bookworm, Silent()).image
    with layer_tar(base.layers[0]) as stream:
        raw = stream.read()
    plain = folder / "base.tar"
    plain.write_bytes(raw)
    with tarfile.open(plain) as tar:
        copies = max(layers, round(size / sum(info.size for info in tar)))
    shares = [range(copies)[n::layers] for n in range(layers)]
    with ProcessPoolExecutor(workers()) as pool:
        written = list(pool.map(_layer, [plain] * layers, shares, [folder / f"layer-{n}" for n in range(layers)]))
    made = [
        MemoryLayer(Descriptor(LAYER_GZIP, digest, path.stat().st_size), diff_id, path.read_bytes(), comment="a bench")
        for path, digest, diff_id in written
    ]
    config = Config.new(Platform()).with_env({"PATH": base.config.env["PATH"]})
    write_layout(Image(config).with_layers(made), ["bench:1"], folder / "layout", Silent())
    return folder / "layout"


def _layer(plain: Path, copies: range, path: Path) -> tuple[Path, str, str]:
    """A layer with copies of the base: the first of all stands where it belongs."""
    raw = path.with_suffix(".tar")
    with tarfile.open(raw, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in copies:
            with tarfile.open(plain) as source:
                for info in source:
                    content = source.extractfile(info) if info.isreg() else None
                    if number:
                        info.name = f"opt/copy-{number}/{info.name}"
                        info.linkname = f"opt/copy-{number}/{info.linkname}" if info.islnk() else info.linkname
                    tar.addfile(info, content)
    with raw.open("rb") as tarred, gzip.GzipFile(path, "wb", 6, mtime=0) as packed:
        shutil.copyfileobj(tarred, packed, 1 << 20)
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (path, raw)]
    raw.unlink()
    return path, f"sha256:{digests[0]}", f"sha256:{digests[1]}"


def _limit(image: Path) -> None:
    """Inflate and hash each layer, which also reads its file."""
    found = read_layout(image)
    files = sorted(((image / "blobs" / "sha256" / x.descriptor.digest[7:]) for x in found.layers), key=_size)
    with ProcessPoolExecutor(workers()) as pool:
        list(pool.map(_inflated, reversed(files)))


def _size(path: Path) -> int:
    return path.stat().st_size


def _inflated(path: Path) -> str:
    from isal import igzip

    packed = hashlib.sha256(path.read_bytes())
    raw = hashlib.sha256()
    with igzip.open(path, "rb") as stream:  # type: ignore[no-untyped-call]
        while data := stream.read(1 << 20):
            raw.update(data)
    return packed.hexdigest() + raw.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.probes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--image", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nb2image-probes-") as name:
        image = given.image or make(Path(name), given.size * 10**6, given.layers)
        command = [sys.executable, "-m", "nb2image", "bases", "probe", str(image), "-q"]

        def probe() -> None:
            environ = {**os.environ, "NB2IMAGE_CACHE_DIR": str(Path(name, "cache"))}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environ)

        def forget() -> None:
            shutil.rmtree(Path(name, "cache"), ignore_errors=True)

        for title, line in _lines(given.repeat, image, probe, forget):
            print(f"{title:<34}{line}")


def _lines(repeat: int, image: Path, probe, forget) -> Iterator[tuple[str, str]]:  # type: ignore[no-untyped-def]
    for title, run, before in (
        ("limit (read, inflate, hash twice)", lambda: _limit(image), forget),
        ("probe", probe, forget),
    ):
        runs = measured(repeat, run, before)
        yield title, f"{runs.median:7.2f} s  ({min(runs.seconds):.2f} to {max(runs.seconds):.2f})"


if __name__ == "__main__":
    main()
