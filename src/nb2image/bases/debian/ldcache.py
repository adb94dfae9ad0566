"""``/etc/ld.so.cache``, as ldconfig(8) would write it: without it ``ctypes.util.find_library`` finds nothing.

The format is glibc's (``sysdeps/generic/dl-cache.h``, magic ``glibc-ld.so.cache1.1``), which every suite's loader
reads. The names of shared libraries come from the packages' ``shlibs`` files (deb-shlibs(5)), so no ELF is parsed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from nb2image.bases.debian.archive import Deb
from nb2image.bases.debian.tree import Tree

__all__ = ["extend_cache", "write_cache"]

_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_LITTLE_ENDIAN = 2
_ELF_LIBC6 = 0x3
# Architecture → (multiarch folder, the flag of dl-cache.h that tells it from others).
_ARCHITECTURES = {"amd64": ("x86_64-linux-gnu", 0x0300), "arm64": ("aarch64-linux-gnu", 0x0A00)}


def write_cache(tree: Tree, debs: Sequence[Deb], architecture: str) -> None:
    """Write the cache for the libraries of these packages in the loader's default folders; none for an architecture
    whose flags are not known here."""
    if architecture not in _ARCHITECTURES:
        return
    tree.file("etc/ld.so.cache", _cache(_found(tree, debs, architecture)))


def extend_cache(tree: Tree, debs: Sequence[Deb], architecture: str) -> None:
    """The same for a tree whose cache there is to have the libraries of these packages, too.

    Variants for certain processors are dropped from it: the loader finds them without the cache.
    """
    if architecture not in _ARCHITECTURES:
        return
    rows = {(row.name, row.path): row for row in _rows(tree.read("etc/ld.so.cache") or b"")}
    rows.update({(row.name, row.path): row for row in _found(tree, debs, architecture)})
    tree.file("etc/ld.so.cache", _cache(list(rows.values())))


class _Row(NamedTuple):
    name: str
    path: str
    flags: int


def _found(tree: Tree, debs: Sequence[Deb], architecture: str) -> list[_Row]:
    triplet, flag = _ARCHITECTURES[architecture]
    found: list[_Row] = []
    for soname in sorted({name for deb in debs for name in _sonames(deb)}):
        for folder in (f"usr/lib/{triplet}", "usr/lib"):
            # The loader's folders are spelt without /usr, as on a merged system that ldconfig ran on.
            plain = f"{folder.removeprefix('usr/')}/{soname}"
            if tree.merged(plain) in tree:
                found.append(_Row(soname, f"/{plain}", flag | _ELF_LIBC6))
            elif f"{folder}/{soname}" in tree:
                found.append(_Row(soname, f"/{folder}/{soname}", flag | _ELF_LIBC6))
    return found


def _rows(data: bytes) -> list[_Row]:
    """The rows of a cache; none for one that is damaged. One of glibc 2.31 has the old format before the new."""
    start = data.find(_MAGIC)
    if start == -1 or len(data) < start + _HEADER.size:
        return []
    cache = data[start:]
    count = _HEADER.unpack_from(cache)[1]
    if len(cache) < _HEADER.size + count * _ENTRY.size:
        return []
    rows = []
    for number in range(count):
        flags, key, value, _, hwcap = _ENTRY.unpack_from(cache, _HEADER.size + number * _ENTRY.size)
        if hwcap == 0:
            rows.append(_Row(_string(cache, key), _string(cache, value), flags))
    return rows


def _string(data: bytes, start: int) -> str:
    return data[start : data.find(b"\0", start)].decode("utf-8", "surrogateescape")


def _sonames(deb: Deb) -> set[str]:
    """Both spellings of each ``library version`` row; the one that exists is a file."""
    names: set[str] = set()
    for line in deb.control.get("shlibs", b"").decode().splitlines():
        words = line.partition("#")[0].split()
        if words and words[0].endswith(":"):  # "udeb:" rows are the installer's
            words = words[1:] if words[0] != "udeb:" else []
        if len(words) >= 2:
            names.update((f"{words[0]}.so.{words[1]}", f"{words[0]}-{words[1]}.so"))
    return names


def _order(name: str) -> list[tuple[int, int]]:
    """The loader's order of names (``_dl_cache_libcmp``): digits count as one number, above any other character."""
    return [(2, int(part)) if part.isdigit() else (1, ord(part)) for part in re.findall(r"\d+|\D", name)]


def _cache(rows: Sequence[_Row]) -> bytes:
    rows = sorted(rows, key=lambda row: _order(row.name), reverse=True)
    strings = bytearray()
    table = bytearray()
    start = _HEADER.size + _ENTRY.size * len(rows)
    for name, path, flags in rows:
        value = start + len(strings)
        strings += path.encode("utf-8", "surrogateescape") + b"\0"
        if path.endswith(f"/{name}"):
            # The name is the end of the path, so one string serves both.
            key = value + len(path) - len(name)
        else:
            key = start + len(strings)
            strings += name.encode("utf-8", "surrogateescape") + b"\0"
        table += _ENTRY.pack(flags, key, value, 0, 0)
    # No extensions: their offset is 0.
    header = _HEADER.pack(_MAGIC, len(rows), len(strings), _LITTLE_ENDIAN, 0)
    return header + bytes(table) + bytes(strings)
