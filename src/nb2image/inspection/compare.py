"""`Difference`: what two images have that is not the same, as a value.

"Before" is the first image and "after" the second. Sizes are in bytes, paths relative to the root.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

from packaging.utils import canonicalize_version

from nb2image.image.model import Image
from nb2image.inspection.inspect import inspect
from nb2image.inspection.model import File, Inspection, LayerFacts, Owner, OwnerKind, Provenance
from nb2image.inspection.words import utf8
from nb2image.progress import Listener

__all__ = [
    "Change",
    "Changed",
    "Difference",
    "FileChange",
    "OwnerChange",
    "PackageChange",
    "Setting",
    "compare",
    "difference",
]

Change: TypeAlias = Literal["added", "removed", "changed"]


class PackageChange(NamedTuple):
    """A package of one environment, or of the base's distribution; a version is None where the image lacks it."""

    kind: OwnerKind
    place: str
    name: str
    before: str | None
    after: str | None

    @property
    def change(self) -> Change:
        return _change(self.before, self.after)


class Setting(NamedTuple):
    """A member of the configuration, ``env PATH`` or ``user``, as text; None where the image lacks it."""

    name: str
    before: str | None
    after: str | None


class FileChange(NamedTuple):
    """A path that is no directory; None where the image lacks it. ``owner`` is that of the second image, where it
    has the file."""

    path: str
    before: File | None
    after: File | None
    owner: Owner

    @property
    def change(self) -> Change:
        return _change(self.before, self.after)


