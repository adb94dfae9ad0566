"""The directory of a zip archive, read as if somebody hostile had written it.

The rule behind all rules: every byte of the file belongs to exactly one record, and whatever is said twice is said
equally. A reader that starts at the end (pip), one that streams from the front (uv) and this one then see the same
members, so nothing can hide from one of them. Section numbers are those of PKWARE's APPNOTE 6.3.10.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from nb2image.errors import BadWheel

__all__ = ["DEFLATED", "STORED", "Member", "read_directory"]

STORED = 0
DEFLATED = 8

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_NONE16 = 0xFFFF
_NONE32 = 0xFFFFFFFF

_ENCRYPTED = 0x2041
"""General purpose bits 0 (encrypted), 6 (strong encryption) and 13 (masked local headers); 4.4.4."""
_DESCRIPTOR = 0x0008
_UTF8 = 0x0800
_KNOWN_FLAGS = 0x0006 | _DESCRIPTOR | _UTF8
"""What may be set: compression level hints, data descriptor, names in UTF-8."""

_ZIP64_EXTRA = 0x0001
_REFUSED_EXTRAS = {
    0x7075: "has a second name in an extra field",
    0x000D: "has a link target in an extra field",
    0x756E: "has a second mode in an extra field",
    0x9901: "is encrypted",
    0x0017: "is encrypted",
}

_NEWEST = 63
"""Version 6.3, the last that says anything about features (4.4.3.2); `zipfile` refuses what needs a later one."""
_DOS_KIND = 0x18
"""MS-DOS attributes "directory" and "volume label" in the low byte of the external attributes (4.4.15)."""

_MAX_MEMBERS = 200_000
"""Ten times the largest wheels in common use; more entries than that are an attack on inodes. Folders that are only
named by what they hold count too."""
_MAX_DIRECTORY = 64 << 20
"""Bytes; 200,000 records with names of 280 bytes. The directory is held in memory."""
_DEFLATE_LIMIT = 1032
"""A length of 258 takes at least two bits, so no deflate stream expands further (RFC 1951, section 3.2.5)."""
_HARMLESS = 64 << 20
"""Uncompressed bytes up to which the ratio is not looked at: small files of zeros are common and cheap."""
_WASTE = 1024
"""Bytes that a stream may take beyond three times its content: more are empty blocks, which only cost time."""
_MAX_MEMBER_RATIO = 250
_MAX_RATIO = 100
"""The most compressed real members (tables of repeated numbers) reach 235 and are below 1 MB; whole wheels reach 8."""

_EMPTY_STREAMS = (b"", b"\3\0", b"\1\0\0\xff\xff")
"""What may stand for a directory: nothing, or nothing deflated (a fixed block, or a stored one)."""
_SIGNATURE = 0x08074B50

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_NEWLINE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_SUSPICIOUS = ("\\", ":", "//", "\n/", "/\n", "\n\n", "/./", "\n./", "/.\n", "\n.\n", "..", ".wh.")
"""What no harmless path holds, in a list of paths with newlines between and around."""
_MAX_PART = 255
"""Bytes of one path component that Linux file systems hold."""
_MAX_PATH = 1024
"""Bytes; what macOS opens, and a quarter of Linux's limit. It bounds what the folders of all names can come to."""


class Member(NamedTuple):
    """A regular file of the archive.

    ``mode`` is ``st_mode`` as the external attributes give it (0: none given), ``method`` `STORED` or `DEFLATED`,
    ``offset`` where its data begins in the file; sizes in bytes.
    """

    name: str
    mode: int
    method: int
    crc32: int
    size: int
    compressed_size: int
    offset: int


class _Record(NamedTuple):
    """A central directory record; ``offset`` is that of the local header, ``raw`` the name's bytes."""

    offset: int
    raw: bytes
    name: str
    flags: int
    method: int
    mode: int
    crc32: int
    compressed_size: int
    size: int


def read_directory(wheel: str, read: Callable[[int, int], bytes], length: int) -> list[Member]:
    """The regular files of an archive of ``length`` bytes, in the order in which their data stands.

    ``read(offset, size)`` returns exactly ``size`` bytes. Raises `BadWheel`, which names the archive ``wheel``.
    """
    count, start, end = _find_directory(wheel, read, length)
    records = _read_central(wheel, read(start, end - start), count)
    _check_names(wheel, records)
    _check_ratio(wheel, records)
    records.sort()
    return _read_local(wheel, read, records, start)


