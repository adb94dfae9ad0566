"""Commands start quickly: what a command does not need is not imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.unit.index.plugin import machine, server
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]

# Each takes longer to import than all of nb2image, or is of use only to what a warm build does not do.
HEAVY = {"cyclonedx", "docker", "email.parser", "h2", "httpx", "jupytext", "multiprocessing", "nbformat", "pypi_simple"}
HEAVY |= {"packageurl", "pysequoia", "requests", "rich", "ssl", "zstandard"}


def imported(command: list[str], world: World) -> set[str]:
    """The modules that a command imports."""
    program, *arguments = command
    done = subprocess.run(
        [program, "-X", "importtime", *arguments],
        cwd=world.work,
        env=world.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "click" in found
    return found


def test_the_version_needs_none_of_the_pipeline(world: World) -> None:
    found = imported([sys.executable, "-m", "nb2image", "--version"], world)
    assert {name for name in found if name.startswith("nb2image.")} == {"nb2image.cli", "nb2image.errors"}


def test_a_warm_build_imports_nothing_heavy(world: World) -> None:
    command = world.command("build", world.locked(wheel("alpha")), "--base", world.base)
    assert HEAVY & imported(command, world)
    found = imported(command, world)
    assert "nb2image.build" in found
    assert HEAVY & found == set()


def test_names_of_files_do_not_depend_on_the_locale(world: World) -> None:
    source = world.locked(wheel("alpha"), name="Übung.ipynb")
    (world.work / "Größe.txt").write_text("1")
    command = ("build", ".", "--base", world.base, "-o", "out", "--json", "-q")
    # Python takes the encoding of the locale C, which is ASCII, for one that the user did not mean, unless it is told.
    ascii_only = {"LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    runs = [world.run(*command, **variables) for variables in ({}, ascii_only)]
    assert [run.returncode for run in runs] == [0, 0], runs[1].stderr
    first, second = (json.loads(run.stdout) for run in runs)
    assert first["digest"] == second["digest"]
    assert second["notebook"] == source.name


def test_looking_at_the_cache_needs_no_packaging(world: World) -> None:
    found = imported(world.command("cache", "info"), world)
    assert not {name for name in found if name.startswith(("nb2image.plan", "nb2image.lock", "nb2image.wheels"))}
