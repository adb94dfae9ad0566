"""Bases that a catalogue names and a registry has: delivered by name, matched by themselves, and when they are gone."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.build import build
from nb2image.cache import Store
from nb2image.errors import NoMatchingFiles, NoSuchImage, NotAnImage, NotCached, RegistryUnreachable
from nb2image.image.layout import write_layout
from nb2image.image.read import read_layout
from nb2image.index.settings import IndexSettings
from nb2image.layers.entry import HardLink, Link
from nb2image.plan import Plan, Request, make_plan
from nb2image.progress import Event, Silent
from tests.unit.bases.test_catalogue import home, written
from tests.unit.bases.test_facts import elf, slim
from tests.unit.bases.test_registry import pushed
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.registry.server import MemoryRegistry, memory_registry
from tests.unit.world import World, notebook, wheel, world

__all__ = ["home", "machine", "server", "world"]


@pytest.fixture
def hub() -> Iterator[MemoryRegistry]:
    with memory_registry() as made:
        yield made


@pytest.fixture
def nowhere() -> str:
    """The domain of a registry that does not answer."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def entry(reference: str, name: str = "lab", minor: str = "3.11", glibc: str = "2.36") -> str:
    lines = [f'name = "{name}"', 'provider = "registry"', f'reference = "{reference}"', f'python = "{minor}"']
    return "\n".join(["[[base]]", *lines, 'platforms = ["linux/amd64"]', f'glibc = "{glibc}"', ""])