# -- the end of the file ----------------------------------------------------------------------------------


def _find_directory(wheel: str, read: Callable[[int, int], bytes], length: int) -> tuple[int, int, int]:
    """How many records the central directory has, and the offsets where it begins and ends (4.3.14 to 4.3.16)."""
    end = length - _END.size
    if end < 0 or read(end, 4) != b"PK\5\6":
        _refuse_end(wheel, read, length)
    _, disk, first_disk, here, count, size, start, comment = _END.unpack(read(end, _END.size))
    if comment:
        raise BadWheel(wheel, None, "the end record announces a comment that is not there")
    if disk not in (0, _NONE16) or first_disk not in (0, _NONE16):
        raise BadWheel(wheel, None, "the archive spans several disks")
    stop = end
    if end >= _LOCATOR.size and read(end - _LOCATOR.size, 4) == b"PK\6\7":
        stop = end - _LOCATOR.size - _END64.size
        classic = (here, count, size, start)
        here, count, size, start = _read_end64(wheel, read, stop)
        for old, new, none in zip(
            classic, (here, count, size, start), (_NONE16, _NONE16, _NONE32, _NONE32), strict=True
        ):
            if old not in (new, none):
                raise BadWheel(wheel, None, "the two end records (zip and zip64) contradict each other")
    elif _NONE16 in (disk, first_disk, here, count) or _NONE32 in (size, start):
        raise BadWheel(wheel, None, "the end record refers to a zip64 end record that is not there")
    if here != count:
        raise BadWheel(wheel, None, "the archive spans several disks")
    if start + size != stop:
        between = read(start + size, 4) if start + size + 4 <= stop else b""
        if between == b"PK\5\6":
            raise BadWheel(wheel, None, "there are several end records")
        raise BadWheel(wheel, None, "the central directory does not end where the end record begins")
    if count > _MAX_MEMBERS:
        raise BadWheel(wheel, None, f"there are {count} members; at most {_MAX_MEMBERS} are accepted")
    if size > _MAX_DIRECTORY:
        raise BadWheel(wheel, None, f"the central directory takes {size} bytes; at most {_MAX_DIRECTORY} are accepted")
    return count, start, stop


def _refuse_end(wheel: str, read: Callable[[int, int], bytes], length: int) -> NoReturn:
    searched = min(length, _END.size + 0xFFFF)
    if b"PK\5\6" in read(length - searched, max(0, searched - _END.size + 4)):
        raise BadWheel(wheel, None, "something follows the end record: a comment, trailing data or another archive")
    raise BadWheel(wheel, None, "there is no end record: the file is truncated or no zip archive")


def _read_end64(wheel: str, read: Callable[[int, int], bytes], where: int) -> tuple[int, int, int, int]:
    if where < 0:
        raise BadWheel(wheel, None, "there is a zip64 locator without an end record")
    signature, size, _, _, disk, first_disk, here, count, length, start = _END64.unpack(read(where, _END64.size))
    _, locator_disk, offset, disks = _LOCATOR.unpack(read(where + _END64.size, _LOCATOR.size))
    if signature != b"PK\6\6" or offset != where or size != _END64.size - 12:
        raise BadWheel(wheel, None, "the zip64 end record does not stand directly before its locator")
    if disk or first_disk or locator_disk or disks > 1:
        raise BadWheel(wheel, None, "the archive spans several disks")
    return here, count, length, start


# -- the central directory --------------------------------------------------------------------------------


