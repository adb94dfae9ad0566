"""``nb2image bases probe`` of images in engines, and of file systems that other tools made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nb2image.image.layout import write_layout
from nb2image.progress import Silent
from tests.engines.built import Notebooks
from tests.engines.daemons import Daemon, require
from tests.engines.plugin import available_value
from tests.unit.image.making import image_of, layer_of_tar

NAME = "anscombe"


def probed(notebooks: Notebooks, *arguments: str | Path, engine: Daemon | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(notebooks.run("bases", "probe", *arguments, "--json", engine=engine).stdout)
    return found


def test_an_engine_tells_of_its_image_what_the_layout_tells(notebooks: Notebooks, engine: Daemon) -> None:
    name = notebooks.load(engine, NAME)
    told = probed(notebooks, notebooks.build(NAME).oci)
    found = probed(notebooks, name, engine=engine)
    # Engines keep layers in other compressions.
    assert {**found, "reference": "", "size": 0} == {**told, "reference": "", "size": 0}
    assert (found["pythons"][0]["version"], found["libc"]) == ("3.11.2", {"name": "glibc", "version": "2.36"})


@pytest.fixture(scope="module")
def bullseye(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file system of a Debian 11 with pip, as apt and dpkg make it."""
    available_value(lambda: require("mmdebstrap", root=False))
    root = tmp_path_factory.mktemp("bullseye") / "root.tar"
    include = "--include=python3,python3-six,musl"
    subprocess.run(["mmdebstrap", "--variant=minbase", include, "bullseye", str(root)], check=True, timeout=600)
    return root


def test_a_debian_that_apt_and_dpkg_made(notebooks: Notebooks, bullseye: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_layout(image_of(layer_of_tar(bullseye.read_bytes())), ["base:1"], layout, Silent())
    found = probed(notebooks, layout)
    query = ["tar", "-xOf", str(bullseye), "./var/lib/dpkg/status"]
    status = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    assert found["databases"] == [{"kind": "dpkg", "packages": status.count("\nStatus: install ok installed\n")}]
    assert (found["distribution"]["id"], found["distribution"]["version"]) == ("debian", "11")
    # The C library of this base is glibc, whatever else is installed.
    assert found["libc"] == {"name": "glibc", "version": "2.31"}
    listed = subprocess.run(["tar", "-tf", str(bullseye)], check=True, capture_output=True, text=True).stdout
    # Whether /lib is a folder or a link to /usr/lib depends on the version of mmdebstrap.
    names = {line.rpartition("/")[2] for line in listed.splitlines() if "/lib/x86_64-linux-gnu/lib" in line}
    # Links to what ends in a version are names, too.
    assert {"libz.so.1", "libcrypt.so.1", "libstdc++.so.6"} <= set(found["libraries"]["sonames"]) & names
    assert found["libraries"]["versions"] == {
        "GLIBC": "GLIBC_2.30",  # glibc 2.31 added none
        "GLIBCXX": "GLIBCXX_3.4.28",
        "CXXABI": "CXXABI_1.3.12",
    }
    (python,) = found["pythons"]
    assert (python["path"], python["version"], python["pip"]) == ("/usr/bin/python3.9", "3.9.2", None)
    assert [(each["name"], each["folder"]) for each in python["distributions"]] == [
        ("six", "/usr/lib/python3/dist-packages")
    ]
