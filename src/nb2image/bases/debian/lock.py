"""The lock of a Debian base: which packages of which archive, held by their sha256.

One JSON document per suite and architecture; those in ``images/bases/`` are part of nb2image, and so are those in
``images/bases/toolchain/``: what a compiler needs beyond the base. No mirror is named: a file's path in the archive's
pool is the same on all of them, and the hash decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cached_property
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from packaging.version import InvalidVersion, Version

from nb2image.cache import digest_of_key
from nb2image.errors import BaseError
from nb2image.target.model import Platform, Target

__all__ = [
    "ARCHIVES",
    "BaseLock",
    "LockedDeb",
    "Locks",
    "SystemLock",
    "ToolchainLock",
    "read_locks",
    "shipped_lock",
    "shipped_names",
    "shipped_toolchain",
]

_FORMAT = 1
ARCHIVES: Mapping[str, str] = {"main": "debian", "security": "debian-security"}
"""Debian's two archives, each with its own pool; the value is the name that mirrors and snapshots use."""


@dataclass(frozen=True)
class LockedDeb:
    """One package file. ``archive`` is a key of `ARCHIVES`, ``file`` the path below that archive's root, ``size`` in
    bytes, ``sha256`` in hex."""

    name: str
    version: str
    architecture: str
    archive: str
    file: str
    size: int
    sha256: str

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class _Lock:
    """What both kinds of lock have. ``date`` (RFC 3339, UTC) is when the newest index it was resolved from was
    signed."""

    suite: str
    architecture: str
    date: str
    packages: tuple[LockedDeb, ...]

    @property
    def size(self) -> int:
        """Bytes of all package files."""
        return sum(package.size for package in self.packages)

    @property
    def day(self) -> str:
        """``YYYY-MM-DD``."""
        return self.date[:10]

    @property
    def signed(self) -> datetime:
        return datetime.fromisoformat(self.date.replace("Z", "+00:00"))

    @property
    def subject(self) -> str:
        """What the packages make, for messages."""
        return self.suite

    def text(self) -> str:
        """The document: one line per package, so that an update reads well as a difference."""
        head = {"format": _FORMAT, **{name: getattr(self, name) for name in self._order}}
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
        rows = ",\n".join("    " + json.dumps(asdict(package)) for package in self.packages)
        return "\n".join(["{", *lines, '  "packages": [', rows, "  ]", "}", ""])

    @cached_property
    def _order(self) -> tuple[str, ...]:
        """Names of the fields as a document states them."""
        return tuple(field.name for field in fields(self) if field.name != "packages")

    def _rows(self) -> list[list[str]]:
        """What a digest of the packages follows from."""
        return sorted([p.name, p.version, p.architecture, p.sha256] for p in self.packages)

    def _check(self) -> None:
        """Raise ValueError or `InvalidVersion` on a value that means nothing."""
        self.signed  # noqa: B018  (raises)
        if not all(p.archive in ARCHIVES and len(bytes.fromhex(p.sha256)) == 32 for p in self.packages):
            raise ValueError("a package of an unknown archive or without a sha256")


@dataclass(frozen=True)
class BaseLock(_Lock):
    """A base as its lock states it; ``release`` is the point release (``12.15``)."""

    release: str
    python: str
    interpreter: str
    glibc: str

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of what decides the base's content: suite, architecture, packages and their hashes."""
        return "sha256:" + digest_of_key("debian-base", self.suite, self.architecture, self._rows())

    @property
    def reference(self) -> str:
        """The name of a base that no registry has: its host is nb2image's own and resolves nowhere."""
        return f"nb2image.local/debian:{self.suite}-{self.day.replace('-', '')}"

    @property
    def target(self) -> Target:
        python = Version(self.python)
        return Target(
            platform=Platform("linux", self.architecture),
            python=python,
            interpreter=PurePosixPath(self.interpreter),
            site_packages=PurePosixPath(f"/usr/local/lib/python{python.major}.{python.minor}/dist-packages"),
            glibc=Version(self.glibc),
        )

    @cached_property
    def _order(self) -> tuple[str, ...]:
        return ("suite", "release", "architecture", "date", "python", "interpreter", "glibc")

    def _check(self) -> None:
        super()._check()
        self.target  # noqa: B018  (raises)

    @classmethod
    def read(cls, text: str | bytes, name: str) -> BaseLock:
        """Read a document; ``name`` stands in messages. Raises `BaseError` when it is none."""
        return _read(cls, text, name, "a Debian base")


