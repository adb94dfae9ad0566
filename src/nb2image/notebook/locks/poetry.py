"""``poetry.lock`` beside the notebook: the main group, without extras.

From lock version 2.1 (Poetry 2) on, the lock says of each package to which groups it belongs and under which marker.
Before, both follow from the dependency graph, and what the project asks for stands only in ``pyproject.toml``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from packaging.markers import Marker
from packaging.pylock import Package
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nb2image.errors import BrokenLock
from nb2image.lock.model import Freshness, Lock, hash_only_package, new_pylock
from nb2image.notebook.locks.graph import Edge, needed_under, never_holds
from nb2image.notebook.locks.place import Format, Place, text_of
from nb2image.notebook.locks.values import (
    broken,
    hashes,
    mapping,
    marker,
    name,
    optional_text,
    parse_toml,
    refuse_sources,
    sequence,
    shown,
    text,
    unique,
    version,
)

__all__ = ["POETRY"]

_Node: TypeAlias = tuple[int, str]
"""A package by its position in the lock, and an extra of it, ``""`` for the package itself."""
_MAIN = "main"
_LEGACY_KEYS = ("dependencies", "source", "extras", "dev-dependencies")
_OPPOSITE = {">=": "<", "<": ">=", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
_PROJECT_KEYS = ("requires-python", "dependencies", "optional-dependencies")


@dataclass(frozen=True)
class _Entry:
    """One ``[[package]]``."""

    name: str
    version: Version
    document: dict[str, Any]
    where: str


def _read(place: Place) -> Lock:
    where = place.where
    document = parse_toml(text(place.value, where), where)
    metadata = mapping(document.get("metadata"), f"{where}: metadata")
    project: dict[str, Any] | None = None
    if (file := place.beside("pyproject.toml")) is not None:
        project = parse_toml(text_of(file), "pyproject.toml")
    entries = [_entry(each, where) for each in sequence(document.get("package"), f"{where}: package")]
    if any("groups" in entry.document for entry in entries):
        chosen = dict(_of_main_group(entries))
    elif project is None:
        raise BrokenLock(
            f"{where}: a lock of this version means nothing without its pyproject.toml, which is not beside it.",
            hint="Put pyproject.toml beside the notebook, or lock again with Poetry 2.",
        )
    else:
        chosen = _reached(entries, project, where)
    refuse_sources(where, {e.name: origin for n, e in enumerate(entries) if n in chosen and (origin := _origin(e))})
    files = mapping(metadata.get("files"), f"{where}: files")
    packages = [_package(entries[number], condition, files) for number, condition in chosen.items()]
    supported = _alternatives(metadata.get("python-versions"))
    return Lock(
        replace(new_pylock(packages), requires_python=supported[0] if len(supported) == 1 else None),
        place.source,
        indexes=unique(p.index for p in packages if p.index),
        direct=unique(wanted for wanted, value in _wanted(project or {}) if not _is_optional(value)),
        freshness=_freshness(metadata, project),
    )


def _entry(value: object, where: str) -> _Entry:
    document = mapping(value, f"{where}: package")
    package = name(document.get("name"), f"{where}: package")
    here = f"{where}: {package}"
    return _Entry(package, version(document.get("version"), here), document, here)


def _package(entry: _Entry, condition: Marker | None, files: Mapping[str, Any]) -> Package:
    # Up to lock version 1.1 the files of all packages stand together, under the name as the project spells it.
    listed = entry.document.get("files") or files.get(entry.document["name"]) or files.get(entry.name)
    found = [mapping(each, entry.where).get("hash") for each in sequence(listed, entry.where)]
    source = mapping(entry.document.get("source"), entry.where)
    return hash_only_package(
        entry.name,
        str(entry.version),
        hashes(found, entry.where),
        index=optional_text(source.get("url"), entry.where),
        marker=condition,
    )


def _origin(entry: _Entry) -> str:
    """Where a package comes from that does not come from an index (``legacy`` is what Poetry calls one)."""
    source = mapping(entry.document.get("source"), entry.where)
    kind = optional_text(source.get("type"), entry.where)
    return "" if kind in (None, "legacy") else f"{shown(kind)[1:-1]} {shown(source.get('url'))}"


# -- lock version 2.1 -----------------------------------------------------------------------------


def _of_main_group(entries: list[_Entry]) -> Iterator[tuple[int, Marker | None]]:
    for number, entry in enumerate(entries):
        groups = sequence(entry.document.get("groups"), entry.where)
        # What is optional comes with extras only, and none is asked for.
        if _MAIN not in groups or entry.document.get("optional") is True:
            continue
        condition = entry.document.get("markers")
        found = marker(condition.get(_MAIN) if isinstance(condition, dict) else condition, entry.where)
        if found is None or not never_holds(found):
            yield number, found


# -- before: what the graph says -------------------------------------------------------------------


def _reached(entries: list[_Entry], project: Mapping[str, Any], where: str) -> dict[int, Marker | None]:
    by_name: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        by_name.setdefault(entry.name, []).append(number)
    edges: dict[_Node, list[Edge[_Node]]] = {}
    for number, entry in enumerate(entries):
        dependencies = {
            name(key, entry.where): value
            for key, value in mapping(entry.document.get("dependencies"), entry.where).items()
        }
        edges[number, ""] = [
            edge
            for wanted, value in dependencies.items()
            for edge in _targets(wanted, value, entries, by_name, entry.where)
        ]
        for extra, members in mapping(entry.document.get("extras"), entry.where).items():
            brought = {canonicalize_name(re.split(r"[^\w.-]", text(m, entry.where))[0]) for m in
                       sequence(members, entry.where)}  # fmt: skip
            edges[number, canonicalize_name(extra)] = [
                edge
                for wanted in sorted(brought & dependencies.keys())
                for edge in _targets(wanted, dependencies[wanted], entries, by_name, entry.where, extra)
            ]
    roots: list[Edge[_Node]] = []
    for wanted, value in _wanted(project):
        if wanted not in by_name and not _is_optional(value):
            raise broken(where, f"{wanted} is asked for in pyproject.toml and not locked")
        roots += _targets(wanted, value, entries, by_name, "pyproject.toml")
    needed = needed_under(roots, edges, where)
    return {number: condition for (number, extra), condition in needed.items() if not extra}


def _wanted(project: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What the main group of a project asks for: names, and what Poetry's own table says of each."""
    where = "pyproject.toml"
    tool = mapping(mapping(project.get("tool"), where).get("poetry"), where)
    for key, value in mapping(tool.get("dependencies"), where).items():
        if canonicalize_name(key) != "python":
            yield name(key, where), value
    for each in sequence(mapping(project.get("project"), where).get("dependencies"), where):
        try:
            requirement = Requirement(text(each, where))
        except (InvalidRequirement, RecursionError, ValueError) as error:
            raise broken(where, f"{shown(each)} is no requirement") from error
        detail = {"version": str(requirement.specifier) or "*", "extras": sorted(requirement.extras)}
        yield (
            name(requirement.name, where),
            ({**detail, "markers": str(requirement.marker)} if requirement.marker else detail),
        )


