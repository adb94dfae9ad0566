"""The content-addressed store: shared by several builds at once, safe against crashes, checked when read.

Layout below the root (``NB2IMAGE_CACHE_DIR``, else where the platform keeps user caches)::

    v1/wheels/sha256/ab/<hex>      wheels and source distributions, as downloaded
    v1/bases/sha256/ab/<hex>       packages that bases are made of
    v1/layers/sha256/ab/<hex>      finished layer blobs
    v1/records/<kind>/ab/<key>     small JSON documents: facts that were expensive to find, by the hash of what
                                   they follow from
    v1/roots/<hex>                 Pythons of bases, unpacked to compile bytecode
    v1/tmp/                        files being written; renamed into place when complete

A file appears under its final name only by a rename, so a reader sees all of it or nothing, and two writers of
one digest write the same bytes. A record carries a checksum of itself; a damaged one counts as absent. Whoever
*reads* a blob checks its digest (:meth:`Store.open_checked`, or while copying); a link is checked by size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from nb2image.errors import Unwritable

__all__ = ["Room", "Store", "Usage", "Writing", "digest_of_key"]

Room = Literal["wheels", "bases", "layers"]
ROOMS: tuple[Room, ...] = get_args(Room)
_FORMAT = "v1"
_CHUNK = 1 << 20


def digest_of_key(*parts: object) -> str:
    """Hex sha256 of a key made of JSON values; equal parts give equal keys on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Usage:
    """How much a part of the store holds. ``size`` in bytes."""

    room: str
    files: int
    size: int