def _read_central(wheel: str, data: bytes, count: int) -> list[_Record]:
    """Parse the central directory (4.3.12) without looking at anything else."""
    records = []
    position = 0
    unpack = _CENTRAL.unpack_from
    for _ in range(count):
        if position + 46 > len(data):
            raise BadWheel(wheel, None, "the central directory holds fewer records than the end record states")
        # fmt: off
        (signature, _, needed, flags, method, _, _, crc32, compressed_size, size,
         name_length, extra_length, comment_length, disk, _, external, offset) = unpack(data, position)
        # fmt: on
        if signature != b"PK\1\2":
            raise BadWheel(wheel, None, "the central directory holds something that is no file header")
        position += 46
        raw = data[position : position + name_length]
        position += name_length
        extra = data[position : position + extra_length]
        position += extra_length
        name = _decode(wheel, raw, flags)
        if comment_length or position > len(data):
            raise BadWheel(wheel, name, "the member has a comment or exceeds the central directory")
        if extra:
            sizes = _read_extra(wheel, name, extra, (size, compressed_size, offset), disk=disk == _NONE16)
            size, compressed_size, offset = sizes
        elif _NONE32 in (size, compressed_size, offset):
            raise BadWheel(wheel, name, "the zip64 field that its header refers to is missing")
        if disk and not (disk == _NONE16 and extra):
            raise BadWheel(wheel, name, "the member is on another disk")
        if needed > _NEWEST:
            raise BadWheel(wheel, name, f"the member needs version {needed / 10} of the zip format; 6.3 is the last")
        if external & _DOS_KIND and name[-1:] != "/":
            raise BadWheel(wheel, name, "the name is that of a file and the attributes are not")
        mode = external >> 16
        _check_kind(wheel, name, flags, method, mode, compressed_size, size)
        if not size and not compressed_size:
            method = STORED  # nothing is no deflate stream, whatever the header says
        records.append(_Record(offset, raw, name, flags, method, mode, crc32, compressed_size, size))
    if position != len(data):
        raise BadWheel(wheel, None, "the central directory holds more than the records that the end record states")
    return records


def _decode(wheel: str, raw: bytes, flags: int) -> str:
    """A name is UTF-8 and says so, or it is ASCII.

    Without the flag a name is in code page 437 (appendix D), while the wheel specification wants UTF-8: readers
    disagree about such a name.
    """
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        shown = raw.decode("utf-8", "backslashreplace")
        rule = "the name is not UTF-8" if flags & _UTF8 else "the name is not ASCII and not marked as UTF-8"
        raise BadWheel(wheel, shown, rule) from None


def _read_extra(wheel: str, name: str, extra: bytes, values: tuple[int, ...], *, disk: bool = False) -> tuple[int, ...]:
    """``values`` with those that are ``0xFFFFFFFF`` replaced from the zip64 field (4.5.3), in its order."""
    seen = set()
    found: bytes | None = None
    position = 0
    while position < len(extra):
        kind, length = struct.unpack_from("<HH", extra, position) if position + 4 <= len(extra) else (0, len(extra))
        position += 4
        if position + length > len(extra):
            raise BadWheel(wheel, name, "an extra field exceeds the header")
        if kind in _REFUSED_EXTRAS:
            raise BadWheel(wheel, name, f"the member {_REFUSED_EXTRAS[kind]}")
        if kind in seen:
            raise BadWheel(wheel, name, "two extra fields are of one kind")
        seen.add(kind)
        if kind == _ZIP64_EXTRA:
            found = extra[position : position + length]
        position += length
    missing = [index for index, value in enumerate(values) if value == _NONE32]
    if not missing and not disk:
        # Writers may add the field although nothing refers to it; readers may then use it all the same.
        if found and found != struct.pack(f"<{len(values)}Q", *values)[: len(found)]:
            raise BadWheel(wheel, name, "the zip64 field contradicts the header")
        return values
    if found is None or len(found) != 8 * len(missing) + 4 * disk:
        raise BadWheel(wheel, name, "the zip64 field does not hold exactly what the header refers to")
    numbers = struct.unpack_from(f"<{len(missing)}Q", found)
    if disk and found[-4:] != bytes(4):
        raise BadWheel(wheel, name, "the member is on another disk")
    result = list(values)
    for index, number in zip(missing, numbers, strict=True):
        result[index] = number
    return tuple(result)


