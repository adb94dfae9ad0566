"""Packages → the entries of the layer that adds them to a base, without running anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nb2image.bases.debian.archive import Deb
from nb2image.bases.debian.ldcache import extend_cache
from nb2image.bases.debian.selection import is_left_out
from nb2image.bases.debian.status import register
from nb2image.image.filesystem import FileSystem
from nb2image.layers.entry import Entry
from nb2image.system.overlay import Overlay
from nb2image.system.scripts import apply

__all__ = ["LAYING", "lay"]

LAYING = 1
"""Version of what is made of given packages and base: raised with every change, since layers are cached by it."""

_STATUS = "var/lib/dpkg/status"


def lay(below: FileSystem, packages: Sequence[Deb], installed: Mapping[str, object], architecture: str) -> list[Entry]:
    """What must lie over a Debian base to make it one that has these packages, too; all of it is in memory.

    ``below`` was read with `nb2image.system.overlay.is_kept`, ``installed`` names what the base has. dpkg's database
    is complete; documentation but for copyright files is left out, and so it is from the database, as in bases made
    here. Raises `BadPackage` and `NotAnImage`.
    """
    debs = sorted(packages, key=lambda deb: deb.name)
    renewed = [deb.name for deb in debs if deb.name in installed]
    tree = Overlay(below, renewed)
    for deb in debs:
        for entry in deb.entries:
            # Folders of documentation stand when there is a file in them.
            if entry.content is None and re.match(r"usr/share/(doc|locale)/", entry.path):
                continue
            if not is_left_out(re.sub(r"^(bin|sbin|lib)/", r"usr/\1/", entry.path)):
                tree.add(entry, deb.name)
    apply(tree, debs)
    _register(tree, debs, architecture)
    extend_cache(tree, debs, architecture)
    tree.hide_what_was()
    tree.check()
    return list(tree)


def _register(tree: Overlay, debs: Sequence[Deb], architecture: str) -> None:
    names = {deb.name for deb in debs}
    kept = []
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", tree.text(_STATUS).strip("\n")):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"(Package|Architecture): ", line)
        )
        same = fields.get("Architecture", "all") in {architecture, "all"}
        if not (same and fields.get("Package") in names):
            kept.append(paragraph)
    kept += [register(tree, deb) for deb in debs]
    tree.file(_STATUS, "".join(f"{paragraph}\n\n" for paragraph in kept if paragraph))
