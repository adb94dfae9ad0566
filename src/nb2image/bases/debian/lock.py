"""The lock of a Debian base: which packages of which archive, held by their sha256.

One JSON document per suite and architecture; those in ``images/bases/`` are part of nb2image. No mirror is named:
a file's path in the archive's pool is the same on all of them, and the hash decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from packaging.version import InvalidVersion, Version

from nb2image.cache import digest_of_key
from nb2image.errors import BaseError
from nb2image.target.model import Platform, Target

__all__ = ["ARCHIVES", "BaseLock", "LockedDeb", "shipped_lock", "shipped_names"]

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
class BaseLock:
    """A base as its lock states it. ``date`` (RFC 3339, UTC) is when the newest index it was resolved from was
    signed; ``release`` the point release (``12.15``)."""

    suite: str
    release: str
    architecture: str
    date: str
    python: str
    interpreter: str
    glibc: str
    packages: tuple[LockedDeb, ...]

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of what decides the base's content: suite, architecture, packages and their hashes."""
        rows = sorted([p.name, p.version, p.architecture, p.sha256] for p in self.packages)
        return "sha256:" + digest_of_key("debian-base", self.suite, self.architecture, rows)

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
    def target(self) -> Target:
        python = Version(self.python)
        return Target(
            platform=Platform("linux", self.architecture),
            python=python,
            interpreter=PurePosixPath(self.interpreter),
            site_packages=PurePosixPath(f"/usr/local/lib/python{python.major}.{python.minor}/dist-packages"),
            glibc=Version(self.glibc),
        )

    def text(self) -> str:
        """The document: one line per package, so that an update reads well as a difference."""
        head = {key: value for key, value in asdict(self).items() if key != "packages"}
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in {"format": _FORMAT, **head}.items()]
        rows = ",\n".join("    " + json.dumps(asdict(package)) for package in self.packages)
        return "\n".join(["{", *lines, '  "packages": [', rows, "  ]", "}", ""])

    @classmethod
    def read(cls, text: str | bytes, name: str) -> BaseLock:
        """Read a document; ``name`` stands in messages. Raises `BaseError` when it is none."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document.pop("format") != _FORMAT:
                raise ValueError("another format version")
            lock = cls(**{**document, "packages": tuple(LockedDeb(**row) for row in document["packages"])})
            lock.signed, lock.target  # noqa: B018  (both raise on a value they cannot read)
            if not all(p.archive in ARCHIVES and len(bytes.fromhex(p.sha256)) == 32 for p in lock.packages):
                raise ValueError("a package of an unknown archive or without a sha256")
        except (ValueError, TypeError, KeyError, AttributeError, InvalidVersion) as error:
            raise BaseError(
                f"{name} is no lock of a Debian base: {error}.",
                hint="Write a new one with `nb2image bases update`.",
            ) from error
        return lock


def shipped_lock(suite: str, platform: Platform) -> BaseLock | None:
    """The lock that nb2image brings for a suite, or None."""
    name = f"{suite}-{platform.architecture}.json"
    file = resources.files("nb2image") / "images" / "bases" / name
    return BaseLock.read(file.read_bytes(), name) if platform.os == "linux" and file.is_file() else None


def shipped_names() -> list[tuple[str, str]]:
    """(suite, architecture) of every lock that nb2image brings."""
    folder = resources.files("nb2image") / "images" / "bases"
    stems = [file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")]
    return sorted((suite, architecture) for suite, dash, architecture in (s.partition("-") for s in stems) if dash)
