"""Packages → the entries of a base's layer, without running anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nb2image.bases.debian import state
from nb2image.bases.debian.archive import Deb, read_deb
from nb2image.bases.debian.ldcache import write_cache
from nb2image.bases.debian.selection import is_left_out
from nb2image.bases.debian.status import write_status
from nb2image.bases.debian.tree import Tree
from nb2image.layers.entry import Entry

__all__ = ["ASSEMBLY", "assemble"]

ASSEMBLY = 1
"""Version of what is made of given packages: raised with every change, since layers are cached by it."""


def assemble(files: Sequence[tuple[str, Path]], architecture: str) -> list[Entry]:
    """The file system of these packages, (name, file) each; all of it is held in memory (100 MB).

    Equal packages give equal entries, whatever the host. Raises `BadPackage`.
    """

    def read(item: tuple[str, Path]) -> Deb:
        name, file = item
        return read_deb(file.read_bytes(), name)

    # Decompression lets go of the interpreter lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # base-files comes first so that its directories' modes hold.
        debs = list(pool.map(read, sorted(files, key=lambda item: (item[0] != "base-files", item[0]))))
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
    return list(tree)


def _drop_empty_folders(tree: Tree) -> None:
    """Documentation folders of which nothing is left; others are somebody's mount point or drop-in folder."""
    for folder in ("usr/share/doc", "usr/share/locale"):
        kept = {entry.path for entry in tree.below(folder) if entry.content is not None}
        for entry in tree.below(folder):
            if entry.content is None and not any(path.startswith(entry.path + "/") for path in kept):
                tree.remove(entry.path)
