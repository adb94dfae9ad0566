"""Entries → one layer: a deterministic tar inside a gzip file of many members.

RFC 1952 (section 2.2) lets a gzip file be a series of members, and every reader of layers accepts it. So content
that comes ready-deflated becomes a member as it is: its stream, crc32 and size, framed by a header and a trailer.
What lies between (tar headers, padding, content that is not deflated yet) is compressed by libdeflate, which gives
the same bytes on every machine for one version; that is pinned, and part of `WRITER`.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import deflate

from nb2image.errors import Nb2ImageError
from nb2image.layers.entry import Entry, HardLink, Link, parents
from nb2image.layers.tar import END, header, padding

__all__ = ["WRITER", "WrittenLayer", "arrange", "write_layer"]

WRITER = "2"
"""Version of the bytes written here, libdeflate's included: raised with every change of either."""

_LEVEL_SMALL = 1
_LEVEL = 6
_PIECE = 1 << 20
# RFC 1952 section 2.3: magic, method deflate, no flags, no time, no extra flags, system unknown.
_MEMBER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_trailer = struct.Struct("<II").pack


class WrittenLayer(NamedTuple):
    """What was written: ``digest`` and ``size`` of the gzip file, ``diff_id`` and ``raw_size`` of the tar.

    Digests are ``sha256:<hex>``, sizes in bytes; ``files`` counts entries that are no directories.
    """

    digest: str
    size: int
    diff_id: str
    raw_size: int
    files: int


def arrange(entries: Iterable[Entry]) -> list[Entry]:
    """Entries in the order of a layer: directories (missing parents added as 0755 root), files, hard links.

    Each group is sorted by path. Raises ValueError when two entries have one path and are not both the same
    directory: deciding which one wins is the caller's.
    """
    directories: dict[str, Entry] = {}
    files: dict[str, Entry] = {}
    links: list[Entry] = []
    for entry in entries:
        known = files if entry.content is not None else directories
        if entry.path in files or (entry.path in known and known[entry.path] != entry):
            raise ValueError(f"two entries for {entry.path!r}")
        known[entry.path] = entry
        if isinstance(entry.content, HardLink):
            links.append(entry)
    needed: set[str] = set()
    for path in (*files, *directories):
        parent = path.rpartition("/")[0]
        if parent and parent not in needed:
            needed.add(parent)
            needed.update(parents(parent))
    for parent in needed:
        if parent in files:
            raise ValueError(f"{parent!r} is both a file and a directory")
        if parent not in directories:
            directories[parent] = Entry(parent, 0o755, None)
    for path in directories:
        if path in files:
            raise ValueError(f"{path!r} is both a file and a directory")
    hard = {entry.path for entry in links}
    return [
        *(directories[path] for path in sorted(directories)),
        *(files[path] for path in sorted(files) if path not in hard),
        *sorted(links, key=lambda entry: entry.path),
    ]


class _Gzip:
    """Writes members to ``sink`` and keeps both digests."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._packed: list[bytes | bytearray] = []
        self._packed_size = 0
        self.raw = hashlib.sha256()
        self.raw_size = 0
        self.packed = hashlib.sha256()
        self.packed_size = 0

    def _put(self, packed: bytes | bytearray, crc32: int, size: int) -> None:
        """A whole member that fits into memory."""
        self._packed += (_MEMBER, packed, _trailer(crc32, size))
        self._packed_size += len(packed)
        if self._packed_size >= _PIECE:
            self._drain()

    def _drain(self) -> None:
        data = b"".join(self._packed)
        self._packed.clear()
        self._packed_size = 0
        self._sink(data)
        self.packed.update(data)
        self.packed_size += len(data)

    def plain(self, data: bytes) -> None:
        """Bytes that are to be compressed here; small neighbours share a member.

        Members end where the *stream* says (every MiB), not where the caller's pieces do.
        """
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _PIECE:
            joined = memoryview(b"".join(self._pending))
            whole = self._pending_size - self._pending_size % _PIECE
            for start in range(0, whole, _PIECE):
                self._member(joined[start : start + _PIECE])
            self._pending = [bytes(joined[whole:])]
            self._pending_size -= whole

    def end(self) -> None:
        self._flush()
        self._drain()

    def _flush(self) -> None:
        if self._pending_size:
            self._member(b"".join(self._pending))
            self._pending.clear()
            self._pending_size = 0

    def _member(self, piece: bytes | memoryview) -> None:
        self.raw.update(piece)
        self.raw_size += len(piece)
        # A header alone hardly shrinks further at a higher level, and there is one for each file.
        level = _LEVEL_SMALL if len(piece) <= 2048 else _LEVEL
        packed = deflate.deflate_compress(piece, level)
        self._put(packed, zlib.crc32(piece), len(piece))

    def ready(self, deflated: Iterable[bytes], raw: Iterable[bytes], crc32: int, size: int) -> None:
        """A deflate stream taken over unchanged, with the bytes that it stands for."""
        self._flush()
        for chunk in raw:
            self.raw.update(chunk)
        self.raw_size += size
        self._packed.append(_MEMBER)
        for piece in deflated:
            self._packed.append(piece)
            self._packed_size += len(piece)
            if self._packed_size >= _PIECE:
                self._drain()
        # RFC 1952 section 2.3.1: ISIZE is the size modulo 2^32.
        self._packed.append(_trailer(crc32, size & 0xFFFFFFFF))

    def whole(self, deflated: bytes, raw: bytes, crc32: int) -> None:
        """The same for one that is in memory."""
        self._flush()
        self.raw.update(raw)
        self.raw_size += len(raw)
        self._put(deflated, crc32, len(raw))


def write_layer(entries: Iterable[Entry], sink: Callable[[bytes], object]) -> WrittenLayer:
    """Write entries as one layer through ``sink`` (a stream's ``write``), streaming; equal entries, equal bytes.

    Raises whatever reading a content raises (a damaged wheel), ValueError for two entries of one path, and
    `Nb2ImageError` when a file changed while it was read.
    """
    gzip = _Gzip(sink)
    files = 0
    for entry in arrange(entries):
        content = entry.content
        gzip.plain(header(entry))
        if content is None:
            continue
        files += 1
        if isinstance(content, (Link, HardLink)) or content.size == 0:
            continue
        if (both := content.both()) is not None:
            gzip.whole(both[1], both[0], content.crc32)
        elif (deflated := content.deflated()) is not None:
            gzip.ready(deflated, content.chunks(), content.crc32, content.size)
        else:
            written = 0
            for chunk in content.chunks():
                written += len(chunk)
                gzip.plain(chunk)
            if written != content.size:
                raise Nb2ImageError(
                    f"{entry.path} changed while it was read: {content.size} bytes became {written}.",
                    hint="Build again when nothing writes to the notebook's folder.",
                )
        if fill := padding(content.size):
            gzip.plain(bytes(fill))
    gzip.plain(END)
    gzip.end()
    return WrittenLayer(
        "sha256:" + gzip.packed.hexdigest(),
        gzip.packed_size,
        "sha256:" + gzip.raw.hexdigest(),
        gzip.raw_size,
        files,
    )
