"""Shared objects made by hand, so that each field can be wrong; a real linker's are read in `test_elf`."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

__all__ = ["shared_object"]

X86_64, AARCH64 = 62, 183


def shared_object(
    *needed: str,
    soname: str | None = None,
    runpath: str | None = None,
    rpath: str | None = None,
    versions: Mapping[str, Sequence[str]] | None = None,
    weak: Sequence[str] = (),
    defines: Sequence[str] = (),
    machine: int = X86_64,
    gap: int = 0,
) -> bytes:
    """A 64-bit little-endian shared object of one segment, without sections; ``gap`` zeros stand before its tables."""
    strings = bytearray(b"\0")

    def name(text: str) -> int:
        strings.extend(text.encode() + b"\0")
        return len(strings) - len(text.encode()) - 1

    tags = [(1, name(each)) for each in needed]
    tags += [(kind, name(text)) for kind, text in ((14, soname), (15, rpath), (29, runpath)) if text is not None]
    need = b""
    wanted = list((versions or {}).items())
    for number, (library, names) in enumerate(wanted):
        size = 16 * len(names)
        need += struct.pack("<HHIII", 1, len(names), name(library), 16, 16 + size if number < len(wanted) - 1 else 0)
        for place, each in enumerate(names):
            flags = 2 if each in weak else 0
            need += struct.pack("<IHHII", 0, flags, place + 2, name(each), 16 if place < len(names) - 1 else 0)
    own = b""
    for number, each in enumerate(defines):
        own += struct.pack("<HHHHIII", 1, 0, number + 2, 1, 0, 20, 28 if number < len(defines) - 1 else 0)
        own += struct.pack("<II", name(each), 0)
    start = 64 + 2 * 56 + gap
    place_of_need, place_of_own = start + len(strings), start + len(strings) + len(need)
    place = place_of_own + len(own)
    tags += [(5, start), (10, len(strings))]
    tags += [(0x6FFFFFFE, place_of_need), (0x6FFFFFFF, len(wanted))] if need else []
    tags += [(0x6FFFFFFC, place_of_own), (0x6FFFFFFD, len(defines))] if own else []
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*tags, (0, 0)])
    size = place + len(dynamic)
    header = struct.pack("<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size, size, 4096)
    segment = struct.pack("<IIQQQQQQ", 2, 6, place, place, place, len(dynamic), len(dynamic), 8)
    return header + load + segment + bytes(gap) + bytes(strings) + need + own + dynamic
