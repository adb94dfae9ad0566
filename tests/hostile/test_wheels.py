"""Wheels that lie: each must be refused with the wheel, the member and the rule."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
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
from tests.hostile import archives, contents
from tests.hostile.cases import Case
from tests.unit.wheels.builder import FILENAME, INFO, Part, build_zip, save, wheel_parts

CASES = [*archives.CASES, *contents.CASES]
SCHEME = Scheme("/opt/kernel", "3.11")


def read_through(path: Path, mismatches: list[str] | None = None) -> dict[str, bytes]:
    """Install a wheel and read every content, as a layer writer does."""
    with WheelArchive(path, mismatches=mismatches) as archive:
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


# -- what must be refused ----------------------------------------------------------------------------------------------


def test_every_hostile_wheel_has_a_name_of_its_own() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_hostile_wheel_is_refused_with_its_member_and_the_rule(tmp_path: Path, case: Case) -> None:
    assert_refused(tmp_path, case.make(), case.member, case.rule)


def test_only_files_that_differ_from_record_may_be_noted_instead_of_refused(tmp_path: Path) -> None:
    """A build without ``--strict`` takes these with a warning, since the lock's hash holds the whole wheel."""
    taken = set()
    for case in CASES:
        if case.group == "RECORD":
            mismatches: list[str] = []
            try:
                read_through(save(tmp_path, case.make()), mismatches)
            except BadWheel:
                continue
            assert mismatches == [case.member]
            taken.add(case.title)
    assert taken == {
        "a file of another hash", "METADATA of another hash", "WHEEL of another hash", "a file of another size",
        "a hash of no length",
    }  # fmt: skip


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_MAX_MEMBERS", 3)
    assert_refused(tmp_path, build_zip(wheel_parts()), None, "4 members; at most 3")


def test_too_many_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One name of 1,024 bytes makes 512 folders."""
    monkeypatch.setattr(directory, "_MAX_MEMBERS", 500)
    part = Part("d/" * 500 + "x")
    assert_refused(tmp_path, build_zip(wheel_parts(part)), None, "more than 500 files and folders")


def test_a_directory_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_MAX_DIRECTORY", 100)
    assert_refused(tmp_path, build_zip(wheel_parts()), None, "at most 100 are accepted")


def test_metadata_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nb2image.wheels.archive._IN_MEMORY", 100)
    assert_refused(tmp_path, build_zip(wheel_parts()), f"{INFO}/RECORD", "too many for what it is")


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
