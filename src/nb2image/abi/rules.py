"""What ELF cannot show, from ``images/libraries.toml``: libraries that packages open themselves, and objects that they
can do without."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from nb2image.images import rules_of

__all__ = ["Opened", "Optional", "Rules", "Run", "shipped_rules"]


class Opened(NamedTuple):
    """``package`` (normalised, in the versions of ``versions``) opens the first of ``sonames`` that it finds, in
    ``file`` of its wheel. ``imported``: on import, else only when the part that needs it is used."""

    package: str
    versions: str
    sonames: tuple[str, ...]
    file: str
    imported: bool
    source: str


class Run(NamedTuple):
    """``package`` (in the versions of ``versions``) runs the first of ``programs`` that is on ``PATH``; Debian has the
    first of them in the package ``debian``, and each of the packages ``unless`` brings one. ``imported``: on import."""

    package: str
    versions: str
    programs: tuple[str, ...]
    debian: str
    unless: tuple[str, ...]
    imported: bool
    source: str


class Optional(NamedTuple):
    """``package`` does without the objects that match ``file``."""

    package: str
    file: str
    source: str


@dataclass(frozen=True)
class Rules:
    """``text`` is what they were read from: results are kept by it."""

    text: str
    openings: tuple[Opened, ...]
    optionals: tuple[Optional, ...]
    programs: tuple[Run, ...] = ()

    def opened(self, package: str, version: str) -> list[Opened]:
        """The rules for libraries that a package in a version opens."""
        return [rule for rule in self.openings if rule.package == package and _holds(rule.versions, version)]

    def runs(self, package: str, version: str) -> list[Run]:
        """The rules for programs that a package in a version runs."""
        return [rule for rule in self.programs if rule.package == package and _holds(rule.versions, version)]

    def optional(self, package: str, path: str) -> bool:
        """Whether a package does without one of its objects."""
        return any(rule.package == package and fnmatch.fnmatchcase(path, rule.file) for rule in self.optionals)


def _holds(versions: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(versions).contains(version, prereleases=True)


@cache
def shipped_rules() -> Rules:
    """The rules that ship with the project."""
    text, document = rules_of("libraries.toml")
    return Rules(
        text,
        tuple(
            Opened(
                row["package"],
                row.get("versions", ""),
                tuple(row["sonames"]),
                row["file"],
                row.get("imported", True),
                row["source"],
            )
            for row in document["opened"]
        ),
        tuple(Optional(row["package"], row["file"], row["source"]) for row in document["optional"]),
        tuple(
            Run(
                row["package"],
                row.get("versions", ""),
                tuple(row["programs"]),
                row["debian"],
                tuple(row.get("unless", ())),
                row.get("imported", False),
                row["source"],
            )
            for row in document["program"]
        ),
    )
