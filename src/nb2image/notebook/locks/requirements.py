"""Hashed ``requirements.txt`` (pip's requirements file format with ``--hash``), as pip-compile and uv write it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.pylock import Package
from packaging.requirements import InvalidRequirement, Requirement

from nb2image.errors import BrokenLock
from nb2image.lock.model import Lock, hash_only_package, new_pylock
from nb2image.notebook.locks.place import Format, Place, is_file, text_of
from nb2image.notebook.locks.values import broken, marker, name, one_hash, refuse_sources, shown, unique, version

__all__ = ["REQUIREMENTS", "read_requirements"]

_COMMENT = re.compile(r"(^|\s+)#.*$")
_WITHOUT_VALUE = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes"})
_WITH_VALUE = frozenset(
    {
        "--config-settings", "--constraint", "--extra-index-url", "--find-links", "--global-option", "--hash",
        "--index-url", "--no-binary", "--only-binary", "--requirement", "--trusted-host", "--use-feature",
    }
)  # fmt: skip
_SHORT = {"-i": "--index-url", "-f": "--find-links", "-r": "--requirement", "-c": "--constraint", "-e": "--editable"}
_DEPTH = 8


@dataclass
class _Reading:
    """What the file and those that it includes gave so far."""

    source: str
    packages: list[Package] = field(default_factory=list)
    primary: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _holds(place: Place) -> bool:
    """A requirements file without a single hash is a wish list, not a lock; nor is one that is no text."""
    try:
        return "--hash" in str(place.value)
    except BrokenLock:
        return False


def _read(place: Place) -> Lock:
    if place.file is None:
        raise broken(place.where, "requirements are read from a file")
    return read_requirements(place.file, place.source)


def read_requirements(file: Path, source: str) -> Lock:
    """The lock that a hashed requirements file is; ``source`` names it to the user.

    Raises `BrokenLock` and `UnsupportedSource`.
    """
    reading = _Reading(source)
    _read_file(reading, file, 0)
    refuse_sources(source, reading.elsewhere)
    indexes = unique((*reading.primary[-1:], *reading.extra))
    # Of several --index-url, wherever they stand, pip takes the last for all requirements.
    packages = [replace(each, index=next(iter(indexes), None)) for each in reading.packages]
    return Lock(new_pylock(packages), source, indexes=indexes, notes=unique(reading.notes))


def _read_file(reading: _Reading, file: Path, depth: int) -> None:
    shown_name = reading.source if depth == 0 else f"{reading.source}: {file.name}"
    for number, line in _logical_lines(text_of(file)):
        here = f"{shown_name}, line {number}"
        requirement, options = _split(line, here)
        for option, value in options:
            if option == "--index-url":
                reading.primary.append(value)
            elif option == "--extra-index-url":
                reading.extra.append(value)
            elif option == "--requirement":
                if depth == _DEPTH or not is_file(file.parent / value):
                    raise broken(here, f"{shown(value)} cannot be included")
                _read_file(reading, file.parent / value, depth + 1)
            elif option == "--editable":
                reading.elsewhere[shown(value)[1:-1]] = "editable"
            elif option in {"--find-links", "--no-binary", "--only-binary", "--no-index"}:
                reading.notes.append(f"{reading.source}: {option} is passed over.")
        if requirement:
            _one(reading, requirement, [value for option, value in options if option == "--hash"], here)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number, continuations joined and comments cut off, in pip's order of doing so."""
    started = 0
    joined = ""
    for number, line in enumerate(text.splitlines(), 1):
        comment = line.lstrip().startswith("#")
        if not joined:
            started = number
        if line.endswith("\\") and not comment:
            joined += line[:-1] + " "
            continue
        # pip lets a comment line end a continuation and keeps what came before.
        joined += "" if comment else line
        if stripped := _COMMENT.sub("", joined).strip():
            yield started, stripped
        joined = ""
    if stripped := _COMMENT.sub("", joined).strip():
        yield started, stripped


def _split(line: str, where: str) -> tuple[str, list[tuple[str, str]]]:
    """The requirement of a line, empty if there is none, and its options with their values."""
    requirement, *rest = re.split(r"(?:^|\s+)(?=-)", line, maxsplit=1)
    try:
        words = shlex.split(rest[0]) if rest else []
    except ValueError as error:
        raise broken(where, f"{shown(line)} cannot be read: {error}") from error
    options: list[tuple[str, str]] = []
    pending = iter(words)
    for word in pending:
        option, equal, value = word.partition("=")
        if not option.startswith("--") and option[:2] in _SHORT:
            option, equal, value = _SHORT[option[:2]], word[2:], word[2:].removeprefix("=")
        if option in _WITHOUT_VALUE:
            continue
        if option not in _WITH_VALUE and option != "--editable":
            raise broken(where, f"the option {shown(word)} is not known")
        if not equal:
            value = next(pending, "")
        if not value:
            raise broken(where, f"the option {option} has no value")
        options.append((option, value))
    return requirement.strip(), options


def _one(reading: _Reading, written: str, found: list[str], where: str) -> None:
    try:
        requirement = Requirement(written)
    except (InvalidRequirement, RecursionError, ValueError) as error:
        if re.match(r"(?:[a-z]+\+)?[a-z]+://|\.{0,2}/|\S+\.whl$", written):
            reading.elsewhere[shown(written)[1:-1]] = "a URL or a file"
            return
        raise broken(where, f"{shown(written)} is no requirement") from error
    package = name(requirement.name, where)
    if requirement.url is not None:
        reading.elsewhere[package] = requirement.url
        return
    pins = [each for each in requirement.specifier if each.operator in {"==", "==="} and "*" not in each.version]
    if len(pins) != 1 or len(requirement.specifier) != 1:
        raise broken(where, f"{package} is not pinned to one version (==)")
    reading.packages.append(
        hash_only_package(
            package,
            str(version(pins[0].version, where)),
            unique(one_hash(each, where) for each in found),
            marker=marker(str(requirement.marker), where) if requirement.marker is not None else None,
        )
    )


REQUIREMENTS = Format("requirements.txt", _read, files=("requirements.txt",), holds=_holds)
