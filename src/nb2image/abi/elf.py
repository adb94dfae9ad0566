"""`read_object`: what a shared object needs and what it provides, by its program headers, as a loader sees it.

The bytes come as a stream that may be begun again, since members of wheels are inflated front to back: of a large one
only what was asked for is kept. Section headers are never looked at. They stand at the very end, loaders ignore them,
and a file without them is whole.

Specifications: the generic ABI (chapters 4 and 5), and for versions of symbols the Linux Standard Base, "Symbol
Versioning". The structures are pyelftools'; its classes above them read sections, know no bounds, and
take twice as long.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from elftools.construct.core import Struct
    from elftools.elf.structs import ELFStructs

__all__ = ["MAGIC", "WHOLE", "Damaged", "Machine", "SharedObject", "read_object"]

MAGIC = b"\x7fELF"
WHOLE = 32 << 20
"""Bytes up to which an object is kept whole while it is read; of a larger one, this much at most."""
_HEAD = 1 << 20
_WINDOW = 1 << 20
_PASSES = 8
_LONGEST = 4096
"""Bytes of a name: Linux's longest path, and no library has a longer soname."""
_MOST_SEGMENTS = 128
_MOST_TAGS = 4096
_MOST_VERSIONS = 16384
_NAMES = {"DT_NEEDED", "DT_SONAME", "DT_RPATH", "DT_RUNPATH"}
_WEAK = 2
"""``VER_FLG_WEAK``: the loader does not insist on this version."""
_BASE = 1
"""``VER_FLG_BASE``: the version is the file itself."""


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


def read_object(pieces: Callable[[], Iterator[bytes]], size: int) -> SharedObject | None:
    """What stands in the ELF file of ``size`` bytes that each call of ``pieces`` gives from its beginning.

    None for what is not ELF, or has no dynamic segment (a static program, an object file). Raises `Damaged`, and
    whatever reading raises.
    """
    window = _Window(pieces, size)
    if not window.begins_with(MAGIC):
        return None
    for _ in range(_PASSES):
        try:
            found = _read(window)
        except Damaged:
            if window.missed is None:
                raise
        else:
            if window.missed is None:
                return found
        window.fetch(window.missed)
    raise Damaged("what it needs is strewn over the file")


class _Window:
    """A seekable view (what pyelftools uses of ``IO[bytes]``) of the parts of a stream that were kept."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]], size: int) -> None:
        self._pieces = pieces
        self._size = size
        self._position = 0
        self._kept: list[tuple[int, bytes]] = []
        self.missed: int | None = None
        """Where bytes were asked for that were not kept: pyelftools wraps whatever reading raises, so nothing is."""
        head = self._between(0, size if size <= WHOLE else _HEAD)
        self._kept.append((0, head))

    def begins_with(self, magic: bytes) -> bool:
        return self._kept[0][1].startswith(magic)

    def fetch(self, position: int) -> None:
        """Keep the surroundings of a position, too: names and versions stand close together."""
        self.missed = None
        begin = max(0, position - _WINDOW // 4)
        self._kept.append((begin, self._between(begin, begin + _WINDOW)))

    def _between(self, begin: int, end: int) -> bytes:
        found: list[bytes] = []
        offset = 0
        stream = self._pieces()
        for piece in stream:
            if offset + len(piece) > begin:
                found.append(piece[max(0, begin - offset) : end - offset])
            offset += len(piece)
            # Read to its end, a stream proves itself; broken off, the rest was never inflated.
            if offset >= end and end < self._size:
                break
        return found[0] if len(found) == 1 else b"".join(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset if whence == io.SEEK_SET else self._size + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, length: int = -1) -> bytes:
        begin = self._position
        end = min(self._size, begin + length) if length >= 0 else self._size
        if begin >= end:
            return b""
        for start, data in self._kept:
            if start <= begin and end <= start + len(data):
                self._position = end
                return data[begin - start : end - start]
        if self._size > WHOLE and self.missed is None:
            self.missed = begin
        return b""


@lru_cache(maxsize=32)
def _structs(bits: int, little: bool, kind: str | int, machine: str | int, abi: str | int) -> ELFStructs:
    """pyelftools' structures; making them takes as long as reading a file."""
    from elftools.elf.structs import ELFStructs

    structs = ELFStructs(little_endian=little, elfclass=bits)
    structs.create_basic_structs()
    # Numbers without a name, which pyelftools passes, and its annotations do not.
    structs.create_advanced_structs(cast("str", kind), cast("str", machine), cast("str", abi))
    return structs


def _read(window: _Window) -> SharedObject | None:
    from elftools.common.exceptions import ELFError

    try:
        return _Reader(window).read()
    except ELFError as error:
        raise Damaged("it is cut short") from error


