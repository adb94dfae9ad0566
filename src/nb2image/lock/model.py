"""`Lock`: a PEP 751 lock as :mod:`packaging.pylock` models it, and where it came from.

Formats that name only hashes (Pipfile.lock, hashed requirements) give packages *without* ``wheels`` and
``sdist``; what their files may hash to stands in ``tool.nb2image.hashes``, and the index client completes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.markers import Marker
from packaging.pylock import Package, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image import __version__

__all__ = ["STRONG_HASHES", "Freshness", "Lock", "hash_only_package", "hashes_of", "new_pylock"]

STRONG_HASHES = ("sha256", "sha384", "sha512")
"""Hash algorithms that hold a file, weakest first."""


@dataclass(frozen=True)
class Freshness:
    """Whether the lock was made for the requirements that stand beside it.

    ``fresh`` None: the format has no way to tell. ``difference`` says in one sentence what differs.
    """

    fresh: bool | None
    difference: str = ""


@dataclass(frozen=True)
class Lock:
    """What a notebook locks.

    ``pylock`` keeps only packages that some target may need; ``source`` says where it stands
    (``metadata.requirements_lock``, ``Pipfile.lock``); ``indexes`` are the URLs the lock names, in order, without
    duplicates (empty: the user's default index); ``python`` is the ``X.Y`` the lock was made for, None when it
    does not say; ``direct`` the names asked for directly, where the format tells; ``notes`` what the reader had
    to repair or passed over.
    """

    pylock: Pylock
    source: str
    indexes: tuple[str, ...] = ()
    python: str | None = None
    direct: tuple[str, ...] = ()
    freshness: Freshness = Freshness(None)
    notes: tuple[str, ...] = field(default=())

    @property
    def packages(self) -> Sequence[Package]:
        return self.pylock.packages

    @property
    def digest(self) -> str:
        """``sha256:…`` of the locked packages: names, versions, markers and allowed hashes, in a normal form that
        does not depend on the format, on the order or on any URL."""
        rows = sorted([p.name, str(p.version), str(p.marker or ""), sorted(hashes_of(p))] for p in self.packages)
        document = json.dumps(rows, separators=(",", ":"), ensure_ascii=True)
        return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


def hash_only_package(
    name: str,
    version: str,
    hashes: Iterable[str],
    *,
    index: str | None = None,
    marker: Marker | None = None,
) -> Package:
    """A package of which the lock knows hashes (``sha256:<hex>``) but no files."""
    tool: dict[str, Any] = {"nb2image": {"hashes": sorted(set(hashes))}}
    return Package(name=canonicalize_name(name), version=Version(version), index=index, marker=marker, tool=tool)


def hashes_of(package: Package) -> frozenset[str]:
    """Every hash (``algorithm:hex``) that a file of the package may have; sha256 and stronger only."""
    found: set[str] = set()
    if package.tool:
        found.update(package.tool.get("nb2image", {}).get("hashes", ()))
    files = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
    if package.archive:
        found.update(f"{k}:{v}" for k, v in package.archive.hashes.items())
    for file in files:
        found.update(f"{k}:{v}" for k, v in file.hashes.items())
    return frozenset(h for h in found if h.partition(":")[0] in STRONG_HASHES)


def new_pylock(packages: Iterable[Package]) -> Pylock:
    """A lock document of these packages, sorted by name."""
    return Pylock(
        lock_version=Version("1.0"),
        created_by=f"nb2image {__version__}",
        packages=sorted(packages, key=lambda p: (p.name, str(p.version))),
    )
