"""Wheels built byte by byte, so that each byte can be made to lie."""

from __future__ import annotations

import csv
import hashlib
import io
import struct
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INFO = "demo-1.0.dist-info"
METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n\nA description: with a colon.\n"
WHEEL = b"Wheel-Version: 1.0\nGenerator: builder\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
FILENAME = "demo-1.0-py3-none-any.whl"


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


@dataclass
class Part:
    """One member. ``central`` and ``local`` override header fields by name (``size``, ``crc32``, ``flags`` …);
    ``after`` is put between its data and the next local header."""

    name: str | bytes
    data: bytes = b""
    mode: int = 0o100644
    method: int = 8
    flags: int = 0
    stream: bytes | None = None
    """What stands in the archive instead of the compressed data."""
    central: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    after: bytes = b""

    @property
    def raw_name(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def payload(self) -> bytes:
        if self.stream is not None:
            return self.stream
        return deflate(self.data) if self.method == 8 else self.data

    def values(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        flags = self.flags if self.raw_name.isascii() or isinstance(self.name, bytes) else self.flags | 0x800
        return {
            "signature": None,
            "needed": 20,
            "name": self.raw_name,
            "flags": flags,
            "method": self.method,
            "crc32": zlib.crc32(self.data),
            "compressed_size": len(self.payload),
            "size": len(self.data),
            "extra": b"",
            "comment": b"",
            "disk": 0,
            "external": self.mode << 16,
            **overrides,
        }


def local_header(v: Mapping[str, Any]) -> bytes:
    fixed = struct.pack(
        "<4s5H3L2H",
        v["signature"] or b"PK\3\4",
        v["needed"],
        v["flags"],
        v["method"],
        0,
        33,
        v["crc32"],
        v["compressed_size"],
        v["size"],
        len(v["name"]),
        len(v["extra"]),
    )
    return b"".join((fixed, v["name"], v["extra"]))


def central_header(v: Mapping[str, Any]) -> bytes:
    fixed = struct.pack(
        "<4s6H3L5H2L",
        v["signature"] or b"PK\1\2",
        0x0314,
        v["needed"],
        v["flags"],
        v["method"],
        0,
        33,
        v["crc32"],
        v["compressed_size"],
        v["size"],
        len(v["name"]),
        len(v["extra"]),
        len(v["comment"]),
        v["disk"],
        0,
        v["external"],
        v["offset"],
    )
    return b"".join((fixed, v["name"], v["extra"], v["comment"]))


def build_zip(
    parts: Iterable[Part],
    *,
    prefix: bytes = b"",
    before_directory: bytes = b"",
    after_directory: bytes = b"",
    comment: bytes = b"",
    trailing: bytes = b"",
    end: Mapping[str, int] | None = None,
    zip64: Mapping[str, int] | None = None,
) -> bytes:
    """An archive; ``end`` overrides fields of the end record, ``zip64`` asks for a zip64 end record (and overrides
    its fields), to which the end record then refers in every field."""
    body = bytearray(prefix)
    directory = bytearray()
    count = 0
    for part in parts:
        offset = len(body)
        body += local_header(part.values(part.local)) + part.payload + part.after
        directory += central_header({"offset": offset, **part.values(part.central)})
        count += 1
    body += before_directory
    start = len(body)
    body += directory + after_directory
    fields = {"disk": 0, "first_disk": 0, "here": count, "count": count, "size": len(directory), "start": start}
    if zip64 is not None:
        where = len(body)
        v = {**fields, "record_size": 44, "where": where, "disks": 1, **zip64}
        body += struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", v["record_size"], 45, 45, v["disk"], v["first_disk"],
            v["here"], v["count"], v["size"], v["start"],
        )  # fmt: skip
        body += struct.pack("<4sLQL", b"PK\6\7", 0, v["where"], v["disks"])
        fields |= {"here": 0xFFFF, "count": 0xFFFF, "size": 0xFFFFFFFF, "start": 0xFFFFFFFF}
    v = {**fields, "comment": len(comment), **(end or {})}
    body += struct.pack(
        "<4s4H2LH", b"PK\5\6", v["disk"], v["first_disk"], v["here"], v["count"], v["size"], v["start"], v["comment"]
    )
    return bytes(body + comment + trailing)


def hash_row(name: str, data: bytes) -> str:
    value = urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow((name, f"sha256={value}", len(data)))
    return text.getvalue()


def wheel_parts(
    *extra: Part,
    record: str | None = None,
    metadata: bytes | None = METADATA,
    wheel: bytes | None = WHEEL,
    info: str = INFO,
) -> list[Part]:
    """A small honest wheel with ``extra`` members; RECORD is made for them unless ``record`` is given."""
    parts = [Part("demo/__init__.py", b"answer = 42\n" * 40), *extra]
    parts += [Part(f"{info}/{n}", d) for n, d in (("METADATA", metadata), ("WHEEL", wheel)) if d is not None]
    if record is None:
        named = [(p.name, p.data) for p in parts if isinstance(p.name, str) and not p.name.endswith("/")]
        record = "".join(hash_row(name, data) for name, data in named) + f"{info}/RECORD,,\n"
    return [*parts, Part(f"{info}/RECORD", record.encode())]


def save(folder: Path, data: bytes, filename: str = FILENAME) -> Path:
    path = folder / filename
    path.write_bytes(data)
    return path
