"""pip is the oracle: what it leaves in a fresh environment is what `install` gives, file by file.

The one difference is INSTALLER (and with it its row of RECORD), which names who installed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name, parse_wheel_filename

from nb2image.layers.entry import Entry
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import INSTALLER, Scheme, install
from nb2image.wheels.record import row_of
from tests.unit.wheels.builder import Part, build_zip, hash_row, save, wheel_parts

pytestmark = pytest.mark.network

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
REAL = [
    "argcomplete",  # an entry point named python-…
    "greenlet",  # headers
    "ipywidgets",
    "jmespath==1.0.1",  # a '#!python' script
    "jupyterlab-widgets",  # data
    "numpy",
    "pip",  # scripts named after the Python version
    "ruff",  # a program in .data/scripts
    "setuptools",  # a .pth file
    "sphinxcontrib-jsmath==1.0.1",  # a namespace package with -nspkg.pth
]
NAMES = [canonicalize_name(requirement.partition("==")[0]) for requirement in REAL]


def run(*command: str | Path) -> None:
    finished = subprocess.run([*map(str, command)], capture_output=True, text=True, umask=0o022, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.fixture(scope="module")
def newest_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest pip as a wheel, which runs without being installed."""
    folder = tmp_path_factory.mktemp("pip")
    run(sys.executable, "-m", "pip", "download", "--no-deps", "-d", folder, "pip")
    (wheel,) = folder.glob("*.whl")
    return wheel


def files_below(prefix: Path) -> set[Path]:
    return {Path(folder, file) for folder, _, files in os.walk(prefix) for file in files}


class Environment:
    """A virtual environment into which pip installed some wheels."""

    def __init__(self, prefix: Path, pip: Path, wheels: Iterable[Path]) -> None:
        self.scheme = Scheme(str(prefix), MINOR)
        run(sys.executable, "-m", "venv", "--without-pip", prefix)
        before = files_below(prefix)
        requirements = prefix.parent / "requirements.txt"
        lines = []
        for wheel in wheels:
            name, version, _, _ = parse_wheel_filename(wheel.name)
            lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
            folder = wheel.parent
        requirements.write_text("".join(lines))
        pip_install = (prefix / "bin/python", pip / "pip", "install", "--require-hashes", "--no-deps", "--no-compile")
        run(*pip_install, "--no-index", "--find-links", folder, "-r", requirements)
        self.installed = files_below(prefix) - before

    def compare(self, wheel: Path) -> set[Path]:
        """Assert that every entry of the wheel is what pip installed; the entries' paths."""
        name, version, _, _ = parse_wheel_filename(wheel.name)
        paths = set()
        with WheelArchive(wheel) as archive:
            for entry in install(archive, self.scheme, name=name, version=version):
                path = Path("/", entry.path)
                assert path in self.installed
                assert content_of(entry) == self._by_us(path), path
                assert entry.mode == stat.S_IMODE(path.stat().st_mode), path
                paths.add(path)
        return paths

    def _by_us(self, path: Path) -> bytes:
        """What pip wrote, under our name."""
        data = path.read_bytes()
        if path.match(f"{self.scheme.site_packages}/*.dist-info/*"):
            if path.name == "INSTALLER":
                assert data == b"pip\n"
                return INSTALLER
            if path.name == "RECORD":
                old, new = (",".join(row_of(text)).encode() for text in (b"pip\n", INSTALLER))
                row = f"{path.parent.name}/INSTALLER,".encode()
                assert row + old in data
                rows = csv.reader(io.StringIO(data.replace(row + old, row + new).decode(), newline=""))
                text = io.StringIO(newline="")
                csv.writer(text).writerows(sorted(rows))  # another hash is another place in the order
                return text.getvalue().encode()
        return data


def content_of(entry: Entry) -> bytes:
    assert entry.content is not None
    assert not isinstance(entry.content, tuple)
    return b"".join(entry.content.chunks())


