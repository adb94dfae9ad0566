"""`Place`, where a lock stands, and `Format`, the plug point for what can stand there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nb2image.errors import BrokenLock
from nb2image.lock.model import Lock
from nb2image.notebook.document import Notebook

__all__ = ["Format", "Place", "always", "is_file", "text_of"]


@dataclass(frozen=True)
class Place:
    """A lock that was found: a value of the notebook's metadata, or a file beside it.

    ``source`` is how the lock is named to the user (``metadata.requirements_lock``, ``Pipfile.lock``). Exactly
    one of ``key`` and ``file`` is set.
    """

    notebook: Notebook
    source: str
    key: str | None = None
    file: Path | None = None

    @property
    def value(self) -> object:
        """The metadata value, as JSON gives it; of a file its text. Raises `BrokenLock`."""
        if self.key is not None:
            return self.notebook.metadata[self.key]
        return text_of(self.file) if self.file is not None else None

    @property
    def where(self) -> str:
        """How a message begins: the notebook's name and the metadata key, or the file."""
        return f"{self.notebook.name}: {self.source}" if self.key is not None else self.source

    def beside(self, name: str) -> Path | None:
        """A file in the same directory as the lock's file, when it is there."""
        if self.file is None:
            return None
        path = self.file.parent / name
        return path if is_file(path) else None


def text_of(file: Path) -> str:
    """The text of a lock's file or of one beside it. Raises `BrokenLock`."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BrokenLock(f"{file} cannot be read: {error.strerror or error}.", hint="Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise BrokenLock(f"{file} is not UTF-8 text: byte {error.start}.", hint="Lock the notebook again.") from error


def is_file(path: Path) -> bool:
    """Whether a file is there to be read; a name that cannot be one (too long, not allowed to look) is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def always(_: Place) -> bool:
    return True


@dataclass(frozen=True)
class Format:
    """A kind of lock: where to look for it, and how to read it.

    ``keys`` are metadata keys, ``files`` names beside the notebook in which ``{stem}`` stands for the notebook's
    name without suffix; the first that is there counts. ``holds`` tells whether a file of that name is a lock at
    all (a ``requirements.txt`` without hashes is none). ``read`` raises `BrokenLock`, `UnsupportedSource`.
    """

    name: str
    read: Callable[[Place], Lock]
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    holds: Callable[[Place], bool] = always
