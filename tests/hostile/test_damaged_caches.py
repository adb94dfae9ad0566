"""A damaged cache costs time and nothing else: a small form of ``python -m tests.reliability.damage``."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from nb2image.cache import Store
from tests.reliability.damage import KINDS, damage
from tests.reliability.kills import damaged_blobs
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]


@pytest.mark.parametrize("room", ["wheels", "layers", "records"])
def test_damage_is_found_and_made_good(world: World, room: str) -> None:
    source = world.locked(*(wheel(f"part-{n}") for n in range(5)))
    store, chosen = Store(world.cache), random.Random(3)

    def build(name: str) -> tuple[str, Path]:
        done = world.run("build", source, "--base", world.base, "-o", name, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["digest"], world.work / name

    first, archive = build("first.tar")
    for kind in KINDS:
        if room == "wheels":
            # Else nobody reads them.
            shutil.rmtree(world.cache / "v1" / "layers")
        world.server.requests.clear()
        damaged = damage(store, room, kind, chosen)
        assert damaged
        digest, again = build(f"{kind}.tar")
        assert digest == first, kind
        assert again.read_bytes() == archive.read_bytes(), kind
        assert list(damaged_blobs(store)) == [], kind
        fetched = [path for path in world.server.paths() if path.startswith("/files/")]
        assert len(fetched) == (damaged if room == "wheels" else 0), kind


@pytest.mark.parametrize("kind", ["one bit", "cut short", "empty"])
def test_a_damaged_layer_gets_into_no_layout(world: World, kind: str) -> None:
    source = world.locked(*(wheel(f"part-{n}") for n in range(3)))
    assert world.run("build", source, "--base", world.base, "-o", "first").returncode == 0
    assert damage(Store(world.cache), "layers", kind, random.Random(4))
    assert world.run("build", source, "--base", world.base, "-o", "second").returncode == 0
    blobs = [
        {path.name: path.read_bytes() for path in (world.work / n / "blobs").rglob("*/*")} for n in ("first", "second")
    ]
    assert blobs[0] == blobs[1]


def test_a_bit_that_no_checksum_of_the_archive_covers_is_noticed(world: World) -> None:
    """The mode of a member stands in the central directory only, and not in RECORD."""
    made = wheel("alpha")
    source = world.locked(made)
    first = world.run("build", source, "--base", world.base, "--json")
    path = Store(world.cache).path("wheels", f"sha256:{made.sha256}")
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    assert data[entry + 40] & 0o100 == 0  # external attributes, high half: st_mode (4.4.15)
    data[entry + 40] |= 0o100
    path.chmod(0o644)
    path.write_bytes(data)
    shutil.rmtree(world.cache / "v1" / "layers")
    again = world.run("build", source, "--base", world.base, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["digest"] == json.loads(first.stdout)["digest"]
