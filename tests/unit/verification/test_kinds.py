"""``nb2image verify`` of every kind of image that a build makes: as it should be, and changed since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nb2image.errors import NotVerified
from nb2image.image.layout import write_layout
from nb2image.image.model import Image, ImageIndex
from nb2image.image.read import find_image
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.unit.abi.making import shared_object
from tests.unit.bases.making_debs import control
from tests.unit.bases.test_debian_provider import Place, place
from tests.unit.bases.test_relocatable import archive, members
from tests.unit.image.making import files_of
from tests.unit.index.plugin import heard, machine, server
from tests.unit.system.test_rebase import PLAIN, SOLID, debian
from tests.unit.test_gpu import TORCH
from tests.unit.test_platforms import source
from tests.unit.verification.test_verify import MODULE, call, changed, refused, verified
from tests.unit.world import World, world

__all__ = ["debian", "heard", "machine", "place", "server", "source", "world"]

GL = "usr/lib/x86_64-linux-gnu/libGL.so.1"


def stored(world: World, image: Image | ImageIndex) -> Path:
    write_layout(image, ["image:1"], world.work / "image", Silent())
    return world.work / "image"


# -- GPUs ----------------------------------------------------------------------------------------------------


def test_an_image_for_gpus(world: World) -> None:
    image = world.build(world.locked(TORCH), gpu=True).image
    verified(world, stored(world, image), "--rebuild")
    env = {**image.config.env, "NVIDIA_REQUIRE_CUDA": "cuda>=9.0"}
    tampered = image.with_config(image.config.with_env(env))
    assert refused(world, changed(world, tampered))["configuration"] == [("altered", "env NVIDIA_REQUIRE_CUDA")]


def test_another_cuda_than_the_packages_need_is_found(world: World) -> None:
    image = world.build(world.locked(TORCH), gpu=True).image
    tampered = image.with_config(image.config.with_labels({"io.nb2image.cuda": "9.0"}))
    assert ("altered", "label io.nb2image.cuda") in refused(world, changed(world, tampered))["configuration"]


# -- Debian packages -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("debian")
@pytest.mark.parametrize("text", ["draw\n", "", "draw=1.0-1\n"], ids=["asked for", "needed", "both"])
def test_an_image_with_debian_packages(world: World, text: str) -> None:
    notebook = world.locked(PLAIN if text == "draw\n" else SOLID)
    (notebook.parent / "apt.txt").write_text(text)
    image = world.build(notebook).image
    path = stored(world, image)
    (notebook.parent / "apt.txt").unlink()
    verified(world, path, "--rebuild")
    tampered = image.with_layers([files_of({GL: b"\x7fELF evil", "usr/bin/draw": b"evil"})])
    found = refused(world, changed(world, tampered))["rest"]
    assert ("altered", f"/{GL}" if text == "" else "/usr/bin/draw") in found


@pytest.mark.usefixtures("debian")
def test_an_image_of_a_repository_with_debian_packages(world: World) -> None:
    folder = world.locked(PLAIN).parent
    (folder / "apt.txt").write_text("draw\n")
    image = world.build(folder).image
    write_layout(image, ["image:1"], world.folder / "image", Silent())
    verified(world, world.folder / "image")


@pytest.mark.usefixtures("debian")
def test_an_image_to_which_nothing_was_to_be_added(world: World) -> None:
    image = world.build(world.locked(SOLID), add_missing=False).image
    verified(world, stored(world, image))
    library = files_of({GL: shared_object(soname="libGL.so.1")})
    assert ("extra", f"/{GL}") in refused(world, changed(world, image.with_layers([library])))["rest"]


@pytest.mark.usefixtures("debian")
def test_packages_that_are_resolved_otherwise_now_need_the_lock_of_then(world: World, place: Place) -> None:
    notebook = world.locked(PLAIN)
    (notebook.parent / "apt.txt").write_text("draw\n")
    built = world.build(notebook)
    path = stored(world, built.image)
    lock = world.work / "kept.lock"
    lock.write_bytes(built.system_lock)
    (notebook.parent / "apt.txt").unlink()
    place.archive.add(control("draw", "2.0-1", Depends="bash"), {"./usr/bin/draw": b"second"})
    place.archive.sign()
    world.run("cache", "prune", "--all")
    done = call(path, "--base", world.base)
    assert isinstance(done.exception, NotVerified), done.output
    assert "resolved at another time" in done.exception.message
    assert "--apt-lock FILE" in done.exception.hint
    verified(world, path, "--apt-lock", lock)


@pytest.mark.usefixtures("debian")
def test_labels_that_hide_what_was_added_are_found(world: World) -> None:
    image = world.build(world.locked(SOLID)).image
    labels = {name: value for name, value in image.config.labels.items() if "io.nb2image.system." not in name}
    tampered = image.with_config(image.config.with_execution(Labels=labels))
    assert ("extra", f"/{GL}") in refused(world, changed(world, tampered))["rest"]


@pytest.mark.usefixtures("debian")
def test_a_history_that_does_not_tell_what_was_asked_for_is_refused(world: World) -> None:
    image = find_image(stored(world, world.build(world.locked(SOLID)).image)).read()
    lost = replace(image, base_history=tuple({"created_by": "unknown"} for _ in image.layers))
    done = call(changed(world, lost), "--base", world.base)
    assert isinstance(done.exception, NotVerified)
    assert "does not say which were asked for" in done.exception.message


# -- a Python that was laid over the base --------------------------------------------------------------------


def test_an_image_with_a_python_of_its_own(world: World) -> None:
    build = archive(world.folder / "python", members())
    image = world.build(world.locked(PLAIN), python_build=str(build)).image
    path = stored(world, image)
    verified(world, path, "--python-build", build, "--rebuild")
    layers = (image.layers[0], files_of({"opt/python/bin/python3.11": b"evil"}), *image.layers[2:])
    assert "base" in refused(world, changed(world, replace(image, layers=layers)), "--python-build", build)


def test_a_python_of_its_own_is_asked_for(world: World) -> None:
    build = archive(world.folder / "python", members())
    path = stored(world, world.build(world.locked(PLAIN), python_build=str(build)).image)
    done = call(path)
    assert isinstance(done.exception, NotVerified)
    assert "--python-build FILE" in done.exception.hint


# -- several platforms ---------------------------------------------------------------------------------------


def test_each_image_of_an_index(world: World, source: Path) -> None:
    platforms = [Platform("linux", name) for name in ("amd64", "arm64")]
    images = [world.build(source, platform=platform).image for platform in platforms]
    path = stored(world, ImageIndex(tuple(images)))
    for platform in platforms:
        verified(world, path, "--platform", str(platform), "--rebuild")
    evil = images[1].with_layers([files_of({MODULE: b"evil"})])
    write_layout(ImageIndex((images[0], evil)), ["changed:1"], world.work / "changed", Silent())
    verified(world, world.work / "changed", "--platform", "linux/amd64")
    found = refused(world, world.work / "changed", "--platform", "linux/arm64")
    assert found["kernel"] == [("altered", f"/{MODULE}")]
    done = call(world.work / "changed", "--base", world.base)
    assert "--platform" in getattr(done.exception, "hint", "")
