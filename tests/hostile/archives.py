"""Zip archives that lie."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from tests.hostile.cases import Case, from_part, from_parts
from tests.unit.wheels.builder import INFO, Part, build_zip, deflate, wheel_parts

__all__ = ["CASES"]

TEXT = b"1234" * 9
STREAM = deflate(TEXT)
FOLDER, FILE = 0o40755, 0o100644
NONE = 0xFFFFFFFF
FIRST, NEXT = "demo/__init__.py", f"{INFO}/METADATA"

# -- names -----------------------------------------------------------------------------------------------------

NAMES = [
    from_part("names", title, rule, Part(name, mode=FOLDER if name.endswith("/") else FILE, method=0))
    for title, name, rule in [
        ("to the folder above", "../evil", "leaves the archive"),
        ("to the folder above, from a folder", "demo/../../evil", "leaves the archive"),
        ("ends with two dots", "demo/..", "leaves the archive"),
        ("absolute", "/nb2image-evil", "absolute"),
        ("absolute, two slashes", "//host/evil", "absolute"),
        ("drive letter", "C:/evil", "drive letter"),
        ("drive letter without slash", "c:evil", "drive letter"),
        ("backslashes", "demo\\..\\evil", "backslash"),
        ("NUL", "demo/e\0vil", "control character"),
        ("NUL that ends a harmless name", "demo/x.py\0.txt", "control character"),
        ("line feed", "demo/e\nvil", "control character"),
        ("CR LF", "demo/e\r\nvil", "control character"),
        ("line feed at the start", "\ndemo", "control character"),
        ("escape sequence", "demo/e\x1b[31mvil", "control character"),
        ("C1 control character", "demo/\x85", "control character"),
        ("empty part", "demo//evil", "empty or '.' part"),
        ("dot at the start", "./evil", "empty or '.' part"),
        ("dot inside", "demo/./evil", "empty or '.' part"),
        ("dot at the end", "demo/.", "empty or '.' part"),
        ("two slashes at the end", "demo//", "empty or '.' part"),
        ("a slash", "/", "empty or '.' part"),
        ("nothing", "", "empty or '.' part"),
        ("whiteout", ".wh.lib", "whiteout"),
        ("opaque whiteout", "demo/.wh..wh..opq", "whiteout"),
        ("whiteout as a folder", "demo/.wh.x/y", "whiteout"),
        ("256 bytes between two slashes", "demo/" + "n" * 256, "longer than 255 bytes"),
        ("256 bytes beyond ASCII between two slashes", "demo/" + "ü" * 128, "longer than 255 bytes"),
        ("1,025 bytes", "demo/" + "d/" * 510, "longer than 1024 bytes"),
        ("65,535 bytes", "demo/" + "d/" * 32765, "longer than 1024 bytes"),
    ]
] + [
    from_part("names", "marked as UTF-8 and not UTF-8", "not UTF-8", Part(b"demo/\xff", flags=0x800)),
    from_part("names", "surrogate in UTF-8", "not UTF-8", Part(b"demo/\xed\xa0\x80", flags=0x800)),
    from_part("names", "overlong '/' in UTF-8", "not UTF-8", Part(b"demo\xc0\xafx", flags=0x800)),
    from_part("names", "beyond ASCII without the mark", "not marked as UTF-8", Part("demo/ü".encode())),
]  # fmt: skip

# -- one name, two members -------------------------------------------------------------------------------------

TWICE = [
    *(
        from_parts("one name twice", title, "demo/x", "two members", Part("demo/x", b"1"), Part("demo/x", data))
        for title, data in [("equal files", b"1"), ("files that differ", b"2")]
    ),
    from_parts(
        "one name twice", "equal folders", "demo/x/", "two members",
        Part("demo/x/", mode=FOLDER, method=0), Part("demo/x/", mode=FOLDER, method=0),
    ),
    from_parts(
        "one name twice", "RECORD", f"{INFO}/RECORD", "two members",
        Part(f"{INFO}/RECORD", b"demo/__init__.py,,\n"),
    ),
    *(
        from_parts(
            "one name twice", f"a file and {title}", "demo/x", "a file and of a folder",
            Part("demo/x", b"1"), Part(other, mode=FOLDER if other.endswith("/") else FILE, method=0),
        )
        for title, other in [
            ("a folder", "demo/x/"),
            ("a folder by a file in it", "demo/x/y"),
            ("a folder by a folder in it", "demo/x/y/z"),
        ]
    ),
    from_parts(
        "one name twice", "two Unicode normalisations", "demo/é", "another Unicode normalisation",
        Part("demo/e\u0301", b"1"), Part("demo/é", b"2"),
    ),
    from_parts(
        "one name twice", "two Unicode normalisations of a folder", "demo/é", "another Unicode normalisation",
        Part("demo/e\u0301/x", b"1"), Part("demo/é/y", b"2"),
    ),
]  # fmt: skip

# -- kinds, flags, methods -------------------------------------------------------------------------------------

KINDS = [
    from_part("kinds", title, rule, Part(name, data, mode=mode, method=0))
    for title, name, mode, data, rule in [
        ("symbolic link", "demo/x", 0o120777, b"/etc/passwd", "symbolic link"),
        ("FIFO", "demo/x", 0o010644, b"", "neither a file nor a directory"),
        ("character device", "demo/x", 0o020644, b"", "neither a file nor a directory"),
        ("block device", "demo/x", 0o060644, b"", "neither a file nor a directory"),
        ("socket", "demo/x", 0o140755, b"", "neither a file nor a directory"),
        ("folder by its mode, file by its name", "demo/x", 0o040755, b"", "neither a file nor a directory"),
        ("file by its mode, folder by its name", "demo/x/", 0o100644, b"", "the mode is not"),
        ("link by its mode, folder by its name", "demo/x/", 0o120777, b"", "the mode is not"),
    ]
] + [
    from_part("kinds", title, rule, part)
    for title, part, rule in [
        ("MS-DOS folder, file by its name", Part("demo/x", b"1", central={"external": 0x10}), "the attributes are not"),
        ("MS-DOS volume label", Part("demo/x", central={"external": 0x08}), "the attributes are not"),
        ("folder with content", Part("demo/x/", b"hidden", mode=FOLDER), "a directory has content"),
        ("folder with stored content", Part("demo/x/", b"#", mode=FOLDER, method=0), "a directory has content"),
        ("folder with a stream", Part("demo/x/", mode=FOLDER, stream=bytes(6)), "a directory has content"),
        ("folder with two odd bytes", Part("demo/x/", mode=FOLDER, stream=b"#!"), "a directory has content"),
        ("folder with a CRC", Part("demo/x/", mode=FOLDER, local={"crc32": 1}, central={"crc32": 1}),
         "a directory has content"),
    ]
]  # fmt: skip

METHODS = [
    *(
        from_part("methods and flags", f"encrypted ({title})", "encrypted", Part("demo/x", b"1", flags=flags))
        for title, flags in [("traditional", 0x1), ("strong", 0x41), ("central directory", 0x2000)]
    ),
    *(
        from_part("methods and flags", f"flag {title}", "unknown flags", Part("demo/x", b"1", flags=flags))
        for title, flags in [("of enhanced deflating", 0x10), ("of patches", 0x20), ("7", 0x80), ("15", 0x8000)]
    ),
    *(
        from_part("methods and flags", f"method {number} ({title})", "compression", Part("x", b"1", method=number))
        for number, title in [
            (1, "shrunk"), (6, "imploded"), (9, "deflate64"), (12, "bzip2"), (14, "LZMA"), (93, "Zstandard"),
            (95, "xz"), (97, "WavPack"), (99, "AES"), (255, "unassigned"),
        ]
    ),
    *(
        from_part("methods and flags", f"needs version 6.4, {title}", "version 6.4 of the zip format", part)
        for title, part in [
            ("says the directory", Part("demo/x", b"1", central={"needed": 64})),
            ("says the local header", Part("demo/x", b"1", local={"needed": 64})),
        ]
    ),
]  # fmt: skip

# -- local headers against the central directory ---------------------------------------------------------------


def _told(where: str, values: dict[str, Any]) -> Part:
    return Part("demo/x", TEXT, local=values) if where == "local" else Part("demo/x", TEXT, central=values)


Lies: TypeAlias = list[tuple[str, str, dict[str, Any], str]]
"""Title, which header, its fields, and the rule."""
HEADERS: Lies = [
    ("another name", "local", {"name": b"demo/y"}, "another name"),
    ("a longer name", "local", {"name": b"demo/xy"}, "another name"),
    ("a name that leads out", "local", {"name": b"../../x"}, "another name"),
    ("another size", "local", {"size": 5}, "differ in size or CRC"),
    ("another compressed size", "local", {"compressed_size": 1}, "differ in size or CRC"),
    ("another CRC", "local", {"crc32": 1}, "differ in size or CRC"),
    ("neither sizes nor CRC", "local", {"crc32": 0, "size": 0, "compressed_size": 0}, "differ in size or CRC"),
    ("another method", "local", {"method": 0}, "compression method"),
    ("other flags", "local", {"flags": 2}, "differ in the flags"),
    ("a data descriptor in one of them", "local", {"flags": 8}, "differ in the flags"),
    ("encrypted in one of them", "local", {"flags": 1}, "differ in the flags"),
    ("no local header", "local", {"signature": b"PK\7\7"}, "no local header"),
    ("a size that needs zip64", "local", {"size": NONE}, "differ in size or CRC"),
    ("comment of a member", "central", {"comment": b"hi"}, "comment"),
    ("another disk", "central", {"disk": 1}, "another disk"),
    ("another disk by zip64", "central", {"disk": 0xFFFF, "extra": struct.pack("<HHL", 1, 4, 1)}, "another disk"),
    ("a disk that needs zip64", "central", {"disk": 0xFFFF}, "another disk"),
    ("another method in the directory", "central", {"method": 0, "compressed_size": 36}, "compression method"),
]  # fmt: skip

UNICODE_PATH = struct.pack("<HHBL4s", 0x7075, 9, 1, 0, b"evil")
EXTRAS: Lies = [
    ("zip64 with too few numbers", "local",
     {"size": NONE, "extra": struct.pack("<HHL", 1, 4, 9)}, "zip64 field does not"),
    ("zip64 missing", "local", {"size": NONE, "extra": struct.pack("<HH", 5, 0)}, "zip64 field does not hold"),
    ("zip64 that contradicts", "local", {"extra": struct.pack("<HHQQ", 1, 16, 9, 9)}, "zip64 field contradicts"),
    ("zip64 with another compressed size", "local",
     {"compressed_size": NONE, "extra": struct.pack("<HHQ", 1, 8, len(STREAM) + 1)}, "differ in size or CRC"),
    ("zip64 with another size", "local",
     {"size": NONE, "extra": struct.pack("<HHQ", 1, 8, 5)}, "differ in size or CRC"),
    ("zip64 with too many numbers", "local",
     {"size": NONE, "extra": struct.pack("<HHQQ", 1, 16, 36, 36)}, "zip64 field does not hold"),
    ("zip64 missing in the directory", "central", {"size": NONE}, "zip64 field"),
    ("zip64 too short in the directory", "central",
     {"size": NONE, "extra": struct.pack("<HHL", 1, 4, 4)}, "zip64 field"),
    ("longer than the header says", "local", {"extra": b"\1\0\xff\0"}, "extra field exceeds"),
    ("of one byte", "local", {"extra": b"\1"}, "extra field exceeds"),
    ("of three bytes", "central", {"extra": b"\1\0\0"}, "extra field exceeds"),
    ("second name", "local", {"extra": UNICODE_PATH}, "second name"),
    ("second name in the directory", "central", {"extra": UNICODE_PATH}, "second name"),
    ("second name without a name", "local", {"extra": struct.pack("<HH", 0x7075, 0)}, "second name"),
    ("two second names", "local", {"extra": struct.pack("<HHBL", 0x7075, 5, 1, 0) * 2}, "second name"),
    ("encryption", "local", {"extra": struct.pack("<HH", 0x9901, 0)}, "encrypted"),
    ("strong encryption", "local", {"extra": struct.pack("<HH", 0x0017, 0)}, "encrypted"),
    ("link target", "local", {"extra": struct.pack("<HH12s4s", 0x000D, 16, bytes(12), b"/etc")}, "link target"),
    ("second mode", "local",
     {"extra": struct.pack("<HHLHLHH", 0x756E, 14, 0, 0o120777, 0, 0, 0)}, "second mode"),
    ("two of one kind", "local", {"extra": struct.pack("<HHHH", 5, 0, 5, 0)}, "of one kind"),
]  # fmt: skip
LOCAL = [
    from_part(group, title, rule, _told(where, values))
    for group, lies in [("local header and directory", HEADERS), ("extra fields", EXTRAS)]
    for title, where, values, rule in lies
]

# -- data descriptors ------------------------------------------------------------------------------------------

VALUES = struct.pack("<LLL", zlib.crc32(TEXT), len(STREAM), len(TEXT))
WIDE = struct.pack("<LQQ", zlib.crc32(TEXT), len(STREAM), len(TEXT))
ZEROS = {"crc32": 0, "size": 0, "compressed_size": 0}
SIGNED = b"PK\7\x08"
ODD = bytes.fromhex("ac0a7ad5")  # four bytes whose CRC-32 is the signature of a data descriptor
assert struct.pack("<L", zlib.crc32(ODD)) == SIGNED

DESCRIPTORS = [
    from_part("data descriptors", title, rule, Part("demo/x", TEXT, flags=8, local={**ZEROS, **local}, after=after))
    for title, local, after, rule in [
        ("missing", {}, b"", "data descriptor"),
        ("cut short", {}, VALUES[:-1], "data descriptor"),
        ("zeros", {}, bytes(12), "data descriptor"),
        ("another CRC", {}, SIGNED + bytes(4) + VALUES[4:], "data descriptor"),
        ("another compressed size", {}, SIGNED + VALUES[:4] + b"\1\0\0\0" + VALUES[8:], "data descriptor"),
        ("another size", {}, SIGNED + VALUES[:8] + b"\7\0\0\0", "data descriptor"),
        ("another size, unsigned", {}, VALUES[:8] + b"\7\0\0\0", "data descriptor"),
        ("another size, zip64", {}, SIGNED + WIDE[:12] + struct.pack("<Q", 7), "data descriptor"),
        ("another signature", {}, b"PK\7\7" + VALUES, "data descriptor"),
        ("longer", {}, bytes(30), "data descriptor"),
        ("followed by a byte", {}, SIGNED + VALUES + b"x", "data descriptor"),
        ("two", {}, VALUES * 2, "data descriptor"),
        ("contradicts the local header", {"size": 7}, VALUES, "differ in size or CRC"),
    ]
] + [
    from_part(
        "data descriptors", "of a stored member whose size only it says", "only its data descriptor says",
        Part("demo/x", TEXT, method=0, flags=8, local=ZEROS, after=SIGNED + VALUES[:4] + struct.pack("<LL", 36, 36)),
    ),
    from_part(
        "data descriptors", "of a deflated member without a stream", "not even an empty stream",
        Part("demo/x", stream=b"", flags=8, local=ZEROS, after=SIGNED + bytes(12)),
    ),
    from_part(
        "data descriptors", "unsigned, with a CRC that looks like the signature", "data descriptor",
        Part("demo/x", ODD, flags=8, local=ZEROS, after=SIGNED + struct.pack("<LL", len(deflate(ODD)), len(ODD))),
    ),
]  # fmt: skip

# -- where things stand ----------------------------------------------------------------------------------------


def _quoted_overlap() -> bytes:
    """A member whose data is the next one whole: two members share bytes, as in bombs without recursion."""
    inner = build_zip([Part("demo/y", b"answer = 42\n" * 40)])
    inner = inner[: inner.index(b"PK\1\2")]
    outer = Part("demo/x", inner, method=0)
    data = wheel_parts(outer)
    start = len(build_zip([data[0]])) - len(build_zip([data[0]])[build_zip([data[0]]).index(b"PK\1\2") :])
    hidden = Part("demo/y", b"answer = 42\n" * 40, central={"offset": start + 30 + len("demo/x")})
    return _with_directory_of(data, hidden)


def _with_directory_of(parts: list[Part], hidden: Part) -> bytes:
    """An archive whose directory has one more record, of a member that has no data of its own."""
    whole = build_zip([*parts, hidden])
    body = whole[: whole.index(b"PK\1\2")]
    own = build_zip([hidden])
    extent = own.index(b"PK\1\2")
    start = len(body) - extent
    directory = whole[len(body) : -22]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(parts) + 1, len(parts) + 1, len(directory), start, 0)
    return body[:start] + directory + end


def _twice_in_the_directory() -> bytes:
    """Two records, one local header: the second record has the other's name and offset."""
    return _with_directory_of(wheel_parts(Part("demo/y", b"1")), Part("demo/z", central={"offset": 0}))


