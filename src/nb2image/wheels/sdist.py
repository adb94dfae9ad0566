"""Reading a source distribution as if somebody hostile had written it, without running any of it.

A source distribution is an archive of files, and of links that stay inside, below one folder (source distribution
format, "Source distribution archive features"). Its ``PKG-INFO`` must be that of the locked package; its
``pyproject.toml`` says how it is built (PEP 518), else setuptools does (PEP 517, "Build backend interface").
"""

from __future__ import annotations

import re
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from nb2image.errors import BadSdist, BadWheel
from nb2image.image.streams import BoundedTarInfo
from nb2image.layers.tar import MTIME
from nb2image.wheels.archive import WheelArchive

__all__ = ["BuildSystem", "SourceDistribution", "read_sdist"]

LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
_LEGACY_REQUIRES = ("setuptools>=40.8.0", "wheel")
_MODES = {".tar.gz": "r|gz", ".tgz": "r|gz", ".tar.bz2": "r|bz2", ".tar.xz": "r|xz"}

_MOST_MEMBERS = 100_000
_MOST_BYTES = 2 << 30
"""Uncompressed bytes of all files; the largest source distributions on indexes unpack to about 1 GB."""
_LARGEST_TEXT = 4 << 20
_MOST_FOLLOWED = 40
"""Links that Linux follows on the way to a file."""
_OLDER = re.compile(rb"use_2to3|pkg_resources")
_READ = ("PKG-INFO", "pyproject.toml", "setup.py")
_LONGEST_PART = 255
"""Bytes of a path component that Linux file systems hold."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_COMPILED = frozenset(
    (".c", ".cc", ".cpp", ".cu", ".cxx", ".f", ".f77", ".f90", ".for", ".go", ".m", ".mm", ".pyx", ".rs", ".s")
)
_ASIDE = frozenset(("benchmarks", "doc", "docs", "example", "examples", "test", "testing", "tests"))
"""Folders whose sources are not those of the package."""
_DAMAGED = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error)


class BuildSystem(NamedTuple):
    """``build-system`` of ``pyproject.toml``; ``legacy``: there is none, so that setuptools runs ``setup.py``."""

    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...]
    legacy: bool


class _Link(NamedTuple):
    """Where a link leads: a symbolic one as it states, a hard one to a path of the archive."""

    target: str
    hard: bool


class _Member(NamedTuple):
    """A file or link on its way out of the archive; ``path`` with the top folder, ``mtime`` in seconds."""

    path: str
    executable: bool
    size: int
    mtime: int
    pieces: Iterator[bytes]
    link: _Link | None = None


@dataclass(frozen=True)
class SourceDistribution:
    """What an archive says of itself. ``compiled`` names the first file that looks like one for a compiler, None
    where there is none; ``older_setuptools``: its ``setup.py`` asks for what setuptools 58 or 82 removed."""

    archive: Path
    filename: str
    top: str
    build_system: BuildSystem
    compiled: str | None
    older_setuptools: bool

    def unpack(self, folder: Path) -> None:
        """Write what is inside the top folder into ``folder``, which must be empty. Raises `BadSdist`, `OSError`.

        Modes are 644 and 755; times are those of the archive, which build tools compare.
        """
        import os

        links: list[tuple[Path, _Link]] = []
        for file in _members(self.archive, self.filename):
            target = folder.joinpath(*file.path.split("/")[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.link is not None:
                links.append((target, file.link))
                continue
            # Of two members with one name the last stays, as for everyone who unpacks front to back.
            with target.open("wb") as stream:
                stream.writelines(file.pieces)
            target.chmod(0o755 if file.executable else 0o644)
            os.utime(target, (file.mtime, file.mtime))
        # Last, so that nothing is written through one.
        for target, link in links:
            if link.hard:
                os.link(folder.joinpath(*link.target.split("/")[1:]), target)
            else:
                target.symlink_to(link.target)


def read_sdist(archive: Path, filename: str, name: NormalizedName, version: Version) -> SourceDistribution:
    """Read the whole archive once; nothing is written. Raises `BadSdist`.

    ``filename`` is what messages call it and tells the format (in a cache the path is a digest).
    """
    tops: set[str] = set()
    texts: dict[str, bytes] = {}
    paths: set[str] = set()
    links: dict[str, _Link] = {}
    compiled: str | None = None
    for file in _members(archive, filename):
        top, _, rest = file.path.partition("/")
        tops.add(top)
        if not rest or len(tops) > 1:
            raise BadSdist(filename, file.path, "the files are not all below one folder")
        if rest in links or (file.link is not None and rest in paths):
            raise BadSdist(filename, file.path, "the path comes twice, once as a link")
        paths.add(rest)
        if file.link is not None:
            links[rest] = file.link
        elif rest in _READ and file.size <= _LARGEST_TEXT:
            texts[rest] = b"".join(file.pieces)
        elif compiled is None and _is_compiled(rest):
            compiled = rest
        for _ in file.pieces:
            pass
    if not tops:
        raise BadSdist(filename, None, "it holds no file")
    (top,) = tops
    _refuse_crossing(filename, paths)
    _refuse_escaping(filename, top, links, paths)
    _check_metadata(filename, texts.get("PKG-INFO"), name, version)
    if "setup.py" not in paths and "pyproject.toml" not in paths:
        raise BadSdist(filename, None, "it has neither pyproject.toml nor setup.py, so nothing says how to build it")
    system = _build_system(filename, texts.get("pyproject.toml"))
    return SourceDistribution(
        archive, filename, top, system, compiled, _OLDER.search(texts.get("setup.py", b"")) is not None
    )


def _is_compiled(path: str) -> bool:
    folders = path.lower().split("/")[:-1]
    return Path(path).suffix.lower() in _COMPILED and not _ASIDE.intersection(folders)


def _refuse_crossing(filename: str, paths: set[str]) -> None:
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in paths:
                raise BadSdist(filename, parent, "the path would be a file and a folder")
            parent = parent.rpartition("/")[0]


def _refuse_escaping(filename: str, top: str, links: Mapping[str, _Link], paths: set[str]) -> None:
    """Links lead to what is inside, whatever other links they pass; ``paths`` are without the top folder."""
    for path, link in links.items():
        if path in _READ:
            raise BadSdist(filename, f"{top}/{path}", "the member is a link")
        if link.hard:
            archive, _, inner = link.target.partition("/")
            if archive != top or inner not in paths or inner in links:
                raise BadSdist(filename, f"{top}/{path}", "it is a hard link to no file of the archive")
        elif not _stays_inside(path, links):
            raise BadSdist(filename, f"{top}/{path}", f"the link leads out of the archive ({link.target[:200]})")


def _stays_inside(path: str, links: Mapping[str, _Link]) -> bool:
    """Whether following a symbolic link never leaves the top folder; what it leads to need not be there."""
    left = path.split("/")[::-1]
    where: list[str] = []
    followed = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not where:
                return False
            where.pop()
            continue
        where.append(part)
        link = links.get("/".join(where))
        if link is not None and not link.hard:
            followed += 1
            if followed > _MOST_FOLLOWED or link.target.startswith("/"):
                return False
            where.pop()
            left += link.target.split("/")[::-1]
    return True


def _check_metadata(filename: str, data: bytes | None, name: NormalizedName, version: Version) -> None:
    if data is None:
        raise BadSdist(filename, "PKG-INFO", "the file is missing or larger than 4 MiB")
    # Descriptions of old packages are in all kinds of encodings; names and versions are ASCII.
    headers = HeaderParser().parsestr(data.decode("utf-8", "replace"))
    stated_name, stated_version = (str(headers[field] or "").strip() for field in ("Name", "Version"))
    try:
        same = (canonicalize_name(stated_name), Version(stated_version)) == (name, version)
    except InvalidVersion:
        same = False
    if not same:
        rule = f"it says that it is {stated_name or '?'} {stated_version or '?'}, and the lock {name} {version}"
        raise BadSdist(filename, "PKG-INFO", rule)


# -- pyproject.toml -----------------------------------------------------------------------------------------


def _build_system(filename: str, data: bytes | None) -> BuildSystem:
    table = _table(filename, data) if data is not None else None
    if table is None:
        return BuildSystem(_LEGACY_REQUIRES, LEGACY_BACKEND, (), True)
    if "requires" not in table:
        raise _bad_table(filename, "its table build-system has no requires (PEP 518)")
    requires = _strings(filename, table, "requires")
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise _bad_table(filename, f"{text!r} is no requirement") from error
        if requirement.url is not None:
            raise _bad_table(filename, f"the build requirement {requirement.name} comes from a URL")
    backend = table.get("build-backend", LEGACY_BACKEND)
    if not isinstance(backend, str) or not re.fullmatch(r"\w+(\.\w+)*(:\w+(\.\w+)*)?", backend):
        raise _bad_table(filename, "its build-backend is no module and object")
    backend_path = _strings(filename, table, "backend-path")
    for path in backend_path:
        if path.startswith("/") or ".." in path.split("/"):
            raise _bad_table(filename, f"its backend-path {path!r} leads out of the source tree")
    return BuildSystem(requires, backend, backend_path, backend == LEGACY_BACKEND)


def _table(filename: str, data: bytes) -> Mapping[str, Any] | None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        table = tomllib.loads(data.decode()).get("build-system")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_table(filename, "it is no TOML") from error
    if table is not None and not isinstance(table, dict):
        raise _bad_table(filename, "its build-system is no table")
    return table


def _strings(filename: str, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _bad_table(filename, f"its {key} is no list of strings")
    return tuple(value)


def _bad_table(filename: str, rule: str) -> BadSdist:
    return BadSdist(filename, "pyproject.toml", rule)


# -- archives -------------------------------------------------------------------------------------------------


def _members(archive: Path, filename: str) -> Iterator[_Member]:
    """The files and links in order; each one's pieces must be read before the next is asked for."""
    zipped = filename.endswith(".zip")
    total = 0
    for file in _zip_files(archive, filename) if zipped else _tar_files(archive, filename):
        total += file.size
        if total > _MOST_BYTES:
            raise BadSdist(filename, file.path, f"it unpacks to more than {_MOST_BYTES >> 30} GiB")
        yield file._replace(path=_safe(filename, file.path))


