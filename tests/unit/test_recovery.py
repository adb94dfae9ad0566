"""A cache that was damaged or pruned costs time and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.errors import BadWheel
from nb2image.layers.bytecode import Interpreter
from nb2image.progress import Note
from tests.unit.index.plugin import Recorder, heard, machine, server
from tests.unit.world import Made, World, wheel, world

__all__ = ["heard", "machine", "server", "world"]

ALPHA, BETA = wheel("alpha", files={"alpha/__init__.py": b"answer = 42\n" * 100}), wheel("beta")


def _cached(world: World, made: Made) -> Path:
    path = Store(world.cache).find("wheels", f"sha256:{made.sha256}")
    assert path is not None
    return path


def test_a_wheel_that_was_damaged_in_the_cache_is_downloaded_again(world: World, heard: Recorder) -> None:
    source = world.locked(ALPHA, BETA)
    first = world.build(source)
    damaged = _cached(world, ALPHA)
    data = bytearray(damaged.read_bytes())
    data[60] ^= 0xFF
    damaged.chmod(0o644)
    damaged.write_bytes(data)
    Store(world.cache).prune(("layers",))
    again = world.build(source, listener=heard)
    assert again.image.digest == first.image.digest
    assert _cached(world, ALPHA).read_bytes() == ALPHA.data
    assert [note.text for note in heard.events if isinstance(note, Note) and "damaged" in note.text]


def test_a_wheel_that_is_bad_as_it_was_locked_stays_refused(world: World) -> None:
    bad = wheel("alpha", record=lambda text: text.replace("alpha/__init__.py", "alpha/other.py"))
    with pytest.raises(BadWheel, match="RECORD does not mention the file"):
        world.build(world.locked(bad))


def test_wheels_that_were_pruned_are_fetched_again_for_their_bytecode(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(*_: object) -> Interpreter:
        return Interpreter((sys.executable,), (), "3.11.2")

    # The world's base is made of headers only, and cannot run: this Python compiles in its place.
    monkeypatch.setattr("nb2image.bases.interpreter.find_interpreter", here)
    monkeypatch.setattr("nb2image.bases.interpreter.compiler_version", lambda *_: "3.11.2")
    monkeypatch.setattr("nb2image.bases.interpreter.standard_library", lambda *_: iter(()))
    source = world.locked(ALPHA)
    world.build(source, bytecode=False)
    Store(world.cache).prune(("wheels",))
    built = world.build(source, bytecode=True)
    assert any(layer.comment.startswith("bytecode of alpha") for layer in built.image.layers)
