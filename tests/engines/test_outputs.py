"""The files that builds write, taken by programs that others wrote."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.engines.built import Notebooks
from tests.engines.containers import run_container, run_engine
from tests.engines.daemons import Daemon, require
from tests.engines.plugin import available_value

pytestmark = pytest.mark.network

DATA_SET_2 = "data set 2: mean x 9.00, mean y 7.50, correlation 0.816"
QUICK = ("-p", "dataset", "2", "-p", "samples", "10", "/work/anscombe.ipynb", "/tmp/executed.ipynb")


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_podman_runs_an_image_out_of_a_layout(podman_daemon: Daemon, notebooks: Notebooks) -> None:
    notebooks.load(podman_daemon, "anscombe-batch")  # so that its storage knows the layers
    built = notebooks.build("anscombe-batch")
    notebooks.build("repository")  # another image of the same layout
    done = run_engine(podman_daemon, "run", "--rm", "--network=none", f"oci:{built.oci}", *QUICK)
    assert done.returncode == 0, done.stderr
    assert DATA_SET_2 in done.stdout


def test_skopeo_finds_what_the_build_reported(notebooks: Notebooks) -> None:
    available_value(lambda: require("skopeo", root=False))
    built = notebooks.build("anscombe-batch")
    found = json.loads(run("skopeo", "inspect", f"oci:{built.oci}"))
    assert found["Digest"] == built.document["digest"]
    assert found["Layers"] == [layer["digest"] for layer in built.document["layers"]]
    assert len(found["Layers"]) < 100
    assert found["Labels"]["io.nb2image.mode"] == "batch"
    assert found["Labels"]["org.opencontainers.image.title"] == "Anscombe's quartet"
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{built.oci}"))
    assert config["rootfs"]["diff_ids"] == [layer["diff_id"] for layer in built.document["layers"]]
    history = [row.get("comment", "") for row in config["history"]]
    assert any("numpy==" in comment for comment in history)


def test_umoci_unpacks_a_layout(notebooks: Notebooks, tmp_path: Path) -> None:
    available_value(lambda: require("umoci"))
    run("umoci", "unpack", "--image", notebooks.build("repository").oci, tmp_path / "bundle")
    root = tmp_path / "bundle/rootfs"
    assert (root / "work/data/latest.csv").readlink() == Path("values.csv")
    assert (root / "work/report.ipynb").samefile(root / "opt/nb2image/source/report.ipynb")
    assert (root / "opt/kernel/lib/python3.11/site-packages/numpy/__init__.py").is_file()
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    assert config["process"]["cwd"] == "/work"
    assert (config["process"]["user"]["uid"], config["process"]["user"]["gid"]) == (1001, 0)


def test_an_archive_loads_as_it_is(engine: Daemon, notebooks: Notebooks, tmp_path: Path) -> None:
    notebooks.load(engine, "anscombe-batch")  # so that only the archive's form is new
    archive, tag = tmp_path / "image.tar", "archive-of-anscombe:2"
    notebooks.run("build", *notebooks.options("anscombe-batch"), "--offline", "-t", tag, "-o", archive, "--quiet")
    loaded = run_engine(engine, "load", "--input", str(archive), check=True)
    assert tag in loaded.stdout
    done = run_container(engine, tag, *QUICK, network="none")
    assert done.returncode == 0, done.stderr
    assert DATA_SET_2 in done.stdout
