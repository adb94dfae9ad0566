"""Wheels: any bytes, and archives built from odd parts."""

from __future__ import annotations

import csv
import os
import posixpath
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.errors import BadWheel
from nb2image.layers.entry import Entry, HardLink, Link
from nb2image.layers.write import arrange
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import Scheme, install
from nb2image.wheels.scripts import is_interpreter
from tests.fuzz.choices import Choices
from tests.hostile.readers import from_the_end, from_the_front
from tests.unit.wheels.builder import FILENAME, INFO, Part, build_zip, wheel_parts

__all__ = ["WHEEL_WORDS", "ZIP_WORDS", "opened", "run_wheel", "run_zip", "wheel_seeds", "zip_seeds"]

SCHEME = Scheme("/opt/kernel", "3.11")
PREFIX = "opt/kernel/"
SITE = f"{PREFIX}lib/python3.11/site-packages"


@contextmanager
def opened(data: bytes, mismatches: list[str] | None = None) -> Iterator[WheelArchive]:
    """A wheel that is only in memory; `BadWheel` goes through, with the wheel's name."""
    handle = os.memfd_create("wheel")
    try:
        os.write(handle, data)
        with WheelArchive(Path(f"/proc/self/fd/{handle}"), FILENAME, mismatches) as archive:
            yield archive
    except BadWheel as error:
        _check_message(error)
        raise
    finally:
        os.close(handle)


def _check_message(error: BadWheel) -> None:
    assert error.wheel == FILENAME
    assert error.rule
    assert str(error).isprintable()


def check(data: bytes) -> None:
    """Either the wheel is refused, or every reader sees the same files in it, and they go where they may go."""
    try:
        with opened(data, []) as archive:
            contents = {member.name: archive.read(member) for member in archive.members.values()}
    except BadWheel:
        return
    assert from_the_end(data) == contents
    assert from_the_front(data) == contents
    try:
        with opened(data, []) as archive:
            entries = list(install(archive, SCHEME, name=canonicalize_name("demo"), version=Version("1.0")))
            files = {entry.path: read(entry) for entry in entries}
    except BadWheel:
        return
    assert len(files) == len(entries)
    arrange(entries)
    for path in files:
        assert path.startswith(PREFIX), path
        assert posixpath.normpath(path) == path
        assert all(0 < len(os.fsencode(part)) <= 255 and not part.startswith(".wh.") for part in path.split("/")), path
        below = path.removeprefix(PREFIX).split("/")
        assert not (below[0] == "bin" and is_interpreter(below[1])), path
        assert below[0] not in {"pyvenv.cfg", "bin" if len(below) == 1 else ""}, path
    rows = list(csv.reader(files[f"{SITE}/{INFO}/RECORD"].decode().splitlines()))
    assert all(len(row) == 3 for row in rows)
    assert {posixpath.normpath(f"{SITE}/{row[0]}") for row in rows} >= set(files)


def read(entry: Entry) -> bytes:
    content = entry.content
    assert content is not None
    assert not isinstance(content, (Link, HardLink))
    data = b"".join(content.chunks())
    assert (len(data), zlib.crc32(data)) == (content.size, content.crc32)
    if (deflated := content.deflated()) is not None:
        stream = zlib.decompressobj(-15)
        assert stream.decompress(b"".join(deflated)) == data
        assert stream.eof
        assert not stream.unused_data
    return data


# -- any bytes ----------------------------------------------------------------------------------------


def run_zip(data: bytes) -> None:
    check(data)


