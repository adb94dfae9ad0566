"""uv script locks: ``metadata["uv.lock"]``, as juv writes it, and ``<stem>.py.lock`` beside the notebook.

uv.lock is universal: it puts markers on the edges of the dependency graph and lists, per version of a package that
resolutions for different environments disagree on, the environments (``resolution-markers``) it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from packaging.markers import Marker
from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel, PylockValidationError
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from nb2image.errors import UnsupportedSource
from nb2image.lock.model import Lock, new_pylock
from nb2image.notebook.locks.graph import Edge, needed_under
from nb2image.notebook.locks.place import Format, Place
from nb2image.notebook.locks.values import (
    broken,
    mapping,
    marker,
    moment,
    name,
    one_hash,
    optional_text,
    parse_toml,
    refuse_sources,
    sequence,
    shown,
    specifiers,
    text,
    unique,
    version,
)

__all__ = ["UV_SCRIPT"]

_Node: TypeAlias = tuple[int, str]
"""A package by its position in the lock, and an extra of it, ``""`` for the package itself."""
_ELSEWHERE = ("git", "path", "directory", "editable", "virtual")
_File = TypeVar("_File", PackageSdist, PackageWheel)


@dataclass(frozen=True)
class _Entry:
    """One ``[[package]]``, with the types of what the graph needs made sure of."""

    name: NormalizedName
    version: str | None
    source: dict[str, Any]
    forks: tuple[str, ...]
    document: dict[str, Any]
    where: str


def _read(place: Place) -> Lock:
    where = place.where
    document = parse_toml(text(place.value, where), where)
    if document.get("version") != 1:
        raise broken(where, f"version {shown(document.get('version'))} of uv.lock is not known")
    entries = [_entry(each, where) for each in sequence(document.get("package"), f"{where}: package")]
    manifest = mapping(document.get("manifest"), f"{where}: manifest")
    if "requirements" not in manifest and any({"virtual", "editable"} & e.source.keys() for e in entries):
        raise UnsupportedSource(
            f"{where}: it locks a whole project, of which any extras and groups may be meant.",
            hint="Say which with `uv export --format pylock.toml -o pylock.toml` in the project.",
        )
    requirements = sequence(manifest.get("requirements"), f"{where}: manifest")
    needed = needed_under(_roots(requirements, entries, where), _edges(entries), where)
    under = {number: condition for (number, extra), condition in needed.items() if not extra}
    refuse_sources(
        where,
        {
            entries[number].name: f"{member} {shown(entries[number].source[member])}"
            for number in under
            for member in _ELSEWHERE
            if member in entries[number].source
        },
    )
    notes: list[str] = []
    packages = [_package(entries[number], condition, notes) for number, condition in under.items()]
    pylock = replace(new_pylock(packages), requires_python=specifiers(document.get("requires-python"), where))
    return Lock(
        pylock,
        place.source,
        indexes=unique(p.index for p in pylock.packages if p.index),
        direct=unique(name(mapping(each, where).get("name"), where) for each in requirements),
        notes=tuple(notes),
    )


# -- the graph ------------------------------------------------------------------------------------


def _entry(value: object, where: str) -> _Entry:
    document = mapping(value, f"{where}: package")
    package = name(document.get("name"), f"{where}: package")
    here = f"{where}: {package}"
    return _Entry(
        package,
        optional_text(document.get("version"), here),
        mapping(document.get("source"), here),
        tuple(_conditions(each, here)[0] for each in sequence(document.get("resolution-markers"), here)),
        document,
        here,
    )


def _conditions(value: object, where: str) -> tuple[str, ...]:
    found = marker(value, where)
    return () if found is None else (str(found),)


def _roots(requirements: Any, entries: list[_Entry], where: str) -> list[Edge[_Node]]:
    """What the script asks for. A requirement does not say which of several versions it means: the environments
    of each version do."""
    edges: list[Edge[_Node]] = []
    for each in requirements:
        requirement = mapping(each, f"{where}: manifest")
        wanted = name(requirement.get("name"), f"{where}: manifest")
        candidates = [number for number, entry in enumerate(entries) if entry.name == wanted]
        if not candidates:
            raise broken(where, f"{wanted} is asked for and not locked")
        conditions = _conditions(requirement.get("marker"), f"{where}: {wanted}")
        for number in candidates:
            forks = entries[number].forks if len(candidates) > 1 else ()
            for fork in forks or (None,):
                condition = frozenset(conditions if fork is None else (*conditions, fork))
                edges += [((number, extra), condition) for extra in _extras(requirement.get("extras"), where)]
    return edges


def _edges(entries: list[_Entry]) -> dict[_Node, list[Edge[_Node]]]:
    by_name: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        by_name.setdefault(entry.name, []).append(number)
    edges: dict[_Node, list[Edge[_Node]]] = {}
    for number, entry in enumerate(entries):
        edges[number, ""] = _targets(entry, entry.document.get("dependencies"), entries, by_name)
        for extra, dependencies in mapping(entry.document.get("optional-dependencies"), entry.where).items():
            edges[number, extra] = _targets(entry, dependencies, entries, by_name)
    return edges


def _targets(
    entry: _Entry, dependencies: object, entries: list[_Entry], by_name: dict[str, list[int]]
) -> list[Edge[_Node]]:
    edges: list[Edge[_Node]] = []
    for each in sequence(dependencies, entry.where):
        dependency = mapping(each, entry.where)
        wanted = name(dependency.get("name"), entry.where)
        found = [number for number in by_name.get(wanted, ()) if _is_meant(dependency, entries[number])]
        if len(found) != 1:
            problem = "is not locked" if not found else "is locked more than once"
            raise broken(entry.where, f"its dependency {wanted} {problem}")
        condition = frozenset(_conditions(dependency.get("marker"), f"{entry.where}: {wanted}"))
        edges += [((found[0], extra), condition) for extra in _extras(dependency.get("extra"), entry.where)]
    return edges


def _is_meant(dependency: dict[str, Any], entry: _Entry) -> bool:
    """A dependency names version and source only where its name alone is not enough."""
    return all(
        dependency.get(key) in (None, own) for key, own in (("version", entry.version), ("source", entry.source))
    )


def _extras(value: object, where: str) -> list[str]:
    return ["", *(name(extra, where) for extra in sequence(value, where))]


# -- packages -------------------------------------------------------------------------------------


def _package(entry: _Entry, condition: Marker | None, notes: list[str]) -> Package:
    pinned = version(entry.version, entry.where)
    address = optional_text(entry.source.get("url"), entry.where)
    wheels = [
        wheel
        for each in sequence(entry.document.get("wheels"), entry.where)
        if (wheel := _file(PackageWheel, each, address, entry, _is_wheel, notes)) is not None
    ]
    value = entry.document.get("sdist")
    if address is not None and value is not None and not wheels:
        document = mapping(value, entry.where)
        archive = PackageArchive(
            url=address,
            hashes=_hashes(document, entry.where),
            size=_size(document, entry.where),
            subdirectory=optional_text(entry.source.get("subdirectory"), entry.where),
        )
        return Package(name=entry.name, version=pinned, marker=condition, archive=archive)
    sdist = None if value is None else _file(PackageSdist, value, address, entry, _is_sdist, notes)
    if not wheels and sdist is None:
        raise broken(entry.where, "the lock lists no file of it")
    registry = optional_text(entry.source.get("registry"), entry.where)
    return Package(
        name=entry.name,
        version=pinned,
        marker=condition,
        # A registry without a scheme is a local directory, which is no index.
        index=registry if registry is not None and "://" in registry else None,
        wheels=wheels or None,
        sdist=sdist,
    )


def _file(
    kind: type[_File],
    value: object,
    address: str | None,
    entry: _Entry,
    belongs: Callable[[str, str, Version], bool],
    notes: list[str],
) -> _File | None:
    document = mapping(value, entry.where)
    url = optional_text(document.get("url"), entry.where) or address
    path = optional_text(document.get("path"), entry.where) if url is None else None
    if url is None and path is None:
        raise broken(entry.where, "a file of it has neither a URL nor a path")
    file = kind(
        name=optional_text(document.get("filename"), entry.where),
        url=url,
        path=path,
        size=_size(document, entry.where),
        upload_time=moment(document.get("upload-time"), entry.where),
        hashes=_hashes(document, entry.where),
    )
    try:
        if belongs(file.filename, entry.name, version(entry.version, entry.where)):
            return file
    except (InvalidWheelFilename, InvalidSdistFilename, PylockValidationError, ValueError):
        pass
    notes.append(f"{entry.name} {entry.version}: the file {shown(url or path)} is passed over for its name.")
    return None


def _is_wheel(filename: str, package: str, pinned: Version) -> bool:
    return parse_wheel_filename(filename)[:2] == (package, pinned)


def _is_sdist(filename: str, package: str, pinned: Version) -> bool:
    return parse_sdist_filename(filename) == (package, pinned)


def _hashes(document: dict[str, Any], where: str) -> dict[str, str]:
    written = document.get("hash")
    if written is None:
        return {}
    algorithm, _, value = one_hash(written, where).partition(":")
    return {algorithm: value}


def _size(document: dict[str, Any], where: str) -> int | None:
    size = document.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise broken(where, f"the size {shown(size)} is no number of bytes")
    return size


UV_SCRIPT = Format("uv script lock", _read, keys=("uv.lock",), files=("{stem}.py.lock",))
