"""The limit: what any tool must do that verifies wheels and writes their layers, and nothing else.

Read, inflate, sha256 of the compressed and of the raw bytes, on all processors.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from isal import isal_zlib

__all__ = ["limit"]


def _one(path: Path) -> None:
    data = path.read_bytes()
    hashlib.sha256(data).digest()
    raw = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            head = member.header_offset
            start = head + 30 + int.from_bytes(data[head + 26 : head + 28], "little")
            start += int.from_bytes(data[head + 28 : head + 30], "little")
            packed = data[start : start + member.compress_size]
            raw.update(isal_zlib.decompress(packed, -15) if member.compress_type else packed)
    raw.digest()


def limit(wheels: Sequence[Path], processes: int) -> None:
    """Do the least for every wheel. Takes as long as the limit is."""
    largest_first = sorted(wheels, key=lambda path: -path.stat().st_size)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_one, largest_first))
