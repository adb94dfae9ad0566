"""PEP 751: ``pylock.toml`` beside the notebook, or in its metadata as TOML text or as the same in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from packaging.pylock import Package, Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from nb2image.lock.model import Freshness, Lock
from nb2image.notebook.locks.place import Format, Place
from nb2image.notebook.locks.values import (
    broken,
    mapping,
    marker,
    moment,
    parse_toml,
    printable,
    refuse_sources,
    text,
    unique,
)

__all__ = ["PYLOCK"]


def _read(place: Place) -> Lock:
    value = place.value
    if isinstance(value, str):
        document: Mapping[str, Any] = parse_toml(text(value, place.where), place.where)
    else:
        document = _with_dates(value, place.where)
    try:
        pylock = Pylock.from_dict(document)
    except PylockUnsupportedVersionError as error:
        raise broken(place.where, str(error)) from error
    except (PylockValidationError, RecursionError) as error:
        raise broken(place.where, f"it is no valid PEP 751 lock, {error}") from error
    refuse_sources(place.where, {p.name: origin for p in pylock.packages if (origin := _origin(p))})
    for package in pylock.packages:
        if package.marker is not None:
            marker(str(package.marker), f"{place.where}: {package.name}", lock_file=True)
    for environment in pylock.environments or ():
        marker(str(environment), f"{place.where}: environments", lock_file=True)
    pylock = replace(pylock, packages=[_versioned(p, place.where) for p in pylock.packages])
    notes = []
    if pylock.extras or pylock.dependency_groups:
        notes.append(f"{place.source} can install extras or dependency groups; the default selection is taken.")
    return Lock(
        pylock,
        place.source,
        indexes=unique(p.index for p in pylock.packages if p.index),
        freshness=Freshness(None),
        notes=tuple(notes),
    )


def _versioned(package: Package, where: str) -> Package:
    """PEP 751 lets the version be left out; the names of the files have it."""
    if package.version is not None:
        return package
    if package.wheels:
        return replace(package, version=parse_wheel_filename(package.wheels[0].filename)[1])
    if package.sdist:
        return replace(package, version=parse_sdist_filename(package.sdist.filename)[1])
    raise broken(where, f"{package.name} has no version")


def _origin(package: Package) -> str:
    if package.vcs is not None:
        return printable(f"{package.vcs.type} {package.vcs.url or package.vcs.path}")
    if package.directory is not None:
        return printable(f"directory {package.directory.path}")
    return ""


def _with_dates(value: object, where: str) -> Mapping[str, Any]:
    """A lock that came as JSON, with the one type that JSON lacks: ``upload-time``."""
    document = dict(mapping(value, where))
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise broken(where, "a string in it is not text: a lone surrogate") from None
    packages = document.get("packages")
    if isinstance(packages, list):
        document["packages"] = [_package_with_dates(each, where) for each in packages]
    return document


def _package_with_dates(package: object, where: str) -> object:
    if not isinstance(package, dict):
        return package
    dated = dict(package)
    for key in ("sdist", "archive"):
        dated[key] = _dated(package.get(key), where)
    if isinstance(package.get("wheels"), list):
        dated["wheels"] = [_dated(wheel, where) for wheel in package["wheels"]]
    return {key: value for key, value in dated.items() if value is not None}


def _dated(file: object, where: str) -> object:
    if not isinstance(file, dict) or "upload-time" not in file:
        return file
    return {**file, "upload-time": moment(file["upload-time"], where)}


PYLOCK = Format("PEP 751", _read, keys=("pylock.toml",), files=("pylock.{stem}.toml", "pylock.toml"))
