"""Images with Debian packages added, put on other bases: each base gets its own packages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nb2image.bases.debian.mirrors import Mirrors
from nb2image.cli import cli
from nb2image.errors import NotCached, UnfitBase
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.read import find_image
from nb2image.progress import Silent
from tests.unit.abi.making import shared_object
from tests.unit.bases.making_debs import control
from tests.unit.bases.test_debian_provider import Place, place
from tests.unit.image.making import files_of
from tests.unit.index.plugin import heard, machine, server
from tests.unit.system.test_missing import FILES
from tests.unit.system.test_sonames import publish
from tests.unit.world import Made, World, wheel, world, write_base

__all__ = ["heard", "machine", "place", "server", "world"]

SOLID = wheel(
    "vision", files={"vision/_core.so": shared_object("libGL.so.1"), "vision/weights": FILES["vision/weights.bin"]}
)
PLAIN = wheel("six")
ANOTHER = {
    "var/lib/dpkg/status.d/more": b"Package: more\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
}
"""One package more than the base had: what was resolved for the one is not for the other."""


@pytest.fixture
def debian(world: World, place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian base, whose archive has more packages; the world builds on it."""
    library = shared_object(soname="libGL.so.1")
    base = place.deliver()
    place.archive.add(control("libgl1"), {"./usr/lib/x86_64-linux-gnu/libGL.so.1": library})
    place.archive.add(control("draw", Depends="bash"), {"./usr/bin/draw": b"first"})
    publish(place)
    monkeypatch.setattr(Mirrors, "of_this_machine", lambda: place.mirrors)
    write_layout(base.image, ["debian:1"], world.folder / "debian", Silent())
    world.base = world.folder / "debian"
    return world.base


def patched(world: World, *files: dict[str, bytes]) -> Path:
    """The same base with more layers."""
    layers = [files_of(each) for each in files or ({"etc/patched": b""},)]
    image = find_image(world.folder / "debian").read().with_layers(layers)
    write_layout(image, ["patched:2"], world.folder / "patched", Silent())
    return world.folder / "patched"


def stored(world: World, image: Image) -> Path:
    write_layout(image, ["image:1"], world.work / "image", Silent())
    return world.work / "image"


def call(source: Path, on: Path, target: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["rebase", "-q", str(source), "--base", str(on), "-o", f"{target}/", *options])


def rebased(world: World, source: Path, on: Path, *options: str) -> Image:
    done = call(source, on, world.folder / "rebased", *options)
    assert done.exception is None, done.output
    return find_image(world.folder / "rebased").read()


@pytest.mark.usefixtures("debian")
@pytest.mark.parametrize(
    ("text", "made"),
    [("draw\n", PLAIN), ("", SOLID), ("draw=1.0-1\n", SOLID), ("bash\n", PLAIN)],
    ids=["asked for", "needed", "both", "all there"],
)
def test_the_new_base_gets_the_packages_that_a_build_there_adds(world: World, text: str, made: Made) -> None:
    source = world.locked(made)
    (source.parent / "apt.txt").write_text(text)
    old = world.build(source).image
    on = patched(world)
    new = rebased(world, stored(world, old), on)
    world.base = on
    expected = world.build(source).image
    assert json.loads(new.config_bytes) == json.loads(expected.config_bytes)
    assert new.manifest_bytes == expected.manifest_bytes


@pytest.mark.usefixtures("debian")
def test_another_base_gets_packages_of_the_archive_as_it_is_now(world: World, place: Place) -> None:
    source = world.locked(PLAIN)
    (source.parent / "apt.txt").write_text("draw\n")
    old = stored(world, world.build(source).image)
    place.archive.add(control("draw", "2.0-1", Depends="bash"), {"./usr/bin/draw": b"second"})
    place.archive.sign()
    on = patched(world, ANOTHER)
    assert rebased(world, old, on).config.labels["io.nb2image.system.packages"] == "draw=2.0-1"


@pytest.mark.usefixtures("debian")
def test_a_base_that_has_the_library_needs_no_package(world: World) -> None:
    old = stored(world, world.build(world.locked(SOLID)).image)
    on = patched(world, {"usr/lib/x86_64-linux-gnu/libGL.so.1": shared_object(soname="libGL.so.1")})
    new = rebased(world, old, on)
    assert not [name for name in new.config.labels if name.startswith("io.nb2image.system.")]
    assert not [layer for layer in new.layers if layer.comment.startswith("Debian bookworm of")]


@pytest.mark.usefixtures("debian")
def test_a_base_of_no_known_distribution_is_refused(world: World) -> None:
    old = stored(world, world.build(world.locked(SOLID)).image)
    done = call(old, write_base(world.folder / "other"), world.folder / "rebased")
    assert isinstance(done.exception, UnfitBase)
    assert "has Debian packages added" in done.exception.message
    assert "of no known distribution" in done.exception.message
    assert not (world.folder / "rebased").exists()


@pytest.mark.usefixtures("debian")
def test_offline_what_was_never_resolved_is_refused(world: World) -> None:
    source = world.locked(PLAIN)
    (source.parent / "apt.txt").write_text("draw\n")
    old = stored(world, world.build(source).image)
    done = call(old, patched(world, ANOTHER), world.folder / "rebased", "--offline")
    assert isinstance(done.exception, NotCached)
    assert not (world.folder / "rebased").exists()


@pytest.mark.usefixtures("debian")
def test_an_image_whose_history_is_lost_is_refused(world: World) -> None:
    old = world.build(world.locked(SOLID)).image
    bare = find_image(stored(world, old)).read()
    lost = replace(bare, base_history=tuple({"created_by": "unknown"} for _ in bare.layers))
    done = call(stored(world, lost), patched(world), world.folder / "rebased")
    assert isinstance(done.exception, UnfitBase), done.output
    assert "its history does not say which were asked for" in done.exception.message
