"""Resolving bases, and compilers for them, from Debian's signed index as it is now."""

from __future__ import annotations

from datetime import timezone

from nb2image.bases.debian.download import Archives
from nb2image.bases.debian.lock import BaseLock, LockedDeb, Locks, ToolchainLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.release import read_suite
from nb2image.bases.debian.resolve import Stanza, closure
from nb2image.bases.debian.selection import OMITTED, SEEDS, SEEDS_WHERE_KNOWN, TOOLCHAIN, TOOLCHAIN_OMITTED
from nb2image.cache import Store, digest_of_key
from nb2image.errors import BaseError
from nb2image.progress import Listener
from nb2image.target.model import Platform

__all__ = ["locked_deb", "renewed", "renewed_before", "update_locks"]

_RESOLVED = "debian-resolved"
_RESOLVED_HOLDS = 86400.0
"""Seconds for which a base that had to be resolved anew stays the same on this machine."""


def update_locks(
    suite: str, platform: Platform, store: Store, listener: Listener, *, mirrors: Mirrors | None = None
) -> Locks:
    """Resolve a suite from its signed index, as the mirrors have it now.

    Equal indexes give equal locks, whenever and wherever. Raises what `read_suite` raises, and `BaseError` when the
    index lacks a package.
    """
    with Archives(mirrors if mirrors is not None else Mirrors.of_this_machine()) as archives:
        index = read_suite(suite, platform.architecture, archives, store, listener)
    seeds = [*SEEDS, *(name for name in SEEDS_WHERE_KNOWN if index.packages.get(name) is not None)]
    chosen = closure(index.packages, seeds, OMITTED)
    minor = _upstream(chosen["python3-minimal"]).rpartition(".")[0]
    python = chosen.get(f"python{minor}-minimal")
    if python is None:
        raise BaseError(
            f"python3-minimal {chosen['python3-minimal'].field('Version')} of {suite} depends on no Python {minor}.",
            hint="The mirror may be in the middle of an update; try again later.",
        )
    date = index.date.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    base = BaseLock(
        suite=suite,
        release=index.version,
        architecture=platform.architecture,
        date=date,
        python=_upstream(python),
        interpreter=f"/usr/bin/python{minor}",
        glibc=_upstream(chosen["libc6"]),
        packages=tuple(locked_deb(name, stanza) for name, stanza in chosen.items()),
    )
    added = closure(index.packages, TOOLCHAIN, TOOLCHAIN_OMITTED, chosen)
    toolchain = ToolchainLock(
        suite=suite,
        architecture=platform.architecture,
        date=date,
        base=base.digest,
        packages=tuple(locked_deb(name, stanza) for name, stanza in added.items()),
    )
    return Locks(base, toolchain)


def renewed(
    lock: BaseLock, platform: Platform, store: Store, listener: Listener, *, mirrors: Mirrors | None = None
) -> Locks:
    """The suite of a lock as it is now; for a day the same, so that two builds in a row agree.

    Raises what `update_locks` raises.
    """
    age = store.record_age(_RESOLVED, _key(lock))
    known = renewed_before(lock, store) if age is not None and age < _RESOLVED_HOLDS else None
    if known is not None:
        return known
    locks = update_locks(lock.suite, platform, store, listener, mirrors=mirrors)
    store.put_record(_RESOLVED, _key(lock), [locks.base.text(), locks.toolchain.text()])
    return locks


def renewed_before(lock: BaseLock, store: Store) -> Locks | None:
    """What `renewed` gave last for this lock on this machine, or None."""
    record = store.get_record(_RESOLVED, _key(lock))
    if not isinstance(record, list):
        return None
    base, toolchain = record
    return Locks(
        BaseLock.read(base, f"the base {lock.suite} resolved before"),
        ToolchainLock.read(toolchain, f"the compiler for {lock.suite} resolved before"),
    )


def _key(lock: BaseLock) -> str:
    return digest_of_key(_RESOLVED, lock.digest)


def _upstream(stanza: Stanza) -> str:
    """The version without Debian's epoch and revision: ``2:3.11.2-6+deb12u9`` is ``3.11.2``."""
    version = stanza.field("Version")
    return version[version.find(":") + 1 :].rpartition("-")[0]


def locked_deb(name: str, stanza: Stanza) -> LockedDeb:
    """A package of an index, held by its hash."""
    return LockedDeb(
        name=name,
        version=stanza.field("Version"),
        architecture=stanza.field("Architecture"),
        archive=stanza.archive,
        file=stanza.field("Filename"),
        size=int(stanza.field("Size")),
        sha256=stanza.field("SHA256"),
    )
