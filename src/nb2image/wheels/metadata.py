"""METADATA and WHEEL of a wheel: what it is called, what it needs, and whether this version can install it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from nb2image.errors import BadWheel
from nb2image.wheels.archive import WheelArchive

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["WheelMetadata", "check_wheel_version", "dist_info_of", "read_metadata", "text_of"]

_SUPPORTED_MAJOR = 1
_ENDLESS_NUMBER = re.compile("[0-9]{1000}")
"""Python refuses to read integers of more than 4,300 digits, wherever versions are compared."""
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class WheelMetadata:
    """The fields of METADATA that decide something, or that a bill of materials quotes (core metadata specification).

    Requirements are parsed when asked for, which most callers never do; that may raise `BadWheel`. ``raw_license`` is
    ``License``, often the whole text of one.
    """

    wheel: str
    name: NormalizedName
    version: Version
    raw_requires_dist: tuple[str, ...]
    raw_requires_python: str | None
    license_expression: str | None = None
    raw_license: str | None = None
    classifiers: tuple[str, ...] = ()

    @cached_property
    def requires_dist(self) -> tuple[Requirement, ...]:
        try:
            return tuple(Requirement(text) for text in self.raw_requires_dist)
        except InvalidRequirement as error:
            raise BadWheel(self.wheel, "METADATA", f"a Requires-Dist is invalid ({_first_line(error)})") from None
        except RecursionError:
            raise BadWheel(self.wheel, "METADATA", "a Requires-Dist is nested too deeply") from None

    @cached_property
    def requires_python(self) -> SpecifierSet:
        """Empty when the wheel states none."""
        try:
            return SpecifierSet(self.raw_requires_python or "")
        except InvalidSpecifier as error:
            raise BadWheel(self.wheel, "METADATA", f"Requires-Python is invalid ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def dist_info_of(archive: WheelArchive) -> str:
    """The name of the one ``.dist-info`` folder. Raises `BadWheel` when there is none or more than one."""
    tops = {name.partition("/")[0] for name in archive.members if ".dist-info/" in name}
    found = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(found) != 1:
        rule = f"there are several .dist-info folders: {', '.join(found)}" if found else "there is no .dist-info folder"
        raise BadWheel(archive.filename, None, rule)
    return found[0]


def text_of(archive: WheelArchive, name: str, expected: str | None = None) -> str:
    """A member that must be there and be UTF-8."""
    member = archive.members.get(name)
    if member is None:
        raise BadWheel(archive.filename, name, "the file is missing")
    try:
        return archive.read(member, expected).decode()
    except UnicodeDecodeError:
        raise BadWheel(archive.filename, name, "the file is not UTF-8") from None


def _headers(text: str) -> Message:
    from email.parser import HeaderParser

    return HeaderParser().parsestr(text)


def check_wheel_version(archive: WheelArchive, name: str, text: str) -> None:
    """Refuse a WHEEL whose ``Wheel-Version`` has a larger major number than 1 (binary distribution format, "Installing
    a wheel"). Of several such lines, which old tools wrote, the first counts."""
    stated = _headers(text)["Wheel-Version"]
    try:
        major = int(str(stated or "").strip().split(".")[0])
    except ValueError:
        raise BadWheel(archive.filename, name, f"Wheel-Version is {stated!r}, which is no version") from None
    if major > _SUPPORTED_MAJOR:
        raise BadWheel(archive.filename, name, f"Wheel-Version is {stated}; only 1.x is known")


def read_metadata(archive: WheelArchive, expected: str | None = None) -> WheelMetadata:
    """Parse METADATA; ``expected`` is its hash as RECORD writes it. Raises `BadWheel`."""
    name = f"{dist_info_of(archive)}/METADATA"
    member = archive.members.get(name)
    if member is None:
        raise BadWheel(archive.filename, name, "the file is missing")
    # The description, most of the file, is of no interest here and slow to parse.
    head = _BLANK_LINE.split(archive.read(member, expected), maxsplit=1)[0]
    try:
        headers = _headers(head.decode())
    except UnicodeDecodeError:
        raise BadWheel(archive.filename, name, "the file is not UTF-8") from None
    for field in ("Name", "Version"):
        if len({str(value).strip() for value in headers.get_all(field, ())}) > 1:
            raise BadWheel(archive.filename, name, f"there are two lines {field!r}, and they differ")
    for field in ("Version", "Requires-Dist", "Requires-Python"):
        if any(_ENDLESS_NUMBER.search(str(value)) for value in headers.get_all(field, ())):
            raise BadWheel(archive.filename, name, f"{field} holds a number of a thousand digits")
    try:
        version = Version(str(headers["Version"]).strip())
    except InvalidVersion:
        raise BadWheel(archive.filename, name, f"Version is {headers['Version']!r}, which is no version") from None
    requires_python, expression, license_ = (headers[x] for x in ("Requires-Python", "License-Expression", "License"))
    return WheelMetadata(
        wheel=archive.filename,
        name=canonicalize_name(str(headers["Name"]).strip()),
        version=version,
        raw_requires_dist=tuple(_unfolded(text) for text in headers.get_all("Requires-Dist", ())),
        raw_requires_python=None if requires_python is None else _unfolded(requires_python),
        license_expression=None if expression is None else _unfolded(expression),
        raw_license=None if license_ is None else str(license_),
        classifiers=tuple(_unfolded(text) for text in headers.get_all("Classifier", ())),
    )


def _unfolded(header: object) -> str:
    """A header's value without the line breaks that the parser leaves in it."""
    return " ".join(str(header).split())
