"""Images for several platforms, built at once into one index."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nb2image.errors import NotAnImage
from nb2image.image.layout import write_layout
from nb2image.image.model import INDEX_TYPE, ImageIndex
from nb2image.image.read import find_image
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, wheel, world, write_base_for_both

__all__ = ["machine", "server", "world"]

BOTH = "linux/amd64,linux/arm64"
AMD64, ARM64 = Platform(), Platform("linux", "arm64")
ALPHA = wheel("alpha")


@pytest.fixture
def source(world: World) -> Path:
    """A notebook, and a base for both platforms."""
    shutil.rmtree(world.base)
    write_base_for_both(world.base)
    return world.locked(ALPHA)


def build(world: World, source: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return world.run("build", source, "--base", world.base, "-q", *options)


@pytest.mark.parametrize("kind", ["both/", "both.tar"])
def test_an_index_holds_the_images_that_builds_for_one_platform_give(world: World, source: Path, kind: str) -> None:
    options = ["--platform", BOTH] if kind == "both/" else ["--platform", "linux/amd64", "--platform", "linux/arm64"]
    done = build(world, source, *options, "-o", kind)
    assert done.returncode == 0, done.stderr
    for platform in (AMD64, ARM64):
        found = find_image(world.work / kind, platform)
        assert found.names == ("analysis:latest", "docker.io/library/analysis:latest")
        assert found.read().digest == world.build(source, platform=platform).image.digest
        assert found.read().platform == platform
    with pytest.raises(NotAnImage) as caught:
        find_image(world.work / kind)
    assert "--platform" in caught.value.hint


def test_images_of_an_index_share_what_is_the_same_for_all_platforms(world: World, source: Path) -> None:
    assert build(world, source, "--platform", BOTH, "-o", "both/").returncode == 0
    one, other = (find_image(world.work / "both", each).read() for each in (AMD64, ARM64))
    shared = {layer.diff_id for layer in one.layers} & {layer.diff_id for layer in other.layers}
    # The base and the bill of materials are a platform's own.
    assert len(shared) == len(one.layers) - 2


def test_the_index_says_which_image_is_for_which_platform(world: World, source: Path) -> None:
    done = world.run("build", source, "--base", world.base, "--platform", BOTH, "-o", "both/", "--json", "-q")
    document = json.loads(done.stdout)
    (row, *_) = json.loads((world.work / "both" / "index.json").read_text())["manifests"]
    assert (row["mediaType"], row["digest"]) == (INDEX_TYPE, document["digest"])
    index = json.loads((world.work / "both" / "blobs" / "sha256" / row["digest"][7:]).read_text())
    assert [(each["platform"]["architecture"], each["digest"]) for each in index["manifests"]] == [
        (each["platform"].partition("/")[2], each["digest"]) for each in document["images"]
    ]


def test_a_platform_that_a_file_lacks_is_refused_with_those_that_it_has(world: World, source: Path) -> None:
    write_layout(ImageIndex((world.build(source, platform=ARM64).image,)), ["one:1"], world.work / "one", Silent())
    with pytest.raises(NotAnImage, match="holds no image for linux/amd64") as caught:
        find_image(world.work / "one", AMD64)
    assert caught.value.details == ("linux/arm64",)


def test_commands_take_one_platform_of_an_index(world: World, source: Path) -> None:
    assert build(world, source, "--platform", BOTH, "-o", "both/").returncode == 0
    done = world.run("inspect", "both", "--platform", "linux/arm64", "--json", "-q")
    assert json.loads(done.stdout)["platform"] == "linux/arm64"
    done = world.run("verify", "both", "--platform", "linux/arm64", "--base", world.base, "-q")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("option", ["--load", "--sbom=a.json", "--apt-lock=a.lock"])
def test_what_takes_one_image_is_refused_for_several_platforms(world: World, source: Path, option: str) -> None:
    done = build(world, source, "--platform", BOTH, option)
    assert done.returncode == 2
    assert "only -o and --push are made" in done.stderr


def test_a_plan_is_for_one_platform(world: World, source: Path) -> None:
    done = world.run("plan", source, "--base", world.base, "--platform", BOTH)
    assert done.returncode == 2
    assert "`nb2image build` takes several at once" in done.stderr
