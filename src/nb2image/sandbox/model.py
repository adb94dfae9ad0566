"""`Sandbox`: the plug point for whatever can run a source distribution's code and keep it in."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

from nb2image.image.model import Image

__all__ = [
    "ENVIRONMENT",
    "FOLDER",
    "LIFELINE",
    "USER",
    "Limits",
    "Outcome",
    "Sandbox",
    "Tail",
    "discard",
    "open_output",
]

FOLDER = "/build"
"""Where the one folder that may be written appears in every sandbox: its path gets into what compilers write."""
USER = 65534
"""User and group of everything that runs inside: nobody's."""
LIFELINE = "NB2IMAGE_LIFELINE"
"""Variable that tells the first process to end when its input does."""
ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": f"{FOLDER}/env/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    # The earliest time that a zip file, and so a wheel, can hold.
    "SOURCE_DATE_EPOCH": "315532800",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
}
"""Everything that is in the environment of what runs inside; nothing comes from outside."""


@dataclass(frozen=True)
class Limits:
    """What a run may use: ``seconds`` of wall time; bytes of address space per process, on disk in all, in one file,
    in ``/tmp``, of the log that is kept; processes at one time."""

    seconds: float = 900.0
    memory: int = 8 << 30
    disk: int = 4 << 30
    file: int = 1 << 30
    temporary: int = 1 << 30
    log: int = 64 << 10
    processes: int = 4096


class Outcome(NamedTuple):
    """How a run ended. ``code`` is that of the command, 128 + N where signal N ended it; ``log`` its last output."""

    ended: Literal["itself", "time limit"]
    code: int
    log: str


class Sandbox(Protocol):
    """Runs a command with an image as its file system, ``folder`` as `FOLDER`, and nothing else of this machine."""

    @property
    def title(self) -> str:
        """Kind and version, ``bubblewrap 0.8.0``."""
        ...

    @property
    def architecture(self) -> str:
        """Of the images that it runs, as OCI platforms spell it."""
        ...

    def run(self, image: Image, folder: Path, command: Sequence[str], limits: Limits) -> Outcome:
        """Run ``command`` (paths of the image) until it ends; no process of it remains, whatever happens.

        What it left in ``folder/out`` is there afterwards, to be read by `open_output` only. Raises `SdistFailed`
        when the sandbox itself fails.
        """
        ...

    def close(self) -> None: ...


class Tail:
    """The last ``limit`` bytes of a stream of any length."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._cut = False

    def write(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * self._limit:
            del self._data[: -self._limit]
            self._cut = True

    @property
    def text(self) -> str:
        """The tail as text, without the line that its beginning cuts, and without what would command a terminal."""
        data = bytes(self._data[-self._limit :])
        if self._cut or len(self._data) > self._limit:
            data = data.partition(b"\n")[2] or data
        text = data.decode("utf-8", "replace").replace("\r\n", "\n")
        return "".join(c for c in text if c in "\n\t" or c.isprintable())


def open_output(folder: Path, name: str, limit: int) -> BinaryIO | None:
    """A file that a sandbox left in ``folder/out``; None where no regular file of at most ``limit`` bytes is there.

    Whoever wrote it may have put links to files of this machine in its place: none is followed.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    if "/" in name:
        return None
    try:
        directory = os.open(folder / "out", flags | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except (OSError, ValueError):
        return None
    finally:
        os.close(directory)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        os.close(descriptor)
        return None
    return open(descriptor, "rb")


def discard(folder: Path) -> None:
    """Remove a folder that a sandbox wrote into, folders without permissions included."""

    def open_up(_: Callable[..., Any], path: str, __: Any) -> None:
        # The error may be of the folder itself or of what it lies in; links are neither followed nor changed.
        for each in (os.path.dirname(path), path):  # noqa: PTH120
            if os.path.isdir(each) and not os.path.islink(each):  # noqa: PTH112, PTH114
                os.chmod(each, 0o700)  # noqa: PTH101

    for _ in range(100):
        shutil.rmtree(folder, onerror=open_up)
        if not folder.exists():
            return
