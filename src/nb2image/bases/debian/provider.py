"""`DebianProvider`: bases made of Debian packages, held by the locks that nb2image brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nb2image.bases.debian.assemble import ASSEMBLY, assemble
from nb2image.bases.debian.download import NotThere, fetch_packages
from nb2image.bases.debian.lock import BaseLock, Locks, read_locks, shipped_lock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.selection import SUITES
from nb2image.bases.debian.update import renewed
from nb2image.bases.facts import read_target
from nb2image.bases.model import Base, Candidate
from nb2image.cache import Store, digest_of_key
from nb2image.errors import BaseError, BasePackagesGone
from nb2image.image.model import Config, Image
from nb2image.layers.cached import CachedLayer, cached_layer, known_layer
from nb2image.layers.entry import Entry
from nb2image.layers.write import WRITER
from nb2image.progress import Listener, Warned
from nb2image.target.model import Platform

__all__ = ["DebianProvider", "layer_key"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class DebianProvider:
    """Assembles a base from packages, as a plain user and without running anything.

    ``strict`` forbids another base when locked packages are gone; ``offline`` uses what is in the store;
    ``mirrors`` defaults to those of this machine. ``pinned`` are bases that the user has locked, by name: the suite and
    the folder of the locks.
    """

    def __init__(
        self,
        store: Store,
        *,
        platform: Platform,
        strict: bool = False,
        offline: bool = False,
        mirrors: Mirrors | None = None,
        pinned: Mapping[str, tuple[str, Path]] | None = None,
    ) -> None:
        self._store = store
        self._platform = platform
        self._strict = strict
        self._offline = offline
        self._given = mirrors
        self._pinned = pinned or {}

    @property
    def _mirrors(self) -> Mirrors:
        return self._given if self._given is not None else Mirrors.of_this_machine()

    def candidates(self) -> Sequence[Candidate]:
        """One for each suite that has a lock for the platform, and each pinned base; empty for a platform without.

        Raises `BaseError` for pinned locks that are none.
        """
        locks = {name: self.lock(name) for name in dict.fromkeys((*SUITES, *self._pinned))}
        return [
            Candidate(name, lock.target, lock.size, _origin(lock) + self._where(name), cached=self._is_here(lock))
            for name, lock in locks.items()
            if lock is not None
        ]

    def lock(self, name: str) -> BaseLock | None:
        """The lock that a base is made of, by its name. Raises `BaseError`."""
        if name in self._pinned:
            locks = self._read(name)
            return locks.base if locks is not None else None
        return shipped_lock(name, self._platform)

    def _read(self, name: str) -> Locks | None:
        suite, folder = self._pinned[name]
        return read_locks(folder, suite, self._platform)

    def _where(self, name: str) -> str:
        return f", as locked in {self._pinned[name][1]}" if name in self._pinned else ""

    def _is_here(self, lock: BaseLock) -> bool:
        written = known_layer(self._store, layer_key(lock))
        return written is not None and self._store.find("layers", written.digest, written.size) is not None

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:
        """The base of a candidate's suite.

        When a locked package is to be had nowhere any more, the base is resolved anew from the signed index and
        says so in its notes; with ``strict``, and for a pinned base, that raises `BasePackagesGone`. Also raises
        `IndexFailure`, `BadSignature`, `BadPackage` or `Unwritable`.
        """
        if candidate.name in self._pinned:
            return self._deliver_pinned(candidate.name, listener)
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
            now = renewed(lock, self._platform, self._store, listener, mirrors=self._mirrors).base
            note = (
                f"The base {lock.suite} was resolved anew from Debian's index of {now.day}, since {gone.message} "
                f"The image's digest differs from that of the base of {lock.day}."
            )
        listener(Warned(note, hint="`nb2image bases update` writes a lock that can be kept."))
        return self._base(now, listener, (note,))

    def _deliver_pinned(self, name: str, listener: Listener) -> Base:
        locks = self._read(name)
        if locks is None:
            suite, folder = self._pinned[name]
            raise BaseError(f"{folder} has no lock of {suite} for {self._platform}.", hint="Choose another base.")
        try:
            return replace(self._base(locks.base, listener), name=name, pinned=locks)
        except NotThere as gone:
            raise BasePackagesGone(
                f"The base {name}, as locked in {self._pinned[name][1]}, cannot be made any more: {gone.message}",
                hint=f"Lock it anew with `nb2image bases lock {name}`; the image's digest will differ.",
                details=gone.details,
            ) from gone

    def _base(self, lock: BaseLock, listener: Listener, notes: tuple[str, ...] = ()) -> Base:
        image = _image(lock, self._layer(lock, listener))
        target = read_target(image, self._store)
        return Base(lock.suite, image, target, lock.reference, notes)

    def _layer(self, lock: BaseLock, listener: Listener) -> CachedLayer:
        def entries() -> list[Entry]:
            files = fetch_packages(lock, self._store, self._mirrors, listener, offline=self._offline)
            return assemble(files, lock.architecture)

        return cached_layer(self._store, layer_key(lock), f"{_origin(lock)} ({lock.suite})", entries)


def layer_key(lock: BaseLock) -> str:
    """What the layer of a base is found by in the store."""
    return digest_of_key("debian-base", ASSEMBLY, WRITER, lock.digest)


def _origin(lock: BaseLock) -> str:
    return f"Debian {lock.release}, {len(lock.packages)} packages of {lock.day}"


def _image(lock: BaseLock, layer: CachedLayer) -> Image:
    config = Config.new(Platform("linux", lock.architecture)).with_created(lock.date)
    config = config.with_execution(Cmd=["bash"]).with_env({"PATH": _PATH, "LANG": "C.UTF-8"})
    return Image(config, (layer,))
