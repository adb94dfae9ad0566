"""`Entry`, the one currency between what knows Python packaging and what knows images."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["BytesContent", "Content", "Entry", "FileContent", "HardLink", "Link", "parents"]

_CHUNK = 1 << 20


class Content(Protocol):
    """Bytes of a regular file, which may come ready-deflated."""

    @property
    def size(self) -> int:
        """Size in bytes, uncompressed."""
        ...

    @property
    def crc32(self) -> int:
        """CRC-32 of the uncompressed bytes, as zip and gzip define it."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The uncompressed bytes, in pieces of any size; may be called more than once."""
        ...

    def deflated(self) -> Iterator[bytes] | None:
        """The same bytes as one raw deflate stream (RFC 1951) in pieces, or None when there is none at hand."""
        ...

    def both(self) -> tuple[bytes, bytes] | None:
        """The uncompressed bytes and their deflate stream, each whole: for content that comes ready-deflated and is
        small, so that it is read once. None otherwise."""
        ...


class Link(NamedTuple):
    """A symbolic link; ``target`` as it is to stand in the file system."""

    target: str


class HardLink(NamedTuple):
    """Another name of a regular file that comes earlier in the same layer; ``path`` as in `Entry`."""

    path: str


class Entry(NamedTuple):
    """One path of an image.

    ``path`` is relative to the root, ``/``-separated, without empty, ``.`` or ``..`` parts, and already proved
    safe by whoever made the entry. ``mode`` holds the permission bits (0o7777). ``content`` None: a directory.
    """

    path: str
    mode: int
    content: Content | Link | HardLink | None
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class BytesContent:
    """Content held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    @cached_property
    def crc32(self) -> int:
        return zlib.crc32(self.data)

    def chunks(self) -> Iterator[bytes]:
        if self.data:
            yield self.data

    def deflated(self) -> Iterator[bytes] | None:
        return None

    def both(self) -> None:
        return None


@dataclass(frozen=True)
class FileContent:
    """Content of a file on this machine, read when asked for; the file must not change meanwhile."""

    file: Path

    @cached_property
    def size(self) -> int:
        return self.file.stat().st_size

    @cached_property
    def crc32(self) -> int:
        value = 0
        for chunk in self.chunks():
            value = zlib.crc32(chunk, value)
        return value

    def chunks(self) -> Iterator[bytes]:
        with self.file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    def deflated(self) -> Iterator[bytes] | None:
        return None

    def both(self) -> None:
        return None


def parents(path: str) -> Iterator[str]:
    """The parent directories of an entry's path, outermost first: ``a/b/c`` gives ``a`` and ``a/b``."""
    position = path.find("/")
    while position != -1:
        yield path[:position]
        position = path.find("/", position + 1)
