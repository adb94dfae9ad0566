"""System packages that were laid over a base work in a container at the first run, as an ordinary user."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nb2image.bases.roots import unpacked_root
from nb2image.engines.client import Engine
from nb2image.engines.load import load
from nb2image.image.model import Image
from nb2image.progress import Silent
from nb2image.system.add import resolve, system_layer
from nb2image.system.installed import installed_in
from nb2image.system.wanted import Wanted
from tests.engines.containers import run_container
from tests.engines.daemons import Daemon
from tests.engines.test_toolchain import delivered, folder, packages

__all__ = ["folder", "packages"]

CODE = """
import ctypes, ctypes.util, subprocess
for name in ("libGL.so.1", "libgthread-2.0.so.0", "libblas.so.3"):
    ctypes.CDLL(name)
print(ctypes.util.find_library("GL"), ctypes.util.find_library("blas"))
for kind in ("png", "pdf", "svg"):
    made = subprocess.run(["dot", "-T" + kind], input=b"digraph { a -> b }", stdout=subprocess.PIPE, check=True).stdout
    print(kind, len(made) > 500)
"""


@pytest.fixture(scope="module")
def image(packages: object) -> Image:
    from nb2image.cache import Store

    assert isinstance(packages, Store)
    base = delivered(packages, "bookworm")
    installed = installed_in(base, packages)
    wanted = [Wanted(name, "", "apt.txt") for name in ("graphviz", "libgl1", "libglib2.0-0", "libblas3")]
    lock = resolve(wanted, installed, packages, Silent(), offline=False).lock
    return base.image.with_layers([system_layer(base, installed, lock, packages, Silent(), offline=False)])


@pytest.mark.parametrize("engine_daemon", ["docker"], indirect=True)
def test_programs_and_libraries_work_in_a_container(engine: Daemon, connected: Engine, image: Image) -> None:
    load(connected, image, ["system:1"], Silent())
    done = run_container(engine, "system:1", "python3", "-c", CODE, user="4321:0", network="none")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "libGL.so.1 libblas.so.3\npng True\npdf True\nsvg True\n"


def test_dpkg_finds_nothing_changed(image: Image, packages: object, tmp_path: Path) -> None:
    from nb2image.cache import Store

    assert isinstance(packages, Store)
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed")
    root = unpacked_root(image, packages)
    for option in ("--verify", "--audit"):
        done = subprocess.run(
            ["dpkg", f"--root={root}", f"--log={tmp_path / 'log'}", option], capture_output=True, text=True, check=True
        )
        assert done.stdout == ""
    listed = subprocess.run(["dpkg", f"--root={root}", "-L", "libgl1"], capture_output=True, text=True, check=True)
    assert "/usr/lib/x86_64-linux-gnu/libGL.so.1" in listed.stdout.split()