def _check_kind(wheel: str, name: str, flags: int, method: int, mode: int, compressed_size: int, size: int) -> None:
    if flags & ~_KNOWN_FLAGS:
        if flags & _ENCRYPTED:
            raise BadWheel(wheel, name, "the member is encrypted")
        raise BadWheel(wheel, name, f"the member has unknown flags ({flags:#06x})")
    if method not in (STORED, DEFLATED):
        raise BadWheel(wheel, name, f"the compression method is {method}; only stored and deflated are accepted")
    kind = mode & 0o170000
    if name.endswith("/"):
        if kind not in (0, stat.S_IFDIR):
            raise BadWheel(wheel, name, "the name is that of a directory and the mode is not")
        if size or compressed_size > len(_EMPTY_STREAMS[-1]):
            raise BadWheel(wheel, name, "a directory has content")
    elif kind == stat.S_IFLNK:
        raise BadWheel(wheel, name, "the member is a symbolic link")
    elif kind not in (0, stat.S_IFREG):
        raise BadWheel(wheel, name, "the member is neither a file nor a directory")
    if method == STORED and size != compressed_size:
        raise BadWheel(wheel, name, "the member is stored and its two sizes differ")
    if size > compressed_size * _DEFLATE_LIMIT:
        raise BadWheel(wheel, name, f"{compressed_size} bytes cannot inflate to {size}")
    if compressed_size > 3 * size + _WASTE:
        raise BadWheel(wheel, name, f"{compressed_size} bytes inflate to only {size}")


def _check_names(wheel: str, records: list[_Record]) -> None:
    """Names are relative, plain, unique, and no file is also a folder (4.4.17)."""
    files: set[str] = set()
    folders: set[str] = set()
    stated: set[str] = set()
    for record in records:
        name = record.name
        path = name.removesuffix("/")
        if len(record.raw) > _MAX_PATH:
            raise BadWheel(wheel, name, f"the path is longer than {_MAX_PATH} bytes")
        known = stated if len(path) < len(name) else files
        if path in known:
            raise BadWheel(wheel, name, "two members have this name")
        known.add(path)
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
        if len(folders) + len(files) > _MAX_MEMBERS:
            raise BadWheel(wheel, None, f"there are more than {_MAX_MEMBERS} files and folders")
    # One look at all names together is ten times as fast as a pattern for each; only what it finds is told apart.
    listing = "\n".join(["", *files, *stated, ""])
    if (
        any(part in listing for part in _SUSPICIOUS)
        or _CONTROL_BUT_NEWLINE.search(listing)
        or listing.count("\n") != len(files) + len(stated) + 1
        or any(len(record.raw) > _MAX_PART for record in records)
    ):
        for record in records:
            _refuse_name(wheel, record.name, record.name.removesuffix("/"))
    for path in sorted(files & (folders | stated)):
        raise BadWheel(wheel, path, "the name is that of a file and of a folder")
    if not listing.isascii():
        _refuse_look_alikes(wheel, files | folders | stated)


def _refuse_look_alikes(wheel: str, paths: set[str]) -> None:
    """One name in two spellings of Unicode (Standard Annex 15) is one file for some file systems and two for others.

    Names that differ in case only are two files wherever an image is unpacked.
    """
    seen: dict[str, str] = {}
    for path in sorted(path for path in paths if not path.isascii()):
        other = seen.setdefault(unicodedata.normalize("NFC", path), path)
        if other != path:
            raise BadWheel(wheel, path, "another member has this name in another Unicode normalisation")


def _refuse_name(wheel: str, name: str, path: str) -> None:
    """Raise when the name is bad; a harmless one that only looked so (``a..b``, long with short parts) passes."""
    if _CONTROL.search(path):
        raise BadWheel(wheel, name, "the name holds a NUL or another control character")
    if "\\" in path:
        raise BadWheel(wheel, name, "the name holds a backslash")
    if path.startswith("/"):
        raise BadWheel(wheel, name, "the path is absolute")
    if _DRIVE.match(path):
        raise BadWheel(wheel, name, "the path begins with a drive letter")
    for part in path.split("/"):
        if part == "..":
            raise BadWheel(wheel, name, "the path leaves the archive ('..')")
        if part in ("", "."):
            raise BadWheel(wheel, name, "the path has an empty or '.' part")
        if part.startswith(".wh."):
            raise BadWheel(wheel, name, "the name is a whiteout ('.wh.'), which would delete files of lower layers")
        if len(part.encode()) > _MAX_PART:
            raise BadWheel(wheel, name, f"a part of the path is longer than {_MAX_PART} bytes")


def _check_ratio(wheel: str, records: list[_Record]) -> None:
    total = compressed = 0
    for record in records:
        if record.size > _HARMLESS and record.size > record.compressed_size * _MAX_MEMBER_RATIO:
            raise BadWheel(
                wheel, record.name, f"{record.compressed_size} bytes inflate to {record.size}, which looks like a bomb"
            )
        total += record.size
        compressed += record.compressed_size
    if total > _HARMLESS and total > compressed * _MAX_RATIO:
        raise BadWheel(wheel, None, f"{compressed} bytes inflate to {total}, which looks like a bomb")


