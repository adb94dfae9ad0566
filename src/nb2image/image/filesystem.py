"""The merged file system of an image: layers laid over one another, read without unpacking them.

Rules of ``layer.md``: an upper path replaces a lower one, ``.wh.NAME`` hides NAME of the layers below, and
``.wh..wh..opq`` all that its directory has below.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from nb2image.image.model import Image, Layer
from nb2image.image.streams import damaged, layer_members
from nb2image.layers.entry import parents

__all__ = ["FileSystem", "Node", "Overlay", "content", "members", "normal", "read_filesystem"]

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
        return [*self._children.get(found, [])] if found is not None else []

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for path in sorted(self.nodes):
            folder, _, name = path.rpartition("/")
            names.setdefault(folder, []).append(name)
        return names

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
            found = normal(info.linkname)
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
                if normal(info.name) == path:
                    if info.isreg():
                        self._kept[number, path] = content(tar, info, self.layers[number])
                    return info
        raise damaged(f"layer {self.layers[number].descriptor.digest}", f"{path!r} is linked to and missing")


def read_filesystem(image: Image, keep: Callable[[str], bool] = lambda _: False) -> FileSystem:
    """Read all layers once, checking their digests; ``keep`` says of which regular files to keep the content.

    Raises `NotAnImage` when a layer is damaged, is no tar or has a path that leads out of the root.
    """
    overlay = Overlay()
    kept: dict[tuple[int, str], bytes] = {}
    for number in range(len(image.layers) - 1, -1, -1):
        layer = image.layers[number]
        with overlay.layer(number) as take:
            for path, info, tar in members(layer):
                if take(path, info) is None and info.isreg() and keep(path):
                    kept[number, path] = content(tar, info, layer)
    return overlay.merged(image.layers, kept)


class Overlay:
    """Layers laid over one another from the top down; ``nodes`` is what is to be seen of those so far."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._hidden: dict[str, int] = {}
        self._opaque: dict[str, int] = {}

    @contextmanager
    def layer(self, number: int) -> Iterator[Callable[[str, tarfile.TarInfo], int | None]]:
        """Lay the next lower layer; to be called with each of its members, normal path and header, in order.

        The answer is the number of the layer above that hides the member, or None.
        """
        below: dict[str, Node] = {}
        hidden: dict[str, int] = {}
        opaque: dict[str, int] = {}
        folders: dict[str, int | None] = {"": self._opaque.get("")}

        def take(path: str, info: tarfile.TarInfo) -> int | None:
            directory, _, name = path.rpartition("/")
            if name == _OPAQUE:
                opaque[directory] = number
            elif name.startswith(_WHITEOUT):
                hidden[posixpath.join(directory, name[len(_WHITEOUT) :])] = number
            elif path:
                hider = self._hider(path, folders)
                if hider is not None:
                    return hider
                below[path] = Node(number, info)
            return None

        yield take
        self.nodes.update(below)
        self._hidden = {**hidden, **self._hidden}
        self._opaque = {**opaque, **self._opaque}

    def merged(self, layers: tuple[Layer, ...], kept: dict[tuple[int, str], bytes]) -> FileSystem:
        """What all layers together come to; ``kept`` is content by layer and path."""
        nodes = dict(self.nodes)
        for path, node in self.nodes.items():
            parent = path.rpartition("/")[0]
            # Where one is there, those above it are, too, or it brings them itself.
            while parent and parent not in nodes:
                nodes[parent] = Node(node.layer, _directory(parent))
                parent = parent.rpartition("/")[0]
        return FileSystem(layers, nodes, kept)

    def _hider(self, path: str, folders: dict[str, int | None]) -> int | None:
        """The layer that hides a path; ``folders`` is what hides all below a folder, as far as it was asked for."""
        if path in self.nodes:
            return self.nodes[path].layer
        if path in self._hidden:
            return self._hidden[path]
        folder = path.rpartition("/")[0]
        if folder not in folders:
            for parent in parents(path):
                if parent not in folders:
                    above = folders[parent.rpartition("/")[0]]
                    folders[parent] = above if above is not None else self._hider_below(parent)
        return folders[folder]

    def _hider_below(self, folder: str) -> int | None:
        """The layer that hides what lower ones have in a folder, those above it aside."""
        for hiding in (self._hidden, self._opaque):
            if folder in hiding:
                return hiding[folder]
        node = self.nodes.get(folder)
        return node.layer if node is not None and not node.info.isdir() else None


def _directory(path: str) -> tarfile.TarInfo:
    """A parent that no layer has an entry for: engines make it as they unpack."""
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def members(
    layer: Layer, sized: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
    """A layer's members: normal path, header, and the tar to read the content from before the next one.

    ``sized`` as for `layer_members`. Raises `NotAnImage`.
    """
    with layer_members(layer, sized) as tar:
        for info in tar:
            path = normal(info.name)
            if path == ".." or path.startswith("../"):
                raise damaged(f"layer {layer.descriptor.digest}", f"the path {info.name!r} leads out of the image")
            yield path, info, tar


def normal(name: str) -> str:
    """A path relative to the root, without ``.``; ``..`` stays where it leads out of the root."""
    path = posixpath.normpath(name).lstrip("/")
    return "" if path == "." else path


def content(tar: tarfile.TarFile, info: tarfile.TarInfo, layer: Layer) -> bytes:
    """The content of the member that the tar stands at. Raises `NotAnImage` for one of more than 256 MiB."""
    where = f"layer {layer.descriptor.digest}"
    if info.size > _LARGEST_FILE:
        raise damaged(where, f"{info.name!r} has {info.size:,} bytes")
    stream = tar.extractfile(info)
    if stream is None:
        raise damaged(where, f"{info.name!r} cannot be read")
    with stream:
        return stream.read()
