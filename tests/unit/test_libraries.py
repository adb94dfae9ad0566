"""What a plan foresees of shared libraries is what the build finds."""

from __future__ import annotations

import json

from nb2image.cache import Store
from nb2image.libraries import foreseen
from nb2image.plan import make_plan
from nb2image.progress import Silent
from tests.unit.abi.making import shared_object
from tests.unit.index.plugin import heard, machine, server
from tests.unit.world import World, wheel, world

__all__ = ["heard", "machine", "server", "world"]

VISION = {"vision/__init__.py": b"import vision._core\n", "vision/_core.so": shared_object("libGL.so.1")}


def test_before_the_wheels_are_here_nothing_is_foreseen(world: World) -> None:
    notebook = world.locked(wheel("vision", files=VISION))
    store = Store(world.cache)
    assert foreseen(make_plan(world.request(notebook), store, Silent()), store) is None
    assert json.loads(world.run("plan", notebook, "--base", world.base, "--json").stdout)["libraries"] is None


def test_after_a_build_a_plan_tells_of_missing_libraries_without_a_wheel(world: World) -> None:
    notebook = world.locked(wheel("vision", files=VISION))
    built = world.build(notebook)
    assert [each.soname for each in built.libraries.missing] == ["libGL.so.1"]
    store = Store(world.cache)
    for file in (world.cache / "v1" / "wheels").rglob("*"):
        if file.is_file():
            file.unlink()
    assert foreseen(make_plan(world.request(notebook), store, Silent()), store) == built.libraries
    shown = world.run("plan", notebook, "--base", world.base).stdout
    assert "1 that the wheels need is missing" in shown
    assert "vision needs libGL.so.1" in shown


def test_known_wheels_of_several_builds_are_enough(world: World) -> None:
    vision = wheel("vision", files=VISION)
    graphics = wheel("graphics", files={"graphics/libGL.so.1": shared_object(soname="libGL.so.1")})
    world.build(world.locked(vision, name="one.ipynb"))
    world.build(world.locked(graphics, name="two.ipynb"))
    both = world.locked(vision, graphics, name="three.ipynb")
    store = Store(world.cache)
    found = foreseen(make_plan(world.request(both), store, Silent()), store)
    assert found is not None
    assert found.missing == ()
