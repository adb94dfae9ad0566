"""From names to the packages that must be added to a base, so that every dependency holds."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from nb2image.bases.debian.resolve import Alternative, PackageIndex, Stanza, compare_versions, relations, satisfies
from nb2image.errors import SystemPackagesUnusable
from nb2image.system.installed import Installed
from nb2image.system.wanted import Wanted

__all__ = ["resolve_beyond"]

_TRANSITION = "t64"
"""Libraries whose ABI changed with 64-bit time have this at the end of their name since trixie."""


def resolve_beyond(index: PackageIndex, wanted: Sequence[Wanted], installed: Installed) -> dict[str, Stanza]:
    """The wanted packages and everything they depend on that is not installed, by name in sorted order.

    ``Recommends`` are not followed. A package of the base is in it in a newer version where something depends on that;
    then all packages of its source are, since they fit only one another. Raises `SystemPackagesUnusable`.
    """
    return _Resolution(index, installed).beyond(wanted)


class _Resolution:
    def __init__(self, index: PackageIndex, installed: Installed) -> None:
        self._index = index
        self._installed = installed
        self._omitted = installed.omitted
        self._chosen: dict[str, Stanza] = {}
        self._waiting: list[str] = []
        # Name → packages that have or provide it, each with the version that it does so in (None: in none).
        self._offers: dict[str, dict[str, str | None]] = {}
        for name, package in installed.packages.items():
            provides = package.provides
            if provides is None:
                stanza = index.get(name)
                provides = stanza.field("Provides") if stanza is not None else ""
            self._offer(name, package.version, provides)

    def beyond(self, wanted: Sequence[Wanted]) -> dict[str, Stanza]:
        for each in wanted:
            self._want(each)
        while self._waiting:
            self._satisfy(self._waiting.pop(0))
        self._check_conflicts()
        return dict(sorted(self._chosen.items()))

    def _offer(self, name: str, version: str, provides: str) -> None:
        for offers in self._offers.values():
            offers.pop(name, None)
        self._offers.setdefault(name, {})[name] = version
        for group in relations(provides):
            self._offers.setdefault(group[0].name, {})[name] = group[0].version or None

    def _offering(self, one: Alternative) -> list[str]:
        return [name for name, version in self._offers.get(one.name, {}).items() if satisfies(version, one)]

    def _want(self, wanted: Wanted) -> None:
        alternative = Alternative(wanted.name, *(("=", wanted.version) if wanted.version else ()))
        if self._offering(alternative):
            return
        stanza = self._index.get(wanted.name)
        names = [wanted.name] if stanza is not None else self._index.satisfying(Alternative(wanted.name))
        if len(names) > 1 and f"{wanted.name}{_TRANSITION}" in names:
            names = [f"{wanted.name}{_TRANSITION}"]
        suite = self._installed.suite
        if not names:
            near = difflib.get_close_matches(wanted.name, self._index.names(), 3, 0.75)
            raise SystemPackagesUnusable(
                f"{wanted.where}: Debian {suite} has no package {wanted.name}.",
                hint=f"Did you mean {' or '.join(near)}?" if near else "Correct the name, or choose another base.",
            )
        if len(names) > 1:
            raise SystemPackagesUnusable(
                f"{wanted.where}: {wanted.name} is no package of Debian {suite}, but what several provide.",
                hint=f"Name one of them: {', '.join(names[:8])}.",
            )
        if wanted.version and stanza is not None and stanza.field("Version") != wanted.version:
            raise SystemPackagesUnusable(
                f"{wanted.where}: Debian {suite} has {wanted.name} {stanza.field('Version')} and not {wanted.version}.",
                hint="Debian keeps one version of a package; leave the version away, or keep an apt.lock.",
            )
        self._choose(names[0])

    def _choose(self, name: str) -> None:
        stanza = self._index.get(name)
        if stanza is None or name in self._chosen:
            return
        before = self._installed.packages.get(name)
        if before is not None and compare_versions(stanza.field("Version"), before.version) < 0:
            raise SystemPackagesUnusable(
                f"The base has {name} {before.version}, newer than the {stanza.field('Version')} of Debian's index.",
                hint="The mirror is behind; configure another one for apt, or try again later.",
            )
        self._chosen[name] = stanza
        self._offer(name, stanza.field("Version"), stanza.field("Provides"))
        self._waiting.append(name)
        if before is not None:
            for sibling in self._siblings(stanza):
                self._choose(sibling)

    def _siblings(self, stanza: Stanza) -> Iterator[str]:
        source = _source(stanza)
        for name, package in self._installed.packages.items():
            other = self._index.get(name)
            if other is not None and _source(other) == source and other.field("Version") != package.version:
                yield name

    def _satisfy(self, name: str) -> None:
        stanza = self._chosen[name]
        for group in [*relations(stanza.field("Pre-Depends")), *relations(stanza.field("Depends"))]:
            if any(self._offering(one) for one in group) or any(one.name in self._omitted for one in group):
                continue
            candidates = [found for one in group for found in self._index.satisfying(one)]
            if not candidates:
                raise SystemPackagesUnusable(
                    f"{name} depends on {' | '.join(map(str, group))}, which no package of the index satisfies.",
                    hint="The mirror may be in the middle of an update; try again later.",
                )
            self._choose(candidates[0])

    def _check_conflicts(self) -> None:
        for name, stanza in self._chosen.items():
            for field in ("Conflicts", "Breaks"):
                for group in relations(stanza.field(field)):
                    others = [other for other in self._offering(group[0]) if other != name]
                    if others:
                        raise SystemPackagesUnusable(
                            f"{name} and {others[0]} cannot both be installed: the first states {field}: {group[0]}.",
                            hint="Ask for one of them only, or for a package that does without it.",
                        )


def _source(stanza: Stanza) -> str:
    return stanza.field("Source").partition(" ")[0] or stanza.field("Package")