class _Reader:
    """One file, parsed structure by structure."""

    def __init__(self, window: _Window) -> None:
        from elftools.common.utils import struct_parse

        self._window = window
        window.seek(0)
        identity = window.read(16)
        if len(identity) < 16 or identity[4] not in (1, 2) or identity[5] not in (1, 2):
            raise Damaged("its class or byte order does not exist")
        self._bits, self._little = 32 * identity[4], identity[5] == 1
        self._stream = cast("IO[bytes]", window)
        self._parse = struct_parse
        header = self._at(_structs(self._bits, self._little, "ET_DYN", "EM_NONE", 0).Elf_Ehdr, 0)
        self._machine = header["e_machine"]
        system = header["e_ident"]["EI_OSABI"]
        self._structs = _structs(self._bits, self._little, header["e_type"], self._machine, system)
        if header["e_phnum"] > _MOST_SEGMENTS:
            raise Damaged(f"it has {header['e_phnum']} segments")
        step = self._structs.Elf_Phdr.sizeof()
        self._segments = [
            self._at(self._structs.Elf_Phdr, header["e_phoff"] + step * number) for number in range(header["e_phnum"])
        ]
        self._strings: dict[int, str] = {}
        self._tags: list[tuple[str | int, int]] = []
        self._names = 0

    def _at(self, struct: Struct, position: int) -> Any:
        return self._parse(struct, self._stream, stream_pos=position)

    def read(self) -> SharedObject | None:
        dynamic = next((segment for segment in self._segments if segment["p_type"] == "PT_DYNAMIC"), None)
        if dynamic is None:
            return None
        step = self._structs.Elf_Dyn.sizeof()
        for number in range(min(_MOST_TAGS, dynamic["p_filesz"] // step)):
            tag = self._at(self._structs.Elf_Dyn, dynamic["p_offset"] + step * number)
            if tag["d_tag"] == "DT_NULL":
                break
            self._tags.append((tag["d_tag"], tag["d_val"]))
        values = dict(reversed(self._tags))
        if "DT_STRTAB" in values:
            self._names = self._place(values["DT_STRTAB"], "string table")
        elif any(tag in _NAMES for tag, _ in self._tags):
            raise Damaged("its names are nowhere")
        sonames = self._named("DT_SONAME")
        return SharedObject(
            machine=Machine(self._bits, str(self._machine).removeprefix("EM_"), self._little),
            soname=sonames[0] if sonames else None,
            needed=tuple(dict.fromkeys(self._named("DT_NEEDED"))),
            rpath=_folders(self._named("DT_RPATH")),
            runpath=_folders(self._named("DT_RUNPATH")),
            versions=self._needs(values),
            defines=self._defines(values),
        )

    def _place(self, address: int, what: str) -> int:
        """The place in the file of what stands at an address when it is loaded."""
        for segment in self._segments:
            if segment["p_type"] == "PT_LOAD" and 0 <= address - segment["p_vaddr"] < segment["p_filesz"]:
                return int(address - segment["p_vaddr"] + segment["p_offset"])
        raise Damaged(f"its {what} is in no segment")

    def _named(self, kind: str) -> list[str]:
        return [self._string(value) for tag, value in self._tags if tag == kind]

    def _string(self, offset: int) -> str:
        if offset not in self._strings:
            self._window.seek(self._names + offset)
            found = b""
            while b"\0" not in found:
                piece = self._window.read(64)
                if not piece or len(found) > _LONGEST:
                    raise Damaged("a name in it has no end")
                found += piece
            name = found.partition(b"\0")[0].decode("utf-8", "replace")
            if not name.isprintable():
                raise Damaged("a name in it has control characters")
            self._strings[offset] = name
        return self._strings[offset]

    def _needs(self, values: Mapping[str | int, int]) -> dict[str, tuple[str, ...]]:
        needs: dict[str, dict[str, None]] = {}
        for entry, auxiliaries in self._versions("DT_VERNEED", "vn", values):
            names = [self._string(each["vna_name"]) for each in auxiliaries if not each["vna_flags"] & _WEAK]
            needs.setdefault(self._string(entry["vn_file"]), {}).update(dict.fromkeys(names))
        return {library: tuple(names) for library, names in needs.items() if names}

    def _defines(self, values: Mapping[str | int, int]) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for entry, auxiliaries in self._versions("DT_VERDEF", "vd", values):
            # The first name is the version's own; what follows are those that it builds on.
            if auxiliaries and not entry["vd_flags"] & _BASE:
                names[self._string(auxiliaries[0]["vda_name"])] = None
        return tuple(names)

    def _versions(self, tag: str, prefix: str, values: Mapping[str | int, int]) -> Iterator[tuple[Any, list[Any]]]:
        """The entries of a table of versions (LSB, "Symbol Version Requirements"), each with its auxiliaries."""
        count = values.get(f"{tag}NUM", 0)
        if tag not in values or not count:
            return
        need = prefix == "vn"
        entries = self._structs.Elf_Verneed if need else self._structs.Elf_Verdef
        details = self._structs.Elf_Vernaux if need else self._structs.Elf_Verdaux
        position = self._place(values[tag], "table of versions")
        budget = _MOST_VERSIONS
        for _ in range(count):
            entry = self._at(entries, position)
            budget -= 1 + entry[f"{prefix}_cnt"]
            if budget < 0:
                raise Damaged("it has too many versions of symbols")
            place = position + entry[f"{prefix}_aux"]
            auxiliaries = []
            for _ in range(entry[f"{prefix}_cnt"]):
                auxiliaries.append(self._at(details, place))
                place += auxiliaries[-1][f"{prefix}a_next"]
            yield entry, auxiliaries
            if not entry[f"{prefix}_next"]:
                return
            position += entry[f"{prefix}_next"]


def _folders(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(folder for path in paths for folder in path.split(":") if folder)
