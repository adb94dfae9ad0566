"""Two other ways to read a zip archive: from its end, as pip does, and from its front, as uv does."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

__all__ = ["from_the_end", "from_the_front"]

_LOCAL = struct.Struct("<4s5H3L2H")


def from_the_end(data: bytes) -> dict[str, bytes]:
    """Files by name as `zipfile` finds them; directories left out. Raises what `zipfile` raises."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        found = {info.filename: archive.read(info) for info in infos}
        assert len(found) == len(infos), "two members of one name"
        return found


def from_the_front(data: bytes) -> dict[str, bytes]:
    """Files by name as the local headers give them one after another, up to the first thing that is none; directories
    left out. It uses no end record and no central directory. Raises ValueError where such a reader is lost."""
    found: dict[str, bytes] = {}
    position = 0
    while data[position : position + 4] == b"PK\3\4":
        _, _, flags, method, _, _, crc32, packed, size, name_length, extra_length = _LOCAL.unpack_from(data, position)
        position += _LOCAL.size
        name = data[position : position + name_length].decode("utf-8" if flags & 0x800 else "cp437")
        position += name_length
        extra = data[position : position + extra_length]
        position += extra_length
        wide = False
        while len(extra) >= 4:
            kind, length = struct.unpack_from("<HH", extra)
            if kind == 1:
                wide = True
                numbers = [value for (value,) in struct.iter_unpack("<Q", extra[4 : 4 + length])]
                if size == 0xFFFFFFFF:
                    size = numbers.pop(0)
                if packed == 0xFFFFFFFF:
                    packed = numbers.pop(0)
            extra = extra[4 + length :]
        unsized = bool(flags & 8) and not packed
        if method == 8 and (packed or unsized):
            stream = zlib.decompressobj(-15)
            content = stream.decompress(data[position:] if unsized else data[position : position + packed])
            if not stream.eof:
                raise ValueError(f"{name}: no end of the stream")
            used = len(data) - position - len(stream.unused_data) if unsized else packed
            if not unsized and stream.unused_data:
                raise ValueError(f"{name}: something after the stream")
        elif unsized and data[position : position + 4] != b"PK\7\x08" and data[position : position + 12] != bytes(12):
            raise ValueError(f"{name}: stored, and its size comes later")
        else:
            content, used = data[position : position + packed], packed
        position += used
        if flags & 8:
            if data[position : position + 4] == b"PK\7\x08":
                position += 4
            crc32, packed, size = struct.unpack_from("<LQQ" if wide else "<LLL", data, position)
            # Who wrote sizes of eight bytes without saying so before: seen by what follows.
            position += 20 if wide else 12
            if not wide and data[position : position + 3] not in (b"PK\3", b"PK\1"):
                position += 8
                crc32, packed, size = struct.unpack_from("<LQQ", data, position - 20)
        if (zlib.crc32(content), used, len(content)) != (crc32, packed, size):
            raise ValueError(f"{name}: sizes or CRC differ")
        if name.endswith("/"):
            continue
        if name in found:
            raise ValueError(f"{name}: twice")
        found[name] = content
    if data[position : position + 4] not in (b"PK\1\2", b"PK\5\6" if not found else b""):
        raise ValueError("something else stands before the central directory")
    return found
