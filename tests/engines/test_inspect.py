"""``nb2image inspect`` of an image in engines and in archives of others: all tell the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.built import Notebooks
from tests.engines.containers import run_engine
from tests.engines.daemons import Daemon, require
from tests.engines.plugin import available_value

NAME = "anscombe"
_OWN = {"reference", "names", "digest", "id", "run", "size", "layers"}
"""What each place says in its own words: engines keep and export layers in other compressions."""


def inspected(notebooks: Notebooks, *arguments: str | Path, engine: Daemon | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(notebooks.run("inspect", *arguments, "--json", "--files", engine=engine).stdout)
    return found


@pytest.fixture(scope="session")
def told(notebooks: Notebooks) -> dict[str, Any]:
    """What is said of the image in a layout."""
    return inspected(notebooks, notebooks.build(NAME).oci)


def assert_same(found: dict[str, Any], told: dict[str, Any]) -> None:
    assert {k: v for k, v in found.items() if k not in _OWN} == {k: v for k, v in told.items() if k not in _OWN}
    for key in ("diff_id", "raw", "files", "role", "comment"):
        assert [row[key] for row in found["layers"]] == [row[key] for row in told["layers"]]


def test_an_image_in_an_engine(notebooks: Notebooks, engine_daemon: Daemon, told: dict[str, Any]) -> None:
    name = notebooks.load(engine_daemon, NAME)
    found = inspected(notebooks, name, engine=engine_daemon)
    assert_same(found, told)
    assert found["names"] == [name]
    assert found["run"].startswith(f"{engine_daemon.name} run ")
    stated = json.loads(run_engine(engine_daemon, "image", "inspect", name, check=True).stdout)[0]["Id"]
    assert found["id"] == f"sha256:{stated.removeprefix('sha256:')}"


def test_an_image_that_an_engine_lacks(notebooks: Notebooks, engine_daemon: Daemon) -> None:
    done = subprocess.run(
        # A name that states a registry is that registry's, unless an engine is named.
        notebooks.command("inspect", "registry.example/no/such:1", "--engine", engine_daemon.name),
        env=notebooks.environment(engine_daemon),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (62, "")
    assert "has no image registry.example/no/such:1" in done.stderr
    assert f"{engine_daemon.name} pull registry.example/no/such:1" in done.stderr


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_an_image_that_skopeo_copied(
    notebooks: Notebooks, told: dict[str, Any], tmp_path: Path, transport: str
) -> None:
    available_value(lambda: require("skopeo", root=False))
    target = tmp_path / "copy.tar"
    command = ["skopeo", "copy", "--quiet", f"oci:{notebooks.build(NAME).oci}", f"{transport}:{target}:copied:1"]
    subprocess.run(command, check=True, timeout=300)
    found = inspected(notebooks, target)
    assert_same(found, told)
    assert found["names"] == ["copied:1"]
    assert found["digest"] == (None if transport == "docker-archive" else told["digest"])
    assert found["id"] == told["id"]
