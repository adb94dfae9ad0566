"""The file system being assembled: packages merged into one tree of entries, usr-merged."""

from __future__ import annotations

from collections.abc import Iterator

from nb2image.bases.debian.archive import BadPackage
from nb2image.layers.entry import BytesContent, Entry, HardLink, Link

__all__ = ["Tree"]

# Debian moved these below /usr; trixie's packages are made so, those of older suites are placed so here.
_MERGED = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"})


class Tree:
    """Entries by path. Later additions by packages must agree with earlier ones; `put` replaces."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._owners: dict[str, str] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def merged(self, path: str) -> str:
        """Where a path stands after usr-merge: ``bin/ls`` is ``usr/bin/ls``."""
        top = path.partition("/")[0]
        return f"usr/{path}" if top in _MERGED else path

    def add(self, entry: Entry, package: str) -> None:
        """Add a package's entry. Directories may be had by many packages, the first one's attributes hold.

        Files lose their set-user-ID and set-group-ID bits: nothing in a notebook's image needs to gain rights.
        Raises `BadPackage` when two packages disagree about a path.
        """
        path = self.merged(entry.path)
        if entry.path in _MERGED and entry.content is not None:
            # base-files of trixie brings the links themselves.
            if not isinstance(entry.content, Link) or entry.content.target.strip("/") != f"usr/{entry.path}":
                raise BadPackage(package, f"its /{entry.path} is no link to /usr/{entry.path}")
            entry = Entry(entry.path, 0o755, None)
        mode = entry.mode if entry.content is None else entry.mode & 0o1777
        content = entry.content
        if isinstance(content, HardLink):
            content = HardLink(self.merged(content.path))
        entry = Entry(path, mode, content, entry.uid, entry.gid)
        known = self._entries.get(path)
        if known is None:
            self._entries[path] = entry
            self._owners[path] = package
        elif (known.content is None) != (content is None) or (content is not None and known != entry):
            raise BadPackage(package, f"its /{path} is another one than that of {self._owners[path]}")

    def put(self, entry: Entry) -> None:
        """Set an entry, whatever was there."""
        self._entries[entry.path] = entry

    def remove(self, path: str) -> None:
        """Remove one path, if it is there."""
        self._entries.pop(path, None)

    def directory(self, path: str, mode: int = 0o755, gid: int = 0) -> None:
        """Make a directory unless something is there."""
        if path not in self._entries:
            self.put(Entry(path, mode, None, 0, gid))

    def file(self, path: str, data: bytes | str, mode: int = 0o644, gid: int = 0) -> None:
        """Write a file."""
        body = data.encode() if isinstance(data, str) else data
        self.put(Entry(path, mode, BytesContent(body), 0, gid))

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self.put(Entry(path, 0o777, Link(target)))

    def read(self, path: str) -> bytes | None:
        """Content of a regular file or hard link, or None when no such file is there."""
        entry = self._entries.get(path)
        content = entry.content if entry is not None else None
        if isinstance(content, HardLink):
            return self.read(content.path)
        if content is None or isinstance(content, Link):
            return None
        return b"".join(content.chunks())

    def below(self, folder: str) -> list[Entry]:
        """Entries below a directory, sorted by path."""
        prefix = folder + "/"
        return sorted((e for path, e in self._entries.items() if path.startswith(prefix)), key=lambda e: e.path)

    def close_merge(self) -> None:
        """Add the top-level links of usr-merge: always the three main ones, the others for folders that exist."""
        for name in sorted(_MERGED):
            if name in {"bin", "sbin", "lib"} or f"usr/{name}" in self._entries or self.below(f"usr/{name}"):
                self.directory(f"usr/{name}")
                self.link(name, f"usr/{name}")

    def check(self) -> None:
        """Raise `BadPackage` when a path runs through a file or a link, or a hard link leads nowhere."""
        for path, entry in self._entries.items():
            parent = path.rpartition("/")[0]
            above = self._entries.get(parent)
            if above is not None and above.content is not None:
                raise BadPackage(self._owners.get(path, "base"), f"its /{path} lies below a file or link")
            if isinstance(entry.content, HardLink) and self.read(entry.content.path) is None:
                raise BadPackage(self._owners.get(path, "base"), f"its hard link /{path} leads nowhere")