def zip_seeds() -> Iterator[bytes]:
    small = [Part("a", b"x" * 30), Part("b/", mode=0o40755, method=0), Part("b/c", b"1", method=0)]
    yield build_zip(small)
    yield build_zip(small, zip64={})
    yield build_zip([Part("é", b"x", flags=0x800)])
    values = struct.pack("<LLL", zlib.crc32(b"x" * 30), 5, 30)
    zeros = {"crc32": 0, "size": 0, "compressed_size": 0}
    yield build_zip([Part("a", b"x" * 30, flags=8, local=zeros, after=b"PK\7\x08" + values)])
    sizes = {"size": 0xFFFFFFFF, "compressed_size": 0xFFFFFFFF, "extra": struct.pack("<HHQQ", 1, 16, 1, 1)}
    yield build_zip([Part("b/c", b"1", method=0, local=sizes, central=sizes)])
    yield build_zip(wheel_parts())
    yield build_zip(
        wheel_parts(
            Part("demo-1.0.data/scripts/run", b"#!python\n", mode=0o100755),
            Part(f"{INFO}/entry_points.txt", b"[console_scripts]\nx = a:b\n"),
        )
    )


ZIP_WORDS = (
    b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"\xff\xff\xff\xff", b"\xff\xff",
    b"\1\0\x10\0", b"\x75\x70", b"\x01\x99", b"../", b"\\", b".wh.", b"\3\0", b"\1\0\0\xff\xff",
)  # fmt: skip


# -- odd parts ----------------------------------------------------------------------------------------

DATA = "demo-1.0.data"
NAMES = (
    "demo/x", "demo/y/z", "demo/", "demo/é", "demo/e\u0301", "Demo/x", "x.pth", f"{DATA}/scripts/run",
    f"{DATA}/scripts/python", f"{DATA}/scripts/python/x", f"{DATA}/scripts/a/b", f"{DATA}/data/bin",
    f"{DATA}/data/bin/x", f"{DATA}/data/bin/python3", f"{DATA}/data/bin/python/x", f"{DATA}/data/pyvenv.cfg",
    f"{DATA}/data/pyvenv.cfg/x", f"{DATA}/data/lib", f"{DATA}/data/lib64/x", f"{DATA}/data/x", f"{DATA}/headers/x.h",
    f"{DATA}/purelib/demo/x", f"{DATA}/platlib/demo/x", f"{DATA}/purelib/{INFO}/METADATA", f"{DATA}/purelib/{INFO}",
    f"{DATA}/purelib/{INFO}/RECORD", f"{DATA}/platlib/other-1.dist-info/METADATA", "other-1.0.data/scripts/x",
    f"{DATA}/data/lib/python3.11/site-packages/{INFO}/INSTALLER", f"{DATA}/evil/x", f"{DATA}/", DATA,
    f"{INFO}/entry_points.txt", f"{INFO}/INSTALLER", f"{INFO}/REQUESTED", f"{INFO}/RECORD.jws", f"{INFO}/x/y",
    f"{INFO}/direct_url.json", "x-1.dist-info/WHEEL", "demo/x-1.dist-info/WHEEL", "../x", "/x", "a//b", ".wh.x",
    "a/./b", "c:x", "a\\b", "a\0b", "", "bin/python", "con", "demo/" + "n" * 255,
)  # fmt: skip
POINTS = (
    "x = demo:main", "python = demo:main", ".wh.python = demo:main", "pip = demo:main", "run = demo:main",
    "é = demo:main", "a/b = demo:main", "n" * 300 + " = demo:main", "activate = demo:main", ". = demo:main",
    "x = demo", "easy_install-3.9 = demo:main",
)  # fmt: skip
EXTRAS = (
    b"",
    struct.pack("<HHQQ", 1, 16, 3, 3),
    struct.pack("<HHQ", 1, 8, 3),
    struct.pack("<HHLB", 0x5455, 5, 1, 0),
    struct.pack("<HHBLs", 0x7075, 6, 1, 0, b"x"),
    struct.pack("<HH", 0xCAFE, 0),
    b"\0",
)
ROWS = (b"../x,,\n", b"demo/x,sha256=AA,1\n", b"demo/x,,\n", b"/etc/x,,\n", b"a,b,c,d\n")
STREAMS = (b"\3\0", b"\1\0\0\xff\xff", b"\1\0\0\xff\xff" * 3, b"abc", b"")
FIELDS: tuple[tuple[str, Callable[[Choices], Any]], ...] = (
    ("name", lambda c: c.pick(NAMES).encode()),
    ("flags", lambda c: c.pick((0, 8, 0x800, 0x808, 1, 0x20, 6))),
    ("method", lambda c: c.pick((0, 8, 9, 12))),
    ("crc32", lambda c: c.pick((0, 1))),
    ("size", lambda c: c.pick((0, 1, 3, 0xFFFFFFFF, 4000))),
    ("compressed_size", lambda c: c.pick((0, 1, 3, 5, 0xFFFFFFFF))),
    ("extra", lambda c: c.pick(EXTRAS)),
    ("comment", lambda c: c.take(3)),
    ("disk", lambda c: c.pick((0, 1, 0xFFFF))),
    ("external", lambda c: c.pick((0, 0x10, 0o100755 << 16, 0o120777 << 16, 0o40755 << 16))),
    ("offset", lambda c: c.below(2000)),
)


