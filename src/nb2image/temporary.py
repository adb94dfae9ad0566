"""Files on their way to a final name, which tell whether their writer is still alive.

A writer holds a lock (``flock``) on its temporary file or folder until that has its final name; the kernel takes the
lock away from a process that dies, however it dies. So what a killed process left behind can be told from what is being
written now, and removed by the next one (`sweep`), without waiting for a day to pass. The name says on which machine
it was made: a lock that is seen there only (some network file systems) must not make others remove it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["sweep", "temporary_file", "temporary_folder"]

_FOREIGN = 86400.0
"""Seconds after which something of another machine counts as left behind."""

_MACHINE = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:6]
_NAME = re.compile(r"([0-9a-f]{6})-[0-9a-f]{12}")

_guard = threading.Lock()
"""Held while something is made, so that nothing is after `_remove_live`."""
_ended = False

_live: set[Path] = set()
_folders: dict[Path, int] = {}
"""Locks of folders, held until the folder is gone from its place or the process ends."""


def _name() -> str:
    return f"{_MACHINE}-{secrets.token_hex(6)}"


@contextlib.contextmanager
def temporary_file(
    folder: Path, prefix: str = "", suffix: str = "", *, mode: int = 0o600, buffering: int = -1
) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file and a stream that writes to it and reads; on leaving it is removed unless it was renamed.

    ``mode`` as for `os.open`, ``buffering`` as for `open`. Raises `OSError` when it cannot be made.
    """
    path, handle = _new_file(folder, prefix, suffix, mode)
    # A second descriptor of the same open file keeps the lock when the stream is closed before the rename.
    lock = os.dup(handle)
    try:
        stream = os.fdopen(handle, "w+b", buffering)
        try:
            yield path, stream
        finally:
            # Closing writes what is buffered, which fails again on a full disk; whoever renames has flushed before.
            with contextlib.suppress(OSError):
                stream.close()
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        _live.discard(path)
        os.close(lock)


def _new_file(folder: Path, prefix: str, suffix: str, mode: int) -> tuple[Path, int]:
    while True:
        path = folder / f"{prefix}{_name()}{suffix}"
        with _being_made(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        if _locked(handle) is not False and _is_at(handle, path):
            return path, handle
        # Somebody who swept was quicker with the lock than we.
        _live.discard(path)
        os.close(handle)


@contextlib.contextmanager
def _being_made(path: Path) -> Iterator[None]:
    """What is made here goes at the end of the process: making it takes long enough to be interrupted in."""
    with _guard:
        if _ended:
            raise OSError(errno.ECANCELED, "the process ends", str(path))
        _live.add(path)
        try:
            yield
        except OSError:
            _live.discard(path)
            raise


def temporary_folder(folder: Path) -> Path:
    """A new empty folder, which whoever asks removes or renames. Raises `OSError` when it cannot be made."""
    # False as well for what this process may not look at any more.
    for path in [path for path in _folders if not os.path.exists(path)]:  # noqa: PTH110
        os.close(_folders.pop(path))
    while True:
        path = folder / _name()
        with _being_made(path):
            path.mkdir(mode=0o700)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            _live.discard(path)
            continue
        if _locked(handle) is not False and _is_at(handle, path):
            _folders[path] = handle
            _live.discard(path)
            return path
        _live.discard(path)
        os.close(handle)


def sweep(folder: Path, prefix: str = "", suffix: str = "") -> None:
    """Remove what dead processes left in ``folder`` of the names that `temporary_file` and `temporary_folder` give."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return
    for name in names:
        if not name.startswith(prefix) or not name.endswith(suffix):
            continue
        made = _NAME.fullmatch(name[len(prefix) : len(name) - len(suffix)])
        if made is not None:
            with contextlib.suppress(OSError):
                _sweep_one(folder / name, made[1] == _MACHINE)


def _sweep_one(path: Path, own: bool) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        locked = _locked(handle, wait=False)
        if locked is False or not _is_at(handle, path):
            return
        # Where there are no locks, or perhaps not across machines, age has to tell.
        if (own and locked) or time.time() - os.fstat(handle).st_mtime > _FOREIGN:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    finally:
        os.close(handle)


def _locked(handle: int, *, wait: bool = True) -> bool | None:
    """Whether the lock is ours now; None where the file system knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


@atexit.register
def _remove_live() -> None:
    """What an interrupt came upon while it was made, and what threads that die with the process cannot remove."""
    global _ended
    with _guard:
        _ended = True
    for path in _live.copy():
        with contextlib.suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    for path in list(_folders):
        shutil.rmtree(path, ignore_errors=True)
