"""Shared libraries that real packages lack on a small base: what the report says of them is what the loader says, and
what Python says, in a container; and once the packages that have them are added, everything is imported."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nb2image.engines.client import choose
from nb2image.engines.load import load
from nb2image.image.read import read_layout
from nb2image.progress import Silent
from tests.engines.built import DATA, Notebooks, code_cell, write_notebook
from tests.engines.containers import run_container, run_engine
from tests.engines.daemons import Daemon
from tests.engines.jupyter import serving

pytestmark = pytest.mark.network


class Case(NamedTuple):
    """What shows that a package works, and libraries that it is known to lack on a small base."""

    code: str
    lacks: tuple[str, ...]


CASES = {
    "cairocffi": Case("import cairocffi; cairocffi.ImageSurface(cairocffi.FORMAT_A8, 2, 2)", ("libcairo.so.2",)),
    "opencv-python": Case("import cv2; cv2.getBuildInformation()", ("libGL.so.1", "libglib-2.0.so.0")),
    "psycopg": Case("import psycopg", ("libpq.so.5",)),
    "pyenchant": Case("import enchant; assert enchant.Dict('en_US').check('library')", ("libenchant-2.so.2",)),
    "pyodbc": Case("import pyodbc; pyodbc.drivers()", ("libodbc.so.2",)),
    "pyopengl": Case("import OpenGL.GL", ("libGL.so.1",)),
    "pyqt6": Case("from PyQt6 import QtGui, QtWidgets, QtQml", ("libEGL.so.1", "libGL.so.1")),
    "python-magic": Case("import magic; assert magic.from_buffer(b'%PDF-1.4', mime=True)", ("libmagic.so.1",)),
    "pyzbar": Case("from pyzbar.pyzbar import decode", ("libzbar.so.0",)),
    "sounddevice": Case("import sounddevice", ("libportaudio.so.2",)),
    "weasyprint": Case(
        "import weasyprint; assert weasyprint.HTML(string='<p>hello').write_pdf()",
        ("libpango-1.0.so.0", "libgobject-2.0.so.0"),
    ),
}

SOUND = {
    "h5py": "import h5py",
    "lxml": "import lxml.etree",
    "numpy": "import numpy",
    "pillow": "import PIL.ImageFont; PIL.ImageFont.core",
    "psycopg2-binary": "import psycopg2",
    "shapely": "import shapely; shapely.Point(0, 0).buffer(1)",
}
"""Packages that bring all they need."""

LOOK = r"""
import json, os, re, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

def loaded(path):
    # What ldd does; it is not in every base.
    variables = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes"}
    done = subprocess.run(["/lib64/ld-linux-x86-64.so.2", path], env=variables, capture_output=True, text=True)
    return path, sorted(set(re.findall(r"^\s*(\S+) => not found", done.stdout, re.M)))

def imported(item):
    done = subprocess.run(["/opt/kernel/bin/python", "-c", item[1]], capture_output=True, text=True)
    return item[0], "" if done.returncode == 0 else done.stderr

objects = []
for folder, _, names in os.walk("/opt/kernel"):
    for path in (os.path.join(folder, name) for name in names if re.search(r"\.so(\.[\w.]+)?$", name)):
        with open(path, "rb") as stream:
            if stream.read(4) == b"\x7fELF":
                objects.append(path)
with ThreadPoolExecutor(4) as pool:
    lacks = {path: found for path, found in pool.map(loaded, objects) if found}
    errors = dict(pool.map(imported, json.loads(sys.argv[1]).items()))
print(json.dumps({"objects": objects, "lacks": lacks, "errors": errors}))
"""


@dataclass(frozen=True)
class Looked:
    """An image's document of ``build --json``, and what was seen in a container: ``lacks`` are libraries that ldd does
    not find for a shared object, ``errors`` what Python wrote when a case's code failed."""

    document: Mapping[str, Any]
    objects: tuple[str, ...]
    lacks: Mapping[str, list[str]]
    errors: Mapping[str, str]

    @property
    def reported(self) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = self.document["libraries"]["missing"]
        return rows

    def certainly_lacks(self, package: str) -> set[str]:
        """The libraries that are reported for what is imported of a package and its own parts (pyqt6-qt6)."""
        wheels = {
            row["file"] for row in self.document["packages"] if re.fullmatch(rf"{package}(-qt\d|-sip)?", row["name"])
        }
        return {
            row["soname"]
            for row in self.reported
            if row["certain"] and wheels.intersection(each["wheel"] for each in row["needed_by"])
        }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("missing") / "libraries"
    shutil.copytree(DATA / "libraries", folder)
    write_notebook(
        folder / "libraries.ipynb", {"kernelspec": {"name": "python3", "display_name": "x"}}, [code_cell("1")]
    )
    return folder


