"""Which system packages a notebook asks for: ``apt.txt``, one name a line, as repo2docker and others read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from nb2image.errors import SystemPackagesUnusable
from nb2image.notebook.document import Notebook

__all__ = ["APT_FILE", "APT_LOCK", "Needed", "Wanted", "apt_file", "read_apt_file"]

APT_FILE = "apt.txt"
APT_LOCK = "apt.lock"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
"""Debian Policy 5.6.1."""
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")
_LARGEST = 1 << 20


class Wanted(NamedTuple):
    """A package by name, and by version where one was asked for; ``where`` stands in messages (``apt.txt, line 3``)."""

    name: str
    version: str
    where: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}" if self.version else self.name


class Needed(NamedTuple):
    """A shared library that is missing, and the packages that need it."""

    soname: str
    by: tuple[str, ...]


def apt_file(notebook: Notebook, name: str = APT_FILE) -> Path | None:
    """The file of that name beside the notebook, else the one in the root of its repository."""
    for folder in (notebook.file.parent, notebook.root):
        if folder is not None and (file := folder / name).is_file():
            return file
    return None


def read_apt_file(file: Path) -> tuple[Wanted, ...]:
    """The packages of an ``apt.txt``, in order and each once: names, or ``name=version``; ``#`` begins a comment.

    Raises `SystemPackagesUnusable`.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(_LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemPackagesUnusable(
            f"{file} cannot be read: {error}.", hint="It is a text of package names."
        ) from error
    found: dict[str, Wanted] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for word in line.partition("#")[0].split():
            name, equals, version = word.partition("=")
            where = f"{file.name}, line {number}"
            if not _NAME.fullmatch(name) or (equals and not _VERSION.fullmatch(version)):
                raise SystemPackagesUnusable(
                    f"{where}: {word[:80]!r} is no name of a Debian package.",
                    hint="Write one package a line, such as libgl1 or libgl1=1.6.0-1; options are not read.",
                )
            known = found.setdefault(name, Wanted(name, version, where))
            if known.version != version:
                raise SystemPackagesUnusable(
                    f"{where}: {name} was asked for before, in another version.", hint="Keep one of the two lines."
                )
    return tuple(found.values())
