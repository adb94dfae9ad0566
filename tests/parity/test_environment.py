"""pip is the oracle: what it installs from an image's lock, in a container of that image, is what the image holds.

Both environments are listed by the same script inside the same container engine, at the same prefix.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nb2image.cache import Store
from tests.engines.built import Notebooks
from tests.engines.containers import run_container
from tests.engines.daemons import Daemon

pytestmark = pytest.mark.network

LIST = """
import csv, hashlib, json, marshal, os, stat, types

def rows_of(path):
    # Without what names the installer, and the bytecode that pip compiled.
    with open(path, newline="") as stream:
        rows = [row for row in csv.reader(stream) if not row[0].endswith((".dist-info/INSTALLER", ".pyc"))]
    return sorted(rows)

def described(value):
    # What the bytes of a code object mean: which of its strings and objects are shared depends on the process.
    if isinstance(value, types.CodeType):
        names = sorted(name for name in dir(value) if name.startswith("co_"))
        return [[name, described(getattr(value, name))] for name in names if not callable(getattr(value, name))]
    if isinstance(value, tuple):
        return ["tuple", *map(described, value)]
    if isinstance(value, frozenset):
        return ["frozenset", *sorted(map(repr, map(described, value)))]
    return repr(value)

def content_of(path):
    with open(path, "rb") as stream:
        data = stream.read()
    if not path.endswith(".pyc"):
        return data
    # Without what says how it is checked against its source (PEP 552).
    return repr([data[:4], described(marshal.loads(data[16:]))]).encode()

found = {}
for folder, folders, names in os.walk("/opt/kernel"):
    for name in folders + names:
        path = os.path.join(folder, name)
        info = os.lstat(path)
        row = [stat.filemode(info.st_mode), info.st_uid, info.st_gid]
        if stat.S_ISLNK(info.st_mode):
            row.append(os.readlink(path))
        elif path.endswith(".dist-info/RECORD"):
            row.append(rows_of(path))
        elif stat.S_ISREG(info.st_mode):
            row.append(hashlib.sha256(content_of(path)).hexdigest())
        found[os.path.relpath(path, "/opt/kernel")] = row
print(json.dumps(found))
"""

INSTALL = """
set -e
umask 022
/usr/bin/python3 -m venv --without-pip /opt/kernel
/opt/kernel/bin/python /input/pip.whl/pip --isolated --no-cache-dir --quiet install \
    --require-hashes --no-deps --no-index --find-links /input/wheels -r /input/requirements.txt
"""

VENV = {"bin/Activate.ps1", "bin/activate", "bin/activate.csh", "bin/activate.fish"}
VENV |= {"include", "include/python3.11", "lib64"}
"""What venv makes and an image does not need; ``lib64`` is a link to ``lib``."""
DIFFERENT = {"bin/python", "bin/python3", "bin/python3.11", "pyvenv.cfg"}
"""Links to the interpreter itself rather than to each other, and settings without the command that made them."""


@pytest.fixture(scope="module")
def wheels(notebooks: Notebooks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip is given: itself, the locked wheels, and the lock as requirements with hashes."""
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "wheels").mkdir()
    lines = []
    for package in notebooks.build("anscombe-batch").document["packages"]:
        digest = package["hashes"]["sha256"]
        stored = Store(notebooks.cache).find("wheels", f"sha256:{digest}")
        assert stored is not None
        shutil.copyfile(stored, folder / "wheels" / package["file"])
        lines.append(f"{package['name']}=={package['version']} --hash=sha256:{digest}\n")
    (folder / "requirements.txt").write_text("".join(lines))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "pip"]
    subprocess.run(command, check=True)
    (newest,) = folder.glob("pip-*.whl")
    newest.rename(folder / "pip.whl")
    return folder


def listed(daemon: Daemon, image: str, *mounts: tuple[Path, str]) -> dict[str, list[Any]]:
    done = run_container(
        daemon, image, "-c", LIST, entrypoint="/usr/bin/python3", user="0:0", network="none", mounts=dict(mounts)
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_an_environment_is_what_pip_installs(
    podman_daemon: Daemon, notebooks: Notebooks, wheels: Path, tmp_path: Path
) -> None:
    image = notebooks.load(podman_daemon, "anscombe-batch")
    ours = listed(podman_daemon, image)
    prefix = tmp_path / "kernel"
    prefix.mkdir(mode=0o755)
    mounts = {prefix: "/opt/kernel", wheels: "/input"}
    done = run_container(
        podman_daemon, image, "-c", INSTALL, entrypoint="/bin/sh", user="0:0", network="none", mounts=mounts
    )
    assert done.returncode == 0, done.stderr
    theirs = listed(podman_daemon, image, (prefix, "/opt/kernel"))

    assert len(theirs) > 4000
    assert theirs.keys() - ours.keys() == VENV
    assert ours.keys() - theirs.keys() == set()
    installers = {path for path in ours if path.endswith(".dist-info/INSTALLER")}
    assert len(installers) == 11
    assert len([path for path in ours if path.endswith(".pyc")]) > 1000
    assert {path for path in ours if ours[path] != theirs[path]} == installers | DIFFERENT
    assert {path for path in ours if ours[path][:3] != theirs[path][:3]} == set()
