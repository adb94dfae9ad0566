"""The documents of an image among `Files`: read whole, held against digest and size, and never trusted further.

Everything here raises `NotAnImage` for what is missing, damaged, or no document of its kind.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nb2image.image.files import Files
from nb2image.image.model import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, Descriptor
from nb2image.image.streams import checked, damaged

__all__ = [
    "CONFIG_TYPES",
    "DEEPEST_INDEX",
    "DIGEST",
    "INDEX_TYPES",
    "MANIFEST_TYPES",
    "MOST_DESCRIPTORS",
    "StoredLayer",
    "blob_document",
    "blob_path",
    "descriptor_of",
    "document_at",
    "has_file",
    "is_text_map",
    "is_texts",
    "list_at",
    "open_file",
    "parsed_object",
    "read_blob",
    "read_file",
    "rows_of",
    "stored_blob",
]

# As much of a document as containers/image reads.
LARGEST_DOCUMENT = 4 << 20
DEEPEST_INDEX = 4
MOST_DESCRIPTORS = 4096
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DOCKER = "application/vnd.docker."
INDEX_TYPES = {INDEX_TYPE, _DOCKER + "distribution.manifest.list.v2+json"}
MANIFEST_TYPES = {MANIFEST_TYPE, _DOCKER + "distribution.manifest.v2+json"}
CONFIG_TYPES = {CONFIG_TYPE, _DOCKER + "container.image.v1+json"}


@dataclass(frozen=True)
class StoredLayer:
    """A layer inside `Files`."""

    files: Files
    name: str
    descriptor: Descriptor
    diff_id: str
    comment: str = ""

    def open(self) -> BinaryIO:
        return open_checked(self.files, self.name, self.descriptor)

    def file(self) -> Path | None:
        # The folder belongs to the user, who may write to a file in place: a link to it would not be ours.
        return None


def stored_blob(files: Files, descriptor: Descriptor) -> StoredLayer:
    """A blob among ``files`` of which no more is known than its descriptor."""
    return StoredLayer(files, blob_path(descriptor.digest), descriptor, "")


def rows_of(files: Files, value: Any, what: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise damaged(files.where, f"{what}: a list of objects is needed")
    return value


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def descriptor_of(files: Files, value: Any, where: str) -> Descriptor:
    """A descriptor with a digest that is safe as a file name (``descriptor.md``, "Digests")."""
    if not isinstance(value, dict):
        raise damaged(files.where, f"{where}: a descriptor is missing or no object")
    kind, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(kind, str):
        raise damaged(files.where, f"{where}: a descriptor has no media type")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise damaged(files.where, f"{where}: {digest!r} is no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise damaged(files.where, f"{where}: {digest} has the size {size!r}")
    return Descriptor(kind, digest, size)


def blob_path(digest: str) -> str:
    return "blobs/sha256/" + digest.partition(":")[2]


def open_file(files: Files, name: str) -> tuple[BinaryIO, int]:
    try:
        return files.open(name)
    except KeyError:
        raise damaged(files.where, f"{name} is missing") from None


def has_file(files: Files, name: str) -> bool:
    try:
        stream, _ = files.open(name)
    except KeyError:
        return False
    stream.close()
    return True


def open_checked(files: Files, name: str, descriptor: Descriptor) -> BinaryIO:
    stream, size = open_file(files, name)
    if size != descriptor.size:
        stream.close()
        raise damaged(files.where, f"{name} has {size:,} bytes instead of {descriptor.size:,}")
    return checked(stream, descriptor.digest, descriptor.size, files.where, name)


def read_file(files: Files, name: str) -> bytes:
    stream, size = open_file(files, name)
    with stream:
        if size > LARGEST_DOCUMENT:
            raise damaged(files.where, f"{name} has {size:,} bytes, too many for a document")
        return stream.read()


def read_blob(files: Files, descriptor: Descriptor) -> bytes:
    name = blob_path(descriptor.digest)
    if descriptor.size > LARGEST_DOCUMENT:
        raise damaged(files.where, f"{name} has {descriptor.size:,} bytes, too many for a document")
    with open_checked(files, name, descriptor) as stream:
        return stream.read()


def parsed(files: Files, data: bytes, what: str) -> Any:
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        # Lone surrogates can be escaped in JSON but not written again as UTF-8.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise damaged(files.where, f"{what} is no JSON document ({error})") from error
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def parsed_object(files: Files, data: bytes, what: str) -> dict[str, Any]:
    value = parsed(files, data, what)
    if not isinstance(value, dict):
        raise damaged(files.where, f"{what} is no JSON object")
    return value


def document_at(files: Files, name: str) -> dict[str, Any] | None:
    return parsed_object(files, read_file(files, name), name) if has_file(files, name) else None


def list_at(files: Files, name: str) -> list[dict[str, Any]] | None:
    return rows_of(files, parsed(files, read_file(files, name), name), name) if has_file(files, name) else None


def blob_document(files: Files, descriptor: Descriptor) -> dict[str, Any]:
    return parsed_object(files, read_blob(files, descriptor), descriptor.digest)
