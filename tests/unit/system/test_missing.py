"""Whole builds of a wheel that needs a library which neither it nor the base has."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from nb2image.bases.debian.mirrors import Mirrors
from nb2image.build import build
from nb2image.cache import Store
from nb2image.cli import cli
from nb2image.errors import MissingLibraries, SystemPackagesUnusable
from nb2image.image.layout import write_layout
from nb2image.progress import Event, Note, Silent, Warned
from tests.unit.abi.making import shared_object
from tests.unit.bases.making_debs import control
from tests.unit.bases.test_debian_provider import Place, place
from tests.unit.index.plugin import heard, machine, server
from tests.unit.system.test_sonames import publish
from tests.unit.world import World, wheel, world

__all__ = ["heard", "machine", "place", "server", "world"]

FILES = {
    "vision/__init__.py": b"import vision._core\n",
    "vision/_core.so": shared_object("libGL.so.1"),
    # What is smaller and for any platform is not looked into.
    "vision/weights.bin": random.Random(1).randbytes(1_200_000),
}


@pytest.fixture
def notebook(world: World, place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = place.deliver()
    library = shared_object(soname="libGL.so.1")
    place.archive.add(control("libgl1"), {"./usr/lib/x86_64-linux-gnu/libGL.so.1": library})
    place.archive.add(control("draw"), {"./usr/bin/draw": b""})
    publish(place)
    monkeypatch.setattr(Mirrors, "of_this_machine", lambda: place.mirrors)
    world.base = world.folder / "debian"
    write_layout(base.image, ["debian:1"], world.base, Silent())
    return world.locked(wheel("vision", files=FILES))


def test_a_missing_library_is_added_and_said_in_one_sentence(world: World, notebook: Path) -> None:
    events: list[Event] = []
    built = world.build(notebook, listener=events.append)
    assert built.plan.system is not None
    assert [deb.name for deb in built.plan.system.lock.packages] == ["libgl1"]
    assert "vision needs libGL.so.1 (added: libgl1)." in [e.text for e in events if isinstance(e, Note)]
    assert not [event for event in events if isinstance(event, Warned)]
    assert built.libraries.missing == ()
    assert built.image.layers[1].comment == "Debian bookworm: 1 package for libGL.so.1"
    assert built.image.config.labels["io.nb2image.system.packages"] == "libgl1=1.0-1"


def test_the_bill_of_materials_says_which_library_a_package_is_there_for(world: World, notebook: Path) -> None:
    (notebook.parent / "apt.txt").write_text("draw\n")
    document = json.loads(world.build(notebook).sbom)
    why = {
        each["name"]: {p["name"]: p["value"] for p in each["properties"]}["nb2image:added"]
        for each in document["components"]
        if each["bom-ref"].startswith("system:")
    }
    assert why == {"draw": "asked for", "libgl1": "has libGL.so.1"}


def test_inspecting_an_image_tells_what_was_added_and_for_what(world: World, notebook: Path) -> None:
    (notebook.parent / "apt.txt").write_text("draw\n")
    write_layout(world.build(notebook).image, ["image:1"], world.work / "image", Silent())
    told = CliRunner().invoke(cli, ["inspect", "--quiet", str(world.work / "image")]).stdout
    assert "added     Debian packages: draw asked for; for libGL.so.1, which packages need\n" in told


@pytest.mark.parametrize("text", ["", "draw\n"])
def test_what_was_written_down_gives_the_same_image_when_the_archive_has_moved_on(
    world: World, notebook: Path, place: Place, text: str
) -> None:
    (notebook.parent / "apt.txt").write_text(text)
    first = world.build(notebook)
    (notebook.parent / "apt.lock").write_bytes(first.system_lock)
    library = shared_object(soname="libGL.so.1", defines=["NEW"])
    place.archive.add(control("libgl1", "2.0-1"), {"./usr/lib/x86_64-linux-gnu/libGL.so.1": library})
    publish(place, "usr/lib/x86_64-linux-gnu/libGL.so.1  libs/libglvnd\n")
    assert world.build(notebook, cache="another machine").image.digest == first.image.digest
    (notebook.parent / "apt.lock").unlink()
    (notebook.parent / "apt.txt").write_text("libgl1\n")
    assert world.build(notebook, cache="third").image.digest != first.image.digest


@pytest.mark.usefixtures("notebook")
def test_another_missing_library_than_those_written_down_is_told_of(world: World, notebook: Path) -> None:
    lock = world.build(notebook).system_lock
    other = world.locked(wheel("vision", "2.0", files={**FILES, "vision/_core.so": shared_object("libnobody.so.1")}))
    (other.parent / "apt.lock").write_bytes(lock)
    silent = Silent()
    world.build(other, listener=silent)
    assert "apt.lock does not say which package has libnobody.so.1; it is not used." in [
        e.text for e in silent.warnings
    ]
    with pytest.raises(SystemPackagesUnusable, match="does not say which package has libnobody"):
        world.build(other, strict=True)


def test_nothing_to_write_down_shows_before_anything_is_built(
    world: World, notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NB2IMAGE_CACHE_DIR", str(world.folder / "cache"))
    world.build(notebook, add_missing=False)
    target, lock = world.folder / "image.tar", world.folder / "apt.lock"
    options = ["--base", str(world.base), "--offline", "-o", str(target), "--apt-lock", str(lock), "-q"]
    done = CliRunner().invoke(cli, ["build", str(notebook), *options, "--no-add-missing"])
    assert isinstance(done.exception, SystemPackagesUnusable)
    assert "There is nothing for --apt-lock to lock" in done.exception.message
    assert not target.exists()


def test_the_digest_does_not_depend_on_what_the_cache_holds(world: World, notebook: Path) -> None:
    first = world.build(notebook)
    assert world.build(notebook).image.digest == first.image.digest
    assert world.build(notebook, cache="other").image.digest == first.image.digest


def test_a_warm_build_asks_no_mirror(world: World, notebook: Path, place: Place) -> None:
    first = world.build(notebook)
    place.asked.clear()
    request = world.request(notebook)
    offline = replace(request, settings=replace(request.settings, offline=True))
    again = build(offline, Store(world.folder / "cache"), Silent())
    assert again.image.digest == first.image.digest
    assert place.asked == []


def test_missing_libraries_and_an_apt_file_are_one_layer(world: World, notebook: Path) -> None:
    (notebook.parent / "apt.txt").write_text("draw\n")
    built = world.build(notebook)
    assert built.image.layers[1].comment == "Debian bookworm: 2 packages for draw libGL.so.1"
    assert built.image.config.labels["io.nb2image.system.packages"] == "draw=1.0-1 libgl1=1.0-1"


def test_a_library_of_an_apt_file_is_not_missing(world: World, notebook: Path) -> None:
    (notebook.parent / "apt.txt").write_text("libgl1\n")
    assert world.build(notebook, add_missing=False).libraries.missing == ()


def test_nothing_is_added_where_that_is_refused(world: World, notebook: Path) -> None:
    built = world.build(notebook, add_missing=False)
    assert built.plan.system is None
    assert [each.soname for each in built.libraries.missing] == ["libGL.so.1"]
    with pytest.raises(MissingLibraries):
        world.build(notebook, add_missing=False, strict=True)


@pytest.mark.usefixtures("notebook")
def test_a_library_that_no_package_has_is_a_warning(world: World) -> None:
    silent = Silent()
    files = {**FILES, "vision/_core.so": shared_object("libnobody.so.1")}
    built = world.build(world.locked(wheel("vision", "2.0", files=files)), listener=silent)
    assert built.plan.system is not None
    assert built.plan.system.reasons() == ()
    assert "io.nb2image.system.packages" not in built.image.config.labels
    (warning,) = silent.warnings
    assert warning.text == (
        "vision-2.0-py3-none-any.whl: vision/_core.so needs libnobody.so.1, which neither the wheels nor the base "
        f"{built.base.name} nor any package of Debian bookworm has."
    )
    assert warning.hint.startswith("The documentation of what needs them may say where they come from")


def test_a_base_that_is_not_debians_stays_as_it_is(world: World, notebook: Path) -> None:
    from tests.unit.world import write_base

    world.base = write_base(world.folder / "unknown")
    silent = Silent()
    built = world.build(notebook, listener=silent)
    assert built.plan.system is None
    assert [each.soname for each in built.libraries.missing] == ["libGL.so.1"]
    (warning,) = silent.warnings
    assert warning.hint.startswith("System packages come from Debian, and the base ")
    with pytest.raises(MissingLibraries) as caught:
        world.build(notebook, strict=True)
    assert caught.value.hint.startswith("System packages come from Debian, and the base ")
