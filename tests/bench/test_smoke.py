"""The measurements run; what they measure is nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.daemons import require
from tests.engines.plugin import available_value

pytestmark = pytest.mark.network

_ROOT = Path(__file__).parents[2]


def test_a_build_is_measured_beside_the_limit() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.bench",
            "examples/anscombe.ipynb",
            "--repeat",
            "1",
            "--",
            "--index-url",
            "default",
        ],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    titles = [line.strip().split("  ")[0] for line in done.stdout.splitlines()[1:]]
    assert titles == [
        "limit (read, inflate, hash twice)",
        "nb2image build, layers new",
        "and what wheels need of the system unread",
        "nb2image build, notebook changed",
        "of it in no stage: start, imports, exit",
        "nb2image plan",
        "nb2image build --bytecode, layers new",
    ]
    assert all(line.split(" s ")[0].split()[-1].replace(".", "").isdigit() for line in done.stdout.splitlines()[1:])


def test_looking_into_an_image_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.probes", "--size", "100", "--layers", "1", "--repeat", "1"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    titles = [line.partition("  ")[0] for line in done.stdout.splitlines()]
    assert titles == ["limit (read, inflate, hash twice)", "probe"]


def test_pushes_are_measured() -> None:
    available_value(lambda: require("docker-registry", root=False))
    command = [sys.executable, "-m", "tests.bench.pushes", "examples/anscombe.ipynb", "--repeat", "1"]
    done = subprocess.run(
        [*command, "--", "--index-url", "default"], cwd=_ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    first, changed = done.stdout.splitlines()
    assert "nothing there" in first
    assert "the notebook changed" in changed
    assert "2 blobs" in changed
