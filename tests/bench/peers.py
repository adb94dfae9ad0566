"""The same work by what people use today: the locked wheels of a notebook on a Debian base, by ``docker build``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["DOCKERFILES", "docker_build"]

_HEAD = """\
FROM {base}
COPY wheels /wheels
COPY requirements.txt uv /
"""

DOCKERFILES: Mapping[str, str] = {
    "docker build, uv pip install": _HEAD
    + "RUN /uv venv -q --python /usr/bin/python3 /opt/kernel && VIRTUAL_ENV=/opt/kernel "
    "/uv pip install -q --offline --no-index --find-links /wheels --require-hashes --no-deps -r /requirements.txt\n",
    "docker build, uv pip install --compile-bytecode": _HEAD
    + "RUN /uv venv -q --python /usr/bin/python3 /opt/kernel && VIRTUAL_ENV=/opt/kernel /uv pip install -q "
    "--compile-bytecode --offline --no-index --find-links /wheels --require-hashes --no-deps -r /requirements.txt\n",
}
"""Name → Dockerfile; ``{base}`` is an image that has Python and no pip."""


def docker_build(dockerfile: str, base: str, wheels: Sequence[Path], requirements: str, context: Path) -> None:
    """Run ``docker build`` without its cache; raises CalledProcessError with the output when it fails."""
    folder = context / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        if not (folder / wheel.name).exists():
            shutil.copy(wheel, folder / wheel.name)
    uv = shutil.which("uv")
    assert uv is not None, "uv is not on PATH"
    shutil.copy(uv, context / "uv")
    (context / "requirements.txt").write_text(requirements)
    (context / "Dockerfile").write_text(dockerfile.format(base=base))
    subprocess.run(
        ["docker", "build", "--no-cache", "--quiet", "--tag", "nb2image-bench", str(context)],
        check=True,
        capture_output=True,
        text=True,
    )
