"""`WheelArchive`: a wheel's members with direct access to their deflate streams.

A member's stream goes into a layer unchanged, so it must be *exactly* one deflate stream of exactly the stated
content: `MemberContent.chunks` proves that while it inflates, once, for whoever reads it.
"""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import cast

from isal import igzip_lib, isal_zlib
from isal.igzip_lib import DECOMP_DEFLATE, IgzipDecompressor

from nb2image.errors import BadWheel, WheelError
from nb2image.wheels.directory import DEFLATED, Member, read_directory

__all__ = ["Member", "MemberContent", "WheelArchive"]

_PIECE = 1 << 20
"""Bytes read from the file, or inflated, at a time where a member does not come whole."""
_WHOLE = 4 << 20
"""Members up to this size are inflated in one call, and proved before any byte of them is given away. It bounds what a
thread holds: up to three times as much, while igzip's buffer grows."""
_DamagedStream = cast("type[Exception]", igzip_lib.error)  # its stub declares an instance
_IN_MEMORY = 64 << 20
"""The largest member that `WheelArchive.read` gives."""
_SMALL = 8 << 20
"""Wheels up to this size are read at once: two system calls for each of a thousand small members cost more."""


class WheelArchive:
    """A wheel, opened and its directory checked; its content is read when asked for, by several threads if need be.

    ``filename`` is what messages call it (in a cache the path is a digest). Reads go through ``pread``, not a memory
    map: a map counts as the process's memory, and kills it when somebody truncates the file. Raises `BadWheel` for
    anything that :mod:`nb2image.wheels.directory` refuses, `WheelError` when the file cannot be read.

    A file that differs from what RECORD states is refused, or noted in ``mismatches`` when that list is given: some
    projects edit files after RECORD was written (PyTorch 1.9.1: METADATA and a library), and whoever has verified the
    hash of the whole wheel may take them as pip does. With ``proved`` the same bytes were compared with RECORD before,
    and are not again: that costs as much as hashing the layer.
    """

    def __init__(
        self, path: Path, filename: str | None = None, mismatches: list[str] | None = None, *, proved: bool = False
    ) -> None:
        self.filename = filename or path.name
        self._mismatches = mismatches
        self._proved = proved
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise self._unreadable(error) from error
        self._descriptor = self._file.fileno()
        try:
            self._length = os.fstat(self._descriptor).st_size
            self._content = self._read_file(0, self._length) if self._length <= _SMALL else None
            members = read_directory(self.filename, self.read_at, self._length)
        except BaseException:
            self.close()
            raise
        self.members: dict[str, Member] = {member.name: member for member in members}
        """Regular files by name, in the order of their data."""

    def __enter__(self) -> WheelArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; content that was not read by then cannot be read any more."""
        self._descriptor = -1
        self._content = None
        self._file.close()

    def content(self, member: Member, expected: str | None = None) -> MemberContent:
        """The member's bytes; ``expected`` is their hash as RECORD writes it (``sha256=<urlsafe base64>``)."""
        return MemberContent(self, member, None if self._proved else expected)

    def read(self, member: Member, expected: str | None = None) -> bytes:
        """The whole of a member that is small enough to be held in memory."""
        if member.size > _IN_MEMORY:
            raise BadWheel(self.filename, member.name, f"the member has {member.size} bytes, too many for what it is")
        return b"".join(self.content(member, expected).chunks())

    def mismatch(self, name: str, rule: str) -> None:
        """Refuse a file that differs from RECORD, or note it."""
        if self._mismatches is None:
            raise BadWheel(self.filename, name, rule)
        if name not in self._mismatches:
            self._mismatches.append(name)

    def read_at(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the file. Raises `BadWheel` when there are fewer."""
        if self._content is None:
            return self._read_file(offset, length)
        data = self._content[offset : offset + length]
        if len(data) != length:
            raise BadWheel(self.filename, None, "the file is truncated")
        return data

    def _read_file(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) != length:
            raise BadWheel(self.filename, None, "the file is truncated")
        return data

    def _unreadable(self, error: OSError) -> WheelError:
        reason = error.strerror or str(error)
        return WheelError(f"{self.filename} cannot be read: {reason}.", hint="Check the file and its permissions.")


class MemberContent:
    """Bytes of a member (`nb2image.layers.entry.Content`)."""

    __slots__ = ("_archive", "_expected", "_member", "crc32", "size")

    def __init__(self, archive: WheelArchive, member: Member, expected: str | None) -> None:
        self._archive = archive
        self._member = member
        self._expected = expected
        self.size = member.size
        self.crc32 = member.crc32

    @property
    def name(self) -> str:
        """The member's."""
        return self._member.name

    def deflated(self) -> Iterator[bytes] | None:
        """The stream as it stands in the wheel: not proved by itself, so read `chunks` too before it is used."""
        if self._member.method == DEFLATED:
            return self._stored()
        return None

    def both(self) -> tuple[bytes, bytes] | None:
        """What `chunks` and `deflated` give, proved and read once; None for members above 4 MiB, or stored ones."""
        member = self._member
        if member.method != DEFLATED or member.size > _WHOLE or member.compressed_size > _WHOLE:
            return None
        packed = self._archive.read_at(member.offset, member.compressed_size)
        decompressor = IgzipDecompressor(DECOMP_DEFLATE)
        try:
            data = decompressor.decompress(packed, member.size + 1)
        except _DamagedStream:
            raise self._bad("the deflate stream is damaged") from None
        if len(data) > member.size:
            raise self._bad(f"the content has more than the stated {member.size} bytes")
        if not decompressor.eof:
            raise self._bad("the deflate stream is cut short")
        if decompressor.unused_data:
            raise self._bad("something follows the deflate stream inside the member")
        self._prove(len(data), isal_zlib.crc32(data), self._hasher(data))
        return data, packed

    def chunks(self) -> Iterator[bytes]:
        """The bytes, proved against size, CRC-32 and hash, and the stream against its stated length.

        Raises `BadWheel`: for members above 4 MiB only after the last piece, otherwise before the first.
        """
        if (whole := self.both()) is not None:
            if whole[0]:
                yield whole[0]
            return
        pieces = self._inflated() if self._member.method == DEFLATED else self._stored()
        if self.size <= _WHOLE:
            if data := b"".join(self._proved(pieces)):
                yield data
        else:
            yield from self._proved(pieces)

    def head(self, length: int) -> bytes:
        """The first bytes, or fewer when the member is shorter; not proved."""
        pieces = self._inflated(length) if self._member.method == DEFLATED else self._stored()
        return next(pieces, b"")[:length]

    def _proved(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        digest = self._hasher()
        size = crc32 = 0
        for piece in pieces:
            size += len(piece)
            crc32 = isal_zlib.crc32(piece, crc32)
            if digest is not None:
                digest.update(piece)
            yield piece
        self._prove(size, crc32, digest)

    def _hasher(self, data: bytes = b"") -> hashlib._Hash | None:
        """For the hash that RECORD states; None when it states none."""
        if self._expected is None:
            return None
        algorithm = self._expected.partition("=")[0]
        return hashlib.sha256(data) if algorithm == "sha256" else hashlib.new(algorithm, data, usedforsecurity=False)

    def _prove(self, size: int, crc32: int, digest: hashlib._Hash | None) -> None:
        if size != self.size:
            raise self._bad(f"the content has {size} bytes instead of {self.size}")
        if crc32 != self.crc32:
            raise self._bad("the content has another CRC-32 than the archive states")
        if digest is not None:
            found = urlsafe_b64encode(digest.digest()).decode().rstrip("=")
            if found != cast("str", self._expected).partition("=")[2]:
                self._archive.mismatch(self._member.name, f"the content has another {digest.name} than RECORD states")

    def _inflated(self, limit: int = _WHOLE + 1) -> Iterator[bytes]:
        """The inflated data in pieces of at most ``limit`` bytes.

        igzip's decompressor is as fast as libdeflate (0.6 GB/s) and, other than that, tells where the stream ends.
        """
        if self.size > _WHOLE:
            limit = min(limit, _PIECE)
        decompressor = IgzipDecompressor(DECOMP_DEFLATE)
        room = self.size + 1  # one byte more than there may be shows a stream that is too long
        try:
            for piece in self._stored():
                if decompressor.eof:
                    raise self._bad("something follows the deflate stream inside the member")
                data = decompressor.decompress(piece, min(room, limit))
                while data:
                    room -= len(data)
                    if not room:
                        raise self._bad(f"the content has more than the stated {self.size} bytes")
                    yield data
                    if decompressor.eof:
                        break
                    data = decompressor.decompress(b"", min(room, limit))
        except _DamagedStream:
            raise self._bad("the deflate stream is damaged") from None
        if not decompressor.eof:
            raise self._bad("the deflate stream is cut short")
        if decompressor.unused_data:
            raise self._bad("something follows the deflate stream inside the member")

    def _stored(self) -> Iterator[bytes]:
        """The member's data as it stands in the file."""
        offset, end = self._member.offset, self._member.offset + self._member.compressed_size
        step = _WHOLE if self._member.compressed_size <= _WHOLE else _PIECE
        while offset < end:
            length = min(step, end - offset)
            yield self._archive.read_at(offset, length)
            offset += length

    def _bad(self, rule: str) -> BadWheel:
        return BadWheel(self._archive.filename, self._member.name, rule)
