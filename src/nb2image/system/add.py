"""`SystemPackages`: which packages are added to a base, held by a lock; and the layer that adds them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING

from nb2image.bases.debian.archive import read_deb
from nb2image.bases.debian.download import Archives, NotThere, fetch_packages
from nb2image.bases.debian.lock import SystemLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.provider import DebianProvider
from nb2image.bases.debian.release import read_suite
from nb2image.bases.debian.update import locked_deb
from nb2image.bases.model import Base
from nb2image.cache import Store, digest_of_key
from nb2image.errors import BaseError, BasePackagesGone, NotCached, SystemPackagesUnusable
from nb2image.image.filesystem import read_filesystem
from nb2image.layers.cached import CachedLayer, cached_layer
from nb2image.layers.entry import Entry
from nb2image.layers.write import WRITER
from nb2image.progress import Listener, Note, Silent, Warned
from nb2image.system.installed import Installed, installed_in, installed_of_lock
from nb2image.system.lay import LAYING, lay
from nb2image.system.overlay import is_kept
from nb2image.system.resolve import resolve_beyond
from nb2image.system.scripts import left_undone
from nb2image.system.sonames import read_sonames
from nb2image.system.wanted import APT_LOCK, Needed, Wanted, apt_file

if TYPE_CHECKING:
    from nb2image.plan import Plan

__all__ = ["SystemPackages", "delivered", "named_layers", "planned", "resolve", "system_layer"]

_KIND = "system-lock"
_UNDONE = "system-undone"


@dataclass(frozen=True)
class SystemPackages:
    """What is added to a base: packages by name, and those that have missing libraries. ``lock.packages`` is empty
    where the base has everything that was wanted already."""

    wanted: tuple[Wanted, ...]
    lock: SystemLock
    needed: tuple[Needed, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the packages that there is a reason for, sorted."""
        return tuple(sorted(self.why))

    @property
    def why(self) -> dict[str, str]:
        """Why each of `names` is there: ``asked for``, or ``has libGL.so.1``, which something needs."""
        has: dict[str, list[str]] = {}
        for soname, name in sorted(self.lock.libraries.items()):
            has.setdefault(name, []).append(soname)
        found = {name: f"has {', '.join(sonames)}" for name, sonames in has.items() if name}
        return {**found, **{each.name: "asked for" for each in self.wanted}}

    def labels(self) -> dict[str, str]:
        """What an image's labels say of it, by the end of their names."""
        if not self.names:
            return {}
        versions = {deb.name: deb.version for deb in self.lock.packages}
        asked = (f"{name}={versions[name]}" if name in versions else name for name in self.names)
        return {"packages": " ".join(asked), "lock.digest": self.lock.digest}

    def sentence(self) -> str:
        """What is added, for people."""
        from nb2image.sizes import shown

        asked = ", ".join(self.names)
        if self.needed and not asked:
            return "No Debian packages are added."
        if not self.lock.packages:
            return f"The base has all that was asked for: {asked}."
        added = {deb.name for deb in self.lock.packages}
        others = len(added - set(self.names))
        more = f" and {others} packages that they depend on" if others > 1 else " and one more" if others else ""
        return f"Debian packages are added: {asked}{more}, {shown(self.lock.size)}."

    def reasons(self) -> tuple[str, ...]:
        """Why packages were added that nobody named."""
        found: dict[tuple[str, ...], list[str]] = {}
        for each in self.needed:
            if name := self.lock.libraries.get(each.soname):
                found.setdefault(each.by, []).append(f"{each.soname} (added: {name})")
        return tuple(f"{_names(by)} needs {', '.join(sonames)}." for by, sonames in found.items())


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''} each"