# -- local headers ----------------------------------------------------------------------------------------


def _read_local(wheel: str, read: Callable[[int, int], bytes], records: list[_Record], stop: int) -> list[Member]:
    """Check each local header (4.3.7) against its record, and that members follow each other without gap or overlap.

    ``records`` sorted by offset; ``stop`` is where the central directory begins.
    """
    members = []
    position = 0
    unpack = _LOCAL.unpack_from
    following = [record.offset for record in records[1:]] + [stop] * bool(records)
    for record, after in zip(records, following, strict=True):
        offset, raw, name, flags, method, mode, crc32, compressed_size, size = record
        if offset != position:
            if offset < position:
                raise BadWheel(wheel, name, "the member overlaps another one")
            raise BadWheel(wheel, name, f"{offset - position} bytes before the member belong to nothing")
        data = offset + 30 + len(raw)
        if data > after:
            raise BadWheel(wheel, name, "the member overlaps what follows it")
        header = read(offset, 30 + len(raw))
        signature, needed, l_flags, l_method, _, _, l_crc32, l_compressed, l_size, _, extra = unpack(header)
        if signature != b"PK\3\4":
            raise BadWheel(wheel, name, "there is no local header where the central directory says")
        if header[30:] != raw or header[26:28] != len(raw).to_bytes(2, "little"):
            raise BadWheel(wheel, name, "the local header has another name")
        if extra:
            if data + extra > after:
                raise BadWheel(wheel, name, "the member overlaps what follows it")
            l_size, l_compressed = _read_extra(wheel, name, read(data, extra), (l_size, l_compressed))
            data += extra
        if needed > _NEWEST:
            raise BadWheel(wheel, name, f"the member needs version {needed / 10} of the zip format; 6.3 is the last")
        if l_flags != flags:
            raise BadWheel(wheel, name, "local header and central directory differ in the flags")
        if l_method != method and (size or compressed_size or l_method != DEFLATED):
            raise BadWheel(wheel, name, "local header and central directory differ in the compression method")
        position = data + compressed_size
        if position > after:
            raise BadWheel(wheel, name, "the member overlaps what follows it")
        stated = (l_crc32, l_compressed, l_size)
        if flags & _DESCRIPTOR:
            if any(
                value not in (0, known) for value, known in zip(stated, (crc32, compressed_size, size), strict=True)
            ):
                raise BadWheel(wheel, name, "local header and central directory differ in size or CRC")
            if method == STORED and compressed_size and not l_compressed:
                raise BadWheel(wheel, name, "the member is stored, and only its data descriptor says how long it is")
            if l_method == DEFLATED and not compressed_size:
                raise BadWheel(wheel, name, "the member is deflated, and there is not even an empty stream")
            if not 12 <= after - position <= 24 or not _is_descriptor(
                read(position, after - position), crc32, compressed_size, size
            ):
                raise BadWheel(wheel, name, "the data descriptor differs from the central directory")
            position = after
        elif stated != (crc32, compressed_size, size):
            raise BadWheel(wheel, name, "local header and central directory differ in size or CRC")
        if name[-1] == "/":
            if crc32 or read(data, compressed_size) not in _EMPTY_STREAMS:
                raise BadWheel(wheel, name, "a directory has content")
        else:
            members.append(Member(name, mode, method, crc32, size, compressed_size, data))
    if position != stop:
        raise BadWheel(wheel, None, f"{stop - position} bytes before the central directory belong to no member")
    return members


def _is_descriptor(data: bytes, crc32: int, compressed_size: int, size: int) -> bool:
    """Whether ``data`` is the descriptor of these values, with or without signature, in either width (4.3.9).

    A CRC that looks like the signature needs the signature before it, or readers would take it for that.
    """
    forms = [struct.pack("<LQQ", crc32, compressed_size, size)]
    if compressed_size <= _NONE32 and size <= _NONE32:
        forms.append(struct.pack("<LLL", crc32, compressed_size, size))
    signed = [b"PK\7\x08" + form for form in forms]
    return data in signed or (crc32 != _SIGNATURE and data in forms)
