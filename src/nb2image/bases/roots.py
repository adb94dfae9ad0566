"""Files of images, unpacked into the store as an ordinary user: whole root file systems for sandboxes, or the part of
one that a program needs."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from nb2image.cache import Store, digest_of_key
from nb2image.image.filesystem import FileSystem, Node, read_filesystem
from nb2image.image.model import Image
from nb2image.image.streams import damaged, layer_members

__all__ = ["unpack", "unpacked_root"]

_FORMAT = 1
_LATEST = 1 << 33
"""Seconds since 1970 that every file system can hold, give or take (ext4 ends in 2446)."""


def unpacked_root(image: Image, store: Store) -> Path:
    """The whole root file system of an image, unpacked once; for a read-only root of bubblewrap, say.

    Everything belongs to the user who asks, who may enter every folder and read every file; nobody else may write, and
    no file runs with another user's rights. Device nodes and pipes are left out; links are as the image has them, so
    an absolute one leads out of the folder unless it is the root. Raises `NotAnImage` or `Unwritable`.
    """

    def fill(folder: Path) -> None:
        unpack(read_filesystem(image), folder)

    return store.unpacked(f"sha256:{digest_of_key('root', _FORMAT, image.digest)}", fill)


def unpack(
    files: FileSystem,
    folder: Path,
    wanted: Callable[[str], bool] = lambda _: True,
    link: Callable[[str, str], str] = lambda _, target: target,
) -> None:
    """Write an image's directories, links and those regular files that are ``wanted`` (by path) below an empty folder.

    ``link`` gives the target of a symbolic link from its path and the target that the image states. Nothing is
    written outside of the folder, whatever links the image has. Layers are read once more. Raises `NotAnImage`, and
    `OSError` when something cannot be written.
    """
    places: dict[tuple[int, str], list[Path]] = {}
    directories: dict[str, Path] = {"": folder}

    def directory(path: str) -> Path:
        """The folder of a directory of the image: by their names alone, so that no link on the disk is followed."""
        if path not in directories:
            parent, _, name = path.rpartition("/")
            made = directory(parent) / name
            made.mkdir(mode=_mode(files.nodes[path]))
            directories[path] = made
        return directories[path]

    def place(path: str) -> Path:
        """Where a path stands: its directory may be reached by links that another layer made."""
        parent, _, name = path.rpartition("/")
        found = files.resolve(parent)
        if found is None or not files.is_directory(found):
            raise damaged(
                f"layer {files.layers[files.nodes[path].layer].descriptor.digest}", f"{path!r} is in no folder"
            )
        return directory(found) / name

    for path in sorted(files.nodes):
        node = files.nodes[path]
        if node.info.isdir():
            if files.resolve(path) == path:
                directory(path)
        elif node.info.issym():
            place(path).symlink_to(link(path, node.info.linkname))
        elif (node.info.isreg() or node.info.islnk()) and wanted(path):
            places.setdefault(_source(files, node), []).append(place(path))
    for number in sorted({number for number, _ in places}):
        _write(files, number, places)
    if places:
        (number, path), _ = places.popitem()
        raise damaged(f"layer {files.layers[number].descriptor.digest}", f"{path!r} is linked to and missing")


def _source(files: FileSystem, node: Node) -> tuple[int, str]:
    """The layer and the name of the regular file that a node is: a hard link's other name stands in its own layer,
    whatever the layers above make of it."""
    seen = set()
    while node.info.islnk():
        name = posixpath.normpath(node.info.linkname).lstrip("/")
        known = files.nodes.get(name)
        if name in seen or known is None or known.layer != node.layer or not known.info.islnk():
            return node.layer, name
        seen.add(name)
        node = known
    return node.layer, posixpath.normpath(node.info.name).lstrip("/")


def _write(files: FileSystem, number: int, places: dict[tuple[int, str], list[Path]]) -> None:
    """Write a layer's regular files to their places, which are taken out of ``places``."""
    # A name may come twice in a layer; its last entry is the one that stands.
    written: dict[str, list[Path]] = {}
    with layer_members(files.layers[number]) as tar:
        for info in tar:
            path = posixpath.normpath(info.name).lstrip("/")
            if not info.isreg() or ((number, path) not in places and path not in written):
                continue
            paths = written.setdefault(path, places.pop((number, path), []))
            for old in paths:
                old.unlink(missing_ok=True)
            _write_file(tar, info, paths[0])
            for more in paths[1:]:
                os.link(paths[0], more)


def _write_file(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    stream = tar.extractfile(info)
    if stream is None:  # only for what is no regular file
        return
    with stream, path.open("xb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
        os.fchmod(file.fileno(), info.mode & 0o755 | 0o400)
    with contextlib.suppress(OverflowError):
        os.utime(path, (0, min(max(0, info.mtime), _LATEST)))


def _mode(node: Node) -> int:
    return node.info.mode & 0o755 | 0o700
