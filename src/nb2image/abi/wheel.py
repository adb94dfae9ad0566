"""The shared objects of wheels: a pure function of a wheel's bytes, read once and kept under its digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nb2image.abi.elf import Damaged, Machine, SharedObject, read_object
from nb2image.cache import Store, digest_of_key
from nb2image.wheels.archive import MemberContent, WheelArchive

__all__ = ["Gathered", "Objects", "from_record", "known_objects", "looks_shared", "read_objects", "to_record"]

_KIND = "elf"
_FORMAT = 1
_SHARED = re.compile(r"\.so(\.[0-9A-Za-z_.]+)?$")


class Objects(NamedTuple):
    """``found`` by member name; ``notes`` are sentences on members that look like shared objects and are none."""

    found: Mapping[str, SharedObject]
    notes: tuple[str, ...]


def looks_shared(name: str) -> bool:
    """Whether a file is a shared object by its name."""
    return _SHARED.search(name.rpartition("/")[2]) is not None


def known_objects(store: Store, digest: str) -> Objects | None:
    """What `read_objects` or a writing of layers kept for a wheel (``sha256:<hex>``), or None."""
    record = store.get_record(_KIND, _key(digest))
    return from_record(record) if record is not None else None


def read_objects(root: Path, wheel: Path, filename: str, digest: str) -> Objects:
    """In a worker: read the shared objects of a wheel, and keep them in the store at ``root``.

    Raises `BadWheel` when the wheel cannot be read; a damaged object is a note.
    """
    gathering = Gathered(filename)
    with WheelArchive(wheel, filename, []) as archive:
        for member in archive.members.values():
            if looks_shared(member.name):
                gathering.read(member.name, archive.content(member))
    gathering.keep(Store(root), digest)
    return gathering.objects


class Gathered:
    """The shared objects of one wheel, as its members are read."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self._found: dict[str, SharedObject] = {}
        self._notes: list[str] = []

    def read(self, name: str, content: MemberContent) -> None:
        """Read one member."""
        if not content.head(4).startswith(b"\x7fELF"):
            return
        try:
            found = read_object(content.chunks, content.size)
        except Damaged as damage:
            self._notes.append(f"{self.filename}: {name} is no shared object that could be loaded: {damage}.")
            return
        if found is not None:
            self._found[name] = found

    @property
    def objects(self) -> Objects:
        return Objects(dict(sorted(self._found.items())), tuple(sorted(self._notes)))

    def keep(self, store: Store, digest: str) -> None:
        """Once all members were read."""
        store.put_record(_KIND, _key(digest), to_record(self.objects))


def _key(digest: str) -> str:
    return digest_of_key(_KIND, _FORMAT, digest)


def to_record(objects: Objects) -> dict[str, Any]:
    """As the store keeps them."""
    return {"found": {name: list(each) for name, each in objects.found.items()}, "notes": objects.notes}


def from_record(record: dict[str, Any]) -> Objects:
    """The same, back again."""
    found = {}
    for name, (machine, soname, needed, rpath, runpath, versions, defines) in record["found"].items():
        wanted = {library: tuple(names) for library, names in versions.items()}
        lists = (tuple(needed), tuple(rpath), tuple(runpath))
        found[name] = SharedObject(Machine(*machine), soname, *lists, wanted, tuple(defines))
    return Objects(found, tuple(record["notes"]))
