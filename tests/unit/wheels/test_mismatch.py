"""Files that differ from RECORD: noted, and taken as they are, where the caller has verified the whole wheel."""

from __future__ import annotations

from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import Scheme, install
from tests.unit.wheels.builder import INFO, METADATA, Part, build_zip, hash_row, save, wheel_parts


def _edited(folder: Path) -> Path:
    """A wheel of which METADATA and a library were edited after RECORD was written, as PyTorch 1.9.1's."""
    honest = wheel_parts(Part("demo/lib.so", b"library"))
    record = honest[-1].data.decode()
    record = record.replace(hash_row("demo/lib.so", b"library"), hash_row("demo/lib.so", b"unstripped library"))
    record = record.replace(hash_row(f"{INFO}/METADATA", METADATA), hash_row(f"{INFO}/METADATA", METADATA[::-1]))
    return save(folder, build_zip(wheel_parts(Part("demo/lib.so", b"library"), record=record)))


def test_what_differs_from_record_is_noted_and_taken_when_the_caller_asks_for_that(tmp_path: Path) -> None:
    noted: list[str] = []
    with WheelArchive(_edited(tmp_path), mismatches=noted) as archive:
        entries = {
            entry.path: b"".join(entry.content.chunks())  # type: ignore[union-attr]
            for entry in install(archive, Scheme("/v", "3.11"), name=canonicalize_name("demo"), version=Version("1.0"))
        }
    assert entries["v/lib/python3.11/site-packages/demo/lib.so"] == b"library"
    assert sorted(noted) == [f"{INFO}/METADATA", "demo/lib.so"]