class Writing:
    """A file being written into the store; hashes what passes through :meth:`write`."""

    def __init__(self, store: Store, room: Room, path: Path, stream: BinaryIO) -> None:
        self._store = store
        self._room: Room = room
        self.path = path
        self.stream = stream
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self.stream.write(data)
        self.sha256.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of what was written so far."""
        return "sha256:" + self.sha256.hexdigest()

    def commit(self, *, durable: bool = False) -> Path:
        """Give the file its final name and return that; ``durable`` waits until it is on the disk."""
        return self.commit_as(self.digest, durable=durable)

    def commit_as(self, digest: str, *, durable: bool = False) -> Path:
        """The same for a writer that used ``stream`` itself and knows the digest of what it wrote."""
        self.stream.flush()
        if durable:
            os.fsync(self.stream.fileno())
        self.stream.close()
        final = self._store.path(self._room, digest)
        final.parent.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o444)
        self.path.replace(final)
        return final


def _sizes(folder: Path) -> Iterator[int]:
    """Of the files below a folder, which may go while they are counted."""
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                yield status.st_size


class Store:
    """The cache; every method may be called by several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = root / _FORMAT

    @classmethod
    def default(cls) -> Store:
        """The user's store: ``NB2IMAGE_CACHE_DIR``, else the platform's cache folder."""
        if configured := os.environ.get("NB2IMAGE_CACHE_DIR"):
            return cls(Path(configured).expanduser().absolute())
        import platformdirs

        return cls(platformdirs.user_cache_path("nb2image"))

    # -- blobs ------------------------------------------------------------------------------------

    def path(self, room: Room, digest: str) -> Path:
        """Where the blob of a digest (``sha256:<hex>``) stands or would stand."""
        algorithm, _, value = digest.partition(":")
        return self._top / room / algorithm / value[:2] / value

    def find(self, room: Room, digest: str, size: int | None = None) -> Path | None:
        """The blob's path when it is there (and has ``size`` bytes, if given); marks it as used.

        Raises `Unwritable` when the store may not be looked into.
        """
        path = self.path(room, digest)
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unwritable(error, "read") from error
        if size is not None and found.st_size != size:
            self.drop(room, digest)
            return None
        if time.time() - found.st_mtime > 3600:
            with contextlib.suppress(OSError):
                os.utime(path)
        return path

    def open_checked(self, room: Room, digest: str) -> BinaryIO | None:
        """Open a blob after reading it through against its digest; a damaged one is dropped (None)."""
        path = self.find(room, digest)
        if path is None:
            return None
        stream = path.open("rb")
        value = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            value.update(chunk)
        if "sha256:" + value.hexdigest() != digest:
            stream.close()
            self.drop(room, digest)
            return None
        stream.seek(0)
        return stream

    def drop(self, room: Room, digest: str) -> None:
        """Forget a blob."""
        with contextlib.suppress(OSError):
            self.path(room, digest).unlink()

    @contextlib.contextmanager
    def writing(self, room: Room) -> Iterator[Writing]:
        """A temporary file for a new blob: ``write`` to it, then ``commit``; without commit nothing remains.

        Raises `Unwritable` when the store cannot be written.
        """
        path, stream = self._temporary()
        writing = Writing(self, room, path, stream)
        try:
            yield writing
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            # Closing writes what is buffered, which fails again on a full disk; the file is dropped anyway.
            with contextlib.suppress(OSError):
                stream.close()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def scratch(self) -> Path:
        """A new empty folder on the store's file system; whoever asks removes it."""
        try:
            folder = self._top / "tmp"
            folder.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=folder))
        except OSError as error:
            raise self._unwritable(error) from error

    def root_of(self, digest: str) -> Path:
        """Where what is needed of an image's files to start its Python stands or would stand, unpacked."""
        return self._top / "roots" / digest.partition(":")[2]

    def _temporary(self) -> tuple[Path, BinaryIO]:
        try:
            folder = self._top / "tmp"
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder)
            return Path(name), os.fdopen(handle, "w+b")
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError, what: str = "written") -> Unwritable:
        return Unwritable(
            f"The cache at {self.root} cannot be {what}: {error.strerror or error}.",
            hint="Free some space or set NB2IMAGE_CACHE_DIR to a folder that you may read and write.",
        )

    # -- records ----------------------------------------------------------------------------------

    def _record_path(self, kind: str, key: str) -> Path:
        return self._top / "records" / kind / key[:2] / key

    def get_record(self, kind: str, key: str) -> Any | None:
        """The JSON value stored under (kind, key), or None. ``key`` is a hex digest (`digest_of_key`)."""
        path = self._record_path(kind, key)
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unwritable(error, "read") from error
        checksum, _, body = text.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return json.loads(body)

    def record_age(self, kind: str, key: str) -> float | None:
        """Seconds since the record was written, or None when it is not there."""
        try:
            return max(0.0, time.time() - self._record_path(kind, key).stat().st_mtime)
        except OSError:
            return None

    def put_record(self, kind: str, key: str, value: Any) -> None:
        """Store a JSON value under (kind, key), replacing what was there."""
        body = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        path, stream = self._temporary()
        try:
            with stream:
                stream.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            final = self._record_path(kind, key)
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    # -- upkeep -----------------------------------------------------------------------------------

    def usage(self) -> list[Usage]:
        """What each part holds."""
        return [self._usage(name) for name in (*ROOMS, "roots", "records")]

    def _usage(self, name: str) -> Usage:
        sizes = list(_sizes(self._top / name))
        return Usage(name, len(sizes), sum(sizes))

    def prune(self, parts: tuple[str, ...], *, older_than: float | None = None, max_size: int | None = None) -> Usage:
        """Remove files of ``parts`` (rooms or ``records``), and say how many and how much.

        ``older_than``: only files not used for so many seconds. ``max_size``: oldest first until the parts
        together hold at most so many bytes. Neither: everything. Unpacked Pythons go with the bases, each as one file
        would. Unfinished files older than a day go always.
        """
        found: list[tuple[float, int, Path]] = []
        for part in parts:
            for file in (self._top / part).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if file.is_file():
                        status = file.stat()
                        found.append((status.st_mtime, status.st_size, file))
        if "bases" in parts:
            for root in (self._top / "roots").glob("*"):
                with contextlib.suppress(FileNotFoundError):
                    found.append((root.stat().st_mtime, sum(_sizes(root)), root))
        found.sort()
        now = time.time()
        total = sum(size for _, size, _ in found)
        files = removed = 0
        for used, size, file in found:
            if older_than is not None and now - used <= older_than:
                continue
            if max_size is not None and total <= max_size:
                break
            with contextlib.suppress(OSError):
                if file.is_dir():
                    self._remove_root(file)
                else:
                    file.unlink()
                files += 1
                removed += size
                total -= size
        self._sweep_temporary()
        return Usage(",".join(parts), files, removed)

    def _remove_root(self, root: Path) -> None:
        """An unpacked Python goes as a whole: half of one would look like one."""
        doomed = self.scratch()
        root.rename(doomed / root.name)
        shutil.rmtree(doomed, ignore_errors=True)

    def _sweep_temporary(self) -> None:
        folder = self._top / "tmp"
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > 86400:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()
