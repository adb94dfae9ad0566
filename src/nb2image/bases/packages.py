"""What a base holds already: its distribution, the packages that dpkg's database lists, Python packages beside them.

Databases of rpm and apk are not read; `Contents.complete` tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

from nb2image.cache import Store, digest_of_key
from nb2image.image.filesystem import FileSystem, read_filesystem
from nb2image.image.model import Image

__all__ = [
    "Contents",
    "Distribution",
    "PythonPackage",
    "SystemPackage",
    "contents_of",
    "distribution_of",
    "holds_packages",
    "record",
    "system_packages",
]

_KIND = "base-packages"
_FORMAT = 3
_STATUS = "var/lib/dpkg/status"
_STATUS_FOLDER = "var/lib/dpkg/status.d"
"""One file per package, without ``Status``: what Bazel's and Distroless' images have."""
_RELEASES = ("etc/os-release", "usr/lib/os-release")
_PYTHON = re.compile(
    r"(?P<folder>(?:.+/)?(?:site|dist)-packages)/[^/]+(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)"
)
_DEBIAN_PYTHON = "usr/lib/python3/dist-packages"
"""Where packages of Debian's, and only they, put Python packages (Debian Python Policy 2.5)."""
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")


class Distribution(NamedTuple):
    """``ID``, ``VERSION_ID`` (may be empty) and ``PRETTY_NAME`` of os-release(5)."""

    id: str
    version: str
    title: str


class SystemPackage(NamedTuple):
    """An installed package of the distribution; ``requires`` are ``name:architecture`` of other installed ones."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    requires: tuple[str, ...]
    provides: str = ""
    """The field as it is in the database."""

    @property
    def key(self) -> str:
        return f"{self.name}:{self.architecture}"


class PythonPackage(NamedTuple):
    """A Python package that no package of the distribution brought; ``folder`` is absolute."""

    name: str
    version: str
    folder: str


@dataclass(frozen=True)
class Contents:
    """``complete``: the distribution's database was there and could be read."""

    distribution: Distribution | None
    system: tuple[SystemPackage, ...]
    python: tuple[PythonPackage, ...]
    complete: bool


def contents_of(image: Image, store: Store) -> Contents:
    """What a base image holds; found in ``store`` when it was read before.

    Raises `NotAnImage` when a layer is damaged.
    """
    found = store.get_record(_KIND, _key(image))
    if found is None:
        contents = _read(read_filesystem(image, holds_packages))
        _put(image, contents, store)
        return contents
    return Contents(
        Distribution(*found["distribution"]) if found["distribution"] else None,
        tuple(SystemPackage(**{**row, "requires": tuple(row["requires"])}) for row in found["system"]),
        tuple(PythonPackage(*row) for row in found["python"]),
        found["complete"],
    )


def record(image: Image, files: FileSystem, store: Store) -> None:
    """Note what a file system holds that was read with `holds_packages`, so that nobody reads it again for that."""
    _put(image, _read(files), store)


def _key(image: Image) -> str:
    return digest_of_key(_KIND, _FORMAT, image.digest)


def _put(image: Image, contents: Contents, store: Store) -> None:
    value = asdict(contents)
    value["system"] = [package._asdict() for package in contents.system]
    store.put_record(_KIND, _key(image), value)


def holds_packages(path: str) -> bool:
    """Whether the content of a file is needed to tell what a base holds."""
    return path == _STATUS or path in _RELEASES or _is_status(path) or _PYTHON.fullmatch(path) is not None


def _is_status(path: str) -> bool:
    return path.startswith(f"{_STATUS_FOLDER}/") and not path.endswith(".md5sums")


def _read(files: FileSystem) -> Contents:
    texts = _databases(files)
    database = any(texts)
    return Contents(distribution_of(files), _listed(texts), tuple(_python(files, database)), database)


def _databases(files: FileSystem) -> list[str]:
    return [_text(files, path) for path in (_STATUS, *sorted(filter(_is_status, files.nodes)))]


def _listed(texts: Iterable[str]) -> tuple[SystemPackage, ...]:
    return _system(paragraph for text in texts for paragraph in _paragraphs(text))


def system_packages(files: FileSystem) -> tuple[SystemPackage, ...]:
    """The packages that dpkg's database lists as installed."""
    return _listed(_databases(files))


def _text(files: FileSystem, path: str) -> str:
    return (files.read(path) or b"").decode("utf-8", "replace")


def distribution_of(files: FileSystem) -> Distribution | None:
    """What os-release(5) says."""
    for path in _RELEASES:
        lines = (line.partition("=") for line in _text(files, path).splitlines() if not line.startswith("#"))
        values = {name.strip(): value.strip().strip("\"'") for name, equals, value in lines if equals}
        if "ID" in values:
            return Distribution(values["ID"], values.get("VERSION_ID", ""), values.get("PRETTY_NAME", values["ID"]))
    return None


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file (Debian Policy 5.1); of a folded field the first line only."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        lines = (line.partition(":") for line in paragraph.splitlines() if not line.startswith((" ", "\t", "#")))
        if fields := {name: value.strip() for name, colon, value in lines if colon}:
            yield fields


def _system(paragraphs: Iterable[dict[str, str]]) -> tuple[SystemPackage, ...]:
    installed: dict[str, dict[str, str]] = {}
    providers: dict[str, list[str]] = {}
    for fields in paragraphs:
        if not {"Package", "Version"} <= fields.keys() or fields.get("Status", "installed").split()[-1:] != [
            "installed"
        ]:
            continue
        key = f"{fields['Package']}:{fields.get('Architecture', 'all')}"
        installed[key] = fields
        providers.setdefault(fields["Package"], []).insert(0, key)
        for group in fields.get("Provides", "").split(","):
            if provided := _NAME.match(group.strip()):
                providers.setdefault(provided[0], []).append(key)
    found = []
    for key, fields in sorted(installed.items()):
        name, _, architecture = key.rpartition(":")
        source, _, version = fields.get("Source", name).partition(" ")
        requires = sorted(set(_required(fields, architecture, providers)) - {key})
        stated = version.strip("() ") or fields["Version"]
        found.append(
            SystemPackage(
                name, fields["Version"], architecture, source, stated, tuple(requires), fields.get("Provides", "")
            )
        )
    return tuple(found)


def _required(fields: dict[str, str], architecture: str, providers: dict[str, list[str]]) -> Iterator[str]:
    """Keys of the installed packages that satisfy the dependencies of one; which are missing is dpkg's concern."""
    for group in ",".join((fields.get("Pre-Depends", ""), fields.get("Depends", ""))).split(","):
        for alternative in group.split("|"):
            name = _NAME.match(alternative.strip())
            offered = providers.get(name[0], []) if name else []
            if offered:
                same = (key for key in offered if key.endswith(f":{architecture}"))
                yield next(same, offered[0])
                break


def _python(files: FileSystem, database: bool) -> Iterator[PythonPackage]:
    for path in sorted(files.nodes):
        place = _PYTHON.fullmatch(path)
        if place is None or (database and place["folder"] == _DEBIAN_PYTHON):
            continue
        (fields, *_) = *_paragraphs(_text(files, path)), {}
        if {"Name", "Version"} <= fields.keys():
            yield PythonPackage(fields["Name"], fields["Version"], f"/{place['folder']}")
