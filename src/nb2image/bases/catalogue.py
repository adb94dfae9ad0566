"""Catalogues: TOML files that say which bases there are, where from, and what they hold.

One ships with nb2image; those of the machine and of the user, and files named with ``--catalogue``, are laid over it:
an entry replaces an earlier one of its name. docs/bases.md has the keys.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NoReturn

from packaging.version import Version

from nb2image.config import read_config
from nb2image.errors import BadCatalogue, NoMatchingBase
from nb2image.target.model import Cuda, Platform, Target

__all__ = ["Catalogue", "CatalogueEntry", "read_catalogue", "read_catalogues", "read_toml"]

Provided = Literal["debian", "registry", "layout"]

SHIPPED = Path(__file__).parents[1] / "images" / "catalogue.toml"
_LARGEST = 4 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,127}")
_PLATFORM = re.compile(r"linux/[a-z0-9]+")
_PYTHON = re.compile(r"3\.\d{1,2}(\.\d{1,2})?")
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}")
_GLIBC = re.compile(r"2\.\d{1,3}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PATH = re.compile(r"/[^\0]{1,4095}")


@dataclass(frozen=True)
class CatalogueEntry:
    """One base as a catalogue states it. ``reference`` is a registry's, or the path of a layout or archive.

    ``python`` is ``X.Y`` or ``X.Y.Z``, None for an image without Python; ``interpreter`` its path. One of ``glibc`` and
    ``musl`` is a version. ``size`` is compressed, in bytes. ``licences`` are SPDX expressions or words, ``where`` the
    file that states all this.

    ``locked`` is the day on which `bases lock` wrote the entry. What it may be is then one thing: the image of
    ``digests``, by platform, or for a Debian base the locks in the folder ``locks``.
    """

    name: str
    provider: Provided
    reference: str
    platforms: tuple[str, ...]
    python: str | None
    interpreter: str | None
    glibc: str | None
    musl: str | None
    cuda: str | None
    cudnn: str | None
    licences: tuple[str, ...]
    end_of_life: date | None
    size: int | None
    where: str
    locked: date | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    locks: Path | None = None

    @property
    def shipped(self) -> bool:
        """Whether nb2image's own catalogue states it, and nobody else's."""
        return self.where == str(SHIPPED)

    @property
    def libc(self) -> str:
        return f"glibc {self.glibc}" if self.glibc else f"musl {self.musl}"

    def exact(self, platform: Platform) -> str:
        """The reference for a registry: with the locked digest, where there is one."""
        digest = self.digests.get(str(platform))
        return f"{self.reference.partition('@')[0]}@{digest}" if digest else self.reference

    def target(self, platform: Platform) -> Target | None:
        """The facts as stated, or None when there is no Python or it is not for the platform."""
        if self.python is None or str(platform) not in self.platforms:
            return None
        version = Version(self.python)
        minor = f"{version.major}.{version.minor}"
        interpreter = PurePosixPath(self.interpreter or f"/usr/local/bin/python{minor}")
        folder = interpreter.parent.parent / "lib" / f"python{minor}" / "site-packages"
        # A marker may compare the full version: the first of a minor version is the least that can be meant.
        full = version if len(version.release) > 2 else Version(f"{minor}.0")
        glibc = Version(self.glibc) if self.glibc else None
        return Target(platform, full, interpreter, folder, glibc, self._cuda())

    def bare(self, platform: Platform) -> Target | None:
        """The same of what a Python will be laid over, whether or not it has one (`read_target`, ``bare``)."""
        from nb2image.bases.facts import NO_PYTHON

        if str(platform) not in self.platforms:
            return None
        glibc = Version(self.glibc) if self.glibc else None
        return Target(platform, NO_PYTHON, PurePosixPath("/"), PurePosixPath("/"), glibc, self._cuda())

    def _cuda(self) -> Cuda | None:
        if self.cuda is None:
            return None
        version = ".".join(self.cuda.split(".")[:2])
        return Cuda(Version(version), Version(self.cudnn) if self.cudnn else None)


@dataclass(frozen=True)
class Catalogue:
    """Entries by name, in the order of the files."""

    entries: Mapping[str, CatalogueEntry]

    def entry(self, name: str) -> CatalogueEntry:
        """The entry of a name. Raises `NoMatchingBase`."""
        found = self.entries.get(name)
        if found is None:
            from difflib import get_close_matches

            close = ", ".join(get_close_matches(name, self.entries, 3, 0.4))
            raise NoMatchingBase(
                f"No catalogue has a base named {name!r}.",
                hint=f"Is it {close}? " * bool(close) + "`nb2image bases list` shows all.",
            )
        return found


def read_catalogues(named: Iterable[Path] = (), but: Path | None = None) -> Catalogue:
    """The shipped catalogue, those of the configuration, and ``named`` ones, later entries over earlier; not the file
    ``but``.

    Raises `BadCatalogue`.
    """
    entries: dict[str, CatalogueEntry] = {}
    for file in (SHIPPED, *read_config().catalogues, *named):
        if but is not None and file.exists() and but.exists() and file.samefile(but):
            continue
        entries.update((entry.name, entry) for entry in read_catalogue(file))
    return Catalogue(entries)


def read_catalogue(file: Path) -> tuple[CatalogueEntry, ...]:
    """The entries of one file. Raises `BadCatalogue`, which names file, line and key."""
    document, source = read_toml(file)
    for key in document:
        if key != "base":
            source.fail(None, key, "is not known; a catalogue has [[base]] tables only")
    rows = document.get("base", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        source.fail(None, "base", "must be [[base]] tables")
    found: dict[str, CatalogueEntry] = {}
    for number, row in enumerate(rows):
        entry = _Row(source, number, row).entry()
        if entry.name in found:
            source.fail(number, "name", f"{entry.name!r} is there twice")
        found[entry.name] = entry
    return tuple(found.values())


@dataclass(frozen=True)
class Source:
    """A TOML file's name and text, for messages that say where a value stands."""

    file: Path
    lines: Sequence[str]

    def line(self, table: int | None, key: str) -> int | None:
        """The line of a key: of the n-th ``[[base]]`` table, or (None) outside of all."""
        current = -1
        for number, text in enumerate(self.lines, 1):
            if re.match(r"\s*\[\[\s*base\s*\]\]", text):
                current += 1
                if current == table:
                    header = number
            elif (current if table is not None else None) == table and re.match(
                rf"\s*(?:\[*\s*)?[\"']?{re.escape(key)}[\"']?\s*(?:[=.\]])", text
            ):
                return number
        return header if table is not None and current >= table else None

    def fail(self, table: int | None, key: str, what: str) -> NoReturn:
        line = self.line(table, key)
        place = f"{self.file}, line {line}" if line is not None else str(self.file)
        raise BadCatalogue(f"{place}: {key} {what}.", hint="docs/bases.md describes what may stand there.")


