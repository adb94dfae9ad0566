"""The named files of an OCI layout directory or of an archive, opened by name and never beyond them."""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import tarfile
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, Protocol

from nb2image.errors import NotAnImage, Unwritable
from nb2image.image.streams import BoundedTarInfo, damaged, decompressed

__all__ = ["ArchiveFiles", "DirectoryFiles", "Files"]

_CHUNK = 1 << 20
_MOST_LINKS = 16


class Files(Protocol):
    """Where an image's documents and blobs are read from; ``where`` names it in errors."""

    where: str

    def open(self, name: str) -> tuple[BinaryIO, int]:
        """A file and its size in bytes; the caller closes. Raises `KeyError` when there is none of that name."""
        ...


class DirectoryFiles:
    """A directory. Only regular files are opened: a FIFO would block, a device would not end."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.where = str(root)

    def open(self, name: str) -> tuple[BinaryIO, int]:
        try:
            handle = os.open(self._root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(name) from None
        except OSError as error:
            raise damaged(self.where, f"{name} cannot be opened ({error.strerror})") from error
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise damaged(self.where, f"{name} is no regular file")
        return os.fdopen(handle, "rb", buffering=0), status.st_size


class _Member(NamedTuple):
    offset: int
    size: int
    link: str | None


class ArchiveFiles:
    """A tar, also a gzip or zstd one, which is unpacked into an unnamed temporary file first."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            self._handle = _plain_tar(path)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise Unwritable(
                    f"There is no room in {tempfile.gettempdir()} for {path} unpacked: {error.strerror}.",
                    hint="Set TMPDIR to a folder with more space.",
                ) from error
            raise NotAnImage(
                f"{path} cannot be read: {error.strerror or error}.", hint="Name an OCI layout or an image archive."
            ) from error
        weakref.finalize(self, os.close, self._handle)
        self._members = self._scan()

    def _scan(self) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        try:
            with (
                _Section(self._handle, 0, os.fstat(self._handle).st_size) as stream,
                tarfile.open(fileobj=io.BufferedReader(stream, 4096), mode="r:", tarinfo=BoundedTarInfo) as tar,
            ):
                for info in tar:
                    name = posixpath.normpath(info.name)
                    if info.isreg() and not info.issparse():
                        members[name] = _Member(info.offset_data, info.size, None)
                    elif info.issym():
                        target = posixpath.join(posixpath.dirname(name), info.linkname)
                        members[name] = _Member(0, 0, posixpath.normpath(target))
                    elif info.islnk():
                        members[name] = _Member(0, 0, posixpath.normpath(info.linkname))
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            raise NotAnImage(
                f"{self.where} is no tar archive, or a damaged one ({error}).",
                hint="Name an OCI layout or an archive as `docker save` or `skopeo copy` write it.",
            ) from error
        return members

    def open(self, name: str) -> tuple[BinaryIO, int]:
        member = self._members[name]
        # `docker save` of old engines links layers that two images share.
        for _ in range(_MOST_LINKS):
            if member.link is None:
                return io.BufferedReader(_Section(self._handle, member.offset, member.size, self)), member.size
            if member.link not in self._members:
                break
            member = self._members[member.link]
        raise damaged(self.where, f"{name} is a link to nothing")


class _Section(io.RawIOBase):
    """Bytes of an open file from an offset on; keeps ``owner``, and with it the file, alive."""

    def __init__(self, handle: int, offset: int, size: int, owner: object = None) -> None:
        self._handle = handle
        self._start = offset
        self._size = size
        self._position = 0
        self._owner = owner

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        wanted = min(len(view), max(0, self._size - self._position))
        data = os.pread(self._handle, wanted, self._start + self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def _plain_tar(path: Path) -> int:
    """A descriptor of the uncompressed tar."""
    with path.open("rb") as source:
        plain: IO[bytes] = decompressed(source)
        if plain is source:
            return os.dup(source.fileno())
        try:
            with plain, tempfile.TemporaryFile() as copy:
                while chunk := plain.read(_CHUNK):
                    copy.write(chunk)
                copy.flush()
                return os.dup(copy.fileno())
        except EOFError as error:
            raise damaged(str(path), f"it cannot be decompressed ({error})") from error
