"""Images go into real engines, and only what these lack is sent."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

import nb2image.engines.load
from nb2image.cache import Store
from nb2image.engines.client import Engine, choose
from nb2image.engines.load import load, present_layers
from nb2image.errors import EngineRefused, Unwritable
from nb2image.image.model import LAYER_GZIP, Descriptor
from nb2image.layers.entry import BytesContent, Entry
from nb2image.outputs import EngineLoad
from nb2image.progress import Advanced, Event, Finished, Silent, Started
from tests.engines import daemons
from tests.engines.containers import run_container
from tests.engines.daemons import Daemon
from tests.engines.images import image, layer, text_layer
from tests.engines.plugin import available
from tests.engines.relay import relay

MEBIBYTE = 1 << 20


def unique() -> str:
    return os.urandom(8).hex()


def test_a_loaded_image_runs_under_each_of_its_tags(engine: Daemon, connected: Engine, store: Store) -> None:
    made = image(store, 'cat /greeting; echo "$@"', text_layer(store, "greeting", f"hello {unique()}\n"))
    tags = ["tiny-a:1", "localhost:5000/team/tiny-b:two"]
    loaded = load(connected, made, tags, Silent())
    assert loaded.id == made.config_descriptor.digest
    assert loaded.tags == tuple(tags)
    for tag in tags:
        result = run_container(engine, tag, "a", "b", network="none")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("hello ")
        assert result.stdout.endswith("\na b\n")


def children() -> set[str]:
    """The processes that this one has started and not waited for."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_a_podman_that_was_started_for_loading_ends_with_it(podman_daemon: Daemon, engine: Daemon) -> None:
    before = children()
    with closing(EngineLoad(engine.name)) as output:
        output.check()
        assert len(children() - before) == (engine.name == podman_daemon.name)
    assert children() <= before


def test_loading_reports_its_bytes(connected: Engine, store: Store) -> None:
    made = image(store, "echo", text_layer(store, "unique", unique()))
    events: list[Event] = []
    loaded = load(connected, made, ["tiny-events:1"], events.append)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert events[0].unit == "bytes"
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == loaded.sent


def test_an_image_that_the_engine_has_is_only_tagged(connected: Engine, store: Store) -> None:
    made = image(store, "echo", text_layer(store, "unique", unique()))
    load(connected, made, ["tiny-again:1"], Silent())
    again = load(connected, made, ["tiny-again:2"], Silent())
    assert (again.sent, again.layers) == (0, 0)
    assert connected.image_id("tiny-again:2") == connected.image_id("tiny-again:1") == made.config_descriptor.digest


@pytest.fixture
def socket_engine(engine: Daemon, short_folder: Path) -> Iterator[Path]:
    """The socket of each engine in turn; podman serves it for this test."""
    if engine.socket is not None:
        yield engine.socket
        return
    with available(daemons.podman_service(engine, short_folder)) as path:
        yield path


