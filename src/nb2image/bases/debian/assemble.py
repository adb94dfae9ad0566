"""Packages → the entries of a base's layer, without running anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nb2image.bases.debian import state
from nb2image.bases.debian.archive import Deb, read_deb
from nb2image.bases.debian.ldcache import write_cache
from nb2image.bases.debian.selection import is_left_out
from nb2image.bases.debian.status import write_status
from nb2image.bases.debian.tree import Tree
from nb2image.layers.entry import Entry
from nb2image.parallel import in_parallel

__all__ = ["ASSEMBLY", "assemble", "assemble_beyond"]

ASSEMBLY = 1
"""Version of what is made of given packages: raised with every change, since layers are cached by it."""


Files = Sequence[tuple[str, Path]]
"""(name, file) of packages."""


def assemble(files: Files, architecture: str) -> list[Entry]:
    """The file system of these packages; all of it is held in memory (100 MB).

    Equal packages give equal entries, whatever the host. Raises `BadPackage`.
    """
    return list(_tree(_read(files), architecture))


def assemble_beyond(base: Files, files: Files, architecture: str) -> list[Entry]:
    """What must lie over the file system of the packages ``base`` to make it that of all these packages; in memory
    is all of it (500 MB for a compiler).

    Assembling adds paths and changes them (dpkg's database, the loader's cache), and never takes one away.
    """
    below = _read(base)
    before = {entry.path: entry for entry in _tree(below, architecture)}
    return [entry for entry in _tree([*below, *_read(files)], architecture) if before.get(entry.path) != entry]


def _read(files: Files) -> list[Deb]:
    def read(item: tuple[str, Path]) -> Deb:
        name, file = item
        return read_deb(file.read_bytes(), name)

    # Decompression lets go of the interpreter lock. Nothing need stop it: whoever is interrupted does not wait for it.
    with in_parallel(read, files, workers=min(8, os.cpu_count() or 1), stop=lambda: None) as done:
        found = dict(done)
    return [found[item] for item in files]


def _tree(packages: Sequence[Deb], architecture: str) -> Tree:
    # base-files comes first so that its directories' modes hold.
    debs = sorted(packages, key=lambda deb: (deb.name != "base-files", deb.name))
    tree = Tree()
    for deb in debs:
        for entry in deb.entries:
            if not is_left_out(tree.merged(entry.path)):
                tree.add(entry, deb.name)
    _drop_empty_folders(tree)
    tree.close_merge()
    state.apply(tree)
    write_status(tree, sorted(debs, key=lambda deb: deb.name))
    write_cache(tree, debs, architecture)
    tree.check()
    return tree


def _drop_empty_folders(tree: Tree) -> None:
    """Documentation folders of which nothing is left; others are somebody's mount point or drop-in folder."""
    for folder in ("usr/share/doc", "usr/share/locale"):
        kept = {entry.path for entry in tree.below(folder) if entry.content is not None}
        for entry in tree.below(folder):
            if entry.content is None and not any(path.startswith(entry.path + "/") for path in kept):
                tree.remove(entry.path)
