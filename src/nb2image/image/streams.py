"""Reading layers: every byte is checked on its way, whatever the compression."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from struct import Struct
from typing import IO, Any, BinaryIO, cast

from nb2image.errors import NotAnImage
from nb2image.image.model import Layer

__all__ = ["BoundedTarInfo", "checked", "damaged", "decompressed", "layer_members", "layer_tar"]

_BUFFER = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LARGEST_EXTENSION = 1 << 20
_UNSUSPICIOUS = 2 << 30
_DENSEST = 100
"""Times that a layer of more than `_UNSUSPICIOUS` bytes may be larger than what is stored of it. Deflate gets to 1032
and Zstandard further; programs, libraries and texts stay far below."""
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)


def damaged(where: str, what: str) -> NotAnImage:
    """The error for an image whose parts do not fit together; ``where`` names the file, ``what`` the finding."""
    return NotAnImage(f"{where}: {what}.", hint="The image is damaged or incomplete; export or copy it again.")


_BLOCK = 512
_HEADER = Struct("100s8s8s8s12s12s8sc100s8x32s32s8s8s155s12x")
_PLAIN = frozenset(b"0125")
"""Files, hard links, symbolic links, directories."""


class BoundedTarInfo(tarfile.TarInfo):
    """Refuses extension headers that `tarfile` would read into memory whatever their size, and reads those that nearly
    all are in a third of its time: images have tens of thousands."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedTarInfo:
        if len(buf) == _BLOCK and buf[156] in _PLAIN:
            try:
                return cls._plain(bytes(buf), encoding, errors)
            except ValueError:
                pass  # numbers in another notation, or a damaged header: as `tarfile` has it
        info = super().frombuf(buf, encoding, errors)
        if info.type in (*_EXTENSIONS, tarfile.GNUTYPE_LONGLINK) and info.size > _LARGEST_EXTENSION:
            raise tarfile.ReadError("an extension header of more than 1 MiB")
        return info

    @classmethod
    def _plain(cls, buf: bytes, encoding: str, errors: str) -> BoundedTarInfo:
        """A header with numbers in octal digits (POSIX.1-1988, "ustar"). Raises ValueError for any other."""
        name, mode, uid, gid, size, mtime, check, kind, link, user, group, major, minor, prefix = _HEADER.unpack(buf)
        if sum(buf) - sum(check) + 8 * 32 != _octal(check):
            raise ValueError
        info = cls(name.partition(b"\0")[0].decode(encoding, errors))
        info.mode, info.uid, info.gid = _octal(mode), _octal(uid), _octal(gid)
        info.size, info.mtime, info.chksum = _octal(size), _octal(mtime), _octal(check)
        info.type = kind
        info.linkname = link.partition(b"\0")[0].decode(encoding, errors)
        info.uname, info.gname = _text(user, encoding, errors), _text(group, encoding, errors)
        info.devmajor, info.devminor = _octal(major), _octal(minor)
        if kind == tarfile.DIRTYPE:
            info.name = info.name.rstrip("/")
        if prefix[0]:
            info.name = f"{_text(prefix, encoding, errors)}/{info.name}"
        return info


@lru_cache(1 << 14)
def _octal(field: bytes) -> int:
    """A number of a header. Raises ValueError for one in base 256, and for none."""
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


@lru_cache(1 << 10)
def _text(field: bytes, encoding: str, errors: str) -> str:
    return field.partition(b"\0")[0].decode(encoding, errors)


