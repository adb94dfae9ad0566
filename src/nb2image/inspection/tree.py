"""The files of an image as the tree that the page draws: part, package, folders, files.

A row is a list, which is shorter than an object thirty thousand times over: ``[name, size, layer, kind]`` for a file
and ``[name, children, extra]`` for everything else, followed by the rows of so many children, each with all that is
below it: nested lists would be as deep as a hostile image's folders, and JSON readers and writers are recursive.
``extra`` may have ``p``, the absolute path where it is not the parent's with the name, ``o``, the number of the owner,
and ``t``, the name of the part.
"""

from __future__ import annotations

import re
from typing import Any

from nb2image.inspection.model import File, Inspection, part_of, part_title
from nb2image.inspection.words import printable

__all__ = ["tree_rows"]

_SITE = re.compile(r"(.*?/(?:site|dist)-packages)/")
_LINKS = {"file": 0, "hardlink": 1, "symlink": 2, "special": 3}

_Folder = dict[str, Any]


def tree_rows(found: Inspection) -> list[list[Any]]:
    """All rows, the root's first; names are fit to be shown."""
    rows = []
    todo = [_tree(found)]
    while todo:
        name, value, *more = todo.pop()
        if isinstance(value, list):
            todo.extend(value)
            (extra,) = more
            if "p" in extra:
                extra["p"] = printable(extra["p"])
            rows.append([printable(name), len(value), extra])
        else:
            rows.append([printable(name), value, *more])
    return rows


def _tree(found: Inspection) -> list[Any]:
    """The root node: as a row, with the list of its children in place of their number."""
    by_owner: dict[int, list[File]] = {}
    for file in found.files:
        by_owner.setdefault(file.owner, []).append(file)
    owners: dict[str, list[int]] = {}
    for number, owner in enumerate(found.owners):
        if number in by_owner:
            owners.setdefault(part_of(owner), []).append(number)
    parts = []
    for part in found.parts:
        numbers = owners.get(part.name, [])
        title = part_title(part.name)
        extra: _Folder = {"t": part.name}
        if len(numbers) == 1 and not part.packages:
            children, path = _folders(by_owner[numbers[0]])
            extra |= {"p": path, "o": numbers[0]}
        else:
            children = [_package(found, number, by_owner[number]) for number in numbers]
            if part.name.startswith("/"):
                title = f"{title} ({part.name})"
        parts.append([title, children, extra])
    return ["image", parts, {"p": "/"}]


def _package(found: Inspection, number: int, files: list[File]) -> list[Any]:
    owner = found.owners[number]
    children, path = _folders(files)
    return [f"{owner.name} {owner.version}".strip(), children, {"p": path, "o": number}]


def _folders(files: list[File]) -> tuple[list[Any], str]:
    """Children, and the absolute path that they are relative to: the folder that most packages fill, or the one
    below which everything stands. What stands elsewhere is a child with a path of its own."""
    homes = {match[1] for file in files if (match := _SITE.match(file.path))}
    if len(homes) == 1:
        home = homes.pop()
        inside = [file for file in files if file.path.startswith(f"{home}/")]
        outside = [file for file in files if not file.path.startswith(f"{home}/")]
        children = _nodes(_trie(inside, len(home) + 1))
        elsewhere = _nodes(_trie(outside, 0))
        for node in elsewhere:
            if isinstance(node[1], list):
                node[2]["p"] = node[0] = f"/{node[0]}"
        files_elsewhere = [node for node in elsewhere if not isinstance(node[1], list)]
        folders = [node for node in elsewhere if isinstance(node[1], list)]
        if files_elsewhere:
            folders.append(["/", files_elsewhere, {"p": "/"}])
        return [*children, *folders], f"/{home}"
    children = _nodes(_trie(files, 0))
    if len(children) == 1 and isinstance(children[0][1], list):
        return children[0][1], f"/{children[0][0]}"
    return children, "/"


def _trie(files: list[File], skip: int) -> _Folder:
    root: _Folder = {}
    for file in files:
        *folders, name = file.path[skip:].split("/")
        here = root
        for folder in folders:
            here = here.setdefault(f"{folder}/", {})
        here[name] = file
    return root


def _nodes(folder: _Folder) -> list[Any]:
    """Nodes of a folder's children; a folder whose only child is a folder is one with it. Not recursive: a hostile
    image nests folders as deep as it likes."""
    result: list[Any] = []
    todo = [(folder, result)]
    while todo:
        here, out = todo.pop()
        for name, child in here.items():
            if isinstance(child, File):
                out.append([name, child.size, child.layer, _LINKS[child.kind]])
                continue
            label = [name[:-1]]
            while len(child) == 1:
                (only, below), *_ = child.items()
                if isinstance(below, File):
                    break
                label.append(only[:-1])
                child = below
            node: list[Any] = ["/".join(label), [], {}]
            out.append(node)
            todo.append((child, node[1]))
    return result