HIDDEN = build_zip([Part("demo/hidden", b"1")])
HIDDEN = HIDDEN[: HIDDEN.index(b"PK\1\2")]

PLACES = [
    from_parts("places", "bytes before the first member", FIRST, "belong to nothing", prefix=b"#!/bin/sh\n"),
    Case("places", "another archive before it", None, "does not end where the end record begins",
         lambda: build_zip(wheel_parts()) + build_zip(wheel_parts(Part("demo/x", b"1")))),
    from_part("places", "bytes between two members", "belong to nothing",
              Part("demo/x", b"1", after=b"gap"), member=NEXT),
    from_part("places", "a member that the directory hides", "belong to nothing",
              Part("demo/x", b"1", after=HIDDEN), member=NEXT),
    from_parts("places", "a hidden member before the directory", None, "belong to no member", before_directory=HIDDEN),
    from_parts("places", "a signing block before the directory", None, "belong to no member",
               before_directory=struct.pack("<Q", 24) + b"APK Sig Block 42"),
    from_part("places", "two members at one place", "overlaps",
              Part("demo/x", b"answer = 42\n" * 40, central={"offset": 0}), member=FIRST),
    Case("places", "a record without a member of its own", FIRST, "overlaps", _twice_in_the_directory),
    Case("places", "a member inside another one", "demo/x", "overlaps", _quoted_overlap),
    from_part("places", "a member that reaches into the next", "overlaps",
              Part("demo/x", b"1", local={"compressed_size": 23}, central={"compressed_size": 23})),
    from_part("places", "a member beyond the end", "belong to nothing",
              Part("demo/x", b"1", central={"offset": 1 << 30}), member=NEXT),
    from_part("places", "a member elsewhere by zip64", "overlaps",
              Part("demo/x", b"1", central={"offset": NONE, "extra": struct.pack("<HHQ", 1, 8, 1)}), member=FIRST),
    from_parts("places", "a byte after the end record", None, "follows the end record", trailing=b"x"),
    from_parts("places", "a megabyte after the end record", None, "no end record", trailing=bytes(1 << 20)),
    from_parts("places", "a comment", None, "follows the end record", comment=b"hello"),
    from_parts("places", "a comment that is announced and absent", None, "a comment that is not there",
               end={"comment": 5}),
    Case("places", "an archive in the comment", None, "does not end where the end record begins",
         lambda: build_zip(wheel_parts(), comment=build_zip(wheel_parts(Part("demo/x", b"1"))))),
    Case("places", "two end records", None, "several end records",
         lambda: build_zip(wheel_parts(), after_directory=build_zip(wheel_parts())[-22:])),
]  # fmt: skip

