"""What a base has installed already, as far as resolving needs to know it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nb2image.bases.debian.lock import BaseLock, shipped_lock
from nb2image.bases.debian.selection import OMITTED, SUITES
from nb2image.bases.debian.toolchain import is_made_from
from nb2image.bases.model import Base
from nb2image.bases.packages import Contents, contents_of
from nb2image.cache import Store, digest_of_key
from nb2image.errors import SystemPackagesUnusable

__all__ = ["Installed", "InstalledPackage", "installed_in", "installed_of_lock"]

_NEEDED = frozenset({"perl", "perl-base", "media-types", "mime-support", "sysvinit-utils", "lsb-base"})
"""What a base does without, and a package that somebody asks for may run."""


class InstalledPackage(NamedTuple):
    """``provides`` is the field of that name; None: not known, but equal to that of the index."""

    version: str
    architecture: str
    provides: str | None


@dataclass(frozen=True)
class Installed:
    """The packages of a base of a suite, by name."""

    suite: str
    architecture: str
    packages: Mapping[str, InstalledPackage]

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>``; equal for bases that hold the same versions."""
        rows = sorted([name, each.version, each.architecture] for name, each in self.packages.items())
        return "sha256:" + digest_of_key("debian-installed", self.suite, self.architecture, rows)

    @property
    def omitted(self) -> Mapping[str, str]:
        """Dependencies that need not be there: none where dpkg is, which would miss them."""
        if "dpkg" in self.packages:
            return {}
        return {name: reason for name, reason in OMITTED.items() if name not in _NEEDED}


def installed_of_lock(lock: BaseLock) -> Installed:
    """What the base of a lock has, before it is there."""
    packages = {deb.name: InstalledPackage(deb.version, deb.architecture, None) for deb in lock.packages}
    return Installed(lock.suite, lock.architecture, packages)


def installed_in(base: Base, store: Store) -> Installed:
    """What a base has. Raises `SystemPackagesUnusable` when it is none of Debian's, and `NotAnImage`."""
    platform = base.target.platform
    lock = shipped_lock(base.name, platform) if base.name in SUITES else None
    if base.pinned is not None:
        lock = base.pinned.base
    if lock is not None and is_made_from(base, lock, store):
        return installed_of_lock(lock)
    contents = contents_of(base.image, store)
    packages = {
        each.name: InstalledPackage(each.version, each.architecture, each.provides)
        for each in contents.system
        if each.architecture in {platform.architecture, "all"}
    }
    return Installed(_suite(base, contents), platform.architecture, packages)


def _suite(base: Base, contents: Contents) -> str:
    distribution = contents.distribution
    # os-release(5) has the codename in its title: "Debian GNU/Linux 12 (bookworm)".
    title = distribution.title if distribution is not None else ""
    codename = re.search(r"\(([a-z]+)\)", title)
    if distribution is None or distribution.id != "debian" or codename is None:
        raise SystemPackagesUnusable(
            f"System packages come from Debian, and the base {base.name} is {title or 'of no known distribution'}.",
            hint=f"Choose a Debian base, such as --base {SUITES[-1]}, or put the packages into the base.",
        )
    if not contents.complete:
        raise SystemPackagesUnusable(
            f"The base {base.name} has no database of its packages, so none can be added.",
            hint=f"Choose another Debian base, such as --base {SUITES[-1]}.",
        )
    return codename[1]
