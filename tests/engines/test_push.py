"""Builds pushed to a real registry: what is built, what is sent, and what neither."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nb2image.build import Clock, build_planned
from nb2image.cache import Store
from nb2image.layers.bytecode import Interpreter
from nb2image.outputs import RegistryPush
from nb2image.plan import make_plan
from tests.engines.daemons import require
from tests.engines.plugin import available_value
from tests.engines.skopeo import raw_manifest
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, wheel, world, write_base_for_both

__all__ = ["machine", "server", "world"]

LARGE = wheel("large", files={"large/data.bin": random.Random(1).randbytes(200_000)})
SMALL = wheel("small")


@pytest.fixture
def source(world: World) -> Path:
    return world.locked(LARGE, SMALL)


def forget_bytes(world: World) -> None:
    """Wheels as well, so that nothing could be built from what is here."""
    for room in ("layers", "wheels"):
        shutil.rmtree(world.cache / "v1" / room)


def test_layers_pruned_here_and_kept_there_are_neither_built_nor_sent(
    world: World, source: Path, registry: str
) -> None:
    name = f"{registry}/{world.folder.name}/pruned:1"
    first = world.pushed(source, world.base, name)
    forget_bytes(world)
    again = world.pushed(source, world.base, name)
    assert again["digest"] == first["digest"]
    assert again["pushed"][0]["sent"] == []
    # Nothing was written, and nothing fetched that something could be written from.
    assert not world.layers
    assert not (world.cache / "v1/wheels").exists()
    source.write_text(source.read_text().replace("hello", "changed"))
    changed = world.pushed(source, world.base, name)
    assert len(changed["pushed"][0]["sent"]) == 2
    (built,) = world.layers
    assert built == changed["layers"][-1]["digest"]


def test_layers_of_another_repository_are_mounted_and_not_built(world: World, source: Path, registry: str) -> None:
    first = world.pushed(source, world.base, f"{registry}/{world.folder.name}/one:1")
    forget_bytes(world)
    large = {row["digest"] for row in first["layers"] if row["size"] > 64 << 10}
    assert large
    source.write_text(source.read_text().replace("hello", "changed"))
    # Small ones are not remembered, so the wheels come again; what is large is mounted all the same.
    second = world.pushed(source, world.base, f"{registry}/{world.folder.name}/two:1")
    assert large == set(second["pushed"][0]["mounted"])


def test_bytecode_that_the_registry_has_is_not_compiled(
    world: World, source: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def here(*_: object) -> Interpreter:
        started.append("an interpreter")
        return Interpreter((sys.executable,), (), "3.11.2")

    # The world's base is made of headers only, and cannot run: this Python compiles in its place.
    monkeypatch.setattr("nb2image.bases.interpreter.find_interpreter", here)
    monkeypatch.setattr("nb2image.bases.interpreter.compiler_version", lambda *_: "3.11.2")
    monkeypatch.setattr("nb2image.bases.interpreter.standard_library", lambda *_: iter(()))
    store, name = Store(world.cache), f"{registry}/{world.folder.name}/bytecode:1"

    def built() -> tuple[str, Sequence[str]]:
        output = RegistryPush([name], store)
        clock = Clock(lambda _: None)
        plan = make_plan(world.request(source, bytecode=True), store, clock)
        image = build_planned(plan, store, clock, lambda base, known: output.held(base, known, clock)).image
        output.write(image, output.tags, clock)
        output.close()
        return image.digest, output.pushed[0].sent

    first, sent = built()
    assert started
    assert sent
    started.clear()
    forget_bytes(world)
    assert built() == (first, ())
    assert not started
    assert not world.layers


def test_images_for_several_platforms_are_pushed_as_one(world: World, source: Path, registry: str) -> None:
    available_value(lambda: require("skopeo", root=False))
    shutil.rmtree(world.base)
    write_base_for_both(world.base)
    name = f"{registry}/{world.folder.name}/both:1"
    document = world.pushed(source, world.base, name, more=["--platform", "linux/amd64,linux/arm64"])
    raw = raw_manifest(name)
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == document["digest"]
    rows = {row["platform"]["architecture"]: row["digest"] for row in json.loads(raw)["manifests"]}
    assert rows == {each["platform"].partition("/")[2]: each["digest"] for each in document["images"]}
    # The same as each alone gives, and nothing of it is built or sent again.
    forget_bytes(world)
    again = world.pushed(source, world.base, name, more=["--platform", "linux/amd64,linux/arm64"])
    assert (again["digest"], again["pushed"][0]["sent"]) == (document["digest"], [])
    assert not world.layers
    alone = world.pushed(source, world.base, name, more=["--platform", "linux/arm64"])
    assert (alone["digest"], alone["pushed"][0]["sent"]) == (rows["arm64"], [])
