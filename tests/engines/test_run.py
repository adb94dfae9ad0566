"""Images run in real engines: output, exit codes, folders, ports, interruption."""

from __future__ import annotations

import http.client
import io
import os
import re
import signal
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from nb2image.cache import Store
from nb2image.engines.client import Engine
from nb2image.engines.load import load
from nb2image.engines.run import image_mode, run_batch, serve
from nb2image.errors import EngineRefused, Unwritable
from nb2image.progress import Silent
from tests.engines.containers import run_engine
from tests.engines.daemons import Daemon
from tests.engines.images import image

# As JupyterLab does, it ends when asked to; a program in place of the shell would ignore the signal as process 1.
SERVER = "echo '{}' > /tmp/api; echo $JUPYTER_TOKEN > /tmp/token; trap 'exit 0' TERM; httpd -f -p 8888 -h /tmp & wait"


def containers(engine: Daemon) -> list[str]:
    return run_engine(engine, "ps", "--all", "--quiet", check=True).stdout.split()


def test_a_batch_run_streams_output_and_passes_the_exit_code(
    engine: Daemon, connected: Engine, store: Store, tmp_path: Path
) -> None:
    script = 'echo "out $@"; echo err >&2; id -u > /output/user; exit 7'
    load(connected, image(store, script, mode="batch"), ["tiny-batch:1"], Silent())
    assert image_mode(connected, "tiny-batch:1") == "batch"
    out, err = io.BytesIO(), io.BytesIO()
    code = run_batch(connected, "tiny-batch:1", ["-p", "alpha", "3"], tmp_path / "new" / "output", out, err)
    assert (code, out.getvalue(), err.getvalue()) == (7, b"out -p alpha 3\n", b"err\n")
    assert (tmp_path / "new/output/user").read_text() == f"{os.getuid()}\n"
    assert (tmp_path / "new/output/user").stat().st_uid == os.getuid()
    assert containers(engine) == []


def test_an_interrupted_batch_run_may_finish_its_work(
    engine: Daemon, connected: Engine, store: Store, tmp_path: Path
) -> None:
    script = "trap 'echo partial > /output/notebook; exit 143' TERM; echo ready; while :; do sleep 0.1; done"
    load(connected, image(store, script, mode="batch"), ["tiny-interrupted:1"], Silent())
    out = io.BytesIO()

    def interrupt() -> None:
        limit = time.monotonic() + 30
        while b"ready" not in out.getvalue() and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code = run_batch(connected, "tiny-interrupted:1", [], tmp_path, out, io.BytesIO())
    thread.join()
    assert code == 143
    assert (tmp_path / "notebook").read_text() == "partial\n"
    assert containers(engine) == []


def test_a_reader_that_goes_away_does_not_stop_the_run(connected: Engine, store: Store, tmp_path: Path) -> None:
    load(connected, image(store, "echo one; echo two; echo done > /output/done"), ["tiny-pipe:1"], Silent())
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as broken:
        assert run_batch(connected, "tiny-pipe:1", [], tmp_path, broken, io.BytesIO()) == 0
    assert (tmp_path / "done").exists()


def test_an_output_folder_that_cannot_be_made_is_refused(connected: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unwritable, match="for executed notebooks cannot be made"):
        run_batch(connected, "tiny:1", [], tmp_path / "file" / "output", io.BytesIO(), io.BytesIO())


def test_a_jupyter_image_is_served_on_loopback_until_left(engine: Daemon, connected: Engine, store: Store) -> None:
    load(connected, image(store, SERVER, mode="jupyter"), ["tiny-jupyter:1"], Silent())
    assert image_mode(connected, "tiny-jupyter:1") == "jupyter"
    with serve(connected, "tiny-jupyter:1", [], io.BytesIO(), io.BytesIO()) as server:
        parts = urllib.parse.urlsplit(server.url)
        assert parts.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=10)
        connection.request("GET", "/token")
        token = connection.getresponse().read().decode().strip()
        connection.close()
        assert urllib.parse.parse_qs(parts.query) == {"token": [token]}
        assert len(token) >= 32
    assert containers(engine) == []


def test_two_jupyter_images_get_two_ports(connected: Engine, store: Store) -> None:
    load(connected, image(store, SERVER, mode="jupyter"), ["tiny-two:1"], Silent())
    with (
        serve(connected, "tiny-two:1", [], io.BytesIO(), io.BytesIO()) as one,
        serve(connected, "tiny-two:1", [], io.BytesIO(), io.BytesIO()) as two,
    ):
        assert urllib.parse.urlsplit(one.url).port != urllib.parse.urlsplit(two.url).port


def test_an_engine_is_not_asked_to_wait_while_the_output_goes_on(
    connected: Engine, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """podman 4.3 spends half a processor on that question until it can answer."""
    load(connected, image(store, "sleep 2; echo over; exit 7", mode="batch"), ["tiny-waited:1"], Silent())
    asked: list[bytes] = []
    out = io.BytesIO()
    wait = connected.api.wait

    def asking(*arguments: Any, **options: Any) -> Any:
        asked.append(out.getvalue())
        return wait(*arguments, **options)

    monkeypatch.setattr(connected.api, "wait", asking)
    assert run_batch(connected, "tiny-waited:1", [], tmp_path, out, io.BytesIO()) == 7
    assert asked == [b"over\n"]


def test_a_server_that_ends_at_once_is_refused_with_its_exit_code(
    engine: Daemon, connected: Engine, store: Store
) -> None:
    load(connected, image(store, "echo no kernel >&2; exit 3", mode="jupyter"), ["tiny-ended:1"], Silent())
    err = io.BytesIO()
    with (
        pytest.raises(EngineRefused, match="tiny-ended:1 ended with exit code 3 before it answered"),
        serve(connected, "tiny-ended:1", [], io.BytesIO(), err),
    ):
        pytest.fail("it does not serve")
    assert err.getvalue() == b"no kernel\n"
    assert containers(engine) == []


def test_an_image_of_another_tool_is_not_run(connected: Engine, store: Store) -> None:
    load(connected, image(store, "echo"), ["tiny-foreign:1"], Silent())
    with pytest.raises(EngineRefused, match="was not built by nb2image"):
        image_mode(connected, "tiny-foreign:1")


def test_an_image_that_is_not_there_is_named(connected: Engine) -> None:
    with pytest.raises(EngineRefused, match="has no image tiny-nowhere:1"):
        image_mode(connected, "tiny-nowhere:1")


NO_DRIVER = "No driver of NVIDIA is loaded on this machine"


def test_gpus_that_an_engine_cannot_give_are_refused_with_what_they_take(
    engine: Daemon, connected: Engine, store: Store, tmp_path: Path
) -> None:
    load(connected, image(store, "echo", mode="batch"), ["tiny-gpu:1"], Silent())
    with pytest.raises(EngineRefused) as caught:
        run_batch(connected, "tiny-gpu:1", [], tmp_path, io.BytesIO(), io.BytesIO(), gpu=True)
    assert re.fullmatch(
        rf"(Docker|podman) [0-9.]+ can give tiny-gpu:1 no GPU\. ({NO_DRIVER}|NVIDIA's driver \S+ is loaded here)\.",
        caught.value.message,
    )
    assert "NVIDIA's container toolkit" in caught.value.hint
    assert ("podman run --rm --device nvidia.com/gpu=all --user " in caught.value.hint) == (connected.name == "podman")
    assert containers(engine) == []