def run_wheel(data: bytes) -> None:
    check(odd_wheel(Choices(data)))


def odd_wheel(choices: Choices) -> bytes:
    extra = [_odd_part(choices) for _ in range(choices.below(5))]
    if choices.seldom():
        lines = [choices.pick(POINTS) for _ in range(1 + choices.below(4))]
        group = choices.pick(("console_scripts", "gui_scripts"))
        extra.append(Part(f"{INFO}/entry_points.txt", "\n".join((f"[{group}]", *lines)).encode()))
    parts = wheel_parts(*extra)
    if choices.seldom():
        parts[-1].data += choices.pick(ROWS)
    if choices.seldom():
        parts.insert(choices.below(len(parts)), parts.pop(choices.below(len(parts))))
    end = {choices.pick(("disk", "here", "count", "size", "start", "comment")): choices.below(999)}
    return build_zip(
        parts,
        prefix=choices.take(3) if choices.seldom() else b"",
        before_directory=choices.take(3) if choices.seldom() else b"",
        comment=choices.take(3) if choices.seldom() else b"",
        trailing=choices.take(3) if choices.seldom() else b"",
        end=end if choices.seldom() else None,
        zip64={} if choices.seldom() else None,
    )


def _odd_part(choices: Choices) -> Part:
    name = choices.pick(NAMES) if not choices.seldom() else choices.take(choices.below(9)).decode("utf-8", "replace")
    data = choices.pick((b"", b"abc", b"#!python\nx\n", b"#!pythonw -E\nx", bytes(2000)))
    mode = 0o40755 if name.endswith("/") else choices.pick((0o100644, 0o100755, 0, 0o120777))
    part = Part(name, data if not name.endswith("/") else b"", mode, choices.pick((8, 0)))
    if choices.seldom():
        part.flags |= 8
        values = zlib.crc32(part.data), len(part.payload), len(part.data)
        part.local = {"crc32": 0, "size": 0, "compressed_size": 0}
        part.after = choices.pick((b"PK\7\x08", b"")) + struct.pack(choices.pick(("<LLL", "<LQQ")), *values)
    if choices.seldom():
        part.stream = choices.pick((*STREAMS, part.payload + b"x"))
    for where in (part.local, part.central):
        while choices.seldom():
            field, value = choices.pick(FIELDS)
            where[field] = value(choices)
    if choices.seldom():
        part.central = dict(part.local)
    return part


def wheel_seeds() -> Iterable[bytes]:
    yield b""
    for number in range(len(NAMES)):
        yield bytes([1, number, 0, 1, 0])
        yield bytes([2, number, 0, 2, 0, 0, 0, 0, 0, 0, 0, number])


WHEEL_WORDS = (b"\xff", b"\xf0\xf0", bytes(8))
