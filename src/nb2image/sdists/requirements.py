"""What a source distribution needs to be built: pinned and hashed before anything runs, as of the date of the lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, NamedTuple, cast

from packaging.pylock import Package, PackageWheel
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from nb2image.cache import Store
from nb2image.errors import NoMatchingBase, SdistFailed, Unresolvable
from nb2image.images import runner_lock, support_requirements
from nb2image.index.complete import complete
from nb2image.index.settings import IndexSettings
from nb2image.lock.model import Lock
from nb2image.progress import Listener
from nb2image.target.model import Target
from nb2image.target.select import Chosen, select
from nb2image.target.support import SupportPackage

__all__ = ["BuildRequirement", "Moment", "as_of", "build_locks_digest", "pinned"]

_LOCKS = ("build", "build-older")
_EMPTY_EXTRAS = {("setuptools-scm", "toml")}
"""Extras that ask for nothing which the shipped locks lack."""


class BuildRequirement(NamedTuple):
    """A wheel that a build needs; ``sha256`` in hex."""

    name: NormalizedName
    version: str
    filename: str
    sha256: str

    @property
    def chosen(self) -> Chosen:
        """As a package of a lock, for a download by its hash."""
        wheel = PackageWheel(name=self.filename, hashes={"sha256": self.sha256})
        return Chosen(Package(name=self.name, version=Version(self.version), wheels=[wheel]), wheel)

    def document(self) -> dict[str, Any]:
        """As TOML and JSON show it."""
        return {"name": self.name, "version": self.version, "hashes": {"sha256": self.sha256}}


class Moment(NamedTuple):
    """The date of a lock; None where neither the lock nor an index tells when its files were uploaded."""

    time: datetime | None

    @property
    def key(self) -> str:
        return self.time.astimezone(timezone.utc).isoformat() if self.time else ""


def as_of(lock: Lock) -> Moment:
    """The newest upload time among the files of a completed lock."""
    times = [
        file.upload_time if file.upload_time.tzinfo else file.upload_time.replace(tzinfo=timezone.utc)
        for package in lock.packages
        for file in (*(package.wheels or ()), *([package.sdist] if package.sdist else ()))
        if file.upload_time is not None
    ]
    return Moment(max(times, default=None))


def build_locks_digest(minor: str) -> list[str]:
    """What decides between versions where no date does: the digests of the build locks that ship for Python ``X.Y``."""
    return [lock.digest for _, lock in _shipped(minor, older=False)]


def _shipped(minor: str, *, older: bool) -> list[tuple[str, Lock]]:
    found = []
    for name in reversed(_LOCKS) if older else _LOCKS:
        try:
            found.append((name, runner_lock(name, minor)))
        except NoMatchingBase:
            continue
    return found


def pinned(
    requires: Sequence[str],
    target: Target,
    moment: Moment,
    settings: IndexSettings,
    lock: Lock,
    store: Store,
    listener: Listener,
    *,
    source: str,
    older: bool,
) -> tuple[tuple[BuildRequirement, ...], str]:
    """The wheels that satisfy ``requires`` on ``target`` (the base that the build runs in), and one phrase on how they
    were found. ``source`` names the source distribution, ``older`` prefers setuptools as it was before 2022.

    With a date: the newest of that date. Without: those of a lock that ships with nb2image, where they satisfy
    everything, else the newest there are. Raises `SdistFailed` when nothing does, and `IndexFailure`.
    """
    wanted = [r for r in map(Requirement, requires) if r.marker is None or r.marker.evaluate(_variables(target))]
    if not wanted:
        return (), "it needs nothing"
    words: tuple[str, ...] = ()
    if moment.time is not None:
        try:
            found = _resolved(wanted, target, moment, settings, lock, store, listener, source)
            return found, f"as of {moment.time:%Y-%m-%d}, when the newest locked file was uploaded"
        except Unresolvable as error:
            # The lock may tell upload times and the index that is asked now none.
            words = error.details
    for name, shipped in _shipped(target.minor, older=older):
        names = _closure(wanted, support_requirements(name, target.minor), target)
        if names is not None:
            only = _restricted(shipped, names)
            return _wheels(
                only, target, settings, store, listener
            ), f"those of nb2image's own lock {name} for Python {target.minor}"
    if older and any(canonicalize_name(each.name) == "setuptools" for each in wanted):
        # Its successor has no pkg_resources.
        with suppress(Unresolvable):
            known = [*wanted, Requirement("setuptools<82")]
            found = _resolved(known, target, Moment(None), settings, lock, store, listener, source)
            return found, "the newest that the index has, with setuptools before 82"
    try:
        found = _resolved(wanted, target, Moment(None), settings, lock, store, listener, source)
    except Unresolvable as error:
        raise SdistFailed(
            f"{source} cannot be built: its build requirements ({', '.join(map(str, wanted))}) have no wheels that fit "
            f"{target}.",
            hint="Name an index that has them with --extra-index-url, or lock a version that has wheels.",
            details=error.details or words,
        ) from error
    return found, "the newest that the index has"


def _variables(target: Target) -> dict[str, str]:
    return cast("dict[str, str]", {**target.environment, "extra": ""})


def _resolved(
    wanted: Iterable[Requirement],
    target: Target,
    moment: Moment,
    settings: IndexSettings,
    lock: Lock,
    store: Store,
    listener: Listener,
    source: str,
) -> tuple[BuildRequirement, ...]:
    from nb2image.lock.resolve import resolve_wheels

    title = f"build requirements of {source}"
    found = resolve_wheels(map(str, wanted), target, settings, lock.indexes, title, before=moment.time)
    return _wheels(found, target, settings, store, listener)


def _wheels(
    lock: Lock, target: Target, settings: IndexSettings, store: Store, listener: Listener
) -> tuple[BuildRequirement, ...]:
    selection = select(complete(lock, settings, store, listener), target)
    if not selection.complete:
        raise Unresolvable(
            f"The {lock.source} have no wheels for {target}.",
            details=tuple(f"{miss.name} {miss.version}: {miss.reason}" for miss in selection.misses),
        )
    return tuple(
        BuildRequirement(package.name, str(package.version), wheel.filename, wheel.hashes["sha256"])
        for package, wheel in sorted(selection.chosen, key=lambda each: each.package.name)
    )


def _closure(wanted: Sequence[Requirement], offered: Sequence[SupportPackage], target: Target) -> set[str] | None:
    """Names of the offered packages that satisfy the requirements and each other's, None when they do not."""
    have = {canonicalize_name(each.name): each for each in offered}
    names: set[str] = set()
    waiting = list(wanted)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        package = have.get(name)
        if package is None or not requirement.specifier.contains(package.version, prereleases=True):
            return None
        if any((name, canonicalize_name(extra)) not in _EMPTY_EXTRAS for extra in requirement.extras):
            return None
        if name not in names:
            names.add(name)
            needs = map(Requirement, package.requires_dist)
            waiting += [each for each in needs if each.marker is None or each.marker.evaluate(_variables(target))]
    return names


def _restricted(lock: Lock, names: set[str]) -> Lock:
    from dataclasses import replace

    packages = [package for package in lock.packages if package.name in names]
    return replace(lock, pylock=replace(lock.pylock, packages=packages))
