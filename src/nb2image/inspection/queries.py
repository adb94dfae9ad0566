"""Questions to an inspection: who brought this path, and which package is meant."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from nb2image.errors import NotInImage
from nb2image.inspection.model import File, Hidden, Inspection, Tally
from nb2image.inspection.words import printable, utf8

__all__ = ["Ownership", "find_packages", "ownership"]

_MOST_LINKS = 40


@dataclass(frozen=True)
class Ownership:
    """Who brought ``path``. ``place`` is where it leads once the links of its folders are followed; ``file`` what
    stands there, None for a folder; ``owners`` are those of the file or of all files below, the largest first;
    ``hidden`` are files of this path, or below it, that later layers replaced or deleted."""

    path: str
    place: str
    file: File | None
    owners: tuple[tuple[int, Tally], ...]
    hidden: tuple[Hidden, ...]


def find_packages(found: Inspection, name: str) -> tuple[int, ...]:
    """The packages of a name, which several environments may have. Raises `NotInImage`."""
    wanted = canonicalize_name(name)
    numbers = tuple(n for n in found.packages if canonicalize_name(found.owners[n].name) == wanted)
    if numbers:
        return numbers
    near = sorted({found.owners[n].name for n in found.packages if wanted and wanted in found.owners[n].name})
    raise NotInImage(
        f"{found.provenance.reference} has no package {name!r}.",
        hint="These have the word in their names:" if near else "Without --package all packages are listed.",
        details=tuple(map(printable, near[:20])),
    )


def ownership(found: Inspection, path: str) -> Ownership:
    """Who brought a path (absolute, or relative to the root). Raises `NotInImage`."""
    plain = posixpath.normpath(posixpath.join("/", utf8(path))).lstrip("/")
    place = _followed(found, plain)
    below = f"{place}/" if place else ""
    files = [f for f in found.files if f.path == place] or [f for f in found.files if f.path.startswith(below)]
    hidden = tuple(f for f in found.hidden if f.path == place or f.path.startswith(below))
    if not files and not hidden:
        raise NotInImage(
            f"{found.provenance.reference} has no file /{plain}.",
            hint="Give the path as it is in a container; --files lists all of them.",
        )
    tallies: dict[int, Tally] = {}
    for file in files:
        tallies[file.owner] = tallies.get(file.owner, Tally()).plus(file)
    rows = sorted(tallies.items(), key=lambda row: (-row[1].size, -row[1].files, row[0]))
    file_there = files[0] if files and files[0].path == place else None
    return Ownership(path, place, file_there, tuple(rows), hidden)


def _followed(found: Inspection, path: str) -> str:
    """A path with the links of its folders followed; the link at its end is kept, since it is a file, too."""
    links = {file.path: file.target for file in found.files if file.kind == "symlink"}
    todo = path.split("/")[::-1]
    done: list[str] = []
    followed = 0
    while todo:
        part = todo.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            del done[-1:]
            continue
        here = "/".join([*done, part])
        target = links.get(here)
        if target is None or not todo or followed == _MOST_LINKS:
            done.append(part)
            continue
        followed += 1
        if target.startswith("/"):
            done.clear()
        todo.extend(target.split("/")[::-1])
    return "/".join(done)
