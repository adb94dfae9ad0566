"""One notebook, one digest: whatever the cache, the folder, the user's settings and the number of processors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.network

_EXAMPLE = Path(__file__).parents[2] / "examples" / "anscombe.ipynb"


def _build(folder: Path, cache: Path, mode: str, umask: int = 0o022, **environment: str) -> dict[str, Any]:
    folder.mkdir()
    notebook = shutil.copy(_EXAMPLE, folder)
    done = subprocess.run(
        [sys.executable, "-m", "nb2image", "build", notebook, "--mode", mode, "-o", folder / "layout", "--json", "-q"],
        capture_output=True,
        text=True,
        env={**os.environ, "NB2IMAGE_CACHE_DIR": str(cache), **environment},
        umask=umask,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize("mode", ["jupyter", "batch"])
def test_the_example_has_one_digest(tmp_path: Path, mode: str) -> None:
    first = _build(tmp_path / "one", tmp_path / "cache", mode)
    warm = _build(tmp_path / "two words", tmp_path / "cache", mode, 0o077, TZ="Asia/Tokyo")
    other = {"TZ": "America/St_Johns", "LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "77"}
    # One processor instead of all: the layers are written one after the other.
    pinned = sorted(os.sched_getaffinity(0))[:1] if hasattr(os, "sched_getaffinity") else None
    if pinned:
        everything = os.sched_getaffinity(0)
        os.sched_setaffinity(0, pinned)
    try:
        cold = _build(tmp_path / "three", tmp_path / "another cache", mode, 0o077, **other)
    finally:
        if pinned:
            os.sched_setaffinity(0, everything)
    layers = [[(layer["comment"], layer["digest"]) for layer in built["layers"]] for built in (first, warm, cold)]
    assert layers[0] == layers[1] == layers[2]
    assert first["digest"] == warm["digest"] == cold["digest"]