def resolve(
    wanted: Sequence[Wanted],
    installed: Installed,
    store: Store,
    listener: Listener,
    *,
    needed: Sequence[Needed] = (),
    offline: bool,
    strict: bool = False,
    kept: Path | None = None,
    mirrors: Mirrors | None = None,
) -> SystemPackages:
    """The packages that a base lacks of those that are wanted, of those that have the needed libraries, and of what
    these depend on.

    ``kept`` is a lock that the user has kept; without one that fits, what was resolved before for the same names and
    the same base is taken from the store, and else Debian's signed index is asked. Raises `SystemPackagesUnusable`,
    `NotCached` (``offline``), `IndexFailure`, `BadSignature`, and `BaseError` for a file that is no lock.
    """
    names = " ".join(sorted(map(str, wanted)))
    sonames = sorted({each.soname for each in needed})
    if kept is not None and (lock := _kept(kept, names, sonames, installed, listener, strict=strict)) is not None:
        return SystemPackages(tuple(wanted), lock, tuple(needed))
    key = digest_of_key(_KIND, installed.digest, names, *([sonames] if sonames else []))
    record = store.get_record(_KIND, key)
    if isinstance(record, str):
        return SystemPackages(tuple(wanted), SystemLock.read(record, "what was resolved before"), tuple(needed))
    if offline:
        raise NotCached(
            f"Which packages {' '.join([*names.split(), *sonames])} need on {installed.suite} is not in the cache.",
            hint="Build once without --offline, or keep the lock that --apt-lock writes as apt.lock beside the notebook"
            + ("; --no-add-missing leaves missing libraries alone." if sonames else "."),
        )
    lock = _resolved(wanted, names, sonames, installed, store, listener, mirrors)
    store.put_record(_KIND, key, lock.text())
    return SystemPackages(tuple(wanted), lock, tuple(needed))


def planned(plan: Plan, wanted: Sequence[Wanted], store: Store, listener: Listener) -> SystemPackages:
    """What a plan adds to its base, whether or not that is here already. Raises what `resolve` raises."""
    candidate = plan.match.candidate
    lock = plan.provider.lock(candidate.name) if isinstance(plan.provider, DebianProvider) else None
    if lock is not None:
        return _asked(plan, wanted, installed_of_lock(lock), store, listener)
    return _asked(plan, wanted, installed_in(plan.provider.deliver(candidate, listener), store), store, listener)


def named_layers(plan: Plan, base: Base, store: Store, listener: Listener) -> tuple[CachedLayer, ...]:
    """Layers with the packages that the plan's ``apt.txt`` names, as far as the base lacks them: what source
    distributions are built over. Raises what `delivered` raises."""
    if plan.system is None:
        return ()
    installed = installed_in(base, store)
    system = plan.system
    if system.lock.base != installed.digest:
        system = _asked(plan, system.wanted, installed, store, listener)
    offline = plan.request.settings.offline
    # Programs that builds ask (pg_config) may be written in what is essential in Debian, which no package states.
    perl = resolve([Wanted("perl-base", "", "a build")], installed, store, listener, offline=offline)
    locks = [lock for lock in (perl.lock, system.lock) if lock.packages]
    return tuple(system_layer(base, installed, lock, store, Silent(), offline=offline) for lock in locks)


def delivered(
    plan: Plan, base: Base, needed: Sequence[Needed], store: Store, listener: Listener
) -> tuple[Plan, tuple[CachedLayer, ...]]:
    """The plan for a base that is here, which may be another one than was planned with, and the layer that adds its
    system packages, if any is lacking: those that were asked for and those that have the ``needed`` libraries.

    Raises what `resolve` and `system_layer` raise.
    """
    installed = installed_in(base, store)
    system = plan.system
    if system is None or needed or system.lock.base != installed.digest:
        system = _asked(plan, system.wanted if system is not None else (), installed, store, listener, needed)
        plan = replace(plan, system=system)
    for text in (system.sentence(), *system.reasons()):
        listener(Note(text))
    lock = system.lock
    if not lock.packages:
        return plan, ()
    if apt_file(plan.notebook, APT_LOCK) is None:
        listener(Note(f"They are those of Debian's index of {lock.day}; --apt-lock FILE keeps them for later builds."))
    return plan, (system_layer(base, installed, lock, store, listener, offline=plan.request.settings.offline),)


def _asked(
    plan: Plan,
    wanted: Sequence[Wanted],
    installed: Installed,
    store: Store,
    listener: Listener,
    needed: Sequence[Needed] = (),
) -> SystemPackages:
    request = plan.request
    return resolve(
        wanted,
        installed,
        store,
        listener,
        needed=needed,
        offline=request.settings.offline,
        strict=request.strict,
        kept=apt_file(plan.notebook, APT_LOCK),
    )


