"""`read_lock`: the lock that holds for a notebook, whatever its format.

Precedence. What stands in the notebook goes before what stands beside it, since it travels with the notebook; beside
it, the notebook's own directory goes before the directories above it, up to the root of the repository. In one
place the formats rank as in `FORMATS`:

1. PEP 751: ``metadata["pylock.toml"]``; ``pylock.<stem>.toml``, ``pylock.toml``
2. uv script lock: ``metadata["uv.lock"]``, as juv writes it; ``<stem>.py.lock``
3. Thoth: ``metadata.requirements_lock``, ``requirements_locked``, ``requirement_lock``
4. ``Pipfile.lock``
5. ``poetry.lock``
6. ``requirements.txt``, if it has hashes

The first that is there counts, even when it turns out to be broken: to go on with another lock would build another
environment than the one that was meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from packaging.pylock import Package

from nb2image.errors import EmptyLock, LockedTwice, NoLock, UnhashedPackage, UnsupportedSource
from nb2image.lock.model import STRONG_HASHES, Lock, hashes_of
from nb2image.notebook.document import Notebook
from nb2image.notebook.locks.pipfile import PIPFILE
from nb2image.notebook.locks.place import Format, Place, is_file
from nb2image.notebook.locks.poetry import POETRY
from nb2image.notebook.locks.pylock import PYLOCK
from nb2image.notebook.locks.requirements import REQUIREMENTS
from nb2image.notebook.locks.thoth import THOTH
from nb2image.notebook.locks.uv import UV_SCRIPT
from nb2image.notebook.locks.values import broken, one_hash

__all__ = ["FORMATS", "read_lock"]

FORMATS: tuple[Format, ...] = (PYLOCK, UV_SCRIPT, THOTH, PIPFILE, POETRY, REQUIREMENTS)
"""In order of precedence."""

_ADVICE = (
    "List the packages that it imports in requirements.in and lock them beside it: "
    "`uv pip compile --python-version 3.11 --python-platform linux requirements.in -o pylock.toml`; "
    "or embed a lock with `juv lock` or, in JupyterLab, jupyterlab-requirements."
)


def read_lock(notebook: Notebook) -> Lock:
    """The lock of a notebook, complete and checked.

    Raises `NoLock`, `EmptyLock`, `BrokenLock`, `LockedTwice`, `UnhashedPackage`, `UnsupportedSource`.
    """
    places = _places(notebook)
    first = next(places, None)
    if first is None:
        raise _no_lock(notebook)
    form, place = first
    try:
        lock = form.read(place)
    except RecursionError:  # Whatever nests deeper than it can be compared, printed or dumped again.
        raise broken(place.where, "it is nested too deeply") from None
    _check(lock, place.where)
    others = tuple(
        f"{other.source} is there as well and is not used: {place.source} goes first." for _, other in places
    )
    return replace(lock, notes=(*lock.notes, *others))


def _places(notebook: Notebook) -> Iterator[tuple[Format, Place]]:
    """Every lock that could be meant, the one that counts first."""
    for form in FORMATS:
        for key in form.keys:
            # Null and the empty string are how some editors write "absent".
            if notebook.metadata.get(key) not in (None, ""):
                place = Place(notebook, f"metadata.{key}" if key.isidentifier() else f'metadata["{key}"]', key=key)
                if form.holds(place):
                    yield form, place
                    break
    for folder in _folders(notebook):
        for form in FORMATS:
            for pattern in form.files:
                file = folder / pattern.format(stem=notebook.file.stem)
                if is_file(file):
                    place = Place(notebook, _relative(file, notebook), file=file)
                    if form.holds(place):
                        yield form, place
                        break


def _folders(notebook: Notebook) -> Iterator[Path]:
    """The notebook's directory, and in a repository those above it up to the root."""
    folder = notebook.file.parent
    yield folder
    if notebook.root is not None:
        while folder != notebook.root and folder.is_relative_to(notebook.root):
            folder = folder.parent
            yield folder


def _relative(file: Path, notebook: Notebook) -> str:
    return file.relative_to(notebook.root).as_posix() if notebook.root is not None else file.name


def _no_lock(notebook: Notebook) -> NoLock | UnsupportedSource:
    for folder in _folders(notebook):
        if is_file(folder / "uv.lock"):
            return UnsupportedSource(
                f"{_relative(folder / 'uv.lock', notebook)} locks a whole project, "
                "of which any extras and groups may be meant.",
                hint="Say which with `uv export --format pylock.toml -o pylock.toml` in that directory.",
            )
        if is_file(folder / "requirements.txt"):
            return NoLock(
                f"{notebook.name} has no lock: {_relative(folder / 'requirements.txt', notebook)} has no hashes.",
                hint="Lock it with `uv pip compile --format pylock.toml requirements.txt -o pylock.toml`, "
                "or with `--generate-hashes`.",
            )
    return NoLock(f"{notebook.name} has no lock, neither in its metadata nor beside it.", hint=_ADVICE)


# -- what holds for every format ------------------------------------------------------------------


def _check(lock: Lock, where: str) -> None:
    if not lock.packages:
        raise EmptyLock(
            f"{where}: the lock lists no package.", hint="Add the packages that the notebook imports and lock it again."
        )
    unhashed = [package.name for package in lock.packages if not _is_hashed(package, where)]
    if unhashed:
        raise UnhashedPackage(
            f"{where}: no hash of sha256 or stronger for {', '.join(unhashed)}.",
            hint="Lock the notebook again with hashes (`--generate-hashes` of uv and pip-compile).",
        )
    _refuse_doubles(lock, where)


def _is_hashed(package: Package, where: str) -> bool:
    for file in (*(package.wheels or ()), package.sdist, package.archive):
        if file is None:
            continue
        for algorithm, value in file.hashes.items():
            one_hash(f"{algorithm}:{value}", f"{where}: {package.name}")
        if not any(algorithm in STRONG_HASHES for algorithm in file.hashes):
            return False
    return bool(hashes_of(package))


def _refuse_doubles(lock: Lock, where: str) -> None:
    """Entries of one name need markers that tell them apart; whether they do, only a target can say in full."""
    entries: defaultdict[str, list[Package]] = defaultdict(list)
    for package in lock.packages:
        entries[package.name].append(package)
    for name, found in entries.items():
        markers = [str(package.marker) for package in found if package.marker is not None]
        if len(found) > 1 and (len(markers) < len(found) or len(set(markers)) < len(markers)):
            versions = " and ".join(str(package.version) for package in found)
            raise LockedTwice(
                f"{where}: {name} is locked more than once for the same target ({versions}).",
                hint="Remove one of them, or lock the notebook again.",
            )
