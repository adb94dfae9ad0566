"""Bases that a registry has: what is asked of it, what comes from the cache, and what is mounted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nb2image.bases.registry import RegistryProvider
from nb2image.build import Built, build
from nb2image.cache import Store
from nb2image.errors import NoSuchImage, NotAnImage, NotCached
from nb2image.image.model import Image
from nb2image.image.read import read_layout
from nb2image.index.settings import IndexSettings
from nb2image.outputs import RegistryPush
from nb2image.plan import Request
from nb2image.progress import Silent
from nb2image.registry.client import Registry
from nb2image.registry.push import push
from nb2image.registry.reference import parse_reference
from nb2image.target.model import Platform
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.registry.server import MemoryRegistry, memory_registry
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]


@pytest.fixture
def hub() -> Iterator[MemoryRegistry]:
    with memory_registry() as made:
        yield made


@pytest.fixture
def base(world: World, hub: MemoryRegistry) -> str:
    """The world's base on a registry."""
    return pushed(read_layout(world.base), f"{hub.domain}/bases/debian:12")


def pushed(image: Image, text: str) -> str:
    reference = parse_reference(text)
    with Registry(reference.domain) as client:
        push(image, reference, client, Silent())
    return text


def built(world: World, base: str, *, offline: bool = False, cache: str = "cache") -> Built:
    source = world.locked(wheel("first"))
    request = Request(source, base=base, settings=IndexSettings(offline=offline))
    return build(request, Store(world.folder / cache), Silent())


def test_a_base_from_a_registry_gives_the_layers_of_the_same_base_in_a_layout(world: World, base: str) -> None:
    from_registry, from_layout = built(world, base), world.build(world.locked(wheel("first")))
    assert [x.descriptor for x in from_registry.image.layers][:1] == [x.descriptor for x in from_layout.image.layers][
        :1
    ]
    assert from_registry.base.reference == base
    assert from_registry.base.image.digest == from_layout.base.image.digest
    assert from_registry.image.annotations["org.opencontainers.image.base.name"] == base
    assert from_registry.plan.match.candidate.origin == f"{base} at {from_layout.base.image.digest}"


def test_what_is_pushed_beside_its_base_mounts_the_layers(world: World, hub: MemoryRegistry, base: str) -> None:
    done = built(world, base)
    layer = done.base.image.layers[0].descriptor.digest
    hub.faults.append(lambda asked: mounts(hub, asked))
    # Whether the base's layers are here no longer matters.
    shutil.rmtree(world.cache / "v1/bases")
    before = len(hub.asked)
    output = RegistryPush([f"{hub.domain}/team/x:1"], Store(world.cache))
    output.write(done.image, output.tags, Silent())
    assert output.pushed[0].mounted == (layer,)
    assert layer not in output.pushed[0].sent
    assert not [each for each in hub.asked[before:] if each.method == "GET" and layer in each.path]


def mounts(hub: MemoryRegistry, asked: object) -> bool:
    from urllib.parse import parse_qs, urlsplit

    from tests.unit.registry.server import Asked

    assert isinstance(asked, Asked)
    query = parse_qs(urlsplit(asked.path).query)
    if asked.method == "HEAD" and "/team/x/blobs/" in asked.path:
        return asked.handler.answer(404)
    if "mount" not in query:
        return False
    assert query["from"] == ["bases/debian"]
    # Own layers are asked for there as well; what the repository lacks begins an upload.
    return query["mount"][0] in hub.blobs and asked.handler.answer(201)


def test_a_second_plan_downloads_no_layer(world: World, hub: MemoryRegistry, base: str) -> None:
    built(world, base)
    before = len(hub.asked)
    built(world, base)
    assert [each.path for each in hub.asked[before:]] == ["/v2/", "/v2/bases/debian/manifests/12"]


def test_offline_takes_what_the_cache_has(world: World, hub: MemoryRegistry, base: str) -> None:
    with pytest.raises(NotCached, match=r"bases/debian:12"):
        built(world, base, offline=True)
    digest = built(world, base).image.digest
    before = len(hub.asked)
    again = built(world, base, offline=True).image
    assert again.digest == digest
    again.layers[0].open().close()
    assert len(hub.asked) == before


