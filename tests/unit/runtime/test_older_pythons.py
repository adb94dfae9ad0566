"""What runs under an image's own Python is written for the oldest that there are runners for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nb2image.runtime
from nb2image.images import runner_pythons

FOLDER = Path(nb2image.runtime.__file__).parent
SCRIPTS = (
    *sorted(FOLDER.glob("[!_]*.py")),
    FOLDER.parent / "sandbox" / "worker.py",
    FOLDER.parent / "layers" / "bytecode_worker.py",
)
NEWER = {"removeprefix", "removesuffix", "is_relative_to", "zoneinfo", "tomllib"}
"""Names of Python 3.9 to 3.11."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_images_are_python_3_8(script: Path) -> None:
    tree = ast.parse(script.read_text("utf-8"), feature_version=(3, 8))
    if script.name == "entries.py":  # which writes them, and runs here
        return
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    assert (used | imported) & NEWER == set()


def test_every_runner_is_there_for_every_python() -> None:
    every = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
    assert [runner_pythons(name) for name in ("jupyter", "batch")] == [every] * 2
    assert [tuple(dict.fromkeys(runner_pythons(name))) for name in ("support", "build")] == [every] * 2
