"""Pipfile and Pipfile.lock: pipenv's own, and what Thoth embeds; ``Pipfile.lock`` beside the notebook.

The documents arrive as objects; that Thoth's are strings, or strings in strings, is decided by whoever reads them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from nb2image.lock.model import Freshness, Lock, hash_only_package, new_pylock
from nb2image.notebook.locks.place import Format, Place, text_of
from nb2image.notebook.locks.values import (
    hashes,
    is_name,
    json_object,
    mapping,
    marker,
    name,
    optional_text,
    parse_toml,
    printable,
    refuse_sources,
    sequence,
    shown,
    unique,
    version,
)

__all__ = ["PIPFILE", "Pipfile", "lock_from_pipfile_lock"]

_MINOR = re.compile(r"\s*(\d{1,2}\.\d{1,3})(?:\.\d+)*\s*", re.ASCII)
_ELSEWHERE = ("git", "hg", "svn", "bzr", "path", "file", "editable")
"""Members of an entry that does not come from an index (Pipfile specification, "vcs", "path", "file")."""


@dataclass(frozen=True)
class Pipfile:
    """The requirements that a Pipfile.lock was made for, as objects, with absent members empty.

    ``sources`` may also be called ``source``; Thoth's writers did not agree.
    """

    sources: list[Any]
    requires: dict[str, Any]
    packages: dict[str, Any]
    develop: dict[str, Any]

    @classmethod
    def from_object(cls, document: Mapping[str, Any], where: str) -> Pipfile:
        sources = document.get("source")
        if sources is None:
            sources = document.get("sources")
        return cls(
            list(sequence(sources, f"{where}: source")),
            mapping(document.get("requires"), f"{where}: requires"),
            mapping(document.get("packages"), f"{where}: packages"),
            mapping(document.get("dev-packages"), f"{where}: dev-packages"),
        )

    @property
    def sha256(self) -> str:
        """What pipenv writes to ``_meta.hash`` of the lock (plette, ``Pipfile.get_hash``)."""
        document = {
            "_meta": {"sources": self.sources, "requires": self.requires},
            "default": self.packages,
            "develop": self.develop,
        }
        # A TOML date in a Pipfile means nothing to pipenv either; its text keeps the hash computable.
        content = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(content.encode()).hexdigest()


def lock_from_pipfile_lock(
    document: Mapping[str, Any], place: Place, pipfile: Pipfile | None, requirements: str
) -> Lock:
    """The lock of a Pipfile.lock document; ``requirements`` is what its Pipfile is called in messages."""
    where = place.where
    meta = mapping(document.get("_meta"), f"{where}: _meta")
    notes: list[str] = []
    sources = _sources(meta.get("sources"), where) or (_sources(pipfile.sources, where) if pipfile else {})
    default = mapping(document.get("default"), f"{where}: default")
    first = next(iter(sources.values()), None)
    packages = []
    elsewhere: dict[str, str] = {}
    for key, value in default.items():
        here = f"{where}: {shown(key)[1:-1]}"
        entry = {k: v for k, v in mapping(value, here).items() if v is not None}
        package = name(key, here)
        if member := next((each for each in _ELSEWHERE if entry.get(each)), None):
            elsewhere[package] = f"{member} {shown(entry[member])}"
            continue
        index = optional_text(entry.get("index"), here)
        if index is not None and index not in sources:
            notes.append(f"{package} names the index {shown(index)}, which the lock does not list.")
        packages.append(
            hash_only_package(
                package,
                str(version(entry.get("version"), here)),
                hashes(entry.get("hashes"), here),
                index=sources.get(index, first) if index is not None else first,
                marker=marker(entry.get("markers"), here),
            )
        )
    refuse_sources(where, elsewhere)
    requires = mapping(meta.get("requires"), f"{where}: requires") or (pipfile.requires if pipfile else {})
    return Lock(
        new_pylock(packages),
        place.source,
        indexes=unique(sources.values()),
        python=_python(requires, place, notes),
        direct=_direct(pipfile),
        freshness=_freshness(meta, pipfile, {p.name: str(p.version) for p in packages}, where, requirements),
        notes=tuple(notes),
    )


def _sources(value: object, where: str) -> dict[str, str]:
    """Index URLs by their names, in order. A source without a name can be meant by no package, yet still counts."""
    found: dict[str, str] = {}
    for number, each in enumerate(sequence(value, f"{where}: sources")):
        here = f"{where}: source {number + 1}"
        source = mapping(each, here)
        url = optional_text(source.get("url"), here)
        if url is not None:
            found.setdefault(optional_text(source.get("name"), here) or f"source {number + 1}", url)
    return found


def _python(requires: Mapping[str, Any], place: Place, notes: list[str]) -> str | None:
    written = requires.get("python_version")
    if written is None:
        written = requires.get("python_full_version")
    if written is None:
        return None
    found = _MINOR.fullmatch(str(written)) if isinstance(written, str | float) else None
    if found is None:
        notes.append(f"{place.source} asks for Python {shown(written)}, which is no version.")
        return None
    if found[1] != "3.1":
        return found[1]
    # A writer of these locks took one digit where Python 3.10 has two.
    ran = _MINOR.fullmatch(place.notebook.language_version or "")
    python = ran[1] if ran else "3.10"
    notes.append(f"{place.source} says Python 3.1, which is read as {python}.")
    return python


def _direct(pipfile: Pipfile | None) -> tuple[str, ...]:
    return unique(canonicalize_name(each) for each in pipfile.packages if is_name(each)) if pipfile else ()


def _freshness(
    meta: Mapping[str, Any], pipfile: Pipfile | None, locked: Mapping[str, str], where: str, requirements: str
) -> Freshness:
    stated = optional_text(mapping(meta.get("hash"), f"{where}: hash").get("sha256"), f"{where}: hash")
    if pipfile is None or stated is None:
        return Freshness(None)
    try:
        actual = pipfile.sha256
    except RecursionError:
        return Freshness(None)
    if actual == stated.lower():
        return Freshness(True)
    return Freshness(False, printable(_difference(pipfile, locked, meta, requirements)))


def _difference(pipfile: Pipfile, locked: Mapping[str, str], meta: Mapping[str, Any], requirements: str) -> str:
    """What can be told: the lock keeps a hash of its requirements, not the requirements."""
    missing = []
    unmet = []
    for key, wanted in pipfile.packages.items():
        package = canonicalize_name(key)
        specifier = wanted.get("version") if isinstance(wanted, dict) else wanted
        if package not in locked:
            missing.append(package)
        elif isinstance(specifier, str) and not _meets(locked[package], specifier):
            unmet.append(f"{package} {specifier} (locked: {locked[package]})")
    parts = []
    if missing:
        parts.append(f"asks for {', '.join(missing)}, which the lock lacks")
    if unmet:
        parts.append(f"asks for {', '.join(unmet)}")
    wanted_python, locked_python = pipfile.requires, meta.get("requires") or {}
    if wanted_python != locked_python:
        parts.append(f"requires {_named(wanted_python)} where the lock has {_named(locked_python)}")
    if _urls(pipfile.sources) != _urls(meta.get("sources")):
        parts.append("names other package indexes than the lock")
    if parts:
        return f"{requirements} {'; it '.join(parts)}."
    return (
        f"{requirements} was changed after locking (packages, development packages, Python or indexes): "
        "a package was removed or a version specifier changed; the lock still satisfies what is asked for."
    )


def _meets(locked: str, specifier: str) -> bool:
    if specifier.strip() in {"", "*"}:
        return True
    try:
        return SpecifierSet(specifier).contains(locked, prereleases=True)
    except (InvalidSpecifier, ValueError):
        return True


def _named(requires: object) -> str:
    if isinstance(requires, dict) and requires:
        return "Python " + ", ".join(
            shown(value)[1:-1] if isinstance(value, str) else "?" for value in requires.values()
        )
    return "no Python"


def _urls(sources: object) -> list[object]:
    return (
        [each.get("url") if isinstance(each, dict) else each for each in sources] if isinstance(sources, list) else []
    )


def _read(place: Place) -> Lock:
    pipfile = None
    if (file := place.beside("Pipfile")) is not None:
        pipfile = Pipfile.from_object(parse_toml(text_of(file), "Pipfile"), "Pipfile")
    return lock_from_pipfile_lock(json_object(place.value, place.where), place, pipfile, "Pipfile")


PIPFILE = Format("Pipfile.lock", _read, files=("Pipfile.lock",))
