"""dpkg's database of what is installed, which scanners of images read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from nb2image.bases.debian.archive import Deb
from nb2image.bases.debian.resolve import Stanza
from nb2image.bases.debian.tree import Tree

__all__ = ["register", "write_status"]

_FOLDER = "var/lib/dpkg"


def write_status(tree: Tree, debs: Sequence[Deb]) -> None:
    """Write ``/var/lib/dpkg``: ``status`` and, for each package, ``info/*.list``, ``.md5sums`` and ``.conffiles``.

    Only paths that are in the image are listed. Maintainer scripts are left out: nothing here could run them.
    """
    tree.directory(_FOLDER)
    stanzas = [register(tree, deb) for deb in debs]
    tree.file(f"{_FOLDER}/status", "".join(f"{text}\n\n" for text in stanzas))
    tree.file(f"{_FOLDER}/info/format", "1\n")
    tree.file(f"{_FOLDER}/available", "")
    for name in ("updates", "triggers", "alternatives", "parts"):
        tree.directory(f"{_FOLDER}/{name}")


def register(tree: Tree, deb: Deb) -> str:
    """Write the files of ``info`` for one package; gives its paragraph of ``status``."""
    stanza = Stanza("", deb.stanza)
    base = stanza.field("Package")
    # dpkg keeps packages that may be there for several architectures apart (dpkg-query(1), "--control-path").
    if stanza.field("Multi-Arch") == "same":
        base += ":" + stanza.field("Architecture")
    paths = ["/.", *(f"/{e.path}" for e in deb.entries if tree.merged(e.path) in tree)]
    tree.file(f"{_FOLDER}/info/{base}.list", "".join(f"{path}\n" for path in paths))
    if sums := deb.control.get("md5sums"):
        lines = sums.decode().splitlines(keepends=True)
        kept = [line for line in lines if tree.merged(line.split(maxsplit=1)[1].rstrip("\n")) in tree]
        tree.file(f"{_FOLDER}/info/{base}.md5sums", "".join(kept))
    if names := deb.control.get("conffiles"):
        tree.file(f"{_FOLDER}/info/{base}.conffiles", names)
    return _status(tree, deb)


def _status(tree: Tree, deb: Deb) -> str:
    first, _, rest = deb.stanza.partition("\n")
    if not first.startswith("Package:"):  # the order of fields is free (Policy 5.1)
        lines = deb.stanza.split("\n")
        first = next(line for line in lines if line.startswith("Package:"))
        rest = "\n".join(line for line in lines if line is not first)
    text = f"{first}\nStatus: install ok installed\n{rest}"
    rows = []
    for line in deb.control.get("conffiles", b"").decode().splitlines():
        data = tree.read(tree.merged(line.strip().lstrip("/")))
        if data is not None:
            rows.append(f"\n {line.strip()} {hashlib.md5(data, usedforsecurity=False).hexdigest()}")
    if rows:
        head, mark, description = text.partition("\nDescription:")
        text = f"{head}\nConffiles:{''.join(rows)}{mark}{description}"
    return text