# -- end records -----------------------------------------------------------------------------------------------


def _extensible() -> bytes:
    """A zip64 end record with data of its own (4.3.14.2)."""
    data = build_zip(wheel_parts(), zip64={"record_size": 44 + 8})
    locator = data.rindex(b"PK\6\7")
    return data[:locator] + bytes(8) + data[locator:]


def _cut(length: int) -> bytes:
    return build_zip(wheel_parts())[:length]


ENDS = [
    *(
        from_parts("end records", title, None, rule, end=end)
        for title, end, rule in [
            ("this disk is another", {"disk": 1}, "several disks"),
            ("the directory is on another disk", {"first_disk": 1}, "several disks"),
            ("fewer records on this disk", {"here": 1}, "several disks"),
            ("fewer records than there are", {"count": 3, "here": 3}, "holds more than the records"),
            ("more records than there are", {"count": 5, "here": 5}, "holds fewer records"),
            ("no records", {"count": 0, "here": 0}, "holds more than the records"),
            ("a smaller directory", {"size": 10}, "does not end where the end record begins"),
            ("an earlier directory", {"start": 10}, "does not end where the end record begins"),
            ("a later directory", {"start": 1 << 20}, "does not end where the end record begins"),
            ("a count that needs zip64", {"count": 0xFFFF, "here": 0xFFFF}, "zip64 end record that is not there"),
            ("an offset that needs zip64", {"start": NONE}, "zip64 end record that is not there"),
        ]
    ),
    *(
        from_parts("end records", f"zip64: {title}", None, rule, zip64=zip64, end=end)
        for title, zip64, end, rule in [
            ("somewhere else", {"where": 0}, {}, "directly before its locator"),
            ("too short", {"record_size": 43}, {}, "directly before its locator"),
            ("several disks", {"disks": 2}, {}, "several disks"),
            ("another disk", {"disk": 1}, {}, "several disks"),
            ("fewer records on this disk", {"here": 3}, {}, "several disks"),
            ("another directory than the end record's", {}, {"start": 7}, "contradict"),
            ("another count than the end record's", {}, {"count": 3, "here": 3}, "contradict"),
            ("another size than the end record's", {}, {"size": 7}, "contradict"),
            ("another size of the directory", {"size": 7}, {}, "does not end where the end record begins"),
            ("more records than any file holds", {"count": 1 << 60, "here": 1 << 60}, {}, "at most 200000"),
        ]
    ),
    Case("end records", "zip64: data of its own", None, "directly before its locator", _extensible),
    Case("end records", "zip64: a locator without a record", None, "zip64 end record does not stand",
         lambda: build_zip(wheel_parts(), after_directory=struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1))),
    from_parts("end records", "a record of another kind in the directory", None, "no file header",
               Part("demo/x", b"1", central={"signature": b"PK\5\5"})),
    *(
        Case("end records", title, None, "no end record", partial(_cut, length))
        for title, length in [("the file ends early", 100), ("one byte is missing", -1), ("an empty file", 0)]
    ),
    Case("end records", "no archive at all", None, "no end record", lambda: b"<html>not found</html>" * 9),
]  # fmt: skip

