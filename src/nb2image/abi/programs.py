"""Programs that packages run and an image lacks; a wheel's files do not show that, only rules do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nb2image.abi.base import Provided
from nb2image.abi.rules import Rules

__all__ = ["MissingProgram", "missing_programs"]


class MissingProgram(NamedTuple):
    """``package`` runs ``program``, which Debian has in the package ``debian``. ``imported``: it cannot be imported
    without, else only what runs the program fails. ``why``: where that was read."""

    package: str
    program: str
    debian: str
    imported: bool
    why: str


def missing_programs(
    packages: Iterable[tuple[str, str, str]], provided: Provided, rules: Rules
) -> tuple[MissingProgram, ...]:
    """Of packages by name, version and wheel file name; sorted. What another package of ``packages`` brings (a rule
    names it) is not missing."""
    packages = list(packages)
    names = {name for name, _, _ in packages}
    found = {
        MissingProgram(name, rule.programs[0], rule.debian, rule.imported, rule.source)
        for name, version, _ in packages
        for rule in rules.runs(name, version)
        if not provided.programs.intersection(rule.programs) and not names.intersection(rule.unless)
    }
    return tuple(sorted(found))
