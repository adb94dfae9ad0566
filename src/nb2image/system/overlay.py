"""The tree of what is laid over a base: paths stand where the base's own links lead."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from nb2image.bases.debian.archive import BadPackage
from nb2image.bases.debian.tree import Tree
from nb2image.image.filesystem import FileSystem
from nb2image.layers.entry import BytesContent, Entry, HardLink

__all__ = ["Overlay", "is_kept"]

_LISTS = re.compile(r"var/lib/dpkg/info/([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9]+)?\.list")
_KEPT = re.compile(r"var/lib/dpkg/(status|info/[^/]+\.list|alternatives/[^/]+)|etc/ld\.so\.cache")


def is_kept(path: str) -> bool:
    """Whether a file's content is needed of the base."""
    return _KEPT.fullmatch(path) is not None


class Overlay(Tree):
    """Entries over a file system that was read with `is_kept`; those of packages in ``renewed`` may be replaced."""

    def __init__(self, below: FileSystem, renewed: Collection[str]) -> None:
        super().__init__()
        self._below = below
        self._folders: dict[str, str] = {"": ""}
        self._listed: dict[str, set[str]] = {}
        self._renewed = frozenset(renewed)
        for path in below.nodes:
            if match := _LISTS.fullmatch(path):
                text = (below.read(path) or b"").decode("utf-8", "replace")
                self._listed.setdefault(match[1], set()).update(line.lstrip("/") for line in text.splitlines())

    def __contains__(self, path: str) -> bool:
        return super().__contains__(path) or path in self._below.nodes

    def merged(self, path: str) -> str:
        directory, slash, name = path.rpartition("/")
        return f"{self._folder(directory)}{slash}{name}"

    def _folder(self, path: str) -> str:
        known = self._folders.get(path)
        if known is None:
            parent, slash, name = path.rpartition("/")
            known = f"{self._folder(parent)}{slash}{name}"
            node = self._below.nodes.get(known)
            if node is not None and node.info.issym():
                known = self._below.resolve(known) or known
            self._folders[path] = known
        return known

    def add(self, entry: Entry, package: str) -> None:
        """As `Tree.add`; folders that the base has stay as they are. Raises `BadPackage` also for a file of another
        package of the base."""
        path = self._folder(entry.path) if entry.content is None else self.merged(entry.path)
        node = self._below.nodes.get(path)
        if node is not None and entry.content is None and node.info.isdir():
            return
        if node is not None and (owner := self._owner(path)) is not None and owner not in self._renewed:
            raise BadPackage(package, f"its /{path} is that of {owner} in the base")
        content = entry.content
        if isinstance(content, HardLink):
            content = HardLink(self.merged(content.path))
        super().add(entry._replace(path=path, content=content), package)

    def read(self, path: str) -> bytes | None:
        return super().read(path) if super().__contains__(path) else self._below.read(path)

    def text(self, path: str) -> str:
        return (self.read(path) or b"").decode("utf-8", "replace")

    def _owner(self, path: str) -> str | None:
        found = None
        for name, paths in self._listed.items():
            if path in paths or any(self.merged(each) == path for each in self._spellings(path, paths)):
                if name in self._renewed:
                    return name
                found = name
        return found

    @staticmethod
    def _spellings(path: str, paths: Collection[str]) -> Iterator[str]:
        # A package's own spelling may be that from before usr-merge.
        short = path.removeprefix("usr/")
        if short in paths:
            yield short

    def hide_what_was(self) -> None:
        """Hide what packages of the base brought that are there anew and no longer bring it (image specification,
        "Whiteouts")."""
        others = {
            p for name, paths in self._listed.items() if name not in self._renewed for p in map(self.merged, paths)
        }
        for name in self._renewed:
            for path in sorted(map(self.merged, self._listed.get(name, ()))):
                node = self._below.nodes.get(path)
                if node is None or node.info.isdir() or super().__contains__(path) or path in others:
                    continue
                folder, slash, leaf = path.rpartition("/")
                self.put(Entry(f"{folder}{slash}.wh.{leaf}", 0o644, BytesContent(b"")))