class _Forward:
    """A stream that `tarfile` may treat as a file, as long as it only goes forward; its own way of doing so copies
    each byte in Python."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._position += len(data)
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position < self._position:
            raise tarfile.StreamError("seeking backwards is not allowed")
        while self._position < position:
            skipped = len(self._stream.read(min(position - self._position, _BUFFER)))
            self._position += skipped
            if not skipped:
                break
        return self._position


class _Checked(io.RawIOBase):
    """Passes a stream on and compares digest and size at its end; closes the stream when closed. ``most`` bytes are
    passed on."""

    def __init__(
        self, source: IO[bytes], digest: str, size: int | None, where: str, what: str, most: int | None = None
    ) -> None:
        self._most = most
        self._source = source
        self._digest = digest
        self._size = size
        self._where = where
        self._what = what
        self._sha256 = hashlib.sha256()
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            count = cast(io.RawIOBase, self._source).readinto(view) or 0
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(self._where, f"{self._what} cannot be read ({error})") from error
        if count == 0:
            self._finish()
            return 0
        self._seen += count
        if self._size is not None and self._seen > self._size:
            raise damaged(self._where, f"{self._what} has more than the stated {self._size:,} bytes")
        if self._most is not None and self._seen > self._most:
            raise NotAnImage(
                f"{self._where}: {self._what} has more than {self._most >> 20:,} MiB, over {_DENSEST} times of what is "
                "stored.",
                hint="Nobody's files are compressed like that: this is made to exhaust whoever unpacks it.",
            )
        self._sha256.update(view[:count])
        return count

    def _finish(self) -> None:
        if self._size is not None and self._seen != self._size:
            raise damaged(self._where, f"{self._what} has {self._seen:,} bytes instead of {self._size:,}")
        found = "sha256:" + self._sha256.hexdigest()
        if found != self._digest:
            raise damaged(self._where, f"{self._what} has the digest {found} instead of {self._digest}")

    def tell(self) -> int:
        """Bytes read so far."""
        return self._seen

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def checked(source: IO[bytes], digest: str, size: int | None, where: str, what: str) -> BinaryIO:
    """``source``, but reading to its end raises `NotAnImage` unless digest and size (None: any) are as stated."""
    return io.BufferedReader(_Checked(source, digest, size, where, what), _BUFFER)


class _Inflating(io.RawIOBase):
    """A decompressing reader that also closes what it reads from; ``failure`` is what its library raises."""

    def __init__(self, reader: IO[bytes], source: IO[bytes], failure: type[Exception]) -> None:
        self._reader = reader
        self._source = source
        self._failure = failure

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return cast(io.RawIOBase, self._reader).readinto(buffer) or 0
        except self._failure as error:
            raise EOFError(error) from error

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
            self._source.close()
        super().close()


def decompressed(source: BinaryIO) -> IO[bytes]:
    """The uncompressed bytes of a gzip, zstd or uncompressed stream, told apart by their first bytes as every
    engine does; closing the result closes ``source``. Damage raises `OSError` or `EOFError`."""
    buffered = source if isinstance(source, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, source))
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP_MAGIC):
        from isal import igzip, igzip_lib

        reader: Any = igzip.IGzipFile(fileobj=buffered)  # type: ignore[no-untyped-call]
        return cast(IO[bytes], _Inflating(reader, buffered, cast(type[Exception], igzip_lib.IsalError)))
    if magic == _ZSTD_MAGIC:
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
        return cast(IO[bytes], _Inflating(reader, buffered, zstandard.ZstdError))
    return buffered


def layer_tar(layer: Layer) -> BinaryIO:
    """A layer's uncompressed tar; reading to its end raises `NotAnImage` unless it has the diff ID, and so does reading
    on after more than real layers unpack to."""
    what = f"layer {layer.descriptor.digest}"
    source = layer.open()
    most = max(_UNSUSPICIOUS, _DENSEST * layer.descriptor.size)
    try:
        reader = _Checked(decompressed(source), layer.diff_id, None, what, "its uncompressed tar", most)
        return io.BufferedReader(reader, _BUFFER)
    except BaseException:
        source.close()
        raise


@contextmanager
def layer_members(layer: Layer, sized: Callable[[int], None] = lambda _: None) -> Iterator[tarfile.TarFile]:
    """The layer's tar for iterating over it once, front to back; on leaving, what was not read is read, so that
    the digests of the whole layer are checked.

    ``sized`` hears in the end how many bytes the uncompressed tar has. Raises `NotAnImage` when the layer is no tar,
    or another one than its digests say.
    """
    with layer_tar(layer) as stream:
        try:
            with tarfile.open(fileobj=cast(IO[bytes], _Forward(stream)), mode="r:", tarinfo=BoundedTarInfo) as tar:
                yield tar
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise damaged(f"layer {layer.descriptor.digest}", f"its tar cannot be read ({error})") from error
        while stream.read(_BUFFER):
            pass
        sized(stream.tell())
