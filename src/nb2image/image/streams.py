"""Reading layers: every byte is checked on its way, whatever the compression."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from nb2image.errors import NotAnImage
from nb2image.image.model import Layer

__all__ = ["BoundedTarInfo", "checked", "damaged", "decompressed", "layer_members", "layer_tar"]

_BUFFER = 1 << 20
# tarfile copies what is left of its buffer at every header.
_TAR_BUFFER = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LARGEST_EXTENSION = 1 << 20
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)


def damaged(where: str, what: str) -> NotAnImage:
    """The error for an image whose parts do not fit together; ``where`` names the file, ``what`` the finding."""
    return NotAnImage(f"{where}: {what}.", hint="The image is damaged or incomplete; export or copy it again.")


class BoundedTarInfo(tarfile.TarInfo):
    """Refuses extension headers that `tarfile` would read into memory whatever their size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedTarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in (*_EXTENSIONS, tarfile.GNUTYPE_LONGLINK) and info.size > _LARGEST_EXTENSION:
            raise tarfile.ReadError("an extension header of more than 1 MiB")
        return info


class _Checked(io.RawIOBase):
    """Passes a stream on and compares digest and size at its end; closes the stream when closed."""

    def __init__(self, source: IO[bytes], digest: str, size: int | None, where: str, what: str) -> None:
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
    """A layer's uncompressed tar; reading to its end raises `NotAnImage` unless it has the diff ID."""
    what = f"layer {layer.descriptor.digest}"
    source = layer.open()
    try:
        return checked(decompressed(source), layer.diff_id, None, what, "its uncompressed tar")
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
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_TAR_BUFFER, tarinfo=BoundedTarInfo) as tar:
                yield tar
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise damaged(f"layer {layer.descriptor.digest}", f"its tar cannot be read ({error})") from error
        while stream.read(_BUFFER):
            pass
        sized(stream.tell())
