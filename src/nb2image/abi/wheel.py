"""The shared objects of wheels: a pure function of a wheel's bytes, read once and kept under its digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nb2image.abi.elf import HEADER, MAGIC, Damaged, Kept, Machine, SharedObject, outlined, read_object
from nb2image.cache import Store, digest_of_key
from nb2image.layers.entry import Entry
from nb2image.wheels.archive import MemberContent, WheelArchive

__all__ = ["Gathered", "Objects", "from_record", "known_objects", "looks_shared", "read_objects", "to_record"]

_KIND = "elf"
_FORMAT = 3
_SHARED = re.compile(r"\.so(\.[0-9A-Za-z_.]+)?$")


class Objects(NamedTuple):
    """``found`` by member name; ``notes`` are sentences on members that look like shared objects and are none."""

    found: Mapping[str, SharedObject]
    notes: tuple[str, ...]


def looks_shared(name: str) -> bool:
    """Whether a file is a shared object by its name."""
    return ".so" in name and _SHARED.search(name.rpartition("/")[2]) is not None


def known_objects(store: Store, digest: str) -> Objects | None:
    """What `read_objects` or a writing of layers kept for a wheel (``sha256:<hex>``), or None."""
    record = store.get_record(_KIND, _key(digest))
    return from_record(record) if record is not None else None


def read_objects(root: Path, wheel: Path, filename: str, digest: str) -> Objects:
    """In a worker: read the shared objects of a wheel, and keep them in the store at ``root``.

    Raises `BadWheel` when the wheel cannot be read; a damaged object is a note.
    """
    gathered = Gathered(filename)
    with WheelArchive(wheel, filename, []) as archive:
        for name, member in archive.members.items():
            gathered.watched(Entry(name, 0, archive.content(member)))
        gathered.keep(Store(root), digest)
    return gathered.objects


class Gathered:
    """The shared objects of one wheel, read as somebody else reads its members: inflating them is what takes time."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._found: dict[str, SharedObject] = {}
        self._notes: list[str] = []
        self._unread: dict[str, MemberContent] = {}

    def watched(self, entry: Entry) -> Entry:
        """The same entry; if it is a shared object, that is read when its bytes are."""
        content = entry.content
        if not isinstance(content, MemberContent) or not looks_shared(content.name):
            return entry
        self._unread[content.name] = content
        return entry._replace(content=_Watched(content, self._read))

    def _read(self, content: MemberContent, kept: Kept | None = None) -> None:
        if self._unread.pop(content.name, None) is None:
            return
        try:
            found = read_object(content.chunks, content.size, kept)
        except Damaged as damage:
            self._notes.append(f"{self._filename}: {content.name} is no shared object that could be loaded: {damage}.")
            # Who needs it finds it, and fails for another reason than that it is missing.
            found = outlined(content.head(HEADER))
        if found is not None:
            self._found[content.name] = found

    def keep(self, store: Store, digest: str) -> None:
        """Once all members were given to `watched`, read what nobody has read, and keep the objects in the store."""
        for content in list(self._unread.values()):
            if content.head(len(MAGIC)) == MAGIC:
                self._read(content)
        store.put_record(_KIND, _key(digest), to_record(self.objects))

    @property
    def objects(self) -> Objects:
        return Objects(dict(sorted(self._found.items())), tuple(sorted(self._notes)))


class _Watched:
    """A member's content (`nb2image.layers.entry.Content`) that tells when its bytes were read, and what they were."""

    __slots__ = ("_content", "_tell", "crc32", "size")

    def __init__(self, content: MemberContent, tell: Callable[[MemberContent, Kept], None]) -> None:
        self._content = content
        self._tell = tell
        self.crc32 = content.crc32
        self.size = content.size

    def deflated(self) -> Iterator[bytes] | None:
        return self._content.deflated()

    def both(self) -> tuple[bytes, bytes] | None:
        both = self._content.both()
        if both is not None:
            kept = Kept(self.size)
            kept.add(both[0])
            self._tell(self._content, kept)
        return both

    def chunks(self) -> Iterator[bytes]:
        kept = Kept(self.size)
        for piece in self._content.chunks():
            kept.add(piece)
            yield piece
        self._tell(self._content, kept)


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
