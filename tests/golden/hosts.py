"""Other Pythons than the one that runs the tests, with nb2image installed as a user would install it.

``python -m tests.golden.hosts X.Y`` prints where such a Python is, and leaves with 1 when there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.engines.daemons import Unavailable

OLDEST, NEWEST = "3.10", "3.13"
USER = 1000
"""An ordinary user, whether or not this machine has a name for it."""
ROOT = Path(__file__).parents[2]


def _uv(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "uv", *words], capture_output=True, text=True, timeout=300)


def _candidates(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    # Those that uv has installed itself; on PATH it stumbles over pyenv's stand-ins for versions that are switched off.
    yield _uv("python", "find", "--managed-python", "--no-python-downloads", version).stdout.strip()
    folder = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    if os.access(folder, os.R_OK | os.X_OK):
        yield from (str(path) for path in sorted(folder.glob(f"{version}.*/bin/python")))


def _is(program: str, version: str, user: int | None = None) -> bool:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [program, "-I", "-c", code], capture_output=True, text=True, timeout=60, user=user, group=user, cwd="/"
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def find_python(version: str) -> str:
    """A Python ``X.Y`` of this machine. Raises `Unavailable`."""
    for program in _candidates(version):
        if program and _is(program, version):
            return program
    raise Unavailable(f"there is no Python {version} here (`uv python install {version}` brings one)")


def find_python_for_everybody() -> str:
    """A Python that nb2image runs on and that `USER` may start. Raises `Unavailable` when there is none, or when this
    process cannot become that user."""
    if os.geteuid() != 0:
        raise Unavailable("only root can become another user")
    for minor in range(10, 15):
        for program in (shutil.which(f"python3.{minor}"), f"/usr/bin/python3.{minor}"):
            if program and _is(program, f"3.{minor}", USER):
                return program
    raise Unavailable("there is no Python from 3.10 on that an ordinary user may start")


def install(python: str, wheel: Path, folder: Path) -> Path:
    """Make a virtual environment of ``python`` in ``folder`` with nb2image from its wheel; gives its interpreter."""
    for words in (
        ("venv", "--python", python, folder),
        ("pip", "install", "--python", folder / "bin/python", wheel),
    ):
        done = _uv(*words)
        assert done.returncode == 0, done.stderr
    return folder / "bin/python"


def build_wheel(folder: Path) -> Path:
    """The wheel of this work tree."""
    done = _uv("build", "--wheel", "--out-dir", folder, ROOT)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    return wheel


if __name__ == "__main__":
    try:
        print(find_python(sys.argv[1]))
    except Unavailable as error:
        sys.exit(str(error))
