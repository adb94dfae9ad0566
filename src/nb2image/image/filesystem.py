"""The merged file system of an image: layers laid over one another, read without unpacking them.

Rules of ``layer.md``: an upper path replaces a lower one, ``.wh.NAME`` hides NAME of the layers below, and
``.wh..wh..opq`` all that its directory has below.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nb2image.image.model import Image, Layer
from nb2image.image.streams import damaged, layer_members
from nb2image.layers.entry import parents

__all__ = ["FileSystem", "Node", "read_filesystem"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40
"""As many symbolic links as Linux follows."""
_LARGEST_FILE = 256 << 20


class Node(NamedTuple):
    """What stands at a path: the number of its layer, counted from the bottom, and its tar header."""

    layer: int
    info: tarfile.TarInfo


@dataclass(frozen=True)
class FileSystem:
    """Paths are relative to the root, without ``.`` and ``..``; the root itself is ``""``."""

    layers: tuple[Layer, ...]
    nodes: Mapping[str, Node]
    _kept: dict[tuple[int, str], bytes] = field(repr=False)

    def resolve(self, path: str) -> str | None:
        """The path with every symbolic link followed inside the image, or None when nothing is there."""
        todo = [part for part in reversed(path.split("/")) if part not in {"", "."}]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            here = "/".join([*done, part])
            node = self.nodes.get(here)
            if node is None:
                return None
            if not node.info.issym():
                done.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            if node.info.linkname.startswith("/"):
                done.clear()
            todo.extend(step for step in reversed(node.info.linkname.split("/")) if step not in {"", "."})
        return "/".join(done)

    def file(self, path: str) -> str | None:
        """The resolved path when a regular file stands there, else None."""
        found = self.resolve(path)
        node = self.nodes.get(found) if found else None
        return found if node is not None and (node.info.isreg() or node.info.islnk()) else None

    def is_directory(self, path: str) -> bool:
        found = self.resolve(path)
        return found == "" or (found is not None and self.nodes[found].info.isdir())

    def children(self, directory: str) -> list[str]:
        """Names in a directory, sorted; empty when there is none."""
        found = self.resolve(directory)
        if found is None:
            return []
        prefix = f"{found}/" if found else ""
        return sorted(p[len(prefix) :] for p in self.nodes if p.startswith(prefix) and "/" not in p[len(prefix) :])

    def read(self, path: str) -> bytes | None:
        """The content of a regular file, links followed, or None when there is none.

        Files that `read_filesystem` was not told to keep cost reading their layer again. Raises `NotAnImage` for
        a damaged layer and for a file of more than 256 MiB.
        """
        found = self.file(path)
        if found is None:
            return None
        number, info = self.nodes[found]
        for _ in range(_MOST_LINKS):
            if not info.islnk():
                break
            # A hard link's other name stands in its own layer, whatever the layers above make of it.
            found = _normal(info.linkname)
            key = (number, found)
            if key in self._kept:
                return self._kept[key]
            info = self._in_layer(number, found)
        key = (number, found)
        if key not in self._kept:
            self._in_layer(number, found)
        return self._kept.get(key)

    def _in_layer(self, number: int, path: str) -> tarfile.TarInfo:
        with layer_members(self.layers[number]) as tar:
            for info in tar:
                if _normal(info.name) == path:
                    if info.isreg():
                        self._kept[number, path] = _content(tar, info, self.layers[number])
                    return info
        raise damaged(f"layer {self.layers[number].descriptor.digest}", f"{path!r} is linked to and missing")


def read_filesystem(image: Image, keep: Callable[[str], bool] = lambda _: False) -> FileSystem:
    """Read all layers once, checking their digests; ``keep`` says of which regular files to keep the content.

    Raises `NotAnImage` when a layer is damaged, is no tar or has a path that leads out of the root.
    """
    nodes: dict[str, Node] = {}
    kept: dict[tuple[int, str], bytes] = {}
    hidden: set[str] = set()
    opaque: set[str] = set()
    for number in range(len(image.layers) - 1, -1, -1):
        layer = image.layers[number]
        below: dict[str, Node] = {}
        hides: set[str] = set()
        clears: set[str] = set()
        for path, info, tar in _members(layer):
            directory, _, name = path.rpartition("/")
            if name == _OPAQUE:
                clears.add(directory)
            elif name.startswith(_WHITEOUT):
                hides.add(posixpath.join(directory, name[len(_WHITEOUT) :]))
            elif path and path not in nodes and not _covered(path, nodes, hidden, opaque):
                below[path] = Node(number, info)
                if info.isreg() and keep(path):
                    kept[number, path] = _content(tar, info, layer)
        nodes.update(below)
        hidden |= hides
        opaque |= clears
    for path in list(nodes):
        for parent in parents(path):
            if parent not in nodes:
                nodes[parent] = Node(nodes[path].layer, _directory(parent))
    return FileSystem(image.layers, nodes, kept)


def _directory(path: str) -> tarfile.TarInfo:
    """A parent that no layer has an entry for: engines make it as they unpack."""
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def _members(layer: Layer) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
    with layer_members(layer) as tar:
        for info in tar:
            path = _normal(info.name)
            if path == ".." or path.startswith("../"):
                raise damaged(f"layer {layer.descriptor.digest}", f"the path {info.name!r} leads out of the image")
            yield path, info, tar


def _covered(path: str, upper: Mapping[str, Node], hidden: set[str], opaque: set[str]) -> bool:
    """Whether layers above hide a path that they do not have themselves."""
    if path in hidden or "" in opaque:
        return True
    for parent in parents(path):
        if parent in hidden or parent in opaque:
            return True
        node = upper.get(parent)
        if node is not None and not node.info.isdir():
            return True
    return False


def _normal(name: str) -> str:
    path = posixpath.normpath(name).lstrip("/")
    return "" if path == "." else path


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo, layer: Layer) -> bytes:
    where = f"layer {layer.descriptor.digest}"
    if info.size > _LARGEST_FILE:
        raise damaged(where, f"{info.name!r} has {info.size:,} bytes")
    stream = tar.extractfile(info)
    if stream is None:
        raise damaged(where, f"{info.name!r} cannot be read")
    with stream:
        return stream.read()
