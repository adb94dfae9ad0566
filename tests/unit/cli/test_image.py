"""IMAGE in its forms: files, and a registry on loopback. Engines are in tests/engines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nb2image.cli import cli
from nb2image.errors import NoSuchImage, NotVerified
from nb2image.image.archive import write_archive
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.read import find_image
from nb2image.progress import Silent
from nb2image.registry.client import Registry
from nb2image.registry.push import push
from nb2image.registry.reference import parse_reference
from tests.unit.image.making import files_of
from tests.unit.index.plugin import machine, server
from tests.unit.registry.server import MemoryRegistry, memory_registry
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]


@pytest.fixture
def hub() -> Iterator[MemoryRegistry]:
    with memory_registry() as made:
        yield made


@pytest.fixture
def image(world: World) -> Image:
    return world.build(world.locked(wheel("alpha"))).image


def pushed(image: Image, text: str) -> str:
    reference = parse_reference(text)
    with Registry(reference.domain) as client:
        push(image, reference, client, Silent())
    return text


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arguments[0]), "-q", *map(str, arguments[1:])])


def answer(*arguments: str | Path) -> dict[str, object]:
    done = call(*arguments, "--json")
    assert done.exception is None, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("at", ["tag", "digest"])
def test_an_image_of_a_registry_is_inspected_verified_and_compared(
    world: World, hub: MemoryRegistry, image: Image, at: str
) -> None:
    name = pushed(image, f"{hub.domain}/team/analysis:1")
    if at == "digest":
        name = f"{hub.domain}/team/analysis@{image.digest}"
    write_archive(image, ["analysis:1"], world.work / "image.tar", Silent())
    assert answer("inspect", name)["digest"] == image.digest
    assert answer("verify", name, "--base", world.base, "--rebuild")["holds"] is True
    assert answer("diff", name, world.work / "image.tar")["same"] is True


def test_an_image_of_a_registry_is_rebased_and_pushed_back(world: World, hub: MemoryRegistry, image: Image) -> None:
    name = pushed(image, f"{hub.domain}/team/analysis:1")
    patched = find_image(world.base).read().with_layers([files_of({"etc/patched": b""})])
    on = pushed(patched, f"{hub.domain}/bases/debian:12.1")
    target = f"{hub.domain}/team/analysis:patched"
    found = answer("rebase", name, "--base", on, "-t", target, "--push", "-o", f"{world.work}/rebased/")
    assert [row["digest"] for row in found["pushed"]] == [found["digest"]]  # type: ignore[attr-defined]
    assert answer("diff", target, world.work / "rebased")["same"] is True
    # Whom it names itself is not trusted: an image could name any registry.
    done = call("verify", target)
    assert isinstance(done.exception, NotVerified)
    assert f"--base {on}@{patched.digest}" in done.exception.hint
    assert answer("verify", target, "--base", f"{on}@{patched.digest}")["holds"] is True


def test_a_base_is_the_one_that_its_digest_says_wherever_it_lies(world: World, image: Image) -> None:
    write_layout(image, ["analysis:1"], world.work / "image", Silent())
    moved = world.work / "moved.tar"
    write_archive(find_image(world.base).read(), ["other:name"], moved, Silent())
    assert answer("verify", world.work / "image", "--base", moved)["holds"] is True


def test_a_push_of_a_rebased_image_needs_a_name(world: World, image: Image) -> None:
    write_layout(image, ["analysis:1"], world.work / "image", Silent())
    done = call("rebase", world.work / "image", "--base", world.base, "--push")
    assert done.exit_code == 2
    assert "--push needs a --tag" in done.output


def test_what_a_registry_lacks_is_said_with_the_way_to_an_engine(hub: MemoryRegistry) -> None:
    done = call("inspect", f"{hub.domain}/team/nothing:1")
    assert isinstance(done.exception, NoSuchImage)
    assert "--engine docker|podman" in done.exception.hint


def test_a_file_is_meant_before_a_registry(
    world: World, hub: MemoryRegistry, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.work)
    place = world.work / hub.domain.partition(":")[0]
    place.mkdir()
    write_layout(image, ["analysis:1"], place / "image", Silent())
    assert answer("inspect", f"{place.name}/image")["digest"] == image.digest
