"""Writing an image as one tar that is an OCI layout and loads with any ``docker load`` and ``podman load``.

Beside the layout's files stands ``manifest.json``, which engines before the OCI layout read; its layers point
into ``blobs/sha256/``. Names: ``manifest.json`` has them as Docker shows them (``ds108:latest``), ``index.json``
as :mod:`nb2image.image.layout` says. What the engines make of ``ds108``: Docker calls it ``ds108:latest``; podman
reads ``index.json`` and calls it ``docker.io/library/ds108:latest``, or, with several names ("more than one image
in oci"), ``manifest.json`` and then ``localhost/ds108:latest``. All of them find it under ``ds108``.

The tar is deterministic: sorted names, one fixed time, root:root, no padding beyond the two end blocks.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from nb2image.errors import Unwritable
from nb2image.image.copying import pour, write_all
from nb2image.image.layout import LAYOUT_FILE, index_document, index_rows
from nb2image.image.model import Image, Layer, canonical_json
from nb2image.image.names import parse_name
from nb2image.image.streams import checked
from nb2image.image.whole import AnyImage, Whole, whole_of
from nb2image.progress import Advanced, Listener, stage
from nb2image.temporary import sweep, temporary_file

__all__ = ["archive_stream", "write_archive"]

_CHUNK = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)
_Part: TypeAlias = "bytes | Layer"


def write_archive(
    image: AnyImage,
    tags: Sequence[str],
    destination: Path,
    listener: Listener,
    *,
    skip: Container[str] = (),
) -> None:
    """Write the archive beside ``destination`` and rename it there; ``skip`` as for `archive_stream`. Of an index,
    engines that know ``manifest.json`` only see the first image.

    Raises `Unwritable`, and whatever the layers raise when their bytes cannot be had; ``destination`` is then as
    it was.
    """
    members = _members(image, tags, skip)
    total = sum(part.descriptor.size for _, part in members if not isinstance(part, bytes))
    with stage(listener, "write", str(destination), total=total, unit="bytes"):
        try:
            final = _regular(destination)
            _write(members, final, lambda n: listener(Advanced("write", str(destination), n)))
        except OSError as error:
            raise Unwritable(
                f"{destination} cannot be written: {error.strerror or error}.",
                hint="Choose a file in a folder that you may write, on a disk with enough space.",
            ) from error


def _regular(destination: Path) -> Path:
    final = destination.resolve()
    if final.exists() and not final.is_file():
        raise Unwritable(f"{destination} is no regular file.", hint="Name a file, or a folder without .tar at its end.")
    return final


def _write(members: Sequence[tuple[str, _Part]], final: Path, advance: Callable[[int], None]) -> None:
    names = (f".{final.name}.", ".partial")
    sweep(final.parent, *names)
    with temporary_file(final.parent, *names, mode=0o666, buffering=0) as (partial, out):
        for name, part in members:
            write_all(out, _header(name, part))
            if isinstance(part, bytes):
                write_all(out, part)
            else:
                pour(part, out, advance)
            write_all(out, _padding(part))
        write_all(out, _END)
        out.close()
        partial.replace(final)


def archive_stream(image: Image, tags: Sequence[str], skip: Container[str] = ()) -> Iterator[bytes]:
    """The same archive in pieces, for piping into an engine.

    ``skip`` holds digests or diff IDs of layers to leave out: Docker's classic store does not ask for a layer
    whose chain ID it already has. Such an archive is for that one engine only. A layer with other bytes than its
    digest says raises before its last piece.
    """
    for name, part in _members(image, tags, skip):
        yield _header(name, part)
        if isinstance(part, bytes):
            yield part
        else:
            wanted = part.descriptor
            with checked(part.open(), wanted.digest, wanted.size, f"layer {wanted.digest}", "its blob") as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        yield _padding(part)
    yield _END


def _members(image: AnyImage, tags: Sequence[str], skip: Container[str]) -> list[tuple[str, _Part]]:
    names = [parse_name(tag) for tag in tags]
    whole = whole_of(image)
    parts: dict[str, _Part] = {
        "index.json": canonical_json(index_document(index_rows(image, names))),
        "manifest.json": _manifest(whole, [name.familiar for name in names]),
        "oci-layout": LAYOUT_FILE,
    }
    for manifest in whole.manifests:
        parts[_blob(manifest.descriptor.digest)] = manifest.data
    for layer in whole.blobs:
        if layer.descriptor.digest not in skip and layer.diff_id not in skip:
            parts[_blob(layer.descriptor.digest)] = layer
    return sorted([("blobs/", b""), ("blobs/sha256/", b""), *parts.items()], key=lambda member: member[0])


def _manifest(whole: Whole, names: Sequence[str]) -> bytes:
    config, layers = whole.first_image()
    return canonical_json(
        [
            {
                "Config": _blob(config),
                "RepoTags": list(names) or None,
                "Layers": [_blob(digest) for digest in layers],
            }
        ]
    )


def _blob(digest: str) -> str:
    return "blobs/sha256/" + digest.partition(":")[2]


def _size(part: _Part) -> int:
    return len(part) if isinstance(part, bytes) else part.descriptor.size


def _header(name: str, part: _Part) -> bytes:
    info = tarfile.TarInfo(name.rstrip("/"))
    info.mtime = 1
    info.uname = info.gname = "root"
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    else:
        info.mode, info.size = 0o644, _size(part)
    # Gives plain USTAR, and an extended header only for a blob of 8 GiB or more, whose size USTAR cannot say.
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(part: _Part) -> bytes:
    return bytes(-_size(part) % tarfile.BLOCKSIZE)
