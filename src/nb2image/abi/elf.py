"""`read_object`: what a shared object needs and what it provides, by its program headers, as a loader sees it.

The bytes come as a stream that may be begun again, since members of wheels are inflated front to back: of a large one
only what was asked for is kept. Section headers are never looked at. They stand at the very end, loaders ignore them,
and a file without them is whole.

Specifications: the generic ABI (chapters 4 and 5), and for versions of symbols the Linux Standard Base, "Symbol
Versioning". pyelftools reads the same by sections, without bounds, and with its structures alone this took four times
as long; the tests hold this reader against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import NamedTuple

__all__ = ["HEADER", "MAGIC", "WHOLE", "Damaged", "Kept", "Machine", "SharedObject", "outlined", "read_object"]

MAGIC = b"\x7fELF"
HEADER = 20
"""Bytes at the beginning that tell the machine."""
WHOLE = 16 << 20
"""Bytes up to which an object is kept whole while it is read; of a larger one, this much at most."""
_HEAD = 2 << 20
_TAIL = 2 << 20
_WINDOW = 1 << 20
_PASSES = 8
_LONGEST = 4096
"""Bytes of a name: Linux's longest path, and no library has a longer soname."""
_LONGEST_LIST = 1 << 16
"""Bytes of a list of folders: that of TensorFlow 2.21 has 30 kB."""
_MOST_SEGMENTS = 128
_MOST_TAGS = 4096
_MOST_VERSIONS = 16384
_MACHINES = {3: "386", 21: "PPC64", 22: "S390", 40: "ARM", 62: "X86_64", 183: "AARCH64", 243: "RISCV"}
_LOAD, _DYNAMIC = 1, 2
"""``p_type``."""
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
"""``d_tag``; those of versions follow."""
_VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_WEAK = 2
"""``VER_FLG_WEAK``: the loader does not insist on this version."""
_BASE = 1
"""``VER_FLG_BASE``: the version is the file itself."""


class _Format:
    """The structures of one class and byte order, their fields in the order of the specification."""

    def __init__(self, bits: int, little: bool) -> None:
        order = "<" if little else ">"
        wide = bits == 64
        self.header = Struct(order + ("16xHHIQQQIHHHHHH" if wide else "16xHHIIIIIHHHHHH"))
        # 64 bits: type, flags, offset, address, physical address, size in the file, in memory, alignment.
        self.segment = Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
        self.fields = (2, 3, 5) if wide else (1, 2, 4)
        self.tag = Struct(order + ("qQ" if wide else "iI"))
        # version, count, file, auxiliaries, next; hash, flags, other, name, next
        self.need, self.needed = Struct(order + "HHIII"), Struct(order + "IHHII")
        # version, flags, index, count, hash, auxiliaries, next; name, next
        self.definition, self.defined = Struct(order + "HHHHIII"), Struct(order + "II")


_FORMATS = {(bits, little): _Format(bits, little) for bits in (32, 64) for little in (True, False)}


class Damaged(Exception):
    """No ELF file that a loader would take; the text says why."""


class Machine(NamedTuple):
    """``bits`` is 32 or 64, ``name`` as ``e_machine`` has it without its prefix (``X86_64``, ``AARCH64``)."""

    bits: int
    name: str
    little: bool = True


class SharedObject(NamedTuple):
    """``rpath`` and ``runpath`` are folders as they stand there (``$ORIGIN/../x.libs``). ``versions`` are needed
    symbol versions by library, ``defines`` those that the object has itself."""

    machine: Machine
    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    versions: Mapping[str, tuple[str, ...]]
    defines: tuple[str, ...]


