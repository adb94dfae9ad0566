"""An image on another base runs there: the example, rebased by the real command and run by a real engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nb2image.image.layout import write_layout
from nb2image.image.model import Config, Image
from nb2image.image.read import find_image
from nb2image.progress import Silent
from tests.engines.built import Notebooks
from tests.engines.containers import run_container
from tests.engines.daemons import Daemon
from tests.unit.image.making import files_of

pytestmark = pytest.mark.network

CODE = "import numpy, pathlib; print(numpy.ones(3).sum(), pathlib.Path('/etc/patched').read_text())"
FOLDER = "usr/lib/x86_64-linux-gnu"


@pytest.fixture(scope="module")
def base(notebooks: Notebooks) -> Image:
    """The base of the example's image."""
    image = find_image(notebooks.build("anscombe-batch").oci).read()
    config = Config.new(image.platform).with_env({"PATH": "/usr/bin:/bin"})
    return Image(config, image.layers[:1])


def patched(base: Image, folder: Path, files: dict[str, bytes]) -> Path:
    write_layout(base.with_layers([files_of(files)]), ["patched:2"], folder, Silent())
    return folder


def rebase(
    notebooks: Notebooks, on: Path, *options: str, engine: Daemon | None = None
) -> subprocess.CompletedProcess[str]:
    source = notebooks.build("anscombe-batch").oci
    return subprocess.run(
        notebooks.command("rebase", source, "--base", on, "-q", *options),
        env=notebooks.environment(engine),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_rebased_image_runs_on_its_new_base(
    docker_daemon: Daemon, notebooks: Notebooks, base: Image, tmp_path: Path
) -> None:
    on = patched(base, tmp_path / "base", {"etc/patched": b"yes"})
    done = rebase(notebooks, on, "-t", "rebased:2", "--load", engine=docker_daemon)
    assert done.returncode == 0, done.stderr
    options = {"user": "4321:0", "network": "none", "entrypoint": "/opt/kernel/bin/python"}
    ran = run_container(docker_daemon, "rebased:2", "-c", CODE, **options)  # type: ignore[arg-type]
    assert (ran.returncode, ran.stdout) == (0, "3.0 yes\n"), ran.stderr


def test_a_base_without_a_library_that_a_real_wheel_needs_is_refused(
    notebooks: Notebooks, base: Image, tmp_path: Path
) -> None:
    names = ("libstdc++.so.6", "libstdc++.so.6.0.30")
    on = patched(base, tmp_path / "base", {f"{FOLDER}/.wh.{name}": b"" for name in names})
    done = rebase(notebooks, on, "-o", f"{tmp_path}/rebased/")
    assert done.returncode == 82, done.stderr
    assert " needs libstdc++.so.6, which neither the wheels nor the base" in done.stderr
    assert not (tmp_path / "rebased").exists()
