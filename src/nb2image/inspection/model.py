"""`Inspection`: what is in an image, as a value.

Sizes are in bytes; paths are relative to the root, in UTF-8 (other bytes as ``\\xNN``); layers are counted from the
bottom, from 0. Names of packages and files are an image's own words: whoever shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

from nb2image.target.model import Platform

__all__ = [
    "File",
    "Hidden",
    "Inspection",
    "LayerFacts",
    "LockFacts",
    "LockedPackage",
    "Owner",
    "OwnerKind",
    "Part",
    "Provenance",
    "Tally",
    "part_of",
    "part_title",
]

OwnerKind: TypeAlias = Literal["wheel", "debian", "nb2image", "notebook", "base", "nobody"]
FileKind: TypeAlias = Literal["file", "symlink", "hardlink", "special"]

_BIGGEST = 5
"""Files that are named of each package."""


class Owner(NamedTuple):
    """Who brought a file.

    ``wheel``
        an installed Python package: the RECORD of its ``*.dist-info`` names the file, or its source, of which the
        file is the bytecode. ``place`` is the environment: ``/opt/kernel``.
    ``debian``
        a Debian package, by dpkg's lists. ``place`` is empty.
    ``nb2image``
        launchers, configuration and the shells of the environments.
    ``notebook``
        the notebook and the files that came along.
    ``base``
        the base image, and none of its packages.
    ``nobody``
        nothing in the image says so.
    """

    kind: OwnerKind
    name: str
    version: str = ""
    place: str = ""


class File(NamedTuple):
    """A path that is no directory. ``size`` is that of the content, 0 for links; ``owner`` indexes
    `Inspection.owners`; ``target`` is where a link leads; ``digest`` the sha256 in hex, where it was asked for."""

    path: str
    size: int
    layer: int
    owner: int
    kind: FileKind = "file"
    target: str = ""
    mode: int = 0
    digest: str = ""

    @property
    def bytecode(self) -> bool:
        return self.path.endswith(".pyc")


class Hidden(NamedTuple):
    """A file of ``layer`` that the layer ``by`` replaces or deletes: its bytes are in the image for nothing."""

    path: str
    size: int
    layer: int
    by: int


@dataclass(frozen=True)
class LayerFacts:
    """``size`` as stored, ``raw`` of the uncompressed tar, ``content`` of the files in it; ``files`` counts what is no
    directory. ``role``: who brought the layer (``base``, ``runtime``, ``runner``, ``kernel``, ``support``,
    ``bytecode``, ``lock``, ``notebook``), or ``""``; ``comment`` from the image's history."""

    digest: str
    diff_id: str
    media_type: str
    size: int
    raw: int
    files: int
    content: int
    role: str
    comment: str
    hidden: int
    """Bytes of its files that layers above hide."""


class Tally(NamedTuple):
    """Files and bytes; ``bytecode`` is the part of the bytes that is ``.pyc``."""

    files: int = 0
    size: int = 0
    bytecode: int = 0

    def plus(self, file: File) -> Tally:
        return Tally(self.files + 1, self.size + file.size, self.bytecode + (file.size if file.bytecode else 0))


@dataclass(frozen=True)
class Part:
    """A part of the image: an environment, Debian's packages, the notebook, …; ``packages``: how many."""

    name: str
    title: str
    packages: int
    tally: Tally


class LockedPackage(NamedTuple):
    """A package of the embedded lock; ``hashes`` by algorithm."""

    name: str
    version: str
    file: str
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class LockFacts:
    """The lock that an image carries.

    ``source`` and ``digest`` are those of the notebook's lock, from the image's labels. ``missing`` and ``foreign``
    (``name version``) are packages of the lock that the kernel's environment lacks, and the other way round;
    ``problem`` says why the lock cannot be read.
    """

    path: str
    source: str
    digest: str
    packages: tuple[LockedPackage, ...] = ()
    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    problem: str = ""

    @property
    def exact(self) -> bool:
        return not (self.problem or self.missing or self.foreign)


