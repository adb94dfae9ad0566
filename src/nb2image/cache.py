"""The content-addressed store: shared by several builds at once, safe against crashes, checked when read.

Layout below the root (``NB2IMAGE_CACHE_DIR``, else where the platform keeps user caches)::

    v1/wheels/sha256/ab/<hex>      wheels and source distributions, as downloaded
    v1/bases/sha256/ab/<hex>       packages that bases are made of
    v1/layers/sha256/ab/<hex>      finished layer blobs
    v1/records/<kind>/ab/<key>     small JSON documents: facts that were expensive to find, by the hash of what
                                   they follow from
    v1/roots/<hex>                 files of images, unpacked: Pythons that compile bytecode, roots of sandboxes
    v1/tmp/                        files being written; renamed into place when complete

A file appears under its final name only by a rename, so a reader sees all of it or nothing, and two writers of
one digest write the same bytes. What a killed process left in ``tmp`` goes when the next one writes. A record carries
a checksum of itself; a damaged one counts as absent. Whoever *reads* a blob checks its digest (`Store.open_checked`,
`Store.find_sound`, or while copying); finding one checks that it is a file, may be read, and has its size.
A blob's modification time is when it was written; its access time when it was used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from nb2image.errors import Unwritable
from nb2image.temporary import sweep, temporary_file, temporary_folder

__all__ = ["STARTED", "Room", "Store", "Usage", "Writing", "digest_of_key"]

STARTED = time.time()
"""When this process began, near enough. A blob written since then was hashed by its writer a moment ago."""

Room = Literal["wheels", "bases", "layers"]
ROOMS: tuple[Room, ...] = get_args(Room)
_FORMAT = "v1"
_CHUNK = 1 << 20

_swept: set[Path] = set()
_sweeping = threading.Lock()
_verified: set[Path] = set()
"""Blobs and unpacked folders that this process has found to be sound."""


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

    def restart(self) -> None:
        """Forget what was written so far."""
        self.stream.seek(0)
        self.stream.truncate()
        self.sha256 = hashlib.sha256()
        self.size = 0

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
        self.path.chmod(0o444)
        _place(self.path, final)
        return final


def _place(path: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.replace(final)
    except IsADirectoryError:
        # Not ours: a blob or a record is never a folder.
        shutil.rmtree(final)
        path.replace(final)


def _remove(path: Path) -> None:
    """What stands where a file should."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _listing(root: Path) -> str:
    """Hex sha256 of names, kinds, permissions and contents of everything below a folder."""
    rows: list[list[object]] = []
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted((*folders, *files)):
            path = Path(folder, name)
            status = path.lstat()
            row: list[object] = [str(path.relative_to(root)), status.st_mode]
            if stat.S_ISLNK(status.st_mode):
                row.append(str(path.readlink()))
            elif stat.S_ISREG(status.st_mode):
                row.append(hashlib.sha256(path.read_bytes()).hexdigest())
            rows.append(row)
    return digest_of_key(rows)


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
        return self._top.joinpath(room, algorithm, value[:2], value)

    def find(self, room: Room, digest: str, size: int | None = None) -> Path | None:
        """The blob's path when it is there; marks it as used. One of another size than ``size`` is read through: it
        is damaged, and dropped, or what was said of its size is wrong.

        Raises `Unwritable` when the store may not be looked into.
        """
        path = self.path(room, digest)
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unwritable(error, "read") from error
        if not stat.S_ISREG(found.st_mode) or not os.access(path, os.R_OK):
            self._drop_unusable(path)
            return None
        if size is not None and found.st_size != size:
            stream = self._open_sound(path, digest)
            if stream is None:
                return None
            stream.close()
        now = time.time()
        if now - max(found.st_atime, found.st_mtime) > 3600:
            with contextlib.suppress(OSError):
                os.utime(path, ns=(int(now * 1e9), found.st_mtime_ns))
        return path

    def find_sound(self, room: Room, digest: str, size: int | None = None) -> Path | None:
        """`find` for who goes on to read the blob: one that was not written just now is read through, once per process.

        A zip archive's own checksums do not do: none of them covers the modes of its files.
        """
        path = self.find(room, digest, size)
        if path is None or path in _verified:
            return path
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime >= STARTED:
                return path
            if (stream := self._open_sound(path, digest)) is not None:
                stream.close()
                _verified.add(path)
                return path
        return None

    def open_checked(self, room: Room, digest: str) -> BinaryIO | None:
        """Open a blob after reading it through against its digest; a damaged one is dropped (None)."""
        path = self.find(room, digest)
        return self._open_sound(path, digest) if path is not None else None

    def _open_sound(self, path: Path, digest: str) -> BinaryIO | None:
        value = hashlib.sha256()
        try:
            stream = path.open("rb")
            try:
                while chunk := stream.read(_CHUNK):
                    value.update(chunk)
                if "sha256:" + value.hexdigest() == digest:
                    stream.seek(0)
                    return stream
            except BaseException:
                stream.close()
                raise
            stream.close()
        except FileNotFoundError:
            return None
        except OSError:
            # A sector that cannot be read is damage like any other.
            pass
        self._drop_unusable(path)
        return None

    def drop(self, room: Room, digest: str) -> None:
        """Forget a blob."""
        with contextlib.suppress(OSError):
            _remove(self.path(room, digest))

    def _drop_unusable(self, path: Path) -> None:
        try:
            _remove(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            error.filename = str(path)
            raise self._unwritable(error, "mended") from error

    @contextlib.contextmanager
    def writing(self, room: Room) -> Iterator[Writing]:
        """A temporary file for a new blob: ``write`` to it, then ``commit``; without commit nothing remains.

        Raises `Unwritable` when the store cannot be written.
        """
        try:
            with temporary_file(self._tmp()) as (path, stream):
                yield Writing(self, room, path, stream)
        except OSError as error:
            raise self._unwritable(error) from error

    def scratch(self) -> Path:
        """A new empty folder on the store's file system; whoever asks removes it."""
        try:
            return temporary_folder(self._tmp())
        except OSError as error:
            raise self._unwritable(error) from error

    def root_of(self, digest: str) -> Path:
        """Where the unpacked files stand or would stand that ``digest`` (any hex, after any ``:``) is the name of."""
        return self._top / "roots" / digest.partition(":")[2]

    def unpacked(self, digest: str, fill: Callable[[Path], None]) -> Path:
        """The folder `root_of` a digest, marked as used; where it is not there, ``fill`` makes it from an empty one.

        It appears whole or not at all, and one whose files are not those that ``fill`` made is made anew: what stands
        in it is started. Raises what ``fill`` raises, and `Unwritable` for an `OSError`.
        """
        root = self.root_of(digest)
        key = digest_of_key("root", root.name)
        try:
            if root.is_dir():
                if root in _verified or self.get_record("root", key) == _listing(root):
                    _verified.add(root)
                    if time.time() - root.stat().st_mtime > 3600:
                        os.utime(root)
                    return root
                self._remove_root(root)
            scratch = self.scratch()
            try:
                fill(scratch)
                os.utime(scratch)
                listing = _listing(scratch)
                root.parent.mkdir(parents=True, exist_ok=True)
                try:
                    scratch.rename(root)
                except OSError:
                    if not root.is_dir():  # another build was quicker
                        raise
                self.put_record("root", key, listing)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            raise self._unwritable(error) from error
        _verified.add(root)
        return root

    def _tmp(self) -> Path:
        folder = self._top / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        with _sweeping:
            first = folder not in _swept
            _swept.add(folder)
        if first:
            sweep(folder)
        return folder

    def _unwritable(self, error: OSError, what: str = "written") -> Unwritable:
        return Unwritable(
            f"The cache at {self.root} cannot be {what}: {error.strerror or error}.",
            hint="Free some space or set NB2IMAGE_CACHE_DIR to a folder that you may read and write.",
        )

    # -- records ----------------------------------------------------------------------------------

    def _record_path(self, kind: str, key: str) -> Path:
        return self._top.joinpath("records", kind, key[:2], key)

    def get_record(self, kind: str, key: str) -> Any | None:
        """The JSON value stored under (kind, key), or None. ``key`` is a hex digest (`digest_of_key`)."""
        path = self._record_path(kind, key)
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if not os.access(path.parent, os.R_OK | os.X_OK):
                raise self._unwritable(error, "read") from error
            text = b""
        checksum, _, body = text.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            with contextlib.suppress(OSError):
                _remove(path)
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
        text = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        final = self._record_path(kind, key)
        with contextlib.suppress(OSError):
            # ext4 writes a file out before another takes its name: milliseconds each, and most records stay the same.
            if final.read_bytes() == text:
                os.utime(final)
                return
        try:
            with temporary_file(self._tmp()) as (path, stream):
                stream.write(text)
                stream.flush()
                _place(path, final)
        except OSError as error:
            raise self._unwritable(error) from error

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
                        found.append((max(status.st_atime, status.st_mtime), status.st_size, file))
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
        sweep(folder)
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > 86400:
                    _remove(path)