def looked(notebooks: Notebooks, engine: Daemon, project: Path, tag: str, *options: str) -> Looked:
    layout = project.parent / "layout"
    what = ("--mode", "batch", "--no-bytecode", "--python", "3.11", "--index-url", "default", *options)
    done = notebooks.run("build", project, *what, "-t", tag, "-o", layout, "--json", "--progress", "none")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"):
            patch.delenv(name, raising=False)
        for name, value in engine.environment.items():
            patch.setenv(name, value)
        with choose() as connected:
            load(connected, read_layout(layout, tag), [tag], Silent())
    codes = json.dumps({**{name: case.code for name, case in CASES.items()}, **SOUND})
    ran = run_container(engine, tag, "-c", LOOK, codes, entrypoint="python3", user="4321:0", network="none")
    run_engine(engine, "rmi", "--force", tag)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    return Looked(json.loads(done.stdout), tuple(seen["objects"]), seen["lacks"], seen["errors"])


@pytest.fixture(scope="module")
def before(notebooks: Notebooks, docker_daemon: Daemon, project: Path) -> Looked:
    """Without the libraries."""
    return looked(notebooks, docker_daemon, project, "libraries:before", "--no-add-missing")


@pytest.fixture(scope="module")
def after(notebooks: Notebooks, docker_daemon: Daemon, project: Path) -> Looked:
    """As it is built by default."""
    return looked(notebooks, docker_daemon, project, "libraries:after")


@pytest.mark.parametrize("package", CASES)
def test_what_is_reported_is_what_an_import_fails_for(before: Looked, package: str) -> None:
    found = before.certainly_lacks(package)
    assert found >= set(CASES[package].lacks)
    error = before.errors[package]
    assert error
    if named := re.search(r"(lib\S+\.so[.\d]*): cannot open shared object file", error):
        assert named[1] in {row["soname"] for row in before.reported if row["certain"]}


@pytest.mark.parametrize("package", SOUND)
def test_nothing_is_reported_of_what_works(before: Looked, package: str) -> None:
    assert before.certainly_lacks(package) == set()
    assert before.errors[package] == ""


@pytest.mark.parametrize("package", CASES)
def test_with_the_added_packages_it_is_imported(after: Looked, package: str) -> None:
    assert after.certainly_lacks(package) == set()
    assert after.errors[package] == ""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_report_is_what_ldd_says(request: pytest.FixtureRequest, moment: str) -> None:
    image: Looked = request.getfixturevalue(moment)
    site = "/opt/kernel/lib/python3.11/site-packages/"
    brought = {path.rpartition("/")[2] for path in image.objects}
    # Plugins name libraries of their own package that it brings elsewhere: whoever loads them has those loaded before.
    lacks = {path.removeprefix(site): set(names) - brought for path, names in image.lacks.items()}
    reported: dict[str, set[str]] = {}
    for row in image.reported:
        for each in row["needed_by"]:
            if re.search(r"\.so[.\d]*$", each["file"]):
                reported.setdefault(each["file"], set()).add(row["soname"])
    assert set().union(*reported.values()) == set().union(*lacks.values())
    # ldd names also what the libraries of a library lack.
    assert all(names <= lacks[file] for file, names in reported.items())
    assert not any(row["found"] for row in image.reported)


def test_each_added_package_is_there_for_a_library(before: Looked, after: Looked) -> None:
    wanted = {row["soname"] for row in before.reported if row["certain"]}
    assert {row["soname"] for row in after.document["system"]["libraries"]} == wanted
    assert all(row["package"] for row in after.document["system"]["libraries"])
    assert not [row for row in after.reported if row["certain"]]
    assert after.document["system"]["asked"] == []


VISION = (
    "import cv2, numpy",
    "image = cv2.circle(numpy.zeros((64, 64), numpy.uint8), (32, 32), 20, 255, -1)",
    "found, _ = cv2.findContours(image, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)",
    "print(len(found), round(cv2.minEnclosingCircle(found[0])[1]), len(cv2.imencode('.png', image)[1]) > 100)",
)


@pytest.mark.parametrize("engine_daemon", ["docker"], indirect=True)
def test_a_notebook_with_opencv_works_at_the_first_run(
    engine: Daemon, notebooks: Notebooks, project: Path, tmp_path: Path
) -> None:
    """Built and loaded with no option at all."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    write_notebook(tmp_path / "vision.ipynb", kernel, [code_cell(source) for source in VISION])
    rows = (project / "requirements.txt").read_text().splitlines(keepends=True)
    (tmp_path / "requirements.txt").write_text("".join(r for r in rows if r.startswith(("numpy=", "opencv-python="))))
    said = notebooks.run("build", tmp_path / "vision.ipynb", "-t", "vision", "--load", engine=engine, cwd=tmp_path)
    assert "opencv-python needs libGL.so.1 (added: libgl1)" in said.stderr
    assert "warning" not in said.stderr
    for user in ((), ("--user=0:0",), ("--user=123456:0", "--read-only", "--tmpfs=/tmp", "--tmpfs=/work")):
        with serving(engine, "vision", *user) as server, server.kernel() as identity:
            executed = [server.execute(identity, source) for source in VISION]
            assert [each.status for each in executed] == ["ok"] * len(VISION), executed[0].text
            assert executed[-1].text == "1 20 True\n"