@pytest.fixture
def lab(world: World, hub: MemoryRegistry) -> Path:
    """A catalogue with the world's base, which the registry has."""
    base = pushed(read_layout(world.base), f"{hub.domain}/bases/debian:12")
    return written(world.folder, entry(base))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A nb2image without bases of its own."""
    monkeypatch.setattr("nb2image.bases.catalogue.SHIPPED", written(tmp_path, "", "shipped.toml"))


def planned(world: World, catalogue: Path, events: list[Event] | None = None, **changes: object) -> Plan:
    request = Request(world.locked(wheel("first")), catalogues=(catalogue,), **changes)  # type: ignore[arg-type]
    return make_plan(request, Store(world.cache), events.append if events is not None else Silent())


def test_a_base_is_delivered_by_its_name(world: World, hub: MemoryRegistry, lab: Path) -> None:
    request = Request(world.locked(wheel("first")), base="lab", catalogues=(lab,))
    built = build(request, Store(world.cache), Silent())
    digest = read_layout(world.base).digest
    # What it is, and not what the catalogue states, is in the image.
    assert (built.base.name, str(built.plan.target.python), built.base.image.digest) == ("lab", "3.11.2", digest)
    assert built.base.reference == f"{hub.domain}/bases/debian:12"
    assert built.plan.match.candidate.origin == f"{hub.domain}/bases/debian:12 at {digest}"
    by_path = world.build(world.locked(wheel("first")))
    # The bill of materials, in the last one, names the base.
    assert [x.descriptor for x in built.image.layers[:-1]] == [x.descriptor for x in by_path.image.layers[:-1]]


def test_a_plan_asks_for_documents_only(world: World, hub: MemoryRegistry, lab: Path) -> None:
    made = planned(world, lab, base="lab")
    layer = read_layout(world.base).layers[0].descriptor
    assert made.match.candidate.size == layer.size
    assert not hub.requests("GET", layer.digest)


@pytest.mark.usefixtures("alone")
def test_a_registrys_base_is_matched_by_itself(world: World, hub: MemoryRegistry, lab: Path) -> None:
    made = planned(world, lab)
    assert made.match.candidate.name == "lab"
    assert hub.requests("GET", "/manifests/12")


def test_a_base_that_nb2image_assembles_goes_first(world: World, hub: MemoryRegistry, lab: Path) -> None:
    before = len(hub.asked)
    assert planned(world, lab).match.candidate.name == "bookworm"
    assert len(hub.asked) == before


@pytest.mark.usefixtures("alone")
def test_a_registry_that_does_not_answer_is_one_sentence_with_the_next_best_base(
    world: World, lab: Path, nowhere: str
) -> None:
    lab.write_text(entry(f"{nowhere}/bases/best:1", "best", glibc="2.41") + lab.read_text())
    with pytest.raises(RegistryUnreachable) as caught:
        planned(world, lab)
    assert caught.value.message.startswith(f"The base best cannot be had: {nowhere} cannot be reached: ")
    assert f"`nb2image pull {nowhere}/bases/best:1 -o DIR`" in caught.value.hint
    assert caught.value.hint.endswith("Or take the next best base: --base lab.")


def test_registries_that_only_nb2image_names_are_not_asked_unasked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(self: object, *_: object) -> None:
        asked.append(type(self).__name__)
        raise RegistryUnreachable("Not in this test.")

    monkeypatch.setattr("nb2image.bases.registry.RegistryProvider.resolve", refuse)
    made = make_plan(Request(world.locked(wheel("first"))), Store(world.cache), Silent())
    assert made.match.candidate.name == "bookworm"
    assert asked == []
    with pytest.raises(RegistryUnreachable, match=r"python-3\.11-slim-trixie cannot be had: Not in this test"):
        make_plan(Request(world.locked(wheel("first")), base="python-3.11-slim-trixie"), Store(world.cache), Silent())


def test_a_tag_that_is_gone_is_named(world: World, hub: MemoryRegistry, lab: Path) -> None:
    lab.write_text(lab.read_text().replace("debian:12", "debian:13"))
    with pytest.raises(NoSuchImage, match=f"The base lab cannot be had: {hub.domain} has no image .*debian:13"):
        planned(world, lab, base="lab")


def test_offline_takes_what_the_cache_has(world: World, hub: MemoryRegistry, lab: Path) -> None:
    offline = IndexSettings(offline=True)
    planned(world, lab)  # what the index says is in the cache
    with pytest.raises(NotCached, match="The base lab cannot be had"):
        planned(world, lab, base="lab", settings=offline)
    source = world.locked(wheel("first"))
    store = Store(world.cache)
    digest = build(Request(source, base="lab", catalogues=(lab,)), store, Silent()).image.digest
    before = len(hub.asked)
    again = build(Request(source, base="lab", catalogues=(lab,), settings=offline), store, Silent())
    assert (again.image.digest, len(hub.asked)) == (digest, before)


def test_a_base_that_is_another_than_stated_is_refused(world: World, hub: MemoryRegistry, lab: Path) -> None:
    layer = files_of({**slim("3.12", "3.12.1"), "usr/local/bin/python3": Link("python3.12")})
    pushed(image_of(layer, Env=["PATH=/usr/local/bin"]), f"{hub.domain}/bases/debian:12")
    from nb2image.errors import NoMatchingBase

    request = Request(world.locked(wheel("first")), base="lab", catalogues=(lab,))
    with pytest.raises(NoMatchingBase, match=r"turned out to be Python 3\.12"):
        build(request, Store(world.cache), Silent())
    pushed(image_of(files_of({"etc/x": b""})), f"{hub.domain}/bases/debian:12")
    with pytest.raises(NotAnImage, match="no Python"):
        build(request, Store(world.cache), Silent())


MUSL = "/lib/ld-musl-x86_64.so.1"
ALPINE: dict[str, bytes | Link | HardLink] = {
    "lib/ld-musl-x86_64.so.1": elf("1.2.5", loader=None),
    "usr/local/bin/python3.11": elf("3.11.9", loader=MUSL),
    "usr/local/lib/python3.11/os.py": b"",
}


def manylinux(world: World, name: str) -> str:
    """The line of a lock for a package that has but a wheel for glibc, which the index has."""
    made = wheel(name)
    filename = f"{name.replace('-', '_')}-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    world.server.project(name, {filename: made.data})
    return f"{name}==1.0 --hash=sha256:{made.sha256}\n"


def test_a_base_with_musl_is_refused_for_wheels_that_need_glibc(world: World) -> None:
    write_layout(image_of(files_of(ALPINE)), ["alpine:3"], world.folder / "alpine", Silent())
    source = notebook(world.work, None)
    (world.work / "requirements.txt").write_text(manylinux(world, "compiled"))
    request = Request(source, base=str(world.folder / "alpine"), python="3.11")
    with pytest.raises(
        NoMatchingFiles, match=r"compiled has no file that Python 3\.11, no glibc, linux/amd64"
    ) as caught:
        make_plan(request, Store(world.cache), Silent())
    assert "its wheels need glibc ≥ 2.28" in "\n".join(caught.value.details)


def test_that_notebooks_cannot_be_started_on_a_base_is_not_said_of_the_lock(world: World) -> None:
    write_layout(image_of(files_of(ALPINE)), ["alpine:3"], world.folder / "alpine", Silent())
    with (world.runners / "jupyter-3.11.txt").open("a") as file:
        file.write(manylinux(world, "compiled"))
    request = Request(world.locked(wheel("first")), base=str(world.folder / "alpine"))
    with pytest.raises(NoMatchingFiles) as caught:
        make_plan(request, Store(world.cache), Silent())
    assert caught.value.message == (
        "No notebook can be started on Python 3.11, no glibc, linux/amd64: 1 of the 3 packages of nb2image's own "
        "jupyter environment have no wheel for it, such as compiled."
    )
    assert "glibc 2.28 or newer" in caught.value.hint


def test_an_entry_of_a_debian_name_replaces_that_base(world: World, hub: MemoryRegistry, lab: Path) -> None:
    lab.write_text(lab.read_text().replace('"lab"', '"bookworm"'))
    made = planned(world, lab, base="bookworm")
    assert made.match.candidate.origin.startswith(hub.domain)
    assert [row.name for row in made.match.rows].count("bookworm") == 1


def test_what_was_matched_is_built_when_the_tag_moves(world: World, hub: MemoryRegistry, lab: Path) -> None:
    made = planned(world, lab, base="lab")
    pushed(image_of(files_of({"etc/x": b""})), f"{hub.domain}/bases/debian:12")
    shutil.rmtree(world.cache / "v1" / "records", ignore_errors=True)
    base = made.provider.deliver(made.match.candidate, Silent())
    assert base.image.digest == read_layout(world.base).digest