# -- real wheels -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_wheels(tmp_path_factory: pytest.TempPathFactory, newest_pip: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    run(sys.executable, newest_pip / "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", folder, *REAL)
    return {parse_wheel_filename(path.name)[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, newest_pip: Path, real_wheels: dict[str, Path]) -> Environment:
    return Environment(tmp_path_factory.mktemp("real") / "kernel", newest_pip, real_wheels.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_real_wheel_is_installed_as_pip_does(real: Environment, real_wheels: dict[str, Path], name: str) -> None:
    assert real.compare(real_wheels[name])


def test_pip_installs_nothing_else_from_real_wheels(real: Environment, real_wheels: dict[str, Path]) -> None:
    ours = set[Path]().union(*(real.compare(wheel) for wheel in real_wheels.values()))
    assert ours == real.installed


# -- what few real wheels have -----------------------------------------------------------------------------------

ENTRY_POINTS = b"""\
# a comment
[console_scripts]
demo = demo:main
both = demo:console
dotted = demo.sub.module:Class.method [extra]
python-demo = demo:main
pip = demo:pip
pip3.4 = demo:pip
easy_install = demo:easy_install
easy_install-2.7 = demo:easy_install
twice = demo:first
twice = demo:second

[gui_scripts]
both=demo:gui
window = demo.window : open
[other]
python = not a script
"""


def odd_wheel(folder: Path) -> Path:
    """Everything that pip treats in a way of its own, in one wheel."""
    info = "Demo.Pkg-1.0.dist-info"
    data = "Demo.Pkg-1.0.data"
    site = f"lib/python{MINOR}/site-packages"
    extra = [
        Part("demo/executable", b"1", mode=0o100744),
        Part("demo/executable_by_group", b"1", mode=0o100654),
        Part("demo/no_kind", b"1", mode=0o755),
        Part("demo/set_id", b"1", mode=0o106755),
        Part("demo/stored", b"1", method=0),
        Part("demo/empty"),
        Part("demo/größe, \"quoted\" 'and' spaced.txt", b"1"),
        Part("demo/folder/", mode=0o40755, method=0),
        Part("demo/old.pyc", b"1"),
        Part("demo/absolute.py", b"1"),
        Part("demo/twice.py", b"root"),
        Part(f"{data}/purelib/demo/twice.py", b"purelib"),
        Part(f"{data}/platlib/demo/platlib.so", b"1", mode=0o100755),
        Part(f"{data}/headers/demo.h", b"1"),
        Part(f"{data}/headers/sub/demo.h", b"1"),
        Part(f"{data}/data/etc/demo/demo.conf", b"1"),
        Part(f"{data}/data/top", b"1"),
        Part(f"{data}/data/lib/python{MINOR}/beside", b"1"),
        Part(f"{data}/data/{site}/demo/inside", b"1"),
        Part(f"{data}/scripts/run", b"#!python\nprint()\n", mode=0o100755),
        Part(f"{data}/scripts/run_with_arguments", b"#!python -u -E\nprint()\n", mode=0o100755),
        Part(f"{data}/scripts/run_window", b"#!pythonw\r\nprint()\r\n"),
        Part(f"{data}/scripts/one_line", b"#!python", mode=0o100755),
        Part(f"{data}/scripts/other_line", b"#! python\n", mode=0o100755),
        Part(f"{data}/scripts/shell", b"#!/bin/sh\n", mode=0o100755),
        Part(f"{data}/scripts/empty", mode=0o100755),
        Part(f"{data}/scripts/sub/nested", b"#!python\n"),
        Part(f"{data}/scripts/demo", b"#!python\nhidden\n"),
        Part(f"{data}/scripts/demo.EXE", b"hidden"),
        Part(f"{data}/scripts/both-script.py", b"hidden"),
        Part(f"{data}/scripts/window.pya", b"hidden"),
        Part(f"{info}/entry_points.txt", ENTRY_POINTS.replace(b" : ", b":")),
        Part(f"{info}/INSTALLER", b"somebody\n"),
        Part(f"{info}/REQUESTED", b"no"),
        Part(f"{info}/licenses/LICENSE", b"1"),
    ]
    metadata = b"Metadata-Version: 2.1\nName: demo_PKG\nVersion: 1.0.0\nRequires-Dist: nothing\n\n" + b"text\n" * 99
    wheel = b"Wheel-Version: 1.0\nWheel-Version: 1.0\nRoot-Is-Purelib: FALSE\nTag: py3-none-any\n"
    parts = wheel_parts(*extra, metadata=metadata, wheel=wheel, info=info)
    record = parts[-1].data.decode()
    record = record.replace("demo/absolute.py", "/demo/absolute.py").replace("demo/empty,", ".\\demo\\empty,")
    record += hash_row("demo/gone.py", b"1") + hash_row("demo/stored", b"1") + "demo/__pycache__/x.pyc,,\nshort\n"
    signature = Part(f"{info}/RECORD.jws", b"{}")
    return save(folder, build_zip([*parts[:-1], signature, Part(parts[-1].name, record.encode())]), ODD)


ODD = "demo_pkg-1.0-py3-none-any.whl"


@pytest.fixture(params=["kernel", "with space", "long/" + "x" * 120], ids=["plain", "space", "long"])
def odd(request: pytest.FixtureRequest, tmp_path: Path, newest_pip: Path) -> Environment:
    prefix = tmp_path / request.param
    prefix.parent.mkdir(exist_ok=True)
    folder = tmp_path / "wheels"
    folder.mkdir()
    return Environment(prefix, newest_pip, [odd_wheel(folder)])


def test_an_odd_wheel_is_installed_as_pip_does(odd: Environment, tmp_path: Path) -> None:
    assert odd.compare(tmp_path / "wheels" / ODD) == odd.installed