def test_of_a_changed_image_only_the_changed_layer_is_sent(
    socket_engine: Path, short_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = layer(store, "big", Entry("big", 0o644, BytesContent(os.urandom(8 * MEBIBYTE))))
    first = image(store, f"echo first {unique()}", big)
    second = image(store, f"echo second {unique()}", big)
    with relay(short_folder, socket_engine) as counter:
        monkeypatch.setenv("DOCKER_HOST", counter.url)
        with choose() as found:
            load(found, first, ["tiny-changed:1"], Silent())
            assert counter.sent > 8 * MEBIBYTE
            before = counter.sent
            loaded = load(found, second, ["tiny-changed:1"], Silent())
            assert counter.sent - before < 64 << 10
    assert loaded.layers == 1
    assert loaded.id == second.config_descriptor.digest


def test_an_image_below_another_order_of_layers_is_loaded_right(
    engine: Daemon, connected: Engine, store: Store
) -> None:
    one, two = (text_layer(store, "which", f"{name} {unique()}\n") for name in ("one", "two"))
    load(connected, image(store, "cat /which", one, two), ["tiny-order:1"], Silent())
    load(connected, image(store, "cat /which", two, one), ["tiny-order:2"], Silent())
    assert run_container(engine, "tiny-order:1").stdout.startswith("two ")
    assert run_container(engine, "tiny-order:2").stdout.startswith("one ")


def test_an_engine_that_lacks_an_expected_layer_gets_all_of_them(
    engine: Daemon, connected: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = image(store, "cat /unique", text_layer(store, "unique", unique()))
    everything = frozenset(item.diff_id for item in made.layers)
    monkeypatch.setattr(nb2image.engines.load, "present_layers", lambda _engine, _image: everything)
    loaded = load(connected, made, ["tiny-whole:1"], Silent())
    assert loaded.layers == len(made.layers)
    assert run_container(engine, "tiny-whole:1").returncode == 0


def test_layers_that_docker_has_in_another_chain_count_as_absent(docker_daemon: Daemon, store: Store) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", docker_daemon.environment["DOCKER_HOST"])
        with choose("docker") as found:
            low, high = (text_layer(store, name, unique()) for name in ("low", "high"))
            load(found, image(store, "echo", low, high), ["tiny-chain:1"], Silent())
            swapped = image(store, "echo", high, low)
            assert present_layers(found, swapped) == {swapped.layers[0].diff_id}


@dataclass(frozen=True)
class Garbage:
    """A layer that is no tar, under the digests of what it is."""

    data: bytes = b"this is no tar" * 999
    comment: str = "garbage"

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor.of(LAYER_GZIP, self.data)

    @property
    def diff_id(self) -> str:
        return self.descriptor.digest

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def file(self) -> Path | None:
        return None


def test_an_engine_that_refuses_a_broken_layer_is_quoted_on_one_line(connected: Engine, store: Store) -> None:
    broken = image(store, "echo").with_layers([Garbage()])
    with pytest.raises(EngineRefused) as caught:
        load(connected, broken, ["tiny-broken:1"], Silent())
    assert caught.value.message.startswith(f"{connected.title} {connected.version} refused to load the image: ")
    assert "\n" not in caught.value.message
    assert connected.image_id("tiny-broken:1") is None


@dataclass(frozen=True)
class Vanished(Garbage):
    """A layer whose bytes cannot be had."""

    def open(self) -> BinaryIO:
        raise Unwritable("the layer cannot be had", hint="none")


def test_a_layer_that_cannot_be_read_stops_the_load_with_its_own_error(connected: Engine, store: Store) -> None:
    script = f"echo {unique()}"
    with pytest.raises(Unwritable, match="the layer cannot be had"):
        load(connected, image(store, script).with_layers([Vanished()]), ["tiny-vanished:1"], Silent())
    assert connected.image_id("tiny-vanished:1") is None
    assert load(connected, image(store, script), ["tiny-vanished:1"], Silent()).sent > 0


def test_an_engine_killed_in_mid_load_is_reported_as_gone(
    short_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = layer(store, "big", Entry("big", 0o644, BytesContent(os.urandom(16 * MEBIBYTE))))
    with available(daemons.dockerd()) as daemon:
        assert daemon.socket is not None
        assert daemon.process is not None
        with relay(short_folder, daemon.socket) as cut:
            monkeypatch.setenv("DOCKER_HOST", cut.url)
            with choose("docker") as found:
                cut.at(cut.sent + 4 * MEBIBYTE, daemon.process.kill)
                with pytest.raises(
                    EngineRefused, match=r"Docker stopped answering while .* to load the image"
                ) as caught:
                    load(found, image(store, "echo", big), ["tiny-killed:1"], Silent())
    assert "\n" not in caught.value.message


def test_podman_runs_an_image_by_the_short_name_it_was_given(
    podman_daemon: Daemon, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in podman_daemon.environment.items():
        monkeypatch.setenv(name, value)
    with choose("podman") as found:
        load(found, image(store, "echo short"), ["tiny-short", "tiny-second"], Silent())
    for name in ("tiny-short", "tiny-second:latest"):
        assert run_container(podman_daemon, name).stdout == "short\n"
