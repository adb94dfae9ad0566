"""Source distributions of a few lines, and what a lock says of them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.pylock import Package, PackageSdist
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.cache import Store
from nb2image.target.select import Source
from tests.unit.index.server import sha256

__all__ = ["IN_TREE", "PKG_INFO", "in_tree", "sdist", "stored", "targz"]

PKG_INFO = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
IN_TREE = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
"""A build backend of the source distribution's own, which needs nothing else."""


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member as tar has it; ``fields`` are those of `tarfile.TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def targz(members: Iterable[tuple[tarfile.TarInfo, bytes]], kind: str = "gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sdist(files: Mapping[str, bytes], *more: tuple[tarfile.TarInfo, bytes], top: str = "demo-1.0") -> bytes:
    """``demo-1.0.tar.gz`` of these files, ``PKG-INFO`` included, and of further members."""
    contents = {"PKG-INFO": PKG_INFO, **files}
    return targz([*(member(f"{top}/{path}", data) for path, data in contents.items()), *more])


def in_tree(backend: str) -> bytes:
    """A source distribution that is built by ``backend``, the source of a module with ``build_wheel``."""
    return sdist({"pyproject.toml": IN_TREE, "backend.py": backend.encode()})


def stored(store: Store, data: bytes, filename: str = "demo-1.0.tar.gz", name: str = "demo") -> Source:
    """A source distribution that the store has already, as a lock holds it."""
    with store.writing("wheels") as writing:
        writing.write(data)
        writing.commit()
    file = PackageSdist(name=filename, hashes={"sha256": sha256(data)})
    return Source(Package(name=canonicalize_name(name), version=Version("1.0"), sdist=file), file)


def written(folder: Path, data: bytes, filename: str = "demo-1.0.tar.gz") -> Path:
    (folder / filename).write_bytes(data)
    return folder / filename
