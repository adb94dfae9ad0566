"""A wheel becomes entries: the files that ``pip install --require-hashes --no-deps --no-compile`` would leave.

Contents, modes and RECORD are pip's, with one difference: INSTALLER says ``nb2image``, because it is.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from nb2image.errors import BadWheel
from nb2image.layers.entry import BytesContent, Entry, parents
from nb2image.wheels.archive import Member, WheelArchive
from nb2image.wheels.metadata import check_wheel_version, dist_info_of, read_metadata, text_of
from nb2image.wheels.record import Record, row_of
from nb2image.wheels.scripts import EntryPoints, is_interpreter, rewrite_shebang, wrapper

__all__ = ["INSTALLER", "Scheme", "install"]

INSTALLER = b"nb2image\n"


@dataclass(frozen=True)
class Scheme:
    """Where a virtual environment keeps things; ``prefix`` is its absolute path in the image, ``minor`` its ``X.Y``."""

    prefix: str
    minor: str

    @property
    def site_packages(self) -> str:
        """Both ``purelib`` and ``platlib``, so that Root-Is-Purelib decides nothing."""
        return f"{self.prefix}/lib/python{self.minor}/site-packages"

    @property
    def interpreter(self) -> str:
        return f"{self.prefix}/bin/python"

    def folder(self, category: str, name: str) -> str | None:
        """The folder of a ``.data`` category for the package ``name``, None when there is no such category."""
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "scripts": f"{self.prefix}/bin",
            "headers": f"{self.prefix}/include/site/python{self.minor}/{name}",
            "data": self.prefix,
        }.get(category)


def install(archive: WheelArchive, scheme: Scheme, *, name: NormalizedName, version: Version) -> Iterator[Entry]:
    """The files of a wheel in an environment, without directories; members first, in the order of their data.

    Contents are read when the entries are consumed, while ``archive`` must be open: reading `chunks` proves each
    against RECORD and may raise `BadWheel`, as may this function for everything else that is wrong with the wheel,
    for example that it is not ``name`` ``version``. A path comes once; where a wheel gives a path twice (by
    ``.data``), what pip writes last stays.
    """
    return iter(_Installation(archive, scheme, name, version).run().values())


class _Installation:
    """One run of `install`; paths are absolute until `_put` takes them."""

    def __init__(self, archive: WheelArchive, scheme: Scheme, name: NormalizedName, version: Version) -> None:
        self.archive = archive
        self.scheme = scheme
        self.name = name
        self.dist_info = dist_info_of(archive)
        self.record = Record(archive, self.dist_info)
        self._check(version)
        self.entry_points = self._entry_points()
        self.entries: dict[str, Entry] = {}
        self.moved: dict[str, str] = {}
        self.changed: dict[str, tuple[str, str]] = {}

    def run(self) -> dict[str, Entry]:
        site = self.scheme.site_packages
        root = site.lstrip("/") + "/"
        data: list[Member] = []
        scripts: list[Member] = []
        entries, moved, hash_of, content = self.entries, self.moved, self.record.hash_of, self.archive.content
        for member in self.archive.members.values():
            name = member.name
            top, _, rest = name.partition("/")
            if top.endswith(".data"):
                self._check_data_folder(member, top)
                (scripts if rest.startswith("scripts/") else data).append(member)
                continue
            entries[root + name] = Entry(root + name, _mode(member), content(member, hash_of(member)))
            moved[name] = name
        for member in data:
            self._put_member(member, self._destination(member))
        for member in scripts:
            if not self.entry_points.hides(posixpath.basename(member.name)):
                self._put_script(member, self._destination(member))
        generated = [f"{self.scheme.prefix}/bin/{name}" for name in self._put_wrappers()]
        for filename, text in (("INSTALLER", INSTALLER), ("REQUESTED", b"")):
            generated.append(f"{site}/{self.dist_info}/{filename}")
            self._put(generated[-1], 0o644, text)
        rows = [(self._record_path(path), *self._row(path)) for path in generated]
        record = self.record.installed(moved, self.changed, rows)
        self._put(f"{site}/{self.dist_info}/RECORD", 0o644, record)
        if data or scripts:
            self._check_folders()
        return entries

    def _check(self, version: Version) -> None:
        """The wheel is what the lock says it is, and of a format that is known."""
        stem = canonicalize_name(self.dist_info.removesuffix(".dist-info"))
        if not stem.startswith(f"{self.name}-"):
            raise BadWheel(self.archive.filename, self.dist_info, f"the .dist-info folder is not one of {self.name}")
        path = f"{self.dist_info}/WHEEL"
        check_wheel_version(self.archive, path, text_of(self.archive, path, self._expected(path)))
        path = f"{self.dist_info}/METADATA"
        found = read_metadata(self.archive, self._expected(path))
        if (found.name, found.version) != (self.name, version):
            rule = f"METADATA says {found.name} {found.version}, the lock {self.name} {version}"
            raise BadWheel(self.archive.filename, path, rule)

    def _check_data_folder(self, member: Member, top: str) -> None:
        """Installers disagree about a ``.data`` folder of another name: some install what it holds as it stands."""
        if canonicalize_name(top.removesuffix(".data")) != canonicalize_name(self.dist_info.removesuffix(".dist-info")):
            rule = f"the .data folder is not the one that belongs to {self.dist_info}"
            raise BadWheel(self.archive.filename, member.name, rule)

    def _entry_points(self) -> EntryPoints:
        path = f"{self.dist_info}/entry_points.txt"
        if path not in self.archive.members:
            return EntryPoints()
        text = text_of(self.archive, path, self._expected(path))
        return EntryPoints.parse(text, lambda rule: BadWheel(self.archive.filename, path, rule))

    def _expected(self, path: str) -> str | None:
        member = self.archive.members.get(path)
        return self.record.hash_of(member) if member else None

    def _destination(self, member: Member) -> str:
        """Where a member of ``.data`` goes."""
        _, category, rest = (*member.name.split("/", 2), "", "")[:3]
        folder = self.scheme.folder(category, self.name)
        if folder is None or not rest:
            raise BadWheel(
                self.archive.filename, member.name, "the file is in none of .data's folders (purelib, scripts, …)"
            )
        return f"{folder}/{rest}"

    def _put(self, path: str, mode: int, data: bytes) -> None:
        relative = path.lstrip("/")
        self.entries[relative] = Entry(relative, mode, BytesContent(data))

    def _put_member(self, member: Member, path: str) -> None:
        if self._is_taken(path):
            raise BadWheel(self.archive.filename, member.name, "the file would take the place of the environment's own")
        top, separator, _ = path.removeprefix(f"{self.scheme.site_packages}/").partition("/")
        if separator and top.endswith(".dist-info"):
            raise BadWheel(self.archive.filename, member.name, "the file would be installed into a .dist-info folder")
        relative = path.lstrip("/")
        content = self.archive.content(member, self.record.hash_of(member))
        self.entries[relative] = Entry(relative, _mode(member), content)
        self.moved[member.name] = self._record_path(path)

    def _is_taken(self, path: str) -> bool:
        """Whether a path is, or is below, one of the environment's own files, or stands where it needs a folder."""
        top, _, below = path.removeprefix(f"{self.scheme.prefix}/").partition("/")
        if top == "bin":
            return not below or is_interpreter(below.partition("/")[0])
        return top == "pyvenv.cfg" or f"{self.scheme.site_packages}/".startswith(f"{path}/")

    def _put_script(self, member: Member, path: str) -> None:
        self._put_member(member, path)
        expected = self.record.hash_of(member)
        if self.archive.content(member, expected).head(len(b"#!python")) == b"#!python":
            script = rewrite_shebang(self.archive.read(member, expected), self.scheme.interpreter)
            self._put(path, _mode(member), script)
            self.changed[self._record_path(path)] = row_of(script)

    def _put_wrappers(self) -> Iterator[str]:
        """Write the scripts of the entry points; gives their names, one twice when it is in both groups."""
        for name, reference in self.entry_points.scripts(self.scheme.minor):
            self._put(f"{self.scheme.prefix}/bin/{name}", 0o755, wrapper(reference, self.scheme.interpreter))
            yield name

    def _record_path(self, path: str) -> str:
        """An absolute path as RECORD writes it: relative to site-packages."""
        return posixpath.relpath(path, self.scheme.site_packages)

    def _row(self, path: str) -> tuple[str, str]:
        content = self.entries[path.lstrip("/")].content
        assert isinstance(content, BytesContent)
        return row_of(content.data)

    def _check_folders(self) -> None:
        for path in self.entries:
            for folder in parents(path):
                if folder in self.entries:
                    raise BadWheel(self.archive.filename, folder, "the path would be a file and a folder")


def _mode(member: Member) -> int:
    """Executable only where the archive says "regular file" and sets some x bit, like pip."""
    return 0o755 if stat.S_ISREG(member.mode) and member.mode & 0o111 else 0o644
