"""Reading a wheel's shared objects while its layer is written, and by themselves, comes to the same."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from nb2image.abi import elf
from nb2image.abi.wheel import Gathered, Objects, known_objects, read_objects
from nb2image.cache import Store
from nb2image.layers.entry import Entry
from nb2image.layers.write import write_layer
from nb2image.wheels.archive import WheelArchive
from tests.unit.abi.making import shared_object
from tests.unit.world import Made, wheel

DIGEST = "sha256:" + "1" * 64
NOISE = random.Random(1).randbytes(300_000)


def parts(name: str, gap: int) -> dict[str, bytes]:
    return {name: shared_object("libGL.so.1", versions={"libc.so.6": ["GLIBC_2.4"]}, gap=gap) + NOISE}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Made, Path]:
    files = {
        "vision/__init__.py": b"",
        "vision/damaged.so": b"\x7fELF" + bytes(100),
        "vision/cut.so": shared_object("libGL.so.1")[:100],
        "vision/script.so": b"INPUT(libm.so.6)",
        **parts("vision/small.so", 0),
        **parts("vision/of_many_pieces.so", 5 << 20),
        **parts("vision/seen_at_its_ends.so.2", 6 << 20),
    }
    one = wheel("vision", files=files)
    path = tmp_path / one.filename
    path.write_bytes(one.data)
    return one, path


def written(path: Path, filename: str, store: Store, leave_out: str = "") -> Objects:
    gathered = Gathered(filename)
    with WheelArchive(path, filename, []) as archive:
        entries = [gathered.watched(Entry(n, 0o644, archive.content(m))) for n, m in archive.members.items()]
        write_layer([entry for entry in entries if entry.path != leave_out], io.BytesIO().write)
        gathered.keep(store, DIGEST)
    return gathered.objects


@pytest.mark.parametrize("leave_out", ["", "vision/of_many_pieces.so"])
def test_objects_are_the_same_whoever_reads_the_members(
    made: tuple[Made, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave_out: str
) -> None:
    one, path = made
    monkeypatch.setattr(elf, "WHOLE", (5 << 20) + 500_000)
    alone = read_objects(tmp_path / "one", path, one.filename, DIGEST)
    found = dict(alone.found)
    assert found.pop("vision/cut.so").needed == ()  # it is there, for whoever needs it
    assert sorted(found) == ["vision/of_many_pieces.so", "vision/seen_at_its_ends.so.2", "vision/small.so"]
    assert {each.needed for each in found.values()} == {("libGL.so.1",)}
    assert [note.split()[1] for note in alone.notes] == ["vision/cut.so", "vision/damaged.so"]
    store = Store(tmp_path / "two")
    assert written(path, one.filename, store, leave_out) == alone == known_objects(store, DIGEST)


def test_watching_changes_no_byte_of_the_layer(made: tuple[Made, Path]) -> None:
    one, path = made
    layers = []
    for watch in (False, True):
        gathered = Gathered(one.filename)
        sink = io.BytesIO()
        with WheelArchive(path, one.filename, []) as archive:
            entries = [Entry(name, 0o644, archive.content(member)) for name, member in archive.members.items()]
            watched = map(gathered.watched, entries) if watch else entries
            layers.append((write_layer(watched, sink.write), sink.getvalue()))
    assert layers[0] == layers[1]


def test_of_an_object_above_the_bound_its_dynamic_segment_and_its_ends_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elf, "WHOLE", 1 << 20)
    data = shared_object("libGL.so.1", versions={"libc.so.6": ["GLIBC_2.4"]}, gap=8 << 20) + bytes(6 << 20)
    kept = elf.Kept(len(data))
    for start in range(0, len(data), 1 << 20):
        kept.add(data[start : start + (1 << 20)])
    assert sum(len(piece) for _, piece in kept.parts) <= 6 << 20

    def again() -> list[bytes]:
        raise AssertionError("the stream was asked for once more")

    found = elf.read_object(again, len(data), kept)
    assert found is not None
    assert found.needed == ("libGL.so.1",)
