"""From package indexes and names to a closure of packages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from nb2image.errors import BaseError

__all__ = ["Alternative", "PackageIndex", "Stanza", "closure", "compare_versions", "relations", "satisfies"]


class Alternative(NamedTuple):
    """One alternative of a relation (Debian Policy 7.1): ``name (operator version)``."""

    name: str
    operator: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


def compare_versions(left: str, right: str) -> int:
    """Negative, zero, positive as Debian orders versions (Policy 5.6.12)."""
    from debian.debian_support import version_compare

    return int(version_compare(left, right))


def satisfies(version: str | None, wanted: Alternative) -> bool:
    """Whether a version (None: a package that is provided without one) is what a relation of that name wants."""
    if not wanted.operator:
        return True
    if version is None:  # an unversioned Provides satisfies no versioned relation (Policy 7.5)
        return False
    order = compare_versions(version, wanted.version)
    return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[wanted.operator]


def relations(field: str) -> list[list[Alternative]]:
    """The groups of a ``Depends`` field; each group is satisfied by any of its alternatives. Architecture
    qualifiers (``python3:any``) are dropped: a base has one architecture."""
    from debian.deb822 import PkgRelation

    if not field:
        return []
    return [
        [Alternative(one["name"], *(one["version"] or ())) for one in group]
        for group in PkgRelation.parse_relations(field)
        if group and group[0]["name"]
    ]


@dataclass(frozen=True)
class Stanza:
    """A paragraph of an index. ``archive`` names where its file is; ``text`` is the paragraph itself, read only
    where asked: a suite has 60 000 paragraphs and a base needs a hundred."""

    archive: str
    text: str

    def field(self, name: str) -> str:
        """A field's value, folded lines included; empty when it is not there."""
        text = "\n" + self.text
        start = text.find(f"\n{name}:")
        if start == -1:
            return ""
        start += len(name) + 2
        end = text.find("\n", start)
        while end != -1 and text[end + 1 : end + 2] == " ":
            end = text.find("\n", end + 1)
        return text[start : end if end != -1 else len(text)].strip()


class PackageIndex:
    """The packages of one suite and architecture: of several indexes, the newest version of each name."""

    def __init__(self, indexes: Iterable[tuple[str, str]]) -> None:
        """``indexes``: pairs of an archive's name and the text of a ``Packages`` file."""
        self._newest: dict[str, Stanza] = {}
        self._provided: dict[str, set[str]] = {}
        for archive, text in indexes:
            for paragraph in text.split("\n\n"):
                if paragraph.strip():
                    self._add(Stanza(archive, paragraph.strip("\n")))

    def _add(self, stanza: Stanza) -> None:
        name = stanza.field("Package")
        known = self._newest.get(name)
        if known is not None and compare_versions(stanza.field("Version"), known.field("Version")) <= 0:
            return
        self._newest[name] = stanza
        if "\nProvides: " in stanza.text:
            for group in relations(stanza.field("Provides")):
                self._provided.setdefault(group[0].name, set()).add(name)

    def get(self, name: str) -> Stanza | None:
        return self._newest.get(name)

    def names(self) -> Collection[str]:
        return self._newest.keys()

    def satisfying(self, wanted: Alternative) -> list[str]:
        """Names of packages that satisfy a relation: the package of that name first, then those that provide it."""
        found = []
        real = self._newest.get(wanted.name)
        if real is not None and satisfies(real.field("Version"), wanted):
            found.append(wanted.name)
        for provider in sorted(self._provided.get(wanted.name, ())):
            for group in relations(self._newest[provider].field("Provides")):
                if group[0].name == wanted.name and satisfies(group[0].version or None, wanted):
                    found.append(provider)
                    break
        return found


def closure(
    index: PackageIndex,
    seeds: Sequence[str],
    omitted: Mapping[str, str],
    installed: Mapping[str, Stanza] = MappingProxyType({}),
) -> dict[str, Stanza]:
    """The seeds and everything they depend on (``Depends``, ``Pre-Depends``) beyond what is installed, by name in
    sorted order.

    Of alternatives, one that is installed or already chosen satisfies; else one that is omitted; else the first that
    exists is chosen. Recommendations are not followed. Raises `BaseError` when something does not exist.
    """
    chosen: dict[str, Stanza] = dict(installed)
    waiting = []
    for name in seeds:
        if name in installed:
            continue
        stanza = index.get(name)
        if stanza is None:
            raise BaseError(
                f"The package {name} is not in the index.",
                hint="The mirror may lack the component `main`, or this suite.",
            )
        chosen[name] = stanza
        waiting.append(name)
    while waiting:
        name = waiting.pop(0)
        for field in ("Pre-Depends", "Depends"):
            for group in relations(chosen[name].field(field)):
                candidates = [found for one in group for found in index.satisfying(one)]
                if any(found in chosen for found in candidates) or any(one.name in omitted for one in group):
                    continue
                if not candidates:
                    wanted = " | ".join(map(str, group))
                    raise BaseError(
                        f"{name} depends on {wanted}, which no package of the index satisfies.",
                        hint="The mirror may be in the middle of an update; try again later.",
                    )
                chosen[candidates[0]] = index.get(candidates[0])  # type: ignore[assignment]
                waiting.append(candidates[0])
    return {name: stanza for name, stanza in sorted(chosen.items()) if name not in installed}
