"""A plan's wheels against a base: the joint between what wheels need, what a base has, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nb2image.abi.base import Provided, known_provided, provided_by
from nb2image.abi.check import Findings, Installed, MissingLibrary, find_missing
from nb2image.abi.programs import MissingProgram, missing_programs
from nb2image.abi.rules import Rules, shipped_rules
from nb2image.abi.wheel import Objects, known_objects, read_objects
from nb2image.cache import Store, digest_of_key
from nb2image.environment import Wheel
from nb2image.image.model import Image
from nb2image.processes import pool, workers
from nb2image.runtime import KERNEL, RUNNER, SUPPORT
from nb2image.wheels.install import Scheme

__all__ = ["Fetch", "findings", "known_missing", "missing_libraries", "objects_of"]

Fetch = Callable[[str, Collection[str]], Mapping[str, Path]]
"""Paths of wheels by their file names, of the environment with this prefix."""
_KIND = "missing-libraries"
_FORMAT = 5
_TOGETHER = ((KERNEL, SUPPORT), (RUNNER,))
"""Environments whose packages are imported by one process."""
_LARGE = 1 << 20
"""Bytes of a wheel above which its tag is not trusted: some for any platform have shared objects, and are large."""
_SERIAL = 8 << 20
"""Bytes of wheels below which starting worker processes costs more than they save."""


def missing_libraries(
    image: Image, environments: Mapping[str, Sequence[Wheel]], minor: str, store: Store, fetch: Fetch
) -> Findings:
    """What the wheels of an image will not find on its base, ``image``.

    ``environments`` are wheels by the prefix of their environment, ``minor`` is the ``X.Y`` of the base's Python;
    ``fetch`` is asked for wheels whose objects nobody has read yet. The outcome is kept: asking again is one small
    read. Raises `NotAnImage` for a damaged base, `BadWheel` for a damaged wheel, and what ``fetch`` raises.
    """
    rules = shipped_rules()
    key = _key(image, environments, minor, rules)
    if (known := _kept(store, key)) is not None:
        return known
    objects = objects_of(environments, store, fetch)
    found = compared(environments, objects, provided_by(image, store), minor, rules)
    store.put_record(_KIND, key, found._asdict())
    return found


def known_missing(
    image: Image, environments: Mapping[str, Sequence[Wheel]], minor: str, store: Store
) -> Findings | None:
    """The same without reading a wheel or a layer; None where one was never read before."""
    rules = shipped_rules()
    key = _key(image, environments, minor, rules)
    if (kept := _kept(store, key)) is not None:
        return kept
    provided = known_provided(image, store)
    known = {wheel.digest: _known(wheel, store) for wheels in environments.values() for wheel in wheels}
    objects = {digest: each for digest, each in known.items() if each is not None}
    if provided is None or len(objects) < len(known):
        return None
    return compared(environments, objects, provided, minor, rules)


def _key(image: Image, environments: Mapping[str, Sequence[Wheel]], minor: str, rules: Rules) -> str:
    layers = [layer.diff_id for layer in image.layers]
    rows = [(prefix, sorted((w.digest, w.filename) for w in wheels)) for prefix, wheels in sorted(environments.items())]
    searched = image.config.env.get("LD_LIBRARY_PATH", "")
    return digest_of_key(_KIND, _FORMAT, rules.text, image.platform.architecture, searched, layers, minor, rows)


def _kept(store: Store, key: str) -> Findings | None:
    record = store.get_record(_KIND, key)
    if record is None:
        return None
    programs = tuple(MissingProgram(*row) for row in record["programs"])
    return Findings(_from_rows(record["missing"]), _from_rows(record["driver"]), programs)


def _known(wheel: Wheel, store: Store) -> Objects | None:
    known = known_objects(store, wheel.digest)
    if known is None and wheel.filename.endswith("-any.whl") and wheel.size <= _LARGE:
        return Objects({}, ())
    return known


def compared(
    environments: Mapping[str, Sequence[Wheel]],
    objects: Mapping[str, Objects],
    provided: Provided,
    minor: str,
    rules: Rules,
) -> Findings:
    """The same for objects by the digest of their wheel; a pure function."""
    installed = {
        prefix: [row for wheel in wheels for row in _installed(wheel, objects[wheel.digest], prefix, minor)]
        for prefix, wheels in environments.items()
    }
    packages = {
        prefix: [(str(wheel.name), wheel.version, wheel.filename) for wheel in wheels]
        for prefix, wheels in environments.items()
    }
    return findings(installed, packages, provided, minor, rules)


def findings(
    installed: Mapping[str, Sequence[Installed]],
    packages: Mapping[str, Sequence[tuple[str, str, str]]],
    provided: Provided,
    minor: str,
    rules: Rules,
) -> Findings:
    """The same for the objects of each environment, by its prefix, and its packages as `find_missing` takes them."""
    parts = []
    for prefixes in _TOGETHER:
        rows = [row for prefix in prefixes for row in installed.get(prefix, ())]
        named = [row for prefix in prefixes for row in packages.get(prefix, ())]
        parts.append(find_missing(rows, named, provided, minor, rules))
    imported = [row for prefix in (KERNEL, SUPPORT) for row in packages.get(prefix, ())]
    programs = missing_programs(imported, provided, rules)
    return Findings(_joined(part.missing for part in parts), _joined(part.driver for part in parts), programs)


def objects_of(environments: Mapping[str, Sequence[Wheel]], store: Store, fetch: Fetch) -> dict[str, Objects]:
    """The shared objects of each wheel by its digest, from the store or read by workers."""
    found: dict[str, Objects] = {}
    unread: dict[str, dict[str, Wheel]] = {}
    for prefix, wheels in environments.items():
        for wheel in wheels:
            if wheel.digest in found:
                continue
            if (known := _known(wheel, store)) is not None:
                found[wheel.digest] = known
            else:
                unread.setdefault(prefix, {})[wheel.filename] = wheel
    work: list[tuple[Path, Path, str, str]] = []
    size = 0
    for prefix, named in unread.items():
        for filename, path in fetch(prefix, named.keys()).items():
            work.append((store.root, path, filename, named[filename].digest))
            size += named[filename].size
    if size > _SERIAL and len(work) > 1:
        with pool(min(workers(), len(work))) as executor:
            futures = [(row[3], executor.submit(read_objects, *row)) for row in work]
            found.update((digest, future.result()) for digest, future in futures)
    else:
        found.update((row[3], read_objects(*row)) for row in work)
    return found


def _installed(wheel: Wheel, objects: Objects, prefix: str, minor: str) -> Iterable[Installed]:
    scheme = Scheme(prefix, minor)
    for path, each in objects.found.items():
        first, _, rest = path.partition("/")
        place = f"{scheme.site_packages}/{path}"
        if first.endswith(".data"):
            category, _, below = rest.partition("/")
            place = f"{scheme.folder(category, wheel.name) or scheme.site_packages}/{below}"
        yield Installed(str(wheel.name), wheel.version, wheel.filename, path, place, each)


def _joined(parts: Iterable[tuple[MissingLibrary, ...]]) -> tuple[MissingLibrary, ...]:
    """Of two environments that lack one library, the one row."""
    rows: dict[str, MissingLibrary] = {}
    for row in (row for part in parts for row in part):
        if (known := rows.get(row.soname)) is None:
            rows[row.soname] = row
            continue
        first, second = (known, row) if known.certain else (row, known)
        rows[row.soname] = MissingLibrary(
            row.soname,
            tuple(sorted({*first.versions, *second.versions})),
            first.found or second.found,
            tuple(dict.fromkeys((*first.needed_by, *second.needed_by))),
            first.certain,
            first.why or second.why,
        )
    return tuple(rows[soname] for soname in sorted(rows))


def _from_rows(rows: Iterable[Sequence[Any]]) -> tuple[MissingLibrary, ...]:
    return tuple(
        MissingLibrary(soname, tuple(versions), found, tuple((file, path) for file, path in needed_by), certain, why)
        for soname, versions, found, needed_by, certain, why in rows
    )
