"""The files of a notebook repository that come along into the image."""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from nb2image.errors import UnusableRepository
from nb2image.progress import Listener, Note, Silent

__all__ = ["RepositoryFile", "repository_files", "unstorable"]

IGNORE_FILES = (".dockerignore", ".s2iignore")
_NEVER = frozenset({".git", ".ipynb_checkpoints", "__pycache__"})

_LAYOUT_FILE = "oci-layout"
_MOST_MEMBERS = 10_000
"""Headers of a tar that are looked at for the file that makes it an image."""

_Excludes = Callable[[str], bool]


class RepositoryFile(NamedTuple):
    """One file of a repository.

    ``path`` is relative to the root and ``/``-separated. ``link`` is the target of a symbolic link, relative and
    inside the repository; None for a regular file.
    """

    path: str
    file: Path
    link: str | None
    executable: bool


def repository_files(
    root: Path, listener: Listener | None = None, *, outputs: Iterable[Path] = ()
) -> Iterator[RepositoryFile]:
    """Every file below ``root`` that comes along, sorted by path; directories are implied.

    Left out: ``.git``, ``.ipynb_checkpoints``, ``__pycache__``, virtual environments (directories that hold
    ``pyvenv.cfg``), what ``.dockerignore`` or ``.s2iignore`` name, and ``outputs``, which the build itself writes.
    Images that other builds left (OCI layouts and archives of them), sockets, devices and pipes are left out with a
    `Note`. Raises `UnusableRepository`.
    """
    tell = listener if listener is not None else Silent()
    ignored, prune = _ignore_rules(root)
    own = _inside(root, outputs)
    found: list[RepositoryFile] = []
    images: list[str] = []

    def excludes(path: str) -> bool:
        return path in own or ignored(path)

    for path, entry in _walk(root, excludes, prune, own, images):
        if excludes(path):
            continue
        if path.endswith(".tar") and entry.is_file(follow_symlinks=False) and _is_image_archive(entry.path):
            images.append(path)
            continue
        _require_storable(root, path)
        file = Path(entry.path)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            found.append(RepositoryFile(path, file, _inner_target(root, path, file), False))
        elif stat.S_ISREG(mode):
            found.append(RepositoryFile(path, file, None, bool(mode & 0o111)))
        else:
            tell(Note(f"{path} is neither a file nor a link and is left out."))
    if images:
        tell(Note(f"Images that were built do not come along: {', '.join(sorted(images))}."))
    yield from sorted(found)


def _inside(root: Path, outputs: Iterable[Path]) -> frozenset[str]:
    """The paths below ``root`` of those outputs that are inside it."""
    top = Path(os.path.realpath(root))
    # A link to an output, of the name that was asked for, is one as well.
    places = [place for each in outputs for place in (each.resolve(), each.parent.resolve() / each.name)]
    return frozenset(place.relative_to(top).as_posix() for place in places if top in place.parents)


def _is_image_archive(file: str) -> bool:
    """Whether a tar holds an OCI layout, as those of this program, of skopeo and of newer Dockers do."""
    try:
        with tarfile.open(file, "r:") as tar:
            first = tar.next()
            if first is None or first.name.removeprefix("./").partition("/")[0] not in {"blobs", _LAYOUT_FILE}:
                return False
            names = (first, *(member for _, member in zip(range(_MOST_MEMBERS), tar, strict=False)))
            return any(member.name.removeprefix("./") == _LAYOUT_FILE for member in names)
    except (OSError, tarfile.TarError, ValueError):
        return False  # Whether it can be read at all shows when it is packed.


def _walk(
    root: Path, excludes: _Excludes, prune: bool, own: frozenset[str], images: list[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below ``root`` but directories, in no order. ``images`` receives the OCI layouts passed over; of
    directories only those in ``own`` are certain to hold nothing that comes along, unless ``prune``."""
    pending = [(root, "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            raise UnusableRepository(
                f"{folder} cannot be listed: {error.strerror or error}.",
                hint="Make it readable, or name it in .dockerignore.",
            ) from error
        names = {entry.name for entry in listed}
        if prefix and "pyvenv.cfg" in names:
            continue
        if prefix and {_LAYOUT_FILE, "index.json"} <= names:
            if not excludes(prefix.removesuffix("/")):
                images.append(prefix)
            continue
        for entry in listed:
            path = prefix + entry.name
            if entry.name in _NEVER:
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry
            elif path not in own and not (prune and excludes(path)):
                pending.append((Path(entry.path), path + "/"))


def _inner_target(root: Path, path: str, link: Path) -> str:
    """The target of a link in a form that still holds when the repository stands elsewhere."""
    target = link.readlink()
    top = Path(os.path.realpath(root))
    # `_walk` follows no link, so none stands in the parent's path below the root.
    parent = (top / path).parent
    final = Path(os.path.realpath(parent / target))
    if not final.is_relative_to(top):
        raise UnusableRepository(
            f"{path} is a symbolic link that leads out of {root}: {_shown(target)}.",
            hint="Replace it by what it points to, or name it in .dockerignore.",
        )
    _require_storable(root, str(target))
    lexical = Path(os.path.normpath(Path(path).parent / target))
    if target.is_absolute() or lexical.parts[:1] == ("..",):
        return os.path.relpath(final, parent)
    return str(target)


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unstorable(path: str) -> str | None:
    """Why no layer can hold a file of this name, as the end of "a name that …"; None when one can.

    ``.wh.`` marks deletions there (image specification, ``layer.md``).
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"is not UTF-8: {os.fsencode(path)!r}"
    if any(part.startswith(".wh.") for part in path.split("/")):
        return f"means a deletion in an image: {path}"
    return None


def _require_storable(root: Path, path: str) -> None:
    if reason := unstorable(path):
        raise UnusableRepository(
            f"{root} holds a name that {reason}.", hint="Rename it, or move it out of the directory."
        )


def _ignore_rules(root: Path) -> tuple[_Excludes, bool]:
    """What the ignore files exclude, and whether an excluded directory holds nothing that is wanted after all."""
    rules = [_rules_of(root / name) for name in IGNORE_FILES if (root / name).is_file()]
    if not rules:
        return lambda _: False, True
    return lambda path: any(excludes(path) for excludes, _ in rules), not any(has for _, has in rules)


def _rules_of(file: Path) -> tuple[_Excludes, bool]:
    """One ignore file as a predicate, and whether it has exceptions (``!``).

    A pattern is Docker's own (`docker.utils.build.Pattern`). That a pattern holds for everything below what it
    matches is decided here, as moby/patternmatcher does: the SDK tries only the parent with as many parts as the
    pattern, and so lets ``**/data`` miss ``a/b/data/x``.
    """
    from docker.utils.build import Pattern

    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableRepository(f"{file} cannot be read: {error}.", hint="Correct or remove it.") from error
    patterns: list[Pattern] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        pattern = Pattern("!" + text[1:].strip() if text.startswith("!") else text)
        try:
            pattern.match("")
        except re.error as error:
            raise UnusableRepository(
                f"{file}, line {number}: the pattern {text!r} means nothing: {error}.", hint="Correct the pattern."
            ) from error
        if pattern.dirs:
            patterns.append(pattern)

    def excludes(path: str) -> bool:
        candidates = [path, *_parents(path)]
        excluded = False
        for pattern in patterns:
            if pattern.exclusion == excluded and any(pattern.match(each) for each in candidates):
                excluded = not pattern.exclusion
        return excluded

    return excludes, any(pattern.exclusion for pattern in patterns)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
