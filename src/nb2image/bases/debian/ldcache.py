"""``/etc/ld.so.cache``, as ldconfig(8) would write it: without it ``ctypes.util.find_library`` finds nothing.

The format is glibc's (``sysdeps/generic/dl-cache.h``, magic ``glibc-ld.so.cache1.1``), which every suite's loader
reads. The names of shared libraries come from the packages' ``shlibs`` files (deb-shlibs(5)), so no ELF is parsed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from nb2image.bases.debian.archive import Deb
from nb2image.bases.debian.tree import Tree

__all__ = ["write_cache"]

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
    triplet, flag = _ARCHITECTURES[architecture]
    found: list[tuple[str, str]] = []
    for soname in sorted({name for deb in debs for name in _sonames(deb)}):
        for folder in (f"usr/lib/{triplet}", "usr/lib"):
            if f"{folder}/{soname}" in tree:
                # The loader's folders are spelt without /usr, as on a merged system that ldconfig ran on.
                found.append((soname, f"/{folder.removeprefix('usr/')}/{soname}"))
    found.sort(key=lambda pair: _order(pair[0]), reverse=True)
    tree.file("etc/ld.so.cache", _cache(found, flag | _ELF_LIBC6))


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


def _cache(pairs: Sequence[tuple[str, str]], flags: int) -> bytes:
    strings = bytearray()
    rows = bytearray()
    start = _HEADER.size + _ENTRY.size * len(pairs)
    for soname, path in pairs:
        # The name is the end of the path, so one string serves both.
        value = start + len(strings)
        strings += path.encode() + b"\0"
        key = value + len(path) - len(soname)
        rows += _ENTRY.pack(flags, key, value, 0, 0)
    # No extensions: their offset is 0.
    header = _HEADER.pack(_MAGIC, len(pairs), len(strings), _LITTLE_ENDIAN, 0)
    return header + bytes(rows) + bytes(strings)
