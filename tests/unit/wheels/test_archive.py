from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nb2image.errors import WheelError
from nb2image.wheels.archive import WheelArchive
from tests.unit.wheels.builder import INFO, Part, build_zip, central_header, deflate, local_header, save, wheel_parts


def test_members_are_files_in_the_order_of_their_data(tmp_path: Path) -> None:
    parts = wheel_parts(Part("z/", mode=0o40755, method=0), Part("z/b", b"1"), Part("a", b"2"))
    with WheelArchive(save(tmp_path, build_zip(parts))) as archive:
        names = ["demo/__init__.py", "z/b", "a", f"{INFO}/METADATA", f"{INFO}/WHEEL", f"{INFO}/RECORD"]
        assert list(archive.members) == names


def test_a_deflated_member_gives_its_own_stream_unchanged(tmp_path: Path) -> None:
    data = b"text " * 1000
    with WheelArchive(save(tmp_path, build_zip([Part("x", data)]))) as archive:
        content = archive.content(archive.members["x"])
        assert b"".join(content.deflated() or ()) == deflate(data)
        assert b"".join(content.chunks()) == data
        assert (content.size, content.crc32) == (len(data), zlib.crc32(data))


def test_a_stored_member_has_no_stream(tmp_path: Path) -> None:
    with WheelArchive(save(tmp_path, build_zip([Part("x", b"1", method=0)]))) as archive:
        content = archive.content(archive.members["x"])
        assert content.deflated() is None
        assert list(content.chunks()) == [b"1"]


def test_an_empty_member_without_a_stream_counts_as_stored(tmp_path: Path) -> None:
    with WheelArchive(save(tmp_path, build_zip([Part("x", stream=b"")]))) as archive:
        content = archive.content(archive.members["x"])
        assert content.deflated() is None
        assert list(content.chunks()) == []


@pytest.mark.parametrize("method", [0, 8])
def test_a_large_member_comes_in_small_pieces_and_twice_if_asked(tmp_path: Path, method: int) -> None:
    data = bytes(range(256)) * (17 << 12) + bytes(200 << 10)
    with WheelArchive(save(tmp_path, build_zip([Part("x", data, method=method)]))) as archive:
        content = archive.content(archive.members["x"])
        for _ in range(2):
            pieces = list(content.chunks())
            assert max(map(len, pieces)) <= 1 << 20
            assert b"".join(pieces) == data


def test_a_large_stream_is_given_in_small_pieces(tmp_path: Path) -> None:
    data = b"".join(zlib.crc32(n.to_bytes(4, "little")).to_bytes(4, "little") for n in range(9 << 18))[: 17 << 20]
    data += bytes(8 << 20)
    with WheelArchive(save(tmp_path, build_zip([Part("x", data)]))) as archive:
        content = archive.content(archive.members["x"])
        stream = list(content.deflated() or ())
        assert b"".join(stream) == deflate(data)
        assert b"".join(content.chunks()) == data


def test_the_head_of_a_member_is_read_without_the_rest(tmp_path: Path) -> None:
    parts = [Part("deflated", b"0123456789" * 99), Part("stored", b"0123456789", method=0), Part("empty")]
    with WheelArchive(save(tmp_path, build_zip(parts))) as archive:
        heads = [archive.content(archive.members[str(part.name)]).head(8) for part in parts]
        assert heads == [b"01234567", b"01234567", b""]


def test_several_threads_may_read_one_archive(tmp_path: Path) -> None:
    parts = [Part(f"x{n}", bytes([n]) * 100_000) for n in range(20)]
    with WheelArchive(save(tmp_path, build_zip(parts))) as archive, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(archive.read, list(archive.members.values()) * 5))
    assert found == [part.data for part in parts] * 5


def test_a_wheel_beyond_4_gb_is_read(tmp_path: Path) -> None:
    size = 5 << 30
    zip64 = {"size": 0xFFFFFFFF, "compressed_size": 0xFFFFFFFF, "extra": struct.pack("<HHQQ", 1, 16, size, size)}
    large = Part("demo/large", method=0)
    path = tmp_path / "large.whl"
    directory = central_header({"offset": 0, **large.values(zip64)})
    with path.open("wb") as stream:
        stream.write(local_header(large.values(zip64)))
        stream.seek(size, os.SEEK_CUR)  # sparse: takes no space
        for part in wheel_parts():
            offset = {"offset": 0xFFFFFFFF, "extra": struct.pack("<HHQ", 1, 8, stream.tell())}
            directory += central_header(part.values(offset))
            stream.write(local_header(part.values({})) + part.payload)
        start = stream.tell()
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 5, 5, len(directory), start)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(directory), 1)
        stream.write(directory + end + locator)
        stream.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(directory), 0xFFFFFFFF, 0))
    with WheelArchive(path) as archive:
        assert archive.members["demo/large"].size == size
        assert next(archive.content(archive.members["demo/large"]).chunks()) == bytes(1 << 20)
        assert archive.read(archive.members["demo/__init__.py"]) == b"answer = 42\n" * 40


def test_a_closed_archive_cannot_be_read(tmp_path: Path) -> None:
    with WheelArchive(save(tmp_path, build_zip([Part("x", b"1")]))) as archive:
        content = archive.content(archive.members["x"])
    with pytest.raises(WheelError, match="cannot be read"):
        list(content.chunks())


def test_messages_use_the_given_filename(tmp_path: Path) -> None:
    path = save(tmp_path, b"", "0f3a")
    with pytest.raises(WheelError, match=r"numpy-1\.whl: there is no end record"):
        WheelArchive(path, "numpy-1.whl")