@dataclass(frozen=True)
class Provenance:
    """How an image was found. ``digest`` is that of its manifest and ``id`` that of its config, where they are known;
    ``run`` the command line that runs it."""

    reference: str
    names: tuple[str, ...] = ()
    digest: str | None = None
    id: str | None = None
    run: str = ""


@dataclass(frozen=True)
class Inspection:
    """``base_layers``: how many layers are the base's, None where nothing says so; ``system`` from ``os-release``;
    ``mode``, ``notebook``, ``python`` and ``version`` (nb2image's own) from labels, empty for other images."""

    provenance: Provenance
    platform: Platform
    created: str
    title: str
    labels: Mapping[str, str]
    user: str
    entrypoint: tuple[str, ...]
    system: str
    version: str
    mode: str
    notebook: str
    python: str
    base_name: str
    base_digest: str
    base_layers: int | None
    lock: LockFacts | None
    layers: tuple[LayerFacts, ...]
    owners: tuple[Owner, ...]
    files: tuple[File, ...] = field(repr=False)
    """Sorted by path."""
    hidden: tuple[Hidden, ...] = field(repr=False)
    execution: Mapping[str, Any] = field(repr=False, default_factory=dict)
    """The config's own ``config`` member (``config.md``)."""

    @property
    def ours(self) -> bool:
        """Whether nb2image built it."""
        return bool(self.version)

    @property
    def size(self) -> int:
        """Of the layers as stored."""
        return sum(layer.size for layer in self.layers)

    @cached_property
    def total(self) -> Tally:
        """Of the files that a container sees."""
        return _tally(self.files)

    @cached_property
    def tallies(self) -> tuple[Tally, ...]:
        """By owner, in the order of ``owners``."""
        found = [Tally()] * len(self.owners)
        for file in self.files:
            found[file.owner] = found[file.owner].plus(file)
        return tuple(found)

    @cached_property
    def details(self) -> tuple[tuple[tuple[int, ...], tuple[File, ...]], ...]:
        """By owner: the layers that its files stand in, and its largest files."""
        layers: list[set[int]] = [set() for _ in self.owners]
        biggest: list[list[File]] = [[] for _ in self.owners]
        for file in sorted(self.files, key=lambda file: (-file.size, file.path)):
            layers[file.owner].add(file.layer)
            if len(biggest[file.owner]) < _BIGGEST:
                biggest[file.owner].append(file)
        return tuple((tuple(sorted(a)), tuple(b)) for a, b in zip(layers, biggest, strict=True))

    @cached_property
    def packages(self) -> tuple[int, ...]:
        """Owners that are packages, the largest first."""
        rows = [number for number, owner in enumerate(self.owners) if owner.kind in {"wheel", "debian"}]
        return tuple(sorted(rows, key=lambda number: (-self.tallies[number].size, self.owners[number])))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every owner belongs to one part; the largest part first."""
        found: dict[str, list[int]] = {}
        for number, owner in enumerate(self.owners):
            found.setdefault(part_of(owner), []).append(number)
        parts = [
            Part(
                name,
                part_title(name),
                sum(self.owners[number].kind in {"wheel", "debian"} for number in numbers),
                Tally(*map(sum, zip(*(self.tallies[number] for number in numbers), strict=True))),
            )
            for name, numbers in found.items()
        ]
        return tuple(sorted((p for p in parts if p.packages or p.tally.files), key=lambda p: (-p.tally.size, p.name)))

    def files_of(self, owner: int) -> tuple[File, ...]:
        return tuple(file for file in self.files if file.owner == owner)


def part_of(owner: Owner) -> str:
    """The part that an owner's files belong to: a wheel's environment, else the owner's kind."""
    return owner.place if owner.kind == "wheel" else owner.kind


_TITLES = {
    "/opt/kernel": "kernel",
    "/opt/runner": "runner",
    "/opt/support": "kernel's support",
    "debian": "Debian packages",
    "nb2image": "nb2image's runtime",
    "notebook": "notebook and its files",
    "base": "rest of the base",
    "nobody": "owned by no package",
}


def part_title(name: str) -> str:
    """What a part is called."""
    return _TITLES.get(name, "Python packages")


def _tally(files: tuple[File, ...]) -> Tally:
    found = Tally()
    for file in files:
        found = found.plus(file)
    return found