@dataclass(frozen=True)
class ToolchainLock(_Lock):
    """The packages that a compiler needs beyond those of a base. ``base`` is the `BaseLock.digest` of the one base
    that they fit: both were resolved from one index."""

    base: str

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of what decides the content of base and compiler together."""
        return "sha256:" + digest_of_key("debian-toolchain", self.base, self._rows())

    @property
    def subject(self) -> str:
        return f"the compiler for {self.suite}"

    @classmethod
    def read(cls, text: str | bytes, name: str) -> ToolchainLock:
        """Read a document; ``name`` stands in messages. Raises `BaseError` when it is none."""
        return _read(cls, text, name, "the compiler for a Debian base")


@dataclass(frozen=True)
class SystemLock(_Lock):
    """Packages that were asked for and what they depend on, beyond those of a base. ``base`` is the digest of what is
    installed there, ``wanted`` the names that were asked for, sorted and with a space between, ``libraries`` the
    packages that were taken for missing libraries, by soname; empty where no package has one."""

    base: str
    wanted: str
    libraries: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of what decides the content of base and packages together."""
        return "sha256:" + digest_of_key("debian-system", self.base, self._rows())

    @property
    def subject(self) -> str:
        return f"the system packages for {self.suite}"

    def _check(self) -> None:
        super()._check()
        if not all(isinstance(text, str) for text in (self.wanted, *self.libraries.values())):
            raise ValueError("a name that is no text")

    @classmethod
    def read(cls, text: str | bytes, name: str) -> SystemLock:
        """Read a document; ``name`` stands in messages. Raises `BaseError` when it is none."""
        return _read(cls, text, name, "system packages", "Write a new one with `nb2image build --apt-lock`.")


class Locks(NamedTuple):
    """A base and the compiler that fits it: both come from one index."""

    base: BaseLock
    toolchain: ToolchainLock


_Kind = TypeVar("_Kind", bound=_Lock)


_UPDATE = "Write a new one with `nb2image bases update`."


def _read(kind: type[_Kind], text: str | bytes, name: str, what: str, hint: str = _UPDATE) -> _Kind:
    try:
        document: dict[str, Any] = json.loads(text)
        if document.pop("format") != _FORMAT:
            raise ValueError("another format version")
        lock = kind(**{**document, "packages": tuple(LockedDeb(**row) for row in document["packages"])})
        lock._check()
    except (ValueError, TypeError, KeyError, AttributeError, InvalidVersion) as error:
        raise BaseError(
            f"{name} is no lock of {what}: {error}.",
            hint=hint,
        ) from error
    return lock


def shipped_lock(suite: str, platform: Platform) -> BaseLock | None:
    """The lock that nb2image brings for a suite, or None."""
    name = f"{suite}-{platform.architecture}.json"
    file = resources.files("nb2image") / "images" / "bases" / name
    return BaseLock.read(file.read_bytes(), name) if platform.os == "linux" and file.is_file() else None


def shipped_toolchain(suite: str, platform: Platform) -> ToolchainLock | None:
    """The lock of a compiler that nb2image brings for a suite, or None."""
    name = f"{suite}-{platform.architecture}.json"
    file = resources.files("nb2image") / "images" / "bases" / "toolchain" / name
    return ToolchainLock.read(file.read_bytes(), name) if platform.os == "linux" and file.is_file() else None


def read_locks(folder: Path, suite: str, platform: Platform) -> Locks | None:
    """The locks that a folder has for a suite, as `bases lock` and `bases update` write them; None: none for the
    platform. Raises `BaseError`."""
    file = folder / f"{suite}-{platform.architecture}.json"
    toolchain = folder / "toolchain" / file.name
    if platform.os != "linux" or not file.exists():
        return None
    try:
        base = BaseLock.read(file.read_bytes(), str(file))
        locks = Locks(base, ToolchainLock.read(toolchain.read_bytes(), str(toolchain)))
    except OSError as error:
        raise BaseError(
            f"{error.filename} cannot be read: {error.strerror}.",
            hint="Write it anew with `nb2image bases lock`, or get it from where the rest of its folder is kept.",
        ) from error
    if (base.suite, base.architecture, locks.toolchain.base) != (suite, platform.architecture, base.digest):
        raise BaseError(
            f"{file} and {toolchain} are not the locks of one base of {suite} for {platform}.",
            hint="Write both anew with `nb2image bases lock`.",
        )
    return locks


def shipped_names() -> list[tuple[str, str]]:
    """(suite, architecture) of every lock that nb2image brings."""
    folder = resources.files("nb2image") / "images" / "bases"
    stems = [file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")]
    return sorted((suite, architecture) for suite, dash, architecture in (s.partition("-") for s in stems) if dash)
