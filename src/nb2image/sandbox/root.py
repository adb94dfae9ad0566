"""An image's whole file system, unpacked into the store as the read-only root of sandboxes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nb2image.cache import Store, digest_of_key
from nb2image.errors import Unwritable
from nb2image.image.filesystem import FileSystem, Node, read_filesystem
from nb2image.image.model import Image
from nb2image.image.streams import layer_members
from nb2image.sandbox.model import FOLDER

__all__ = ["guarded", "unpacked_root"]

_LAYOUT = 1
"""Version of what is unpacked how; raised with every change."""
_POINTS = ("dev", "proc", "tmp", FOLDER.strip("/"))
"""Folders that must exist to be mounted over."""


@contextmanager
def guarded(store: Store) -> Iterator[None]:
    """Whatever cannot be written inside is the store's: raises `Unwritable`."""
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"The cache at {store.root} cannot be written: {error.strerror or error}.",
            hint="Free some space or set NB2IMAGE_CACHE_DIR to a folder that you may read and write.",
        ) from error


def unpacked_root(image: Image, store: Store) -> Path:
    """The folder that holds the image's files; made once for an image.

    Owners and special files are left out, as whoever runs this may be an ordinary user and the root is read only.
    Raises `NotAnImage` for a damaged image, `Unwritable` when the store is full.
    """
    root = store.root_of("sha256:" + digest_of_key("sandbox", _LAYOUT, image.digest))
    if root.is_dir():
        return root
    scratch = store.scratch()
    try:
        with guarded(store):
            _unpack(image, scratch)
            root.parent.mkdir(parents=True, exist_ok=True)
            try:
                scratch.rename(root)
            except OSError:
                if not root.is_dir():  # another build was quicker
                    raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _unpack(image: Image, folder: Path) -> None:
    """Folders, then files, then symbolic links: no file is ever written through a link."""
    files = read_filesystem(image)
    folder.chmod(0o755)
    for path in sorted(files.nodes):
        if files.nodes[path].info.isdir():
            made = folder / path
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(0o755)
    links: list[tuple[str, Node]] = []
    for number in range(len(image.layers)):
        links += _write_layer(files, number, folder)
    for path, node in links:
        _link(files, path, node, folder)
    for path, node in files.nodes.items():
        place = _place(files, path, folder) if node.info.issym() else None
        if place is not None:
            place.symlink_to(node.info.linkname)
    for name in _POINTS:
        if not (folder / name).is_symlink():
            (folder / name).mkdir(exist_ok=True)


def _place(files: FileSystem, path: str, folder: Path) -> Path | None:
    """Where a path stands once the links of its folder are followed inside the image."""
    parent, _, name = path.rpartition("/")
    resolved = files.resolve(parent)
    if resolved is None or not files.is_directory(resolved):
        return None
    place = folder / resolved / name
    if os.path.lexists(place):
        return None
    return place


def _write_layer(files: FileSystem, number: int, folder: Path) -> Iterator[tuple[str, Node]]:
    """Write those regular files of a layer that no other layer hides; gives the hard links."""
    own = {path: node for path, node in files.nodes.items() if node.layer == number}
    by_offset = {node.info.offset: path for path, node in own.items() if node.info.isreg()}
    with layer_members(files.layers[number]) as tar:
        for info in tar:
            path = by_offset.get(info.offset)
            place = _place(files, path, folder) if path is not None else None
            stream = tar.extractfile(info) if place is not None else None
            if place is not None and stream is not None:
                with place.open("wb") as written:
                    shutil.copyfileobj(stream, written, 1 << 20)
                place.chmod(0o755 if info.mode & 0o111 else 0o644)
    yield from ((path, node) for path, node in own.items() if node.info.islnk())


def _link(files: FileSystem, path: str, node: Node, folder: Path) -> None:
    place = _place(files, path, folder)
    data = files.read(path) if place is not None else None
    if place is not None and data is not None:
        place.write_bytes(data)
        place.chmod(0o755 if node.info.mode & 0o111 else 0o644)
