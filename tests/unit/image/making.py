"""Small layers and images made in memory, correct ones and wrong ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import zstandard

from nb2image.image.model import LAYER_GZIP, Config, Descriptor, Image, canonical_json
from nb2image.layers.entry import HardLink, Link
from nb2image.target.model import Platform

LAYER_TAR = LAYER_GZIP.removesuffix("+gzip")
LAYER_ZSTD = LAYER_TAR + "+zstd"

Members: TypeAlias = Iterable[tuple[str, bytes | Link | HardLink | None]]


@dataclass(frozen=True)
class MemoryLayer:
    """A layer whose bytes are ``data``, whatever its descriptor and its diff ID say."""

    descriptor: Descriptor
    diff_id: str
    data: bytes
    path: Path | None = None
    comment: str = "made by a test"

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def file(self) -> Path | None:
        return self.path


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(members: Members) -> bytes:
    """A tar with exactly these members in this order; None makes a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 1, 0o644
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, Link):
                info.type, info.linkname = tarfile.SYMTYPE, content.target
            elif isinstance(content, HardLink):
                info.type, info.linkname = tarfile.LNKTYPE, content.path
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def layer_of(members: Members, kind: str = LAYER_GZIP) -> MemoryLayer:
    return layer_of_tar(tar_of(members), kind)


def layer_of_tar(raw: bytes, kind: str = LAYER_GZIP) -> MemoryLayer:
    data = {
        LAYER_GZIP: lambda: gzip.compress(raw, mtime=0),
        LAYER_ZSTD: lambda: zstandard.ZstdCompressor().compress(raw),
        LAYER_TAR: lambda: raw,
    }[kind]()
    return MemoryLayer(Descriptor.of(kind, data), sha256(raw), data)


def files_of(contents: Mapping[str, bytes | Link | HardLink], kind: str = LAYER_GZIP) -> MemoryLayer:
    """A layer of these paths with their parent directories before them."""
    directories = {"/".join(path.split("/")[:n]) for path in contents for n in range(1, path.count("/") + 1)}
    missing = [(path, None) for path in sorted(directories - set(contents))]
    return layer_of([*missing, *contents.items()], kind)


def image_of(*layers: MemoryLayer, architecture: str = "amd64", **execution: Any) -> Image:
    config = Config.new(Platform("linux", architecture)).with_execution(**execution)
    return Image(config).with_layers(layers)


def small_image(text: str = "hello") -> Image:
    return image_of(files_of({"etc/motd": text.encode()}), files_of({"work/notebook.ipynb": b"{}"}))


# -- layouts by hand, so that they can be wrong ---------------------------------------------------------


def put_blob(layout: Path, data: bytes) -> str:
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)
    return sha256(data)


def put_document(layout: Path, media_type: str, document: Any) -> dict[str, Any]:
    """Write a JSON blob and give its descriptor."""
    data = canonical_json(document)
    put_blob(layout, data)
    return Descriptor.of(media_type, data).document()


def put_index(layout: Path, manifests: Any) -> Path:
    layout.mkdir(exist_ok=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": manifests}))
    return layout
