"""Files of images, unpacked into the store as an ordinary user: whole root file systems for sandboxes, or the part of
one that a program needs."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nb2image.cache import Store, digest_of_key
from nb2image.errors import NotAnImage
from nb2image.image.filesystem import FileSystem, Node, read_filesystem
from nb2image.image.model import Image
from nb2image.image.streams import damaged, layer_members
from nb2image.layers.entry import parents

__all__ = ["unpack", "unpacked_root"]

_FORMAT = 2
_LATEST = 1 << 33
"""Seconds since 1970 that every file system can hold, give or take (ext4 ends in 2446)."""


def unpacked_root(image: Image, store: Store, *, points: tuple[str, ...] = ()) -> Path:
    """The whole root file system of an image, unpacked once; for a read-only root of bubblewrap, say.

    Everything belongs to the user who asks, who may enter every folder and read every file; nobody else may write, and
    no file runs with another user's rights. Device nodes and pipes are left out; links are as the image has them, so
    an absolute one leads out of the folder unless it is the root. ``points`` (relative to the root) are folders that
    must be there to be mounted over. Raises `NotAnImage` or `Unwritable`.
    """

    def fill(folder: Path) -> None:
        unpack(read_filesystem(image), folder, points=points)
        # Where root unpacks, nobody runs.
        folder.chmod(0o755)

    return store.unpacked(f"sha256:{digest_of_key('root', _FORMAT, points, image.digest)}", fill)


def unpack(
    files: FileSystem,
    folder: Path,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    link: Callable[[str, str], str] = lambda _, target: target,
    points: tuple[str, ...] = (),
) -> None:
    """Write an image's directories, links and those regular files that are ``wanted`` (by path) below an empty folder.

    ``link`` gives the target of a symbolic link from its path and the target that the image states; ``points`` are
    made besides where they are not there. Nothing is written outside of the folder, whatever links the image has.
    Layers are read once more. Raises `NotAnImage`, and `OSError` when something cannot be written.
    """
    nodes = _placed(files, points)
    for path in sorted(path for path, node in nodes.items() if node.info.isdir()):
        (folder / path).mkdir(mode=nodes[path].info.mode & 0o755 | 0o700)
    places: dict[tuple[int, str], list[Path]] = {}
    for path, node in nodes.items():
        if (node.info.isreg() or node.info.islnk()) and wanted(path):
            places.setdefault(_source(files, node), []).append(folder / path)
    for number in sorted({number for number, _ in places}):
        _write(files, number, places)
    if places:
        (number, path), _ = places.popitem()
        raise _broken(files, number, f"{path!r} is linked to and missing")
    # Last, so that nothing is written through one.
    for path, node in nodes.items():
        if node.info.issym():
            (folder / path).symlink_to(link(path, node.info.linkname))


def _placed(files: FileSystem, points: tuple[str, ...]) -> dict[str, Node]:
    """What stands where, with directories only above: a path may run through the links of another layer."""
    nodes: dict[str, Node] = {}
    displaced = []
    for path in sorted(files.nodes):
        parent = path.rpartition("/")[0]
        if not parent or (parent in nodes and nodes[parent].info.isdir()):
            nodes[path] = files.nodes[path]
        else:
            displaced.append(path)
    placed = replace(files, nodes=nodes)
    for path in displaced:
        parent, _, name = path.rpartition("/")
        found = placed.resolve(parent)
        if found is None or not placed.is_directory(found):
            raise _broken(files, files.nodes[path].layer, f"{path!r} is in no folder")
        nodes.setdefault(f"{found}/{name}".lstrip("/"), files.nodes[path])
    for point in points:
        for path in (*parents(point), point):
            if not nodes.setdefault(path, Node(0, _directory(path))).info.isdir():
                raise _broken(files, nodes[path].layer, f"{path!r} is no folder")
    return nodes


def _directory(path: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def _broken(files: FileSystem, number: int, what: str) -> NotAnImage:
    return damaged(f"layer {files.layers[number].descriptor.digest}", what)


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