def read_toml(file: Path) -> tuple[dict[str, Any], Source]:
    """A TOML document and where its values stand. Raises `BadCatalogue`."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise BadCatalogue(
            f"{file} cannot be read: {error.strerror or error}.", hint="Correct its name or its permissions."
        ) from error
    if len(data) > _LARGEST:
        raise BadCatalogue(f"{file} has more than {_LARGEST >> 20} MiB.", hint="Name a catalogue.")
    try:
        text = data.decode()
        return tomllib.loads(text), Source(file, text.splitlines())
    except (ValueError, RecursionError) as error:
        # Of tomllib, which names the line, and of UTF-8.
        raise BadCatalogue(f"{file} is no TOML: {error}.", hint="Correct the file.") from error


class _Row:
    """One table, whose values are taken out one by one."""

    def __init__(self, source: Source, number: int, values: Mapping[str, Any]) -> None:
        self._source = source
        self._number = number
        self._values = dict(values)

    def entry(self) -> CatalogueEntry:
        name = self._text("name", _NAME, "a name of small letters, digits and . _ + -")
        provider = self._text("provider", re.compile("debian|registry|layout"), "debian, registry or layout")
        reference = self._text("reference") if provider != "debian" else self._optional("reference") or name
        entry = CatalogueEntry(
            name=name,
            provider=provider,  # type: ignore[arg-type]
            reference=self._located(provider, reference),
            platforms=self._texts("platforms", _PLATFORM, "a list of platforms such as linux/amd64"),
            python=self._optional("python", _PYTHON, "a version such as 3.12 or 3.12.4"),
            interpreter=self._optional("interpreter", _PATH, "an absolute path"),
            glibc=self._optional("glibc", _GLIBC, "a version such as 2.36"),
            musl=self._optional("musl", _VERSION, "a version such as 1.2.5"),
            cuda=self._optional("cuda", _VERSION, "a version such as 12.4.1"),
            cudnn=self._optional("cudnn", _VERSION, "a version such as 9.1.0"),
            licences=self._texts("licences") if "licences" in self._values else (),
            end_of_life=self._date("end_of_life"),
            size=self._number_of("size"),
            where=str(self._source.file),
            locked=self._date("locked"),
            digests=self._digests(),
            locks=self._folder("locks"),
        )
        if (entry.glibc is None) == (entry.musl is None):
            self._fail("name", "needs either glibc or musl beside it, which says the C library's version")
        if entry.interpreter is not None and entry.python is None:
            self._fail("interpreter", "needs python beside it")
        for key in self._values:
            self._fail(key, "is not known")
        if provider == "debian":
            self._check_debian(entry)
        elif entry.locks is not None:
            self._fail("locks", "are of Debian packages; an image has digests")
        if entry.digests and set(entry.digests) != set(entry.platforms):
            self._fail("digests", f"must have one for each platform: {', '.join(entry.platforms)}")
        return entry

    def _check_debian(self, entry: CatalogueEntry) -> None:
        from nb2image.bases.debian.selection import SUITES

        if entry.digests:
            self._fail("digests", "are of images; a base of Debian packages has locks")
        if entry.reference not in SUITES:
            named = "reference" if entry.reference != entry.name else "name"
            self._fail(named, f"is none of the suites that nb2image assembles: {', '.join(SUITES)}")
        if entry.name != entry.reference and entry.locks is None:
            self._fail("name", f"is not {entry.reference}, and nothing says what else it is: locks is missing")

    def _fail(self, key: str, what: str) -> NoReturn:
        self._source.fail(self._number, key, what)

    def _take(self, key: str, kind: type, what: str) -> Any:
        value = self._values.pop(key, None)
        # A TOML boolean is no number, and a date-time no date.
        if value is not None and type(value) is not kind:
            self._fail(key, f"must be {what}")
        return value

    def _optional(self, key: str, pattern: re.Pattern[str] | None = None, what: str = "a text") -> str | None:
        value: str | None = self._take(key, str, what)
        if value is not None and (not value.isprintable() or not value or (pattern and not pattern.fullmatch(value))):
            self._fail(key, f"must be {what}, and is {value!r}")
        return value

    def _text(self, key: str, pattern: re.Pattern[str] | None = None, what: str = "a text") -> str:
        value = self._optional(key, pattern, what)
        if value is None:
            self._fail(key, f"is missing; it must be {what}")
        return value

    def _texts(
        self, key: str, pattern: re.Pattern[str] | None = None, what: str = "a list of texts"
    ) -> tuple[str, ...]:
        values = self._take(key, list, what)
        if not values:
            self._fail(key, f"is missing or empty; it must be {what}")
        for value in values:
            if not isinstance(value, str) or not value.isprintable() or (pattern and not pattern.fullmatch(value)):
                self._fail(key, f"must be {what}, and one is {value!r}")
        return tuple(dict.fromkeys(values))

    def _date(self, key: str) -> date | None:
        value: date | None = self._take(key, date, "a date such as 2028-10-31, without quotes")
        return value

    def _number_of(self, key: str) -> int | None:
        value: int | None = self._take(key, int, "a number of bytes")
        if value is not None and value < 0:
            self._fail(key, "must be a number of bytes")
        return value

    def _digests(self) -> Mapping[str, str]:
        values: dict[str, Any] = self._take("digests", dict, 'digests."linux/amd64" = "sha256:…"') or {}
        for platform, digest in values.items():
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                self._fail("digests", f"must be sha256:HEX for each platform, and that of {platform!r} is {digest!r}")
        return values

    def _folder(self, key: str) -> Path | None:
        value = self._optional(key)
        return None if value is None else self._source.file.parent / Path(value).expanduser()

    def _located(self, provider: str, reference: str) -> str:
        if provider == "layout":
            return str(self._source.file.parent / Path(reference).expanduser())
        if provider == "registry":
            from nb2image.errors import OutputError
            from nb2image.image.names import parse_name

            try:
                parse_name(reference.partition("@")[0])
            except OutputError as error:
                self._fail("reference", f"is no image reference: {error.message.rstrip('.')}")
            digest = reference.partition("@")[2]
            if digest and not _DIGEST.fullmatch(digest):
                self._fail("reference", f"has a digest that is no sha256: {digest!r}")
        return reference
