"""Readers and writers against those of the standard library, on input that hypothesis makes."""

from __future__ import annotations

import csv
import io
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.record import Record
from tests.fuzz.targets import TARGETS
from tests.fuzz.wheels import opened
from tests.hostile.readers import from_the_front
from tests.unit.wheels.builder import INFO, Part, build_zip

# -- zip ----------------------------------------------------------------------------------------------------

LETTERS = st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\:")
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=1, max_size=4).map("/".join)
DATA = st.one_of(
    st.binary(max_size=200), st.builds(lambda data, n: data * n, st.binary(max_size=9), st.integers(0, 2000))
)


@dataclass(frozen=True)
class Written:
    """How `zipfile` writes a member."""

    data: bytes
    method: int
    level: int
    mode: int
    wide: bool


MEMBERS = st.dictionaries(
    NAMES,
    st.builds(
        Written, DATA, st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)), st.integers(0, 9),
        st.sampled_from((0o100644, 0o100755, 0)), st.booleans(),
    ),
    max_size=8,
)  # fmt: skip


class Pipe(io.BytesIO):
    """What cannot seek makes `zipfile` write data descriptors."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise OSError

    def tell(self) -> int:
        raise OSError


def plain(members: dict[str, Written]) -> dict[str, Written]:
    """Without those that no wheel may have: files that are folders of others, whiteouts, dots, look-alikes."""
    found: dict[str, Written] = {}
    for name, written in members.items():
        parts = name.split("/")
        folders = {"/".join(parts[:n]) for n in range(1, len(parts))}
        alike = {unicodedata.normalize("NFC", other) for other in found}
        if (
            folders & set(found)
            or any(other.startswith(f"{name}/") for other in found)
            or any(part in (".", "..") or part.startswith(".wh.") or len(part.encode()) > 255 for part in parts)
            or not unicodedata.is_normalized("NFC", name)
            or unicodedata.normalize("NFC", name) in alike
        ):
            continue
        found[name] = written
    return found


@settings(max_examples=150, deadline=None)
@given(members=MEMBERS, piped=st.booleans())
def test_what_zipfile_writes_is_read_as_zipfile_reads_it(members: dict[str, Written], piped: bool) -> None:
    members = plain(members)
    buffer = Pipe() if piped else io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, written in members.items():
            info = zipfile.ZipInfo(name)
            # A stored member whose size comes after it is refused: a reader from the front cannot know where it ends.
            info.compress_type = zipfile.ZIP_DEFLATED if piped else written.method
            info.external_attr = written.mode << 16
            info._compresslevel = written.level  # type: ignore[attr-defined]
            with archive.open(info, "w", force_zip64=written.wide) as stream:
                stream.write(written.data)
    data = buffer.getvalue()
    with opened(data) as wheel:
        found = {member.name: wheel.read(member) for member in wheel.members.values()}
        modes = {member.name: member.mode for member in wheel.members.values()}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert found == {info.filename: archive.read(info) for info in archive.infolist()}
        assert modes == {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert found == from_the_front(data) == {name: written.data for name, written in members.items()}


def test_a_file_on_disk_is_read_as_one_in_memory(tmp_path: Path) -> None:
    data = build_zip([Part("a", b"1"), Part("b", b"2", method=0)])
    (tmp_path / "x.whl").write_bytes(data)
    with WheelArchive(tmp_path / "x.whl") as wheel:
        assert {name: wheel.read(member) for name, member in wheel.members.items()} == from_the_front(data)


# -- RECORD -------------------------------------------------------------------------------------------------

# What `str.splitlines` takes for the end of a line ends a row of RECORD, in pip as here.
CELLS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20).filter(
    lambda cell: ".." not in cell.replace("\\", "/").split("/")
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(CELLS.filter(bool), CELLS, CELLS), max_size=12, unique_by=lambda row: row[0]))
def test_rows_of_record_are_read_and_written_as_csv_does(rows: list[tuple[str, str, str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    with opened(build_zip([Part(f"{INFO}/RECORD", text.getvalue().encode())])) as wheel:
        record = Record(wheel, INFO)
        assert [tuple(row) for row in record.rows] == rows
        written = record.installed({}, {}, [("new", "sha256=x", "1")])
    assert [tuple(row) for row in csv.reader(io.StringIO(written.decode(), newline=""))] == sorted(
        [*rows, ("new", "sha256=x", "1")]
    )


# -- what the fuzzer runs, on bytes from hypothesis ---------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_seeds_of_the_fuzzer_break_no_promise(name: str) -> None:
    for data in TARGETS[name].seeds():
        TARGETS[name].run(data)


def anything(name: str, limit: int) -> Callable[[], None]:
    @settings(max_examples=limit, deadline=None)
    @given(data=st.binary(max_size=400))
    def run(data: bytes) -> None:
        TARGETS[name].run(data)

    return run


def test_the_layer_writer_writes_what_tarfile_reads() -> None:
    anything("layer", 150)()


def test_odd_wheels_are_refused_or_read_as_zipfile_reads_them() -> None:
    anything("wheel", 150)()


def test_any_record_is_refused_or_read_as_csv_reads_it() -> None:
    anything("record", 100)()


def test_any_index_page_is_refused_or_read() -> None:
    anything("pages", 100)()
