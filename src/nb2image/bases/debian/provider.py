"""`DebianProvider`: bases made of Debian packages, held by the locks that nb2image brings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timezone

from nb2image.bases.debian.assemble import ASSEMBLY, assemble
from nb2image.bases.debian.download import Archives, NotThere, fetch_packages
from nb2image.bases.debian.lock import BaseLock, LockedDeb, shipped_lock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.release import read_suite
from nb2image.bases.debian.resolve import Stanza, closure
from nb2image.bases.debian.selection import OMITTED, SEEDS, SEEDS_WHERE_KNOWN, SUITES
from nb2image.bases.facts import read_target
from nb2image.bases.model import Base, Candidate
from nb2image.cache import Store, digest_of_key
from nb2image.errors import BaseError, BasePackagesGone
from nb2image.image.model import Config, Image
from nb2image.layers.cached import CachedLayer, cached_layer
from nb2image.layers.entry import Entry
from nb2image.layers.write import WRITER
from nb2image.progress import Listener, Warned
from nb2image.target.model import Platform

__all__ = ["DebianProvider", "update_lock"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RESOLVED = "debian-resolved"
_RESOLVED_HOLDS = 86400.0
"""Seconds for which a base that had to be resolved anew stays the same on this machine."""


class DebianProvider:
    """Assembles a base from packages, as a plain user and without running anything.

    ``strict`` forbids another base when locked packages are gone; ``offline`` uses what is in the store;
    ``mirrors`` defaults to those of this machine.
    """

    def __init__(
        self,
        store: Store,
        *,
        platform: Platform,
        strict: bool = False,
        offline: bool = False,
        mirrors: Mirrors | None = None,
    ) -> None:
        self._store = store
        self._platform = platform
        self._strict = strict
        self._offline = offline
        self._given = mirrors

    @property
    def _mirrors(self) -> Mirrors:
        return self._given if self._given is not None else Mirrors.of_this_machine()

    def candidates(self) -> Sequence[Candidate]:
        """One for each suite that has a lock for the platform; empty for a platform without."""
        locks = [shipped_lock(suite, self._platform) for suite in SUITES]
        return [Candidate(lock.suite, lock.target, lock.size, _origin(lock)) for lock in locks if lock is not None]

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:
        """The base of a candidate's suite.

        When a locked package is to be had nowhere any more, the base is resolved anew from the signed index and
        says so in its notes; with ``strict`` that raises `BasePackagesGone`. Also raises `IndexFailure`,
        `BadSignature`, `BadPackage` or `Unwritable`.
        """
        lock = shipped_lock(candidate.name, self._platform)
        if lock is None:
            raise BaseError(
                f"There is no Debian base {candidate.name} for {self._platform}.",
                hint=f"Choose one of {', '.join(SUITES)}.",
            )
        try:
            return self._base(lock, listener)
        except NotThere as gone:
            if self._strict:
                raise BasePackagesGone(
                    f"The base {lock.suite} of {lock.day} cannot be made any more: {gone.message}",
                    hint="Write a new lock with `nb2image bases update`, or build without --strict; "
                    "the image's digest will differ.",
                    details=gone.details,
                ) from gone
            renewed = self._renewed(lock, listener)
            note = (
                f"The base {lock.suite} was resolved anew from Debian's index of {renewed.day}, since {gone.message} "
                f"The image's digest differs from that of the base of {lock.day}."
            )
        listener(Warned(note, hint="`nb2image bases update` writes a lock that can be kept."))
        return self._base(renewed, listener, (note,))

    def _renewed(self, lock: BaseLock, listener: Listener) -> BaseLock:
        """The suite as it is now; for a day the same, so that two builds in a row agree."""
        key = digest_of_key(_RESOLVED, lock.digest)
        age = self._store.record_age(_RESOLVED, key)
        if age is not None and age < _RESOLVED_HOLDS:
            text = self._store.get_record(_RESOLVED, key)
            if isinstance(text, str):
                return BaseLock.read(text, f"the base {lock.suite} resolved before")
        renewed = update_lock(lock.suite, self._platform, self._store, listener, mirrors=self._mirrors)
        self._store.put_record(_RESOLVED, key, renewed.text())
        return renewed

    def _base(self, lock: BaseLock, listener: Listener, notes: tuple[str, ...] = ()) -> Base:
        image = _image(lock, self._layer(lock, listener))
        target = read_target(image, self._store)
        return Base(lock.suite, image, target, _reference(lock), notes)

    def _layer(self, lock: BaseLock, listener: Listener) -> CachedLayer:
        def entries() -> list[Entry]:
            files = fetch_packages(lock, self._store, self._mirrors, listener, offline=self._offline)
            return assemble(files, lock.architecture)

        key = digest_of_key("debian-base", ASSEMBLY, WRITER, lock.digest)
        return cached_layer(self._store, key, f"{_origin(lock)} ({lock.suite})", entries)


def _origin(lock: BaseLock) -> str:
    return f"Debian {lock.release}, {len(lock.packages)} packages of {lock.day}"


def _reference(lock: BaseLock) -> str:
    """The name of a base that no registry has: its host is nb2image's own and resolves nowhere."""
    return f"nb2image.local/debian:{lock.suite}-{lock.day.replace('-', '')}"


def _image(lock: BaseLock, layer: CachedLayer) -> Image:
    config = Config.new(Platform("linux", lock.architecture)).with_created(lock.date)
    config = config.with_execution(Cmd=["bash"]).with_env({"PATH": _PATH, "LANG": "C.UTF-8"})
    return Image(config, (layer,))


def update_lock(
    suite: str, platform: Platform, store: Store, listener: Listener, *, mirrors: Mirrors | None = None
) -> BaseLock:
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
    return BaseLock(
        suite=suite,
        release=index.version,
        architecture=platform.architecture,
        date=index.date.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        python=_upstream(python),
        interpreter=f"/usr/bin/python{minor}",
        glibc=_upstream(chosen["libc6"]),
        packages=tuple(_locked(name, stanza) for name, stanza in chosen.items()),
    )


def _upstream(stanza: Stanza) -> str:
    """The version without Debian's epoch and revision: ``2:3.11.2-6+deb12u9`` is ``3.11.2``."""
    version = stanza.field("Version")
    return version[version.find(":") + 1 :].rpartition("-")[0]


def _locked(name: str, stanza: Stanza) -> LockedDeb:
    return LockedDeb(
        name=name,
        version=stanza.field("Version"),
        architecture=stanza.field("Architecture"),
        archive=stanza.archive,
        file=stanza.field("Filename"),
        size=int(stanza.field("Size")),
        sha256=stanza.field("SHA256"),
    )
