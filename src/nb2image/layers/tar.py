"""Tar headers: POSIX ustar, and pax records (POSIX.1-2001) only where ustar cannot say it."""

from __future__ import annotations

from functools import cache

from nb2image.layers.entry import Entry, HardLink, Link

__all__ = ["BLOCK", "END", "MTIME", "header", "padding"]

BLOCK = 512
END = bytes(2 * BLOCK)
MTIME = 315532800
"""1980-01-01, seconds: the earliest time that zip files, and so tools that re-pack an environment, can hold."""

_REGULAR, _HARD, _SYMBOLIC, _DIRECTORY, _PAX = b"0", b"1", b"2", b"5", b"x"
_MTIME = b"%011o\0" % MTIME
_MAGIC = b"ustar\x0000"
_LARGEST = 0o77777777777  # what eleven octal digits hold: one byte less than 8 GiB


def padding(size: int) -> int:
    """Zero bytes that follow ``size`` bytes of content."""
    return -size % BLOCK


@cache
def _common(mode: int, owner: tuple[int, int], kind: bytes) -> tuple[bytes, bytes, int]:
    """What most headers share: mode and owner, what follows the kind's place, and all that they add to the checksum."""
    start = b"%07o\0%07o\0%07o\0" % (mode, *owner)
    # uname, gname, devmajor and devminor stay empty: 32 + 32 + 8 + 8 bytes. The checksum counts itself as spaces.
    end = _MAGIC + bytes(80)
    return start, end, sum(start) + sum(_MTIME) + sum(b" " * 8) + sum(kind) + sum(end)


def _block(name: bytes, prefix: bytes, mode: int, owner: tuple[int, int], size: int, kind: bytes, link: bytes) -> bytes:
    start, end, checksum = _common(mode, owner, kind)
    length = b"%011o\0" % size
    checksum += sum(name) + sum(length) + sum(link) + sum(prefix)
    return b"%b%b%b%b%06o\0 %b%b%b%b" % (
        *(name.ljust(100, b"\0"), start, length, _MTIME, checksum),
        *(kind, link.ljust(100, b"\0"), end, prefix.ljust(167, b"\0")),
    )


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """``(prefix, name)`` as ustar stores a path, or None when it does not fit."""
    if len(path) <= 100:
        return b"", path
    if len(path) > 256:
        return None
    # The first slash that leaves a name of at most 100 bytes keeps the prefix shortest.
    cut = path.find(b"/", len(path) - 101)
    if cut == -1 or cut > 155 or cut == len(path) - 1:
        return None
    return path[:cut], path[cut + 1 :]


def _record(key: str, value: bytes) -> bytes:
    """One pax record: its own length, a space, ``key=value`` and a newline."""
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    if len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def header(entry: Entry) -> bytes:
    """The header block of an entry, with a pax header before it when ustar cannot hold name, link or size.

    A multiple of `BLOCK` bytes; content and padding follow it.
    """
    content = entry.content
    path = entry.path.encode()
    size = 0
    link = b""
    if content is None:
        kind = _DIRECTORY
        path += b"/"
    elif isinstance(content, Link):
        kind, link = _SYMBOLIC, content.target.encode()
    elif isinstance(content, HardLink):
        kind, link = _HARD, content.path.encode()
    else:
        kind, size = _REGULAR, content.size
    owner = (entry.uid, entry.gid)
    split = _split(path)
    if split is not None and len(link) <= 100 and size <= _LARGEST and path.isascii() and link.isascii():
        return _block(split[1], split[0], entry.mode, owner, size, kind, link)
    records = b""
    if split is None or not path.isascii():
        records += _record("path", path)
    if len(link) > 100 or not link.isascii():
        records += _record("linkpath", link)
    if size > _LARGEST:
        records += _record("size", str(size).encode())
    pax = _block(b"././@PaxHeader", b"", 0o644, (0, 0), len(records), _PAX, b"")
    body = records + bytes(padding(len(records)))
    # What pax records tell, readers take from there; what stands here instead is for those that know only ustar.
    prefix, name = split if split is not None and path.isascii() else (b"", path[-100:])
    plain = _block(name, prefix, entry.mode, owner, min(size, _LARGEST), kind, link[:100])
    return pax + body + plain
