"""The layers that hold no packages, and what the documents say."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from nb2image.assemble import lock_layer, normalised_lock, notebook_layer, runtime_layer
from nb2image.cache import Store
from nb2image.layers.cached import CachedLayer
from nb2image.plan import Plan, make_plan
from nb2image.progress import Event, Note, Silent
from tests.unit.index.plugin import machine, server, store
from tests.unit.test_environment import contents
from tests.unit.world import World, notebook, pylock, wheel, world

__all__ = ["machine", "server", "store", "world"]

ALPHA, BETA = wheel("alpha"), wheel("beta", "2.0")
BOM = b'{"bomFormat":"CycloneDX"}'


def planned(world: World, source: Path, store: Store, **changes: Any) -> Plan:
    return make_plan(world.request(source, **changes), store, Silent())


def all_layers(plan: Plan, store: Store) -> list[CachedLayer]:
    return [runtime_layer(plan, store), lock_layer(plan, store), notebook_layer(plan, BOM, store, Silent())]


def test_the_runtime_is_the_same_for_every_notebook(world: World, store: Store) -> None:
    one = planned(world, world.locked(ALPHA, name="one.ipynb"), store)
    two = planned(world, world.locked(BETA, name="two.ipynb"), store)
    assert runtime_layer(one, store).diff_id == runtime_layer(two, store).diff_id
    batch = planned(world, world.work / "one.ipynb", store, mode="batch")
    assert runtime_layer(batch, store).diff_id != runtime_layer(one, store).diff_id


def test_layers_are_found_again(world: World, store: Store) -> None:
    plan = planned(world, world.locked(ALPHA), store)
    first = all_layers(plan, store)
    blobs = {path: path.stat().st_mtime_ns for path in store.root.rglob("layers/**/*") if path.is_file()}
    assert [x.descriptor for x in all_layers(plan, store)] == [x.descriptor for x in first]
    assert {path: path.stat().st_mtime_ns for path in blobs} == blobs


def test_a_pruned_layer_is_written_again(world: World, store: Store) -> None:
    plan = planned(world, world.locked(ALPHA), store)
    layers = all_layers(plan, store)
    before = contents(*layers)
    store.prune(("layers",))
    assert contents(*layers) == before


def test_the_lock_names_files_and_hashes_and_nothing_else(world: World, store: Store) -> None:
    plan = planned(world, world.locked(BETA, ALPHA), store)
    text = normalised_lock(plan).decode()
    assert ALPHA.sha256 in text
    assert BETA.filename in text
    for word in ("url", "index", "http", "size", str(world.folder)):
        assert word not in text
    layer = contents(lock_layer(plan, store))
    assert layer["opt/nb2image/pylock.toml"].decode() == text


def test_the_lock_is_the_same_whatever_its_order(world: World, store: Store) -> None:
    world.offer(ALPHA, BETA)
    url = f"{world.server.url}/files"
    texts = {
        normalised_lock(planned(world, notebook(world.folder / str(n), pylock(*order, url=url)), store))
        for n, order in enumerate([(ALPHA, BETA), (BETA, ALPHA)])
    }
    assert len(texts) == 1


def test_a_notebook_comes_as_it_is(world: World, store: Store) -> None:
    source = world.locked(ALPHA)
    source.write_bytes(source.read_bytes() + b"\n\n  ")
    layer = contents(notebook_layer(planned(world, source, store), BOM, store, Silent()))
    assert layer["work/analysis.ipynb"] == source.read_bytes()


def test_the_bill_of_materials_stands_where_anyone_may_read_it(world: World, store: Store) -> None:
    layer = notebook_layer(planned(world, world.locked(ALPHA), store), BOM, store, Silent())
    with layer.open() as stream, tarfile.open(fileobj=stream, mode="r:gz") as tar:
        assert tar.getmember("opt/nb2image/sbom.cdx.json").mode == 0o644
    assert contents(layer)["opt/nb2image/sbom.cdx.json"] == BOM


def test_files_of_a_repository_keep_their_mode_and_their_links(world: World, store: Store) -> None:
    world.locked(ALPHA)
    tool = world.work / "tool.sh"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o700)
    (world.work / "link").symlink_to("tool.sh")
    (world.work / "empty").mkdir()
    layer = notebook_layer(planned(world, world.work, store), BOM, store, Silent())
    with layer.open() as stream, tarfile.open(fileobj=stream, mode="r:gz") as tar:
        assert tar.getmember("work/tool.sh").mode & 0o111
        assert tar.getmember("work/link").linkname == "tool.sh"
        assert not tar.getmember("work/analysis.ipynb").mode & 0o111


def test_the_times_of_files_leave_no_trace(world: World, store: Store) -> None:
    source = world.locked(ALPHA)
    (world.work / "data.csv").write_text("1,2\n")
    first = notebook_layer(planned(world, world.work, store), BOM, store, Silent())
    for path in (source, world.work / "data.csv"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    other = Store(world.folder / "other")
    assert notebook_layer(planned(world, world.work, other), BOM, other, Silent()).descriptor == first.descriptor


@pytest.mark.parametrize("state", ["broken", "empty"])
def test_a_revision_is_left_out_where_git_has_none(world: World, state: str) -> None:
    source = world.locked(ALPHA)
    if state == "broken":
        (world.work / ".git").write_text("gitdir: /nowhere\n")
    else:
        subprocess.run(["git", "init", "-q", str(world.work)], check=True)
    events: list[Event] = []
    labels = world.build(source, listener=events.append).image.config.labels
    assert "org.opencontainers.image.revision" not in labels
    [note] = [event.text for event in events if isinstance(event, Note) and "no revision" in event.text]
    assert f"git tells none of {world.work}: fatal: " in note


def test_a_tag_of_the_repository_does_not_replace_its_commit(world: World) -> None:
    source = world.locked(ALPHA)
    git = ["git", "-C", str(world.work), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"], ["tag", "-a", "v1", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    revision = world.build(source).image.config.labels["org.opencontainers.image.revision"]
    assert len(revision) == 40
