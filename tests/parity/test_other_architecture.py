"""An image for another architecture: pip's choice of files for it, and it runs under an emulator of its processor.

``qemu-aarch64-static`` is Debian's; building the image uses no emulator.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nb2image.bases.roots import unpack
from nb2image.build import Built, build
from nb2image.cache import Store
from nb2image.image.filesystem import read_filesystem
from nb2image.index.settings import DEFAULT, IndexSettings
from nb2image.plan import Request
from nb2image.progress import Silent
from nb2image.target.model import Platform

pytestmark = pytest.mark.network

EXAMPLE = Path(__file__).parents[2] / "examples" / "anscombe.ipynb"
QEMU = "qemu-aarch64-static"


@pytest.fixture(scope="module")
def built() -> Built:
    request = Request(EXAMPLE, platform=Platform("linux", "arm64"), settings=IndexSettings((DEFAULT,)))
    return build(request, Store.default(), Silent())


def test_the_wheels_are_those_that_pip_takes_for_that_platform(built: Built, tmp_path: Path) -> None:
    target = built.plan.target
    assert target.glibc is not None
    requirements = []
    for package in built.plan.lock.packages:
        hashes = " ".join(f"--hash=sha256:{wheel.hashes['sha256']}" for wheel in package.wheels or ())
        requirements.append(f"{package.name}=={package.version} {hashes}\n")
    (tmp_path / "requirements.txt").write_text("".join(requirements))
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(target.glibc.minor, 16, -1)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={target.minor}"),
            *(f"--platform={each}" for each in [*platforms, "manylinux2014_aarch64"]),
            *("--dest", str(tmp_path / "wheels"), "-r", str(tmp_path / "requirements.txt")),
        ],
        check=True,
        timeout=300,
    )
    taken = {path.name for path in (tmp_path / "wheels").iterdir()}
    assert taken == {chosen.wheel.filename for chosen in built.plan.kernel}
    assert any("aarch64" in name for name in taken)


def test_compiled_packages_of_the_image_work_on_that_processor(built: Built, tmp_path: Path) -> None:
    emulator = shutil.which(QEMU)
    assert emulator is not None, f"{QEMU} is needed: Debian's package qemu-user-static"
    unpack(read_filesystem(built.image), tmp_path, points=("dev", "proc", "tmp"))
    code = "import numpy, platform; print(platform.machine(), numpy.ones((3, 3)).dot(numpy.ones(3)).sum())"
    done = subprocess.run(
        [
            *("bwrap", "--ro-bind", str(tmp_path), "/", "--tmpfs", "/tmp", "--ro-bind", emulator, "/tmp/emulator"),
            *("--dev", "/dev", "--proc", "/proc", "--unshare-net", "--clearenv", "--setenv", "PATH", "/usr/bin"),
            *("/tmp/emulator", "/opt/kernel/bin/python", "-c", code),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"aarch64 9\.0\n", done.stdout)