# -- sizes and streams -----------------------------------------------------------------------------------------


def _bomb_of_many() -> bytes:
    zeros = bytes(1 << 20)
    stream = deflate(zeros)
    return build_zip(wheel_parts(*(Part(f"demo/{number}", zeros, stream=stream) for number in range(66))))


def _incompressible(size: int) -> bytes:
    return b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * (size // 8192 + 1)


def _of_another_size(size: int, difference: int) -> bytes:
    """Both headers lie, and RECORD states no size."""
    data = bytes(range(256)) * (size // 256 + 1)
    lie = {"size": len(data) + difference}
    parts = wheel_parts(Part("demo/x", data, central=lie, local=lie))
    parts[-1].data = parts[-1].data.replace(f",{len(data)}\n".encode(), b",\n")
    return build_zip(parts)


def _streams() -> list[Case]:
    spoiled: list[tuple[str, Callable[[bytes], bytes], str]] = [
        ("cut short", lambda s: s[:-1], "cut short"),
        ("one byte more", lambda s: s + b"x", "follows the deflate stream"),
        ("a second stream", lambda s: s + s, "follows the deflate stream"),
        ("zeros after it", lambda s: s + bytes(min(len(s), 3 << 20)), "follows the deflate stream"),
        ("no deflate", lambda s: b"\xff" * len(s), "damaged"),
    ]

    def make(size: int, packed: bool, change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
        def build() -> bytes:
            data = bytes(range(250)) * (size // 250 + 1) if packed else _incompressible(size)
            return build_zip(wheel_parts(Part("demo/x", data, stream=change(deflate(data)))))

        return build

    return [
        Case("sizes and streams", f"{how} stream of {what}: {title}", "demo/x", rule, make(size, packed, change))
        for what, size in [("100 bytes", 100), ("20 MB", 20 << 20)]
        for how, packed in [("dense", True), ("random", False)]
        for title, change, rule in spoiled
    ]


SIZES = [
    from_part("sizes and streams", "more than deflate can give", "cannot inflate to",
              Part("demo/x", stream=b"123", local={"size": 1033 * 3}, central={"size": 1033 * 3})),
    from_part("sizes and streams", "a stored member of two sizes", "two sizes differ",
              Part("demo/x", b"1", method=0, local={"size": 2}, central={"size": 2})),
    from_part("sizes and streams", "a flood of empty blocks", "inflate to only 1",
              Part("demo/x", b"1", stream=b"\0\0\0\xff\xff" * 10000 + deflate(b"1"))),
    Case("sizes and streams", "a bomb in one member", "demo/x", "bomb",
         lambda: build_zip(wheel_parts(Part("demo/x", bytes(65 << 20))))),
    Case("sizes and streams", "a bomb of many members", None, "bomb", _bomb_of_many),
    *(
        from_part("sizes and streams", f"another CRC, {title}", "CRC-32",
                  Part("demo/x", b"1", method=method, local={"crc32": 7}, central={"crc32": 7}))
        for title, method in [("stored", 0), ("deflated", 8)]
    ),
    *(
        Case("sizes and streams", f"{title} than stated, {what}", "demo/x", rule,
             partial(_of_another_size, size, difference))
        for what, size in [("100 bytes", 100), ("20 MB", 20 << 20)]
        for title, difference, rule in [("less", 1, "instead of"), ("more", -1, "more than the stated")]
    ),
    *_streams(),
]  # fmt: skip

CASES = [*NAMES, *TWICE, *KINDS, *METHODS, *LOCAL, *DESCRIPTORS, *PLACES, *ENDS, *SIZES]
