"""Who brought which file, by what the image itself says: RECORD of installed packages, and dpkg's lists."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name

from nb2image.image.filesystem import FileSystem
from nb2image.inspection.model import Owner
from nb2image.inspection.scan import DPKG, Scan

__all__ = ["Claims", "claims"]

_DIST_INFO = re.compile(r"(?:(.*)/)?([^/]+)\.dist-info/(?:METADATA|RECORD)")
_SITE = re.compile(r"(.*)/lib(?:64)?/python3[^/]*/(?:site|dist)-packages")
_PYCACHE = re.compile(r"(?:(.*)/)?__pycache__/([^/]+?)\.[^./]+(?:\.opt-[^./]+)?\.pyc")


@dataclass
class Claims:
    """``owners`` are the packages found; ``by_path`` says which of them claims a path, and which size it states."""

    files: FileSystem
    owners: list[Owner] = field(default_factory=list)
    by_path: dict[str, list[tuple[int, int | None]]] = field(default_factory=dict)
    _folders: dict[str, str | None] = field(default_factory=dict)

    def add(self, owner: Owner, paths: Iterable[tuple[str, int | None]]) -> None:
        self.owners.append(owner)
        for path, size in paths:
            place = self.placed(path)
            if place is not None:
                self.by_path.setdefault(place, []).append((len(self.owners) - 1, size))

    def placed(self, path: str) -> str | None:
        """Where a path stands once the links of its folder are followed (``/lib`` to ``/usr/lib``); None: nowhere."""
        if path in self.files.nodes:
            return path
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self.files.resolve(folder)
        found = self._folders[folder]
        if found is None:
            return None
        place = posixpath.join(found, name)
        return place if place in self.files.nodes else None

    def owner(self, path: str, size: int) -> int | None:
        """The package that a file belongs to.

        Where several claim it, one that states its size; then Debian's before an environment's, and the first name,
        whose file nb2image keeps.
        """
        found = self.by_path.get(path)
        if found is None:
            # Python finds the bytecode of a source there (PEP 3147).
            compiled = _PYCACHE.fullmatch(path)
            if compiled is None:
                return None
            source = posixpath.join(compiled[1] or "", f"{compiled[2]}.py")
            found = self.by_path.get(source)
            if found is None:
                return None
            node = self.files.nodes.get(source)
            size = node.info.size if node is not None else -1
        if len(found) == 1:
            return found[0][0]
        return min(found, key=lambda claim: (claim[1] != size, self.owners[claim[0]]))[0]


def claims(scan: Scan) -> Claims:
    """Every installed package and what it claims."""
    found = Claims(scan.files)
    for owner, paths in _debian(scan.kept):
        found.add(owner, ((path, None) for path in paths))
    for owner, rows in _distributions(scan, found):
        found.add(owner, rows)
    return found


# -- Python packages ----------------------------------------------------------------------------------


def _distributions(scan: Scan, debian: Claims) -> Iterator[tuple[Owner, list[tuple[str, int | None]]]]:
    """Installed Python packages that no other package brought: not Debian's own, and not copies inside a package."""
    folders: dict[str, tuple[str, str]] = {}
    for path in scan.files.nodes:
        if path.endswith((".dist-info/METADATA", ".dist-info/RECORD")):
            parts = _DIST_INFO.fullmatch(path)
            if parts is not None and path not in debian.by_path:
                folders[posixpath.dirname(path)] = parts[1] or "", parts[2]
    rows: dict[str, list[tuple[str, int | None]]] = {}
    inside: set[str] = set()
    for folder, (site, _) in folders.items():
        record = scan.kept.get(f"{folder}/RECORD")
        if record is None:
            # Whoever wrote no RECORD at least wrote these.
            rows[folder] = [(path, None) for path in scan.files.nodes if path.startswith(f"{folder}/")]
        else:
            rows[folder] = list(_record(record, site))
        # setuptools carries whole packages with their *.dist-info in setuptools/_vendor.
        other = {posixpath.dirname(path) for path, _ in rows[folder] if ".dist-info/" in path} - {folder}
        inside |= {each for each in other if posixpath.dirname(each) != site}
    for folder in sorted(folders):
        site, stem = folders[folder]
        if folder in inside:
            continue
        name, _, version = stem.partition("-")
        prefix = _SITE.fullmatch(f"/{site}")
        yield Owner("wheel", canonicalize_name(name), version, prefix[1] if prefix else f"/{site}"), rows[folder]


def _record(data: bytes, site: str) -> Iterator[tuple[str, int | None]]:
    """Paths and sizes of a RECORD (binary distribution format; "Recording installed projects"); what is no row is
    passed over."""
    text = data.decode(errors="surrogateescape")
    try:
        for row in csv.reader(text.splitlines()):
            if not row or not row[0]:
                continue
            size = int(row[2]) if len(row) > 2 and row[2].isascii() and row[2].isdigit() and len(row[2]) < 16 else None
            path = posixpath.normpath(posixpath.join("/", site, row[0]))
            yield path.lstrip("/"), size
    except csv.Error:
        return


# -- Debian packages ----------------------------------------------------------------------------------


def _debian(kept: Mapping[str, bytes]) -> Iterator[tuple[Owner, Iterator[str]]]:
    for stanza in _stanzas(kept.get(f"{DPKG}/status", b"")):
        name, architecture = stanza.get("package"), stanza.get("architecture", "")
        state = stanza.get("status", "").split()
        if not name or not state or state[-1] in {"not-installed", "config-files"}:
            continue
        lists = (kept.get(f"{DPKG}/info/{each}.list") for each in (f"{name}:{architecture}", name))
        listed = next((data for data in lists if data is not None), b"")
        lines = listed.decode(errors="surrogateescape").splitlines()
        yield Owner("debian", name, stanza.get("version", "")), (_relative(line) for line in lines)
    # Images without a package manager ("distroless") have a file per package instead.
    for path in sorted(path for path in kept if path.startswith(f"{DPKG}/status.d/") and not path.endswith(".md5sums")):
        for stanza in _stanzas(kept[path]):
            if name := stanza.get("package"):
                sums = kept.get(f"{path}.md5sums", b"").decode(errors="surrogateescape").splitlines()
                rows = (line.split(maxsplit=1) for line in sums)
                owner = Owner("debian", name, stanza.get("version", ""))
                yield owner, (_relative(row[1]) for row in rows if len(row) == 2)


def _relative(path: str) -> str:
    return posixpath.normpath(path).lstrip("/")


def _stanzas(data: bytes) -> Iterator[dict[str, str]]:
    """The one-line fields of each stanza, names in lower case (deb822(5))."""
    stanza: dict[str, str] = {}
    for line in data.decode(errors="replace").splitlines():
        if not line.strip():
            if stanza:
                yield stanza
            stanza = {}
        elif not line[0].isspace():
            name, colon, value = line.partition(":")
            if colon:
                stanza[name.lower()] = value.strip()
    if stanza:
        yield stanza