def _kept(
    file: Path, names: str, sonames: Sequence[str], installed: Installed, listener: Listener, *, strict: bool
) -> SystemLock | None:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise BaseError(f"{file} cannot be read: {error.strerror or error}.", hint="Check its permissions.") from error
    lock = SystemLock.read(text, str(file))
    if lock.wanted != names:
        problem = f"{file.name} is for other packages ({lock.wanted or 'none'})"
    elif lacking := [soname for soname in sonames if soname not in lock.libraries]:
        problem = f"{file.name} does not say which package has {', '.join(lacking)}"
    elif lock.base != installed.digest:
        problem = f"{file.name} is for another base ({lock.suite} of {lock.day} on {lock.architecture})"
    else:
        return lock
    hint = "Write it anew with --apt-lock."
    if strict:
        raise SystemPackagesUnusable(f"{problem}.", hint=hint)
    listener(Warned(f"{problem}; it is not used.", hint=hint))
    return None


def _resolved(
    wanted: Sequence[Wanted],
    names: str,
    sonames: Sequence[str],
    installed: Installed,
    store: Store,
    listener: Listener,
    mirrors: Mirrors | None,
) -> SystemLock:
    places = mirrors if mirrors is not None else Mirrors.of_this_machine()
    with Archives(places) as archives:
        index = read_suite(installed.suite, installed.architecture, archives, store, listener)
    libraries: dict[str, str] = {}
    if sonames:
        known = read_sonames(installed.suite, installed.architecture, store, listener, mirrors=places)
        for soname, found in known.packages_with(sonames).items():
            # The list of files may be older, or newer, than that of packages.
            libraries[soname] = next((name for name in found if index.packages.get(name) is not None), "")
    having = [Wanted(name, "", soname) for soname, name in libraries.items() if name]
    added = resolve_beyond(index.packages, [*wanted, *having], installed)
    return SystemLock(
        suite=installed.suite,
        architecture=installed.architecture,
        date=index.date.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        base=installed.digest,
        wanted=names,
        libraries=libraries,
        packages=tuple(locked_deb(name, stanza) for name, stanza in added.items()),
    )


def system_layer(
    base: Base,
    installed: Installed,
    lock: SystemLock,
    store: Store,
    listener: Listener,
    *,
    offline: bool,
    mirrors: Mirrors | None = None,
) -> CachedLayer:
    """The layer that adds the packages of a lock to a base; written once, and found again without a network.

    Raises `NotCached` (``offline``), `BasePackagesGone`, `IndexFailure`, `BadPackage`, `NotAnImage` or `Unwritable`.
    """
    places = mirrors if mirrors is not None else Mirrors.of_this_machine()
    key = digest_of_key("debian-system", LAYING, WRITER, [layer.diff_id for layer in base.image.layers], lock.digest)

    def entries() -> list[Entry]:
        try:
            files = fetch_packages(lock, store, places, listener, offline=offline)
        except NotThere as gone:
            raise BasePackagesGone(
                f"The packages resolved on {lock.day} cannot be had any more: {gone.message}",
                hint="Remove apt.lock, or `nb2image cache prune` what was resolved, to resolve them anew.",
                details=gone.details,
            ) from gone
        debs = [read_deb(file.read_bytes(), name) for name, file in files]
        store.put_record(_UNDONE, key, left_undone(debs))
        below = read_filesystem(base.image, is_kept)
        return lay(below, debs, installed.packages, installed.architecture)

    reasons = " ".join(filter(None, (lock.wanted, *lock.libraries)))
    # Without the day, which is part of no package: the same packages give the same image on any day.
    count = len(lock.packages)
    comment = f"Debian {lock.suite}: {count} package{'s' if count > 1 else ''} for {reasons}"
    layer = cached_layer(store, key, comment, entries)
    for text in _remarks(lock, installed, store.get_record(_UNDONE, key) or ()):
        listener(Note(text))
    return layer


def _remarks(lock: SystemLock, installed: Installed, undone: Collection[str]) -> list[str]:
    remarks = []
    renewed = [deb for deb in lock.packages if deb.name in installed.packages]
    if renewed:
        rows = ", ".join(f"{d.name} {installed.packages[d.name].version} by {d.version}" for d in renewed[:5])
        more = f" and {len(renewed) - 5} more" if len(renewed) > 5 else ""
        remarks.append(
            f"Debian's index of {lock.day} is newer than the base, so packages of it are replaced: {rows}{more}."
        )
    # Whoever asked for a package by name may want its service; a library does without.
    if undone and lock.wanted:
        remarks.append(
            f"The maintainer scripts of {', '.join(undone)} do more than is done here, where nothing runs: services, "
            "users and caches that they would make are not there."
        )
    return remarks