class Kept:
    """Of a stream that somebody else reads, what an object's reader will want: all of it. Of one above `WHOLE`, its
    dynamic segment and its ends, where linkers and patchelf(1) put names and versions."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: list[tuple[int, bytes]] = []
        self._offset = 0
        self._dynamic = (0, 0)

    def add(self, piece: bytes) -> None:
        """The next piece."""
        begin, end = self._offset, self._offset + len(piece)
        wanted = self.size <= WHOLE or begin < _HEAD or end > self.size - _TAIL
        if wanted or (begin < self._dynamic[1] and end > self._dynamic[0]):
            self.parts.append((begin, piece))
        if begin == 0 and self.size > WHOLE:
            self._dynamic = _dynamic_of(piece)
        self._offset = end


def _dynamic_of(head: bytes) -> tuple[int, int]:
    """Where the dynamic segment begins and ends, if the first bytes of a file tell."""
    try:
        segments = _Reader(_Window(lambda: [head], len(head), None)).segments
    except Damaged:
        return 0, 0
    return next(((row[1], row[1] + row[3]) for row in segments if row[0] == _DYNAMIC), (0, 0))


def read_object(pieces: Callable[[], Iterable[bytes]], size: int, kept: Kept | None = None) -> SharedObject | None:
    """What stands in the ELF file of ``size`` bytes that each call of ``pieces`` gives from its beginning.

    With ``kept``, they are asked for only if that does not do. None for what is not ELF, or has no dynamic segment (a
    static program, an object file). Raises `Damaged`, and whatever reading raises.
    """
    window = _Window(pieces, size, kept)
    if not window.begins_with(MAGIC):
        return None
    for _ in range(_PASSES):
        try:
            return _Reader(window).read()
        except _NotKept as missed:
            window.keep(missed.position)
    raise Damaged("what it needs is strewn over the file")


class _NotKept(Exception):
    """Bytes were asked for that lie in the file and were not kept."""

    def __init__(self, position: int) -> None:
        self.position = position


class _Window:
    """The parts of a stream that were kept."""

    def __init__(self, pieces: Callable[[], Iterable[bytes]], size: int, kept: Kept | None) -> None:
        self._pieces = pieces
        self._size = size
        self._kept = kept.parts if kept is not None else []
        if kept is None:
            self._keep(0, size if size <= WHOLE else _HEAD)

    def begins_with(self, magic: bytes) -> bool:
        return bool(self._kept) and self._kept[0][1].startswith(magic)

    def keep(self, position: int) -> None:
        """Keep the surroundings of a position, too: names and versions stand close together."""
        begin = max(0, position - _WINDOW // 4)
        self._keep(begin, begin + _WINDOW)

    def _keep(self, begin: int, end: int) -> None:
        offset = 0
        for piece in self._pieces():
            if offset + len(piece) > begin:
                start = max(0, begin - offset)
                self._kept.append((offset + start, piece[start : end - offset]))
            offset += len(piece)
            # Read to its end, a stream proves itself; broken off, the rest was never inflated.
            if offset >= end and end < self._size:
                break

    def read(self, begin: int, length: int) -> bytes:
        """Up to ``length`` bytes: fewer only at the end of the file. Raises `_NotKept`."""
        end = min(self._size, begin + length)
        found = b""
        while begin + len(found) < end:
            position = begin + len(found)
            for start, data in self._kept:
                if start <= position < start + len(data):
                    found += data[position - start : end - start]
                    break
            else:
                if self._size <= WHOLE:  # all was kept, and it is shorter than was said
                    break
                raise _NotKept(position)
        return found


class _Reader:
    """One file, parsed structure by structure."""

    def __init__(self, window: _Window) -> None:
        self._window = window
        identity = window.read(0, 16)
        if len(identity) < 16 or identity[4] not in (1, 2) or identity[5] not in (1, 2):
            raise Damaged("its class or byte order does not exist")
        bits, little = 32 * identity[4], identity[5] == 1
        self._format = _FORMATS[bits, little]
        _, machine, _, _, place, _, _, _, _, count, *_ = self._at(self._format.header, 0)
        self._machine = Machine(bits, _MACHINES.get(machine, str(machine)), little)
        if count > _MOST_SEGMENTS:
            raise Damaged(f"it has {count} segments")
        step = self._format.segment.size
        rows = [self._at(self._format.segment, place + step * number) for number in range(count)]
        self.segments = [(row[0], *(row[field] for field in self._format.fields)) for row in rows]
        """Type, offset, address, size in the file."""
        self._strings: dict[int, str] = {}
        self._tags: list[tuple[int, int]] = []
        self._names = 0

    def _at(self, struct: Struct, position: int) -> tuple[int, ...]:
        data = self._window.read(position, struct.size)
        if len(data) < struct.size:
            raise Damaged("it is cut short")
        return struct.unpack(data)

    def read(self) -> SharedObject | None:
        dynamic = next((segment for segment in self.segments if segment[0] == _DYNAMIC), None)
        if dynamic is None:
            return None
        step = self._format.tag.size
        for number in range(min(_MOST_TAGS, dynamic[3] // step)):
            tag, value = self._at(self._format.tag, dynamic[1] + step * number)
            if not tag:
                break
            self._tags.append((tag, value))
        values = dict(reversed(self._tags))
        if _STRTAB in values:
            self._names = self._place(values[_STRTAB], "string table")
        elif values.keys() & {_NEEDED, _SONAME, _RPATH, _RUNPATH}:
            raise Damaged("its names are nowhere")
        sonames = self._named(_SONAME)
        return SharedObject(
            machine=self._machine,
            soname=sonames[0] if sonames else None,
            needed=tuple(dict.fromkeys(self._named(_NEEDED))),
            rpath=_folders(self._named(_RPATH, _LONGEST_LIST)),
            runpath=_folders(self._named(_RUNPATH, _LONGEST_LIST)),
            versions=self._needs(values),
            defines=self._defines(values),
        )

    def _place(self, address: int, what: str) -> int:
        """The place in the file of what stands at an address when it is loaded."""
        for kind, offset, start, size in self.segments:
            if kind == _LOAD and 0 <= address - start < size:
                return address - start + offset
        raise Damaged(f"its {what} is in no segment")

    def _named(self, kind: int, longest: int = _LONGEST) -> list[str]:
        return [self._string(value, longest) for tag, value in self._tags if tag == kind]

    def _string(self, offset: int, longest: int = _LONGEST) -> str:
        if offset not in self._strings:
            found = b""
            while b"\0" not in found:
                piece = self._window.read(self._names + offset + len(found), max(64, len(found)))
                if not piece or len(found) >= longest:
                    raise Damaged("a name in it has no end")
                found += piece
            name = found.partition(b"\0")[0].decode("utf-8", "replace")
            if not name.isprintable():
                raise Damaged("a name in it has control characters")
            self._strings[offset] = name
        return self._strings[offset]

    def _needs(self, values: Mapping[int, int]) -> dict[str, tuple[str, ...]]:
        needs: dict[str, dict[str, None]] = {}
        if not values.get(_VERNEEDNUM, 0):
            return {}
        budget = _Budget()
        place = self._table(values, _VERNEED)
        for entry_place, entry in self._chain(self._format.need, place, values[_VERNEEDNUM], budget):
            _, count, file, auxiliaries, _ = entry
            chain = self._chain(self._format.needed, entry_place + auxiliaries, count, budget)
            names = [self._string(name) for _, (_, flags, _, name, _) in chain if not flags & _WEAK]
            needs.setdefault(self._string(file), {}).update(dict.fromkeys(names))
        return {library: tuple(names) for library, names in needs.items() if names}

    def _defines(self, values: Mapping[int, int]) -> tuple[str, ...]:
        names: dict[str, None] = {}
        if not values.get(_VERDEFNUM, 0):
            return ()
        budget = _Budget()
        place = self._table(values, _VERDEF)
        for entry_place, entry in self._chain(self._format.definition, place, values[_VERDEFNUM], budget):
            _, flags, _, count, _, auxiliaries, _ = entry
            budget.spend(count)
            # The first name is the version's own; what follows are those that it builds on.
            if count and not flags & _BASE:
                names[self._string(self._at(self._format.defined, entry_place + auxiliaries)[0])] = None
        return tuple(names)

    def _table(self, values: Mapping[int, int], tag: int) -> int:
        if tag not in values:
            raise Damaged("its table of versions is nowhere")
        return self._place(values[tag], "table of versions")

    def _chain(self, struct: Struct, place: int, count: int, budget: _Budget) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The structures of a chain, each with its place; the last field of each is the distance of the next."""
        for _ in range(count):
            budget.spend(1)
            row = self._at(struct, place)
            yield place, row
            if not row[-1]:
                return
            place += row[-1]


class _Budget:
    """Structures that one table may have."""

    def __init__(self) -> None:
        self._left = _MOST_VERSIONS

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Damaged("it has too many versions of symbols")


def outlined(head: bytes) -> SharedObject | None:
    """An object of which only the first `HEADER` bytes can be read: its machine, and that it is there."""
    if len(head) < HEADER or not head.startswith(MAGIC) or head[4] not in (1, 2):
        return None
    little = head[5] == 1
    number = int.from_bytes(head[18:20], "little" if little else "big")
    machine = Machine(32 * head[4], _MACHINES.get(number, str(number)), little)
    return SharedObject(machine, None, (), (), (), {}, ())


def _folders(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(folder for path in paths for folder in path.split(":") if folder))