def _safe(filename: str, path: str) -> str:
    name = path.removeprefix("./")
    parts = name.split("/")
    _plain(filename, path, name)
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise BadSdist(filename, path, "the path leads out of the archive or is not plain")
    if any(len(part.encode()) > _LONGEST_PART for part in parts):
        raise BadSdist(filename, path, "a part of the path is too long")
    return name


def _plain(filename: str, path: str, text: str) -> None:
    """Refuse a path, or what a link at ``path`` leads to, that is not plain text."""
    if _CONTROL.search(text) or "\\" in text:
        raise BadSdist(filename, path, "the path has a control character or a backslash")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadSdist(filename, path, "the path is not UTF-8") from None


def _zip_files(archive: Path, filename: str) -> Iterator[_Member]:
    try:
        with WheelArchive(archive, filename) as opened:
            for member in opened.members.values():
                pieces = opened.content(member).chunks()
                yield _Member(member.name, bool(member.mode & 0o111), member.size, MTIME, pieces)
    except BadWheel as error:
        raise BadSdist(filename, error.member, error.rule) from error


def _tar_files(archive: Path, filename: str) -> Iterator[_Member]:
    with _opened(archive, filename) as tar:
        count = 0
        while (info := _next(tar, filename)) is not None:
            count += 1
            if count > _MOST_MEMBERS:
                raise BadSdist(filename, None, f"it has more than {_MOST_MEMBERS:,} members")
            # tarfile remembers every member; nothing here asks twice.
            tar.members.clear()  # type: ignore[attr-defined]
            if info.isdir():
                _safe(filename, info.name.rstrip("/"))
                continue
            if info.issym() or info.islnk():
                _plain(filename, info.name, info.linkname)
                target = info.linkname if info.issym() else _safe(filename, info.linkname)
                yield _Member(info.name, False, 0, MTIME, iter(()), _Link(target, info.islnk()))
                continue
            if not info.isreg() or info.issparse():
                raise BadSdist(filename, info.name, "the member is no regular file")
            stream = tar.extractfile(info)
            assert stream is not None, "a regular file has content"
            moment = min(max(int(info.mtime), 0), 0x7FFFFFFF)
            yield _Member(info.name, bool(info.mode & 0o111), info.size, moment, _pieces(stream, filename, info.name))


@contextmanager
def _opened(archive: Path, filename: str) -> Iterator[tarfile.TarFile]:
    mode: Any = next((mode for suffix, mode in _MODES.items() if filename.endswith(suffix)), None)
    if mode is None:
        raise BadSdist(filename, None, "it is in no format that source distributions have")
    try:
        tar = tarfile.open(archive, mode, tarinfo=BoundedTarInfo)  # noqa: SIM115  (entered below)
    except _DAMAGED as error:
        raise BadSdist(filename, None, f"the archive is damaged ({error})") from error
    with tar:
        yield tar


def _next(tar: tarfile.TarFile, filename: str) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except _DAMAGED as error:
        raise BadSdist(filename, None, f"the archive is damaged ({error})") from error


def _pieces(stream: IO[bytes], filename: str, path: str) -> Iterator[bytes]:
    try:
        while piece := stream.read(1 << 18):
            yield piece
    except _DAMAGED as error:
        raise BadSdist(filename, path, f"the archive is damaged ({error})") from error