def test_a_base_named_by_digest_stays_what_it_is(world: World, base: str) -> None:
    digest = built(world, base).base.image.digest
    pushed(image_of(files_of({"etc/other": b""})), base)
    with pytest.raises(NotAnImage, match="no Python"):
        built(world, base)
    fixed = base.replace(":12", f"@{digest}")
    assert built(world, fixed).base.image.digest == digest


@pytest.mark.parametrize("wrong", [":13", "-none:12"])
def test_a_base_that_is_not_there_is_named(world: World, base: str, wrong: str) -> None:
    text = base.replace(":12", wrong)
    with pytest.raises(NoSuchImage, match=text):
        built(world, text)


def test_a_base_for_another_platform_is_refused(world: World, base: str) -> None:
    arm = Platform("linux", "arm64")
    with pytest.raises(NotAnImage, match="linux/arm64"):
        RegistryProvider(base, arm, Store(world.cache), Silent()).candidates()


def test_a_warm_push_builds_and_sends_the_notebook_alone(world: World, hub: MemoryRegistry, base: str) -> None:
    source = world.locked(wheel("first"))
    name = f"{hub.domain}/team/x:1"
    first = world.run("build", source, "--base", base, "--push", "-t", name, "-q")
    assert first.returncode == 0, first.stderr
    # What the base has need not be here any more, nor what layers were made of.
    for room in ("wheels", "bases"):
        shutil.rmtree(world.cache / "v1" / room, ignore_errors=True)
    source.write_text(source.read_text().replace("print('hello')", "print('changed')"))
    before = len(hub.asked)
    second = world.run("build", source, "--base", base, "--push", "-t", name)
    assert second.returncode == 0, second.stderr
    assert "(2 blobs" in second.stdout
    assert not (world.cache / "v1" / "wheels").exists()
    posts = [each.path for each in hub.asked[before:] if each.method == "POST"]
    assert len(posts) == 2


# -- layers that are on the registry and no more here -----------------------------------------------------------------


def forget_bytes(world: World) -> None:
    """All that `nb2image cache prune` takes but for the records."""
    for room in ("layers", "wheels", "bases"):
        shutil.rmtree(world.cache / "v1" / room)


def test_layers_that_the_registry_has_are_not_built_again(world: World, hub: MemoryRegistry, base: str) -> None:
    world.locked(wheel("first"), wheel("second"))
    name = f"{hub.domain}/team/x:1"
    first = world.pushed(world.work / "analysis.ipynb", base, name)
    forget_bytes(world)
    second = world.pushed(world.work / "analysis.ipynb", base, name)
    assert second["digest"] == first["digest"]
    assert second["pushed"][0]["sent"] == []
    assert not world.layers
    assert not (world.cache / "v1/wheels").exists()


def test_a_new_notebook_on_layers_that_the_registry_has_is_all_that_is_built(
    world: World, hub: MemoryRegistry, base: str
) -> None:
    source = world.locked(wheel("first"), wheel("second"))
    name = f"{hub.domain}/team/x:1"
    world.pushed(world.work / "analysis.ipynb", base, name)
    forget_bytes(world)
    source.write_text(source.read_text().replace("print('hello')", "print('changed')"))
    digest = world.pushed(world.work / "analysis.ipynb", base, name)["digest"]
    assert len(world.layers) == 1
    anew = build(replace(world.request(source), base=base), Store(world.folder / "another"), Silent())
    assert digest == anew.image.digest


def test_one_registry_that_lacks_a_layer_has_it_built(world: World, hub: MemoryRegistry, base: str) -> None:
    world.locked(wheel("first"))
    first = world.pushed(world.work / "analysis.ipynb", base, f"{hub.domain}/team/x:1")
    forget_bytes(world)
    with memory_registry() as other:
        both = world.pushed(world.work / "analysis.ipynb", base, f"{hub.domain}/team/x:1", f"{other.domain}/team/x:1")
        assert both["digest"] == first["digest"]
        assert set(both["pushed"][1]["sent"]) == set(other.blobs)
    assert world.layers


def test_a_file_beside_the_push_needs_the_bytes(world: World, hub: MemoryRegistry, base: str) -> None:
    world.locked(wheel("first"))
    first = world.pushed(world.work / "analysis.ipynb", base, f"{hub.domain}/team/x:1")
    forget_bytes(world)
    both = world.pushed(world.work / "analysis.ipynb", base, f"{hub.domain}/team/x:1", more=["-o", "lay/"])
    assert read_layout(world.work / "lay").digest == both["digest"] == first["digest"]
