"""Which support packages a kernel needs beside its lock, and whether the locked versions allow them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from packaging.markers import Environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.errors import SupportConflict

__all__ = ["SupportPackage", "check_support"]

_ROOT = "ipykernel"


class SupportPackage(NamedTuple):
    """A package of the support lock, as its wheel's metadata describe it."""

    name: str
    version: Version
    requires_dist: Sequence[str] = ()
    requires_python: str | None = None


def check_support(
    locked: Mapping[str, Version], support: Sequence[SupportPackage], environment: Environment
) -> tuple[str, ...]:
    """Names of the support packages to install, sorted; none when the lock has ipykernel.

    Support packages stand behind the locked ones on ``sys.path``, so a locked version is the one they get: only what
    the lock lacks is installed, and what it requires of locked packages must be satisfied by their versions. Raises
    `SupportConflict` otherwise.
    """
    have = {canonicalize_name(name): version for name, version in locked.items()}
    offered = {canonicalize_name(package.name): package for package in support}
    needed: set[str] = set()
    waiting = [canonicalize_name(_ROOT)] if _ROOT not in have else []
    conflicts: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        package = offered[name]
        if not SpecifierSet(package.requires_python or "").contains(
            environment["python_full_version"], prereleases=True
        ):
            conflicts.append(
                f"{name} {package.version} needs Python {package.requires_python}, "
                f"the base has {environment['python_full_version']}"
            )
        for text in package.requires_dist:
            requirement = Requirement(text)
            # An extra is asked for by nobody here: what only an extra needs does not apply.
            variables = cast("dict[str, str]", {**environment, "extra": ""})
            if requirement.marker and not requirement.marker.evaluate(variables):
                continue
            wanted = canonicalize_name(requirement.name)
            if wanted not in have:
                waiting.append(wanted)
            elif not requirement.specifier.contains(have[wanted], prereleases=True):
                wish = f"{wanted}{requirement.specifier}"
                conflicts.append(f"{name} {package.version} needs {wish}, the lock holds {wanted} {have[wanted]}")
    if conflicts:
        first, *others = sorted(conflicts)
        raise SupportConflict(
            f"The lock has no ipykernel, and the one that would be added does not fit: {first}.",
            hint="Lock ipykernel itself together with the notebook's other packages, in a version that suits them.",
            details=tuple(others),
        )
    return tuple(sorted(needed))
