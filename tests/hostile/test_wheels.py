"""Wheels that lie: each must be refused with the wheel, the member and the rule."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.errors import BadWheel, WheelError
from nb2image.layers.entry import Entry
from nb2image.wheels import directory
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import Scheme, install
from tests.unit.wheels.builder import FILENAME, INFO, METADATA, WHEEL, Part, build_zip, deflate, save, wheel_parts

SCHEME = Scheme("/opt/kernel", "3.11")


def read_through(path: Path) -> dict[str, bytes]:
    """Install a wheel and read every content, as a layer writer does."""
    with WheelArchive(path) as archive:
        entries: list[Entry] = list(install(archive, SCHEME, name=canonicalize_name("demo"), version=Version("1.0")))
        found = {}
        for entry in entries:
            assert not isinstance(entry.content, tuple)
            assert entry.content is not None
            data = b"".join(entry.content.chunks())
            deflated = entry.content.deflated()
            if deflated is not None:
                assert zlib.decompress(b"".join(deflated), -15) == data
            assert (len(data), zlib.crc32(data)) == (entry.content.size, entry.content.crc32)
            found[entry.path] = data
        return found


def refusal(folder: Path, data: bytes) -> BadWheel:
    with pytest.raises(BadWheel) as caught:
        read_through(save(folder, data))
    assert caught.value.wheel == FILENAME
    assert FILENAME in str(caught.value)
    return caught.value


def assert_refused(folder: Path, data: bytes, member: str | None, rule: str) -> None:
    error = refusal(folder, data)
    assert (error.member, rule in error.rule) == (member, True), str(error)


# -- what must be accepted -----------------------------------------------------------------------------------


def test_an_honest_wheel_is_accepted(tmp_path: Path) -> None:
    found = read_through(save(tmp_path, build_zip(wheel_parts(Part("demo/data.bin", bytes(3000), method=0)))))
    assert found["opt/kernel/lib/python3.11/site-packages/demo/__init__.py"] == b"answer = 42\n" * 40
    assert found["opt/kernel/lib/python3.11/site-packages/demo/data.bin"] == bytes(3000)


def test_a_wheel_written_by_the_standard_library_is_accepted(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in wheel_parts(Part("demo/größe.txt", b"utf-8")):
            archive.writestr(str(part.name), part.data)
        with archive.open(zipfile.ZipInfo("demo/"), "w"):
            pass
    assert len(read_through(save(tmp_path, buffer.getvalue()))) == 7


def test_a_streamed_archive_with_data_descriptors_is_accepted(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    for large in (False, True):
        buffer = Pipe()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in wheel_parts():
                with archive.open(str(part.name), "w", force_zip64=large) as stream:
                    stream.write(part.data)
        assert buffer.getvalue()[6] & 8
        assert len(read_through(save(tmp_path, buffer.getvalue()))) == 6


def test_a_zip64_archive_is_accepted(tmp_path: Path) -> None:
    data = b"x" * 50
    part = Part("demo/large", data, method=0)
    extra = struct.pack("<HHQQ", 1, 16, 50, 50)
    part.local = {"size": 0xFFFFFFFF, "compressed_size": 0xFFFFFFFF, "extra": extra}
    part.central = dict(part.local)
    assert len(read_through(save(tmp_path, build_zip(wheel_parts(part), zip64={})))) == 7


def test_directories_are_read_over(tmp_path: Path) -> None:
    parts = [
        Part("demo/sub/", mode=0o40755, method=0),
        Part("other/", mode=0o40755, method=8),
        *wheel_parts(),
    ]
    assert len(read_through(save(tmp_path, build_zip(parts)))) == 6


@pytest.mark.parametrize(
    "name", ["demo/a..b", "demo/...", "demo/.hidden", "demo/x.wh.y", "demo/a:b", "demo/a b", "d/" * 200 + "x"]
)
def test_odd_but_harmless_names_are_accepted(tmp_path: Path, name: str) -> None:
    assert len(read_through(save(tmp_path, build_zip(wheel_parts(Part(name, b"1")))))) == 7


# -- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("../evil", "leaves the archive"),
        ("demo/../../evil", "leaves the archive"),
        ("demo/..", "leaves the archive"),
        ("/etc/passwd", "absolute"),
        ("C:/evil", "drive letter"),
        ("c:evil", "drive letter"),
        ("demo\\..\\evil", "backslash"),
        ("demo/e\0vil", "control character"),
        ("demo/e\nvil", "control character"),
        ("\ndemo", "control character"),
        ("demo/e\x1b[31mvil", "control character"),
        ("demo/\x85", "control character"),
        ("demo//evil", "empty or '.' part"),
        ("./evil", "empty or '.' part"),
        ("demo/./evil", "empty or '.' part"),
        ("demo/.", "empty or '.' part"),
        ("demo//", "empty or '.' part"),
        ("/", "empty or '.' part"),
        ("", "empty or '.' part"),
        (".wh.lib", "whiteout"),
        ("demo/.wh..wh..opq", "whiteout"),
        ("demo/.wh.x/y", "whiteout"),
        ("demo/" + "n" * 256, "longer than 255 bytes"),
        ("demo/" + "ü" * 128, "longer than 255 bytes"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, rule: str) -> None:
    part = Part(name, mode=0o40755 if name.endswith("/") else 0o100644, method=0)
    assert_refused(tmp_path, build_zip(wheel_parts(part, record="")), name, rule)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    parts = wheel_parts(Part(b"demo/\xff", flags=0x800))
    assert_refused(tmp_path, build_zip(parts), "demo/\\xff", "not UTF-8")


def test_a_name_beyond_ascii_that_is_not_marked_as_utf8_is_refused(tmp_path: Path) -> None:
    parts = wheel_parts(Part("demo/ü".encode()))
    assert_refused(tmp_path, build_zip(parts), "demo/ü", "not marked as UTF-8")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    parts = wheel_parts(Part("demo/x", b"1"), Part("demo/x", b"1"))
    assert_refused(tmp_path, build_zip(parts), "demo/x", "two members")


def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    for other in ("demo/x/y", "demo/x/y/z", "demo/x/"):
        mode = 0o40755 if other.endswith("/") else 0o100644
        parts = wheel_parts(Part("demo/x", b"1"), Part(other, mode=mode, method=0))
        assert_refused(tmp_path, build_zip(parts), "demo/x", "a file and of a folder")


# -- kinds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode", "rule"),
    [
        ("demo/x", 0o120777, "symbolic link"),
        ("demo/x", 0o010644, "neither a file nor a directory"),
        ("demo/x", 0o020644, "neither a file nor a directory"),
        ("demo/x", 0o060644, "neither a file nor a directory"),
        ("demo/x", 0o140755, "neither a file nor a directory"),
        ("demo/x", 0o040755, "neither a file nor a directory"),
        ("demo/x/", 0o100644, "the mode is not"),
        ("demo/x/", 0o120777, "the mode is not"),
    ],
)
def test_a_member_that_is_no_regular_file_is_refused(tmp_path: Path, name: str, mode: int, rule: str) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(Part(name, mode=mode, method=0))), name, rule)


def test_a_directory_with_content_is_refused(tmp_path: Path) -> None:
    for part in (Part("demo/x/", b"hidden", mode=0o40755), Part("demo/x/", mode=0o40755, stream=bytes(6))):
        assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x/", "a directory has content")


@pytest.mark.parametrize("flags", [0x1, 0x40, 0x2000])
def test_an_encrypted_member_is_refused(tmp_path: Path, flags: int) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(Part("demo/x", b"1", flags=flags))), "demo/x", "encrypted")


@pytest.mark.parametrize("flags", [0x10, 0x20, 0x80, 0x8000])
def test_an_unknown_flag_is_refused(tmp_path: Path, flags: int) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(Part("demo/x", b"1", flags=flags))), "demo/x", "unknown flags")


@pytest.mark.parametrize("method", [1, 9, 12, 14, 93, 99])
def test_an_unknown_compression_method_is_refused(tmp_path: Path, method: int) -> None:
    assert_refused(
        tmp_path, build_zip(wheel_parts(Part("demo/x", b"1", method=method))), "demo/x", "compression method"
    )


# -- central directory against local headers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "rule"),
    [
        ({"name": b"demo/y"}, "another name"),
        ({"name": b"demo/xy"}, "another name"),
        ({"size": 5}, "differ in size or CRC"),
        ({"compressed_size": 1}, "differ in size or CRC"),
        ({"crc32": 1}, "differ in size or CRC"),
        ({"crc32": 0, "size": 0, "compressed_size": 0}, "differ in size or CRC"),
        ({"method": 0}, "compression method"),
        ({"flags": 2}, "differ in the flags"),
        ({"flags": 8}, "differ in the flags"),
        ({"signature": b"PK\7\7"}, "no local header"),
        ({"size": 0xFFFFFFFF}, "differ in size or CRC"),
        ({"size": 0xFFFFFFFF, "extra": struct.pack("<HHL", 1, 4, 9)}, "zip64 field does not hold"),
        ({"size": 0xFFFFFFFF, "extra": struct.pack("<HH", 5, 0)}, "zip64 field does not hold"),
        ({"extra": struct.pack("<HHQQ", 1, 16, 9, 9)}, "zip64 field contradicts"),
        ({"extra": b"\1\0\xff\0"}, "extra field exceeds"),
        ({"extra": b"\1"}, "extra field exceeds"),
        ({"extra": struct.pack("<HH", 0x7075, 0)}, "second name"),
        ({"extra": struct.pack("<HH", 0x9901, 0)}, "encrypted"),
        ({"extra": struct.pack("<HHHH", 5, 0, 5, 0)}, "of one kind"),
    ],
)
def test_a_local_header_that_contradicts_the_directory_is_refused(
    tmp_path: Path, local: dict[str, Any], rule: str
) -> None:
    part = Part("demo/x", b"1234" * 9, local=local)
    assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", rule)


@pytest.mark.parametrize(
    ("central", "rule"),
    [
        ({"comment": b"hi"}, "comment"),
        ({"disk": 1}, "another disk"),
        ({"disk": 0xFFFF, "extra": struct.pack("<HHL", 1, 4, 1)}, "another disk"),
        ({"disk": 0xFFFF}, "another disk"),
        ({"size": 0xFFFFFFFF}, "zip64 field"),
        ({"size": 0xFFFFFFFF, "extra": struct.pack("<HHL", 1, 4, 4)}, "zip64 field"),
        ({"extra": struct.pack("<HH", 0x7075, 0)}, "second name"),
    ],
)
def test_an_odd_directory_record_is_refused(tmp_path: Path, central: dict[str, Any], rule: str) -> None:
    part = Part("demo/x", b"1234" * 9, central=central)
    assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", rule)


def test_a_data_descriptor_that_contradicts_the_directory_is_refused(tmp_path: Path) -> None:
    data = b"1234" * 9
    honest = struct.pack("<LLL", zlib.crc32(data), len(deflate(data)), len(data))
    zeros = {"crc32": 0, "size": 0, "compressed_size": 0}
    for signature in (b"", b"PK\7\x08"):
        part = Part("demo/x", data, flags=8, local=zeros, after=signature + honest)
        read_through(save(tmp_path, build_zip(wheel_parts(part))))
    for wrong in (b"", honest[:-1], bytes(12), honest[:8] + b"\7\0\0\0", b"PK\7\7" + honest, bytes(30)):
        part = Part("demo/x", data, flags=8, local=zeros, after=wrong)
        assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", "data descriptor")
    part = Part("demo/x", data, flags=8, local={**zeros, "size": 7}, after=honest)
    assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", "differ in size or CRC")


# -- where things stand ------------------------------------------------------------------------------------------


def test_bytes_before_the_first_member_are_refused(tmp_path: Path) -> None:
    data = build_zip(wheel_parts(), prefix=b"#!/bin/sh\n")
    assert_refused(tmp_path, data, "demo/__init__.py", "belong to nothing")


def test_bytes_between_members_are_refused(tmp_path: Path) -> None:
    part = Part("demo/x", b"1", after=b"gap")
    assert_refused(tmp_path, build_zip(wheel_parts(part)), f"{INFO}/METADATA", "belong to nothing")


def test_a_member_that_the_directory_hides_is_refused(tmp_path: Path) -> None:
    hidden = build_zip([Part("demo/hidden", b"1")])[:43]
    part = Part("demo/x", b"1", after=hidden)
    assert_refused(tmp_path, build_zip(wheel_parts(part)), f"{INFO}/METADATA", "belong to nothing")


def test_bytes_before_the_central_directory_are_refused(tmp_path: Path) -> None:
    block = struct.pack("<Q", 24) + b"APK Sig Block 42"
    assert_refused(tmp_path, build_zip(wheel_parts(), before_directory=block), None, "belong to no member")


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    parts = [*wheel_parts(), Part("demo/x", b"answer = 42\n" * 40, central={"offset": 0})]
    assert_refused(tmp_path, build_zip(parts), "demo/__init__.py", "overlaps")


def test_a_member_that_reaches_into_the_next_one_is_refused(tmp_path: Path) -> None:
    stream = deflate(b"1")
    lie = {"compressed_size": len(stream) + 20, "size": 1}
    part = Part("demo/x", b"1", stream=stream, central=lie, local=lie)
    assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", "overlaps")


def test_a_member_beyond_the_end_is_refused(tmp_path: Path) -> None:
    parts = wheel_parts(Part("demo/x", b"1", central={"offset": 1 << 30}))
    assert_refused(tmp_path, build_zip(parts), f"{INFO}/METADATA", "belong to nothing")


def test_trailing_data_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(), trailing=b"x"), None, "follows the end record")


def test_a_comment_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(), comment=b"hello"), None, "follows the end record")


def test_a_comment_that_is_announced_but_absent_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(), end={"comment": 5}), None, "a comment that is not there")


def test_a_zip_in_the_comment_is_refused(tmp_path: Path) -> None:
    inner = build_zip(wheel_parts(Part("demo/x", b"1")))
    assert isinstance(refusal(tmp_path, build_zip(wheel_parts(), comment=inner)), BadWheel)


def test_two_archives_in_one_file_are_refused(tmp_path: Path) -> None:
    one = build_zip(wheel_parts())
    assert isinstance(refusal(tmp_path, one + build_zip(wheel_parts(Part("demo/x", b"1")), prefix=b"")), BadWheel)


def test_several_end_records_are_refused(tmp_path: Path) -> None:
    record = build_zip(wheel_parts())[-22:]
    assert_refused(tmp_path, build_zip(wheel_parts(), after_directory=record), None, "several end records")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    data = build_zip(wheel_parts())
    for length in (0, 10, 100, len(data) - 1):
        assert_refused(tmp_path, data[:length], None, "no end record")


def test_something_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, b"<html>not found</html>" * 9, None, "no end record")


@pytest.mark.parametrize(
    "end", [{"disk": 1}, {"first_disk": 1}, {"here": 1}], ids=["this disk", "first disk", "records here"]
)
def test_an_archive_on_several_disks_is_refused(tmp_path: Path, end: dict[str, int]) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(), end=end), None, "several disks")


@pytest.mark.parametrize(
    ("end", "rule"),
    [
        ({"count": 3, "here": 3}, "holds more than the records"),
        ({"count": 5, "here": 5}, "holds fewer records"),
        ({"size": 10}, "does not end where the end record begins"),
        ({"start": 10}, "does not end where the end record begins"),
        ({"count": 0xFFFF, "here": 0xFFFF}, "zip64 end record that is not there"),
        ({"start": 0xFFFFFFFF}, "zip64 end record that is not there"),
    ],
)
def test_an_end_record_that_lies_is_refused(tmp_path: Path, end: dict[str, int], rule: str) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(), end=end), None, rule)


@pytest.mark.parametrize(
    ("zip64", "end", "rule"),
    [
        ({"where": 0}, {}, "directly before its locator"),
        ({"record_size": 45}, {}, "directly before its locator"),
        ({"disks": 2}, {}, "several disks"),
        ({"disk": 1}, {}, "several disks"),
        ({"here": 3}, {}, "several disks"),
        ({}, {"start": 7}, "contradict"),
        ({}, {"count": 3, "here": 3}, "contradict"),
    ],
)
def test_a_zip64_end_record_that_lies_is_refused(
    tmp_path: Path, zip64: dict[str, int], end: dict[str, int], rule: str
) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(), zip64=zip64, end=end), None, rule)


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    part = Part("demo/x", b"1", central={"signature": b"PK\5\5"})
    assert_refused(tmp_path, build_zip(wheel_parts(part)), None, "no file header")


# -- sizes ---------------------------------------------------------------------------------------------------------


def test_more_than_deflate_can_give_is_refused(tmp_path: Path) -> None:
    lie = {"size": 1033 * 3}
    part = Part("demo/x", b"", stream=b"123", central=lie, local=lie)
    assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", "cannot inflate to")


def test_a_bomb_in_one_member_is_refused_without_inflating_it(tmp_path: Path) -> None:
    zeros = bytes(65 << 20)
    assert_refused(tmp_path, build_zip(wheel_parts(Part("demo/x", zeros))), "demo/x", "bomb")


def test_a_bomb_of_many_members_is_refused(tmp_path: Path) -> None:
    zeros = bytes(1 << 20)
    stream = deflate(zeros)
    parts = [Part(f"demo/{n}", zeros, stream=stream) for n in range(66)]
    assert_refused(tmp_path, build_zip(wheel_parts(*parts)), None, "bomb")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_MAX_MEMBERS", 3)
    assert_refused(tmp_path, build_zip(wheel_parts()), None, "4 members; at most 3")


def test_a_directory_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_MAX_DIRECTORY", 100)
    assert_refused(tmp_path, build_zip(wheel_parts()), None, "at most 100 are accepted")


def test_a_stored_member_of_two_sizes_is_refused(tmp_path: Path) -> None:
    lie = {"size": 2}
    part = Part("demo/x", b"1", method=0, central=lie, local=lie)
    assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", "two sizes differ")


@pytest.mark.parametrize("size", [100, 20 << 20], ids=["small", "streamed"])
@pytest.mark.parametrize(
    ("stream", "rule"),
    [
        (lambda s: s[:-1], "cut short"),
        (lambda s: s + b"x", "follows the deflate stream"),
        (lambda s: s + s, "follows the deflate stream"),
        (lambda s: s + bytes(min(len(s), 3 << 20)), "follows the deflate stream"),
        (lambda s: b"\xff" * len(s), "damaged"),
    ],
    ids=["short", "one byte more", "a second stream", "zeros", "no deflate"],
)
def test_a_stream_that_does_not_end_with_its_member_is_refused(
    tmp_path: Path, size: int, stream: Any, rule: str
) -> None:
    data = bytes(range(250)) * (size // 250 + 1)
    incompressible = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * (size // 8192 + 1)
    for content in (data, incompressible):
        part = Part("demo/x", content, stream=stream(deflate(content)))
        assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", rule)


@pytest.mark.parametrize("size", [100, 20 << 20], ids=["small", "streamed"])
@pytest.mark.parametrize(("difference", "rule"), [(1, "instead of"), (-1, "more than the stated")])
def test_content_of_another_size_is_refused(tmp_path: Path, size: int, difference: int, rule: str) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    lie = {"size": len(data) + difference}
    part = Part("demo/x", data, central=lie, local=lie)
    parts = wheel_parts(part)
    parts[-1].data = parts[-1].data.replace(b"," + str(len(data)).encode() + b"\n", b",\n")
    assert_refused(tmp_path, build_zip(parts), "demo/x", rule)


@pytest.mark.parametrize("method", [0, 8])
def test_content_of_another_crc_is_refused(tmp_path: Path, method: int) -> None:
    part = Part("demo/x", b"1", method=method, central={"crc32": 7}, local={"crc32": 7})
    assert_refused(tmp_path, build_zip(wheel_parts(part)), "demo/x", "CRC-32")


# -- RECORD and metadata ---------------------------------------------------------------------------------------------


def with_record(*extra: Part, old: str, new: str) -> bytes:
    parts = wheel_parts(*extra)
    record = parts[-1].data.decode()
    assert old in record
    return build_zip([*parts[:-1], Part(f"{INFO}/RECORD", record.replace(old, new).encode())])


def test_a_wheel_without_record_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts()[:-1]), f"{INFO}/RECORD", "no RECORD")


def test_a_file_that_record_does_not_mention_is_refused(tmp_path: Path) -> None:
    data = with_record(Part("demo/x", b"1"), old="demo/x,", new="demo/y,")
    assert_refused(tmp_path, data, "demo/x", "does not mention")


def test_content_of_another_hash_is_refused(tmp_path: Path) -> None:
    good, bad = (urlsafe_b64encode(hashlib.sha256(x).digest()).decode().rstrip("=") for x in (b"1", b"2"))
    data = with_record(Part("demo/x", b"1"), old=good, new=bad)
    assert_refused(tmp_path, data, "demo/x", "another sha256")


def test_metadata_of_another_hash_is_refused(tmp_path: Path) -> None:
    good, bad = (urlsafe_b64encode(hashlib.sha256(x).digest()).decode().rstrip("=") for x in (METADATA, b"2"))
    assert_refused(tmp_path, with_record(old=good, new=bad), f"{INFO}/METADATA", "another sha256")


def test_a_size_other_than_record_states_is_refused(tmp_path: Path) -> None:
    data = with_record(Part("demo/x", b"12345" * 1000), old=",5000", new=",5001")
    assert_refused(tmp_path, data, "demo/x", "RECORD states 5001 bytes")


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224"])
def test_a_weak_hash_is_refused(tmp_path: Path, algorithm: str) -> None:
    value = urlsafe_b64encode(hashlib.new(algorithm, b"1").digest()).decode().rstrip("=")
    good = urlsafe_b64encode(hashlib.sha256(b"1").digest()).decode().rstrip("=")
    data = with_record(Part("demo/x", b"1"), old=f"sha256={good}", new=f"{algorithm}={value}")
    assert_refused(tmp_path, data, "demo/x", f"only a hash of {algorithm}")


def test_a_file_without_hash_is_refused(tmp_path: Path) -> None:
    good = urlsafe_b64encode(hashlib.sha256(b"1").digest()).decode().rstrip("=")
    data = with_record(Part("demo/x", b"1"), old=f"sha256={good},1", new=",")
    assert_refused(tmp_path, data, "demo/x", "no hash")


def test_one_file_with_two_hashes_is_refused(tmp_path: Path) -> None:
    data = with_record(Part("demo/x", b"1"), old="demo/x,", new="demo/x,sha256=abc,1\ndemo/x,")
    assert_refused(tmp_path, data, "demo/x", "twice")


@pytest.mark.parametrize("record", [b"\xff\xfe", b'"' + b"x" * 140_000], ids=["not utf-8", "a field too long"])
def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path, record: bytes) -> None:
    parts = [*wheel_parts()[:-1], Part(f"{INFO}/RECORD", record)]
    assert_refused(tmp_path, build_zip(parts), f"{INFO}/RECORD", "RECORD is no")


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        (None, "missing"),
        (b"\xff", "not UTF-8"),
        (b"Name: demo\n", "no version"),
        (b"Name: demo\nVersion: one\n", "no version"),
        (b"Name: demo\nVersion: 2.0\n", "METADATA says demo 2.0"),
        (b"Name: other\nVersion: 1.0\n", "METADATA says other 1.0"),
        (b"Version: 1.0\n", "METADATA says"),
    ],
)
def test_metadata_of_something_else_is_refused(tmp_path: Path, metadata: bytes | None, rule: str) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(metadata=metadata)), f"{INFO}/METADATA", rule)


@pytest.mark.parametrize(
    ("wheel", "rule"),
    [
        (None, "missing"),
        (b"\xff", "not UTF-8"),
        (b"Generator: x\n", "no version"),
        (b"Wheel-Version: one\n", "no version"),
        (b"Wheel-Version: 2.0\n", "only 1.x"),
    ],
)
def test_a_wheel_format_that_is_unknown_is_refused(tmp_path: Path, wheel: bytes | None, rule: str) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(wheel=wheel)), f"{INFO}/WHEEL", rule)


def test_a_wheel_of_another_package_is_refused(tmp_path: Path) -> None:
    info = "other-1.0.dist-info"
    assert_refused(tmp_path, build_zip(wheel_parts(info=info)), info, "not one of demo")


def test_two_dist_info_folders_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(Part("x-1.dist-info/WHEEL", WHEEL))), None, "several .dist-info")


def test_no_dist_info_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, build_zip([Part("demo.py", b"1")]), None, "no .dist-info")
    assert_refused(tmp_path, build_zip([]), None, "no .dist-info")


def test_metadata_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nb2image.wheels.archive._IN_MEMORY", 100)
    assert_refused(tmp_path, build_zip(wheel_parts()), f"{INFO}/RECORD", "too many for what it is")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("demo-1.0.data/evil/x", "none of .data's folders"),
        ("demo-1.0.data/scripts", "none of .data's folders"),
        ("demo-1.0.data/x", "none of .data's folders"),
        ("demo-1.0.data/scripts/python", "the environment's own"),
        ("demo-1.0.data/scripts/python3.11", "the environment's own"),
        ("demo-1.0.data/data/bin/python3", "the environment's own"),
        ("demo-1.0.data/data/bin/pypy3", "the environment's own"),
        ("demo-1.0.data/data/pyvenv.cfg", "the environment's own"),
    ],
)
def test_data_that_goes_nowhere_or_over_the_interpreter_is_refused(tmp_path: Path, name: str, rule: str) -> None:
    assert_refused(tmp_path, build_zip(wheel_parts(Part(name, b"1"))), name, rule)


def test_data_that_is_a_file_where_another_needs_a_folder_is_refused(tmp_path: Path) -> None:
    parts = wheel_parts(Part("demo/y/z", b"1"), Part("demo-1.0.data/purelib/demo/y", b"1"))
    folder = "opt/kernel/lib/python3.11/site-packages/demo/y"
    assert_refused(tmp_path, build_zip(parts), folder, "a file and a folder")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("python = demo:main", "the environment's interpreter"),
        ("python3 = demo:main", "the environment's interpreter"),
        ("Python3.11 = demo:main", "the environment's interpreter"),
        ("pypy3 = demo:main", "the environment's interpreter"),
        ("../x = demo:main", "outside the scripts folder"),
        ("a/b = demo:main", "outside the scripts folder"),
        ("a\\b = demo:main", "outside the scripts folder"),
        (".. = demo:main", "outside the scripts folder"),
        ("= demo:main", "outside the scripts folder"),
        ("a b = demo:main", "outside the scripts folder"),
        ("x = demo", "no module and function"),
        ("x = demo:main; import os", "no module and function"),
        ("x = demo:a:b", "no module and function"),
        ("x =", "no object reference"),
        ("x", "no object reference"),
    ],
)
def test_an_entry_point_that_is_no_plain_script_is_refused(tmp_path: Path, line: str, rule: str) -> None:
    path = f"{INFO}/entry_points.txt"
    for group in ("console_scripts", "gui_scripts"):
        part = Part(path, f"[{group}]\n{line}\n".encode())
        assert_refused(tmp_path, build_zip(wheel_parts(part)), path, rule)


def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"demo\.whl cannot be read"):
        WheelArchive(tmp_path / "demo.whl")
    with pytest.raises(WheelError, match=r"demo\.whl cannot be read"):
        WheelArchive(tmp_path, "demo.whl")


# -- anything at all ---------------------------------------------------------------------------------------------------

HONEST = build_zip(
    wheel_parts(
        Part("demo/data.bin", bytes(500), method=0),
        Part("demo/sub/", mode=0o40755, method=0),
        Part("demo-1.0.data/scripts/run", b"#!python\nprint()\n", mode=0o100755),
        Part(f"{INFO}/entry_points.txt", b"[console_scripts]\ndemo = demo:main\n"),
    )
)
CONTENTS = HONEST.index(b"PK\1\2")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(
            st.one_of(st.integers(0, len(HONEST) - 1), st.integers(CONTENTS, len(HONEST) - 1)),
            st.binary(min_size=0, max_size=6),
            st.integers(0, 6),
        ),
        min_size=1,
        max_size=4,
    )
)
@example(edits=[(0, b"", 0)])
def test_a_damaged_wheel_is_refused_or_gives_the_same_files(
    tmp_path: Path, edits: list[tuple[int, bytes, int]]
) -> None:
    damaged = HONEST
    for position, replacement, length in edits:
        damaged = damaged[:position] + replacement + damaged[position + length :]
    honest = read_through(save(tmp_path, HONEST))
    try:
        found = read_through(save(tmp_path, damaged))
    except BadWheel:
        return
    assert found == honest