def _is_optional(value: object) -> bool:
    return any(isinstance(each, dict) and each.get("optional") is True for each in _listed(value))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _targets(
    wanted: str,
    value: object,
    entries: list[_Entry],
    by_name: Mapping[str, list[int]],
    where: str,
    extra: str = "",
) -> Iterator[Edge[_Node]]:
    """Edges of one dependency. What is optional is followed only on behalf of the ``extra`` that brings it."""
    for each in _listed(value):
        detail = each if isinstance(each, dict) else {"version": each}
        if detail.get("optional") is True and not extra:
            continue
        found = marker(detail.get("markers"), f"{where}: {wanted}", extra=extra)
        conditions = {str(found)} if found is not None else set()
        if supported := _alternatives(detail.get("python")):
            conditions.add(_python_marker(supported))
        allowed = _alternatives(detail.get("version"))
        candidates = [
            number
            for number in by_name.get(wanted, ())
            if not allowed or any(a.contains(entries[number].version, prereleases=True) for a in allowed)
        ]
        for number, pythons in _by_python(candidates, entries):
            for brought in ("", *(name(e, where) for e in sequence(detail.get("extras"), where))):
                yield (number, brought), frozenset(conditions | pythons)


def _by_python(candidates: list[int], entries: list[_Entry]) -> Iterator[tuple[int, set[str]]]:
    """Which of several versions an edge means: as Poetry's solver chooses when it installs, the newest that
    supports the Python."""
    if len(candidates) == 1:
        yield candidates[0], set()
        return
    newer: set[str] = set()
    for number in sorted(candidates, key=lambda n: entries[n].version, reverse=True):
        alternatives = _alternatives(entries[number].document.get("python-versions"))
        if not alternatives:
            yield number, newer
            return
        yield number, {*newer, _python_marker(alternatives)}
        newer = newer | {_no_python_marker(alternatives)}


