"""``nb2image run`` as a process, with real engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.engines.client import Engine
from nb2image.engines.load import load
from nb2image.errors import EngineRefused
from nb2image.image.archive import write_archive
from nb2image.image.layout import write_layout
from nb2image.image.model import Config, ImageIndex
from nb2image.progress import Silent
from tests.engines.containers import run_engine
from tests.engines.daemons import Daemon
from tests.engines.images import image, text_layer

SERVER = "echo '{}' > /tmp/api; echo ok > /tmp/lab; trap 'exit 0' TERM; httpd -f -p 8888 -h /tmp & wait"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nb2image", "run", *arguments]


def test_a_batch_image_gets_its_arguments_and_its_exit_code_is_passed_on(
    connected: Engine, store: Store, tmp_path: Path
) -> None:
    load(connected, image(store, 'echo "$@"; exit 5', mode="batch"), ["tiny-cli:1"], Silent())
    done = subprocess.run(
        command("tiny-cli:1", "-p", "alpha", "3", "--output"), cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "-p alpha 3 --output\n", "")
    assert (tmp_path / "output").is_dir()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_jupyter_image_prints_its_url_and_ends_with_the_signal(
    engine: Daemon, connected: Engine, store: Store, number: signal.Signals
) -> None:
    load(connected, image(store, SERVER, mode="jupyter"), ["tiny-cli-server:1"], Silent())
    with subprocess.Popen(
        command("tiny-cli-server:1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.read() == b"ok\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert run_engine(engine, "ps", "--all", "--quiet", check=True).stdout == ""


def test_a_plain_name_is_an_image_before_it_is_a_folder(connected: Engine, store: Store, tmp_path: Path) -> None:
    load(connected, image(store, "echo from the image", mode="batch"), ["tiny-named"], Silent())
    (tmp_path / "tiny-named").mkdir()
    done = subprocess.run(command("tiny-named"), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "from the image\n", "")
    for source in ("./tiny-named", "tiny-named/", str(tmp_path / "tiny-named")):
        done = subprocess.run(command(source), cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 17, done.stderr
        assert "holds no notebook" in done.stderr


def test_a_plain_name_that_no_image_has_is_a_folder(connected: Engine, tmp_path: Path) -> None:
    for name in ("tiny-folder", "My Folder"):
        (tmp_path / name).mkdir()
        done = subprocess.run(command(name), cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 17, done.stderr
        assert connected.title not in done.stderr


@pytest.mark.parametrize("kind", ["layout", "image.tar"])
def test_of_several_platforms_that_of_the_machine_is_loaded_and_run(
    connected: Engine, store: Store, tmp_path: Path, kind: str
) -> None:
    own = image(store, 'echo "own $@"', mode="batch")
    other = {"amd64": "arm64", "arm64": "amd64"}[own.platform.architecture]
    foreign = own.with_config(Config({**own.config.document, "architecture": other}))
    index = ImageIndex((foreign, own))
    write = write_archive if kind.endswith(".tar") else write_layout
    write(index, [f"both-{connected.name}:1"], tmp_path / kind, Silent())
    done = subprocess.run(command(kind, "-p", "a", "1"), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "own -p a 1\n"), done.stderr
    assert connected.image_id(f"both-{connected.name}:1") == own.config_descriptor.digest


def test_an_image_of_a_processor_that_is_not_emulated_is_refused_in_a_sentence(
    connected: Engine, store: Store, tmp_path: Path
) -> None:
    own = image(store, "echo ran", mode="batch")
    other = {"amd64": "arm64", "arm64": "amd64"}[own.platform.architecture]
    config = Config({**own.config.document, "architecture": other})
    program = text_layer(store, "opt/runner/bin/python", "no program of this machine", 0o755)
    foreign = own.with_layers([program]).with_config(config)
    load(connected, foreign, ["foreign-cli:1"], Silent())
    done = subprocess.run(command("foreign-cli:1"), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == EngineRefused.exit_code, done.stderr
    assert f"is an image for linux/{other}, and {connected.title}'s machine" in done.stderr
    assert f"--platform linux/{own.platform.architecture}" in done.stderr
    assert connected.api.containers(all=True) == []


def test_an_image_that_is_not_there_is_an_error_with_a_way_out(connected: Engine) -> None:
    done = subprocess.run(command("tiny-cli-nowhere:1"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 62
    assert done.stderr.startswith(f"error: {connected.title} has no image tiny-cli-nowhere:1.\nhint: ")
    assert done.stdout == ""


def test_without_engine_the_exit_code_says_so() -> None:
    environ = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = subprocess.run(command("tiny:1"), env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 61
    assert "unix:///nowhere/docker.sock (DOCKER_HOST): No such file or directory" in done.stderr
    assert "-o image.tar" in done.stderr