class Changed(NamedTuple):
    """How many files were added, removed and changed, and the bytes of all these before and after."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    before: int = 0
    after: int = 0

    def plus(self, file: FileChange) -> Changed:
        kind = file.change
        return Changed(
            self.added + (kind == "added"),
            self.removed + (kind == "removed"),
            self.changed + (kind == "changed"),
            self.before + (file.before.size if file.before else 0),
            self.after + (file.after.size if file.after else 0),
        )


class OwnerChange(NamedTuple):
    """The changed files of one owner, the versions of a package taken together; ``owner`` has no version."""

    owner: Owner
    tally: Changed


def _change(before: object, after: object) -> Change:
    return "added" if before is None else "removed" if after is None else "changed"


@dataclass(frozen=True)
class Difference:
    """``shared`` are layers of both, by diff ID, as the first has them; ``gone`` and ``new`` those of one alone.
    ``locked`` are packages of the embedded locks, whose version or file differs: the file's name and hash."""

    before: Inspection
    after: Inspection
    packages: tuple[PackageChange, ...]
    base: tuple[Setting, ...]
    locked: tuple[PackageChange, ...]
    settings: tuple[Setting, ...]
    files: tuple[FileChange, ...] = field(repr=False)
    shared: tuple[LayerFacts, ...]
    gone: tuple[LayerFacts, ...]
    new: tuple[LayerFacts, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs; how layers are compressed may."""
        return not (
            self.packages or self.base or self.locked or self.settings or self.files or self.gone or self.new
        ) and [layer.diff_id for layer in self.before.layers] == [layer.diff_id for layer in self.after.layers]

    @cached_property
    def tally(self) -> Changed:
        return _tally(self.files)

    @cached_property
    def owners(self) -> tuple[OwnerChange, ...]:
        """Files by who brought them, what changed most first."""
        found: dict[Owner, list[FileChange]] = {}
        for file in self.files:
            found.setdefault(file.owner._replace(version=""), []).append(file)
        rows = [OwnerChange(owner, _tally(files)) for owner, files in found.items()]
        return tuple(sorted(rows, key=lambda row: (-max(row.tally.before, row.tally.after), row.owner)))


def _tally(files: Iterable[FileChange]) -> Changed:
    found = Changed()
    for file in files:
        found = found.plus(file)
    return found


def difference(before: tuple[Image, Provenance], after: tuple[Image, Provenance], listener: Listener) -> Difference:
    """Read two images and say what differs. Raises `NotAnImage` when a layer is damaged."""
    known, kept = ({layer.diff_id for layer in image.layers} for image, _ in (before, after))
    hashed = known ^ kept
    while True:
        old, new = (inspect(*each, listener, hashed=hashed.__contains__) for each in (before, after))
        # A layer of both may hold a file that one of them has from another layer.
        lacking = {each for pair in _pairs(old, new) for each in _unhashed(*pair)} - hashed
        if not lacking:
            return compare(old, new)
        hashed |= lacking


def _pairs(old: Inspection, new: Inspection) -> Iterable[tuple[tuple[File, str], tuple[File, str]]]:
    """Files of one path in both, of different layers, each with its layer's diff ID."""
    there = {file.path: file for file in new.files}
    for file in old.files:
        other = there.get(file.path)
        if other is not None:
            one, two = old.layers[file.layer].diff_id, new.layers[other.layer].diff_id
            if one != two:
                yield (file, one), (other, two)


def _unhashed(one: tuple[File, str], other: tuple[File, str]) -> Iterable[str]:
    if "symlink" not in {one[0].kind, other[0].kind} and "special" not in {one[0].kind, other[0].kind}:
        yield from (layer for file, layer in (one, other) if not file.digest)


def compare(before: Inspection, after: Inspection) -> Difference:
    """What differs between images whose files were hashed wherever their layers are not the same."""
    known = {layer.diff_id for layer in before.layers}
    kept = {layer.diff_id for layer in after.layers}
    return Difference(
        before,
        after,
        tuple(_packages(before, after)),
        tuple(_settings(_base(before), _base(after))),
        tuple(_locked(before, after)),
        tuple(_settings(_configuration(before), _configuration(after))),
        tuple(_files(before, after)),
        tuple(layer for layer in before.layers if layer.diff_id in kept),
        tuple(layer for layer in before.layers if layer.diff_id not in kept),
        tuple(layer for layer in after.layers if layer.diff_id not in known),
    )


def _packages(before: Inspection, after: Inspection) -> Iterable[PackageChange]:
    old, new = _versions(before), _versions(after)
    for key in sorted(old.keys() | new.keys()):
        versions = old.get(key), new.get(key)
        if _comparable(versions[0]) != _comparable(versions[1]):
            yield PackageChange(*key, *(None if each is None else ", ".join(each) for each in versions))


def _versions(found: Inspection) -> dict[tuple[OwnerKind, str, str], list[str]]:
    """Versions by kind, environment and name: an environment of other tools may hold two of one name."""
    versions: dict[tuple[OwnerKind, str, str], list[str]] = {}
    for number in found.packages:
        owner = found.owners[number]
        versions.setdefault((owner.kind, owner.place, owner.name), []).append(owner.version)
    return {key: sorted(each) for key, each in versions.items()}


def _comparable(versions: list[str] | None) -> list[str] | None:
    """1.0 is 1.0.0 (PEP 440); versions of Debian are what they are, and this leaves them so."""
    return None if versions is None else [canonicalize_version(each) for each in versions]


def _base(found: Inspection) -> dict[str, str]:
    values = {"name": found.base_name, "digest": found.base_digest, "system": found.system}
    return {name: value for name, value in values.items() if value}


def _locked(before: Inspection, after: Inspection) -> Iterable[PackageChange]:
    old, new = (
        {row.name: row for row in found.lock.packages} if found.lock is not None else {} for found in (before, after)
    )
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one != other:
            texts = [f"{row.version} ({row.file})" if row is not None else None for row in (one, other)]
            yield PackageChange("wheel", "lock", name, *texts)


def _configuration(found: Inspection) -> dict[str, str]:
    """Everything of the configuration by name, as text."""
    values = {"platform": str(found.platform), "created": found.created}
    for name, value in found.execution.items():
        if name == "Env" and isinstance(value, list):
            for pair in value:
                variable, _, text = str(pair).partition("=")
                values[f"env {variable}"] = text
        elif name == "Labels" and isinstance(value, Mapping):
            values |= {f"label {label}": str(text) for label, text in value.items()}
        elif name == "ExposedPorts" and isinstance(value, Mapping):
            values["ports"] = ", ".join(sorted(map(str, value)))
        else:
            values[_NAMES.get(name, name)] = value if isinstance(value, str) else _text(value)
    return {utf8(name): utf8(value) for name, value in values.items() if value}


_NAMES = {"User": "user", "WorkingDir": "working folder", "Entrypoint": "entry point", "Cmd": "command"}


def _text(value: Any) -> str:
    return "" if value in (None, [], {}) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _settings(old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[Setting]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield Setting(name, old.get(name), new.get(name))


def _files(before: Inspection, after: Inspection) -> Iterable[FileChange]:
    old = {file.path: file for file in before.files}
    new = {file.path: file for file in after.files}
    for path in sorted(old.keys() | new.keys()):
        one, other = old.get(path), new.get(path)
        if one is not None and other is not None and _same(before, one, after, other):
            continue
        owner = (
            after.owners[other.owner] if other is not None else before.owners[one.owner] if one is not None else None
        )
        assert owner is not None
        yield FileChange(path, one, other, owner)


def _same(before: Inspection, one: File, after: Inspection, other: File) -> bool:
    if before.layers[one.layer].diff_id == after.layers[other.layer].diff_id:
        return True
    # Which name of a file is the link is a matter of how a layer was written, where both are hashed.
    alike = one.mode == other.mode and one.digest == other.digest
    if one.digest and other.digest:
        return alike
    return alike and (one.kind, one.target, one.size) == (other.kind, other.target, other.size)