def _alternatives(constraint: object) -> list[SpecifierSet]:
    """A constraint in Poetry's language (``^1.2 || ~2.0``) as PEP 440 specifiers; empty when it says nothing, or
    nothing that is understood here."""
    if not isinstance(constraint, str) or constraint.strip() in {"", "*"}:
        return []
    try:
        return [
            SpecifierSet(",".join(_clause(c) for c in re.split(r"\s*,\s*|(?<=[\w*])\s+(?=[<>=!~^])", part.strip())))
            for part in re.split(r"\|\|?", constraint)
        ]
    except (InvalidSpecifier, InvalidVersion, ValueError):
        return []


def _clause(clause: str) -> str:
    found = re.fullmatch(r"(?P<operator>\^|~(?!=)|[<>=!~]*)\s*(?P<version>.*)", clause)
    operator, written = (found["operator"], found["version"]) if found else ("", clause)
    if operator == "^":
        release = Version(written).release
        fixed = next((i for i, part in enumerate(release) if part), len(release) - 1)
        return f">={written},<{'.'.join(map(str, (*release[:fixed], release[fixed] + 1)))}"
    if operator == "~":
        release = Version(written).release
        upper = (release[0] + 1,) if len(release) == 1 else (release[0], release[1] + 1)
        return f">={written},<{'.'.join(map(str, upper))}"
    if operator == "~=":
        raise InvalidSpecifier(clause)  # Poetry writes it as a range.
    return f"{operator if operator not in {'', '='} else '=='}{written}"


def _python_marker(alternatives: list[SpecifierSet]) -> str:
    return " or ".join(
        "(" + " and ".join(f"python_full_version {s.operator} '{s.version}'" for s in sorted(each, key=str)) + ")"
        for each in alternatives
    )


def _no_python_marker(alternatives: list[SpecifierSet]) -> str:
    """The marker that holds where `_python_marker` does not."""
    return " and ".join(
        "("
        + " or ".join(f"python_full_version {_OPPOSITE[s.operator]} '{s.version}'" for s in sorted(each, key=str))
        + ")"
        for each in alternatives
    )


# -- freshness ------------------------------------------------------------------------------------


def _freshness(metadata: Mapping[str, Any], project: Mapping[str, Any] | None) -> Freshness:
    stated = metadata.get("content-hash")
    if project is None or not isinstance(stated, str):
        return Freshness(None)
    try:
        actual = {_content_hash(project, with_groups) for with_groups in (True, False)}
    except (RecursionError, TypeError, ValueError):
        return Freshness(None)
    if stated in actual:
        return Freshness(True)
    return Freshness(False, "The dependencies in pyproject.toml were changed after poetry.lock was written.")


def _content_hash(project: Mapping[str, Any], with_groups: bool) -> str:
    """Poetry's ``metadata.content-hash`` (``Locker._get_content_hash``); Poetry 2.2 began to count groups."""
    where = "pyproject.toml"
    own = mapping(project.get("project"), where)
    groups = mapping(project.get("dependency-groups"), where) if with_groups else {}
    tool = mapping(mapping(project.get("tool"), where).get("poetry"), where)
    relevant: dict[str, Any] = {}
    if standard := {key: own[key] for key in _PROJECT_KEYS if own.get(key) is not None}:
        relevant["project"] = standard
    if groups:
        relevant["dependency-groups"] = groups
    poetry = {
        key: tool.get(key)
        for key in (*_LEGACY_KEYS, "group")
        if tool.get(key) is not None or (key in _LEGACY_KEYS and not relevant)
    }
    content = {**relevant, "tool": {"poetry": poetry}} if relevant else poetry
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


POETRY = Format("poetry.lock", _read, files=("poetry.lock",))
