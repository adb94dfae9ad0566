"""Images of notebooks, built by nb2image's command line: each once in a session, and loaded once into each engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines.daemons import Daemon

__all__ = ["BuiltNotebook", "Notebooks", "code_cell", "write_notebook"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "anscombe.ipynb"
DATA = Path(__file__).parent / "data"


def code_cell(source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"{zlib.crc32(source.encode()):08x}",
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "source": source,
    }


def write_notebook(path: Path, metadata: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> None:
    document = {"cells": list(cells), "metadata": dict(metadata), "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(document))


@dataclass(frozen=True)
class BuiltNotebook:
    """``layout`` is an OCI layout that holds the image as ``tag``; ``document`` is what ``build --json`` printed."""

    tag: str
    layout: Path
    document: Mapping[str, Any]

    @property
    def oci(self) -> str:
        """The image as skopeo, umoci and podman name it."""
        return f"{self.layout}:{self.tag}"


class Notebooks:
    """The notebooks that tests run, by name; ``cache`` is shared by all builds of the session."""

    def __init__(self, folder: Path, cache: Path, corpus: Callable[[], Path]) -> None:
        self.folder = folder
        self.cache = cache
        self._corpus = corpus
        self._built: dict[str, BuiltNotebook] = {}
        self._loaded: dict[tuple[str, str], str] = {}

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "nb2image", *map(str, arguments)]

    def environment(self, engine: Daemon | None = None) -> dict[str, str]:
        foreign = {"DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"}
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        return {**kept, "NB2IMAGE_CACHE_DIR": str(self.cache), **(engine.environment if engine else {})}

    def run(
        self, *arguments: str | Path, engine: Daemon | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run nb2image, which must succeed."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(engine),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def build(self, name: str) -> BuiltNotebook:
        """An image of the notebook ``name``, in an OCI layout."""
        if name not in self._built:
            tag, layout = f"built-{name}:1", self.folder / "layout"
            done = self.run("build", *self.options(name), "-t", tag, "-o", layout, "--json", "--progress", "none")
            self._built[name] = BuiltNotebook(tag, layout, json.loads(done.stdout))
        return self._built[name]

    def load(self, engine: Daemon, name: str) -> str:
        """The reference of the notebook's image in an engine."""
        key = (engine.name, name)
        if key not in self._loaded:
            built = self.build(name)
            options = ("--load", "--offline", "--json", "--progress", "none")
            done = self.run("build", *self.options(name), "-t", built.tag, *options, engine=engine)
            assert json.loads(done.stdout)["digest"] == built.document["digest"]
            self._loaded[key] = built.tag
        return self._loaded[key]

    def options(self, name: str) -> list[str]:
        """What ``nb2image build`` and ``run`` are told of a notebook; its path comes last."""
        source, mode, more = {
            "anscombe": (self._example, "jupyter", ()),
            "anscombe-batch": (self._example, "batch", ()),
            "repository": (self._repository, "batch", ()),
            "widgets": (self._widgets, "jupyter", ("--base", "bookworm")),
            "ds108": (lambda: self._corpus() / "ds108.ipynb", "batch", ()),
        }[name]
        return ["--mode", mode, "--index-url", "default", *more, str(source())]

    def _example(self) -> Path:
        # Outside of git: its images would name the commit, which may change between two builds.
        copy = self.folder / EXAMPLE.name
        if not copy.exists():
            shutil.copyfile(EXAMPLE, copy)
        return copy

    def _widgets(self) -> Path:
        folder = self.folder / "widgets"
        if not folder.exists():
            shutil.copytree(DATA / "widgets", folder)
            metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            write_notebook(folder / "widgets.ipynb", metadata, [code_cell("import ipywidgets")])
        return folder / "widgets.ipynb"

    def _repository(self) -> Path:
        """A folder with a notebook, a module, data, a link, a script, and what is not to come along."""
        folder = self.folder / "repository"
        if folder.exists():
            return folder
        (folder / "helpers").mkdir(parents=True)
        (folder / "helpers/__init__.py").write_text(
            "import csv\n\n\ndef total(path):\n    with open(path) as f:\n"
            "        return sum(int(row[1]) for row in csv.reader(f))\n"
        )
        (folder / "data").mkdir()
        (folder / "data/values.csv").write_text("a,3\nb,39\n")
        (folder / "data/latest.csv").symlink_to("values.csv")
        (folder / "tool.sh").write_text('#!/bin/sh\necho "tool says $1"\n')
        (folder / "tool.sh").chmod(0o755)
        (folder / ".dockerignore").write_text("secret.txt\nbuild\n")
        (folder / "secret.txt").write_text("secret")
        (folder / "build").mkdir()
        (folder / "build/left.txt").write_text("left")
        metadata = json.loads(EXAMPLE.read_text())["metadata"]
        write_notebook(
            folder / "report.ipynb", metadata, [code_cell(REPORT[0], "parameters"), *map(code_cell, REPORT[1:])]
        )
        return folder


REPORT = (
    'action, a, b, c, d = "pass", None, None, None, None',
    """\
import os, pathlib, stat, subprocess, time
import numpy
from helpers import total
print("parameters", [a, b, c, d])
""",
    """\
print("total", total("data/latest.csv"), "link", os.readlink("data/latest.csv"))
print("tool", oct(stat.S_IMODE(os.stat("tool.sh").st_mode)))
print("files", sorted(str(p) for p in pathlib.Path(".").rglob("*") if p.is_file() and "__pycache__" not in p.parts))
""",
    """\
if action == "fail":
    raise ValueError("for a reason")
if action == "tool":
    print(subprocess.run(["./tool.sh", "hello"], capture_output=True, text=True, check=True).stdout)
if action == "wait":
    print("waiting")
    time.sleep(600)
if action == "answer":
    print("question")
    while not pathlib.Path("/output/answer").exists():
        time.sleep(0.05)
    print("answered")
""",
    'print("the end")',
)
"""The cells of the repository's notebook; the fourth is the one that may fail."""


@pytest.fixture(scope="session")
def notebooks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Notebooks:
    """Images of notebooks. ``NB2IMAGE_TEST_CACHE`` names a cache to keep between sessions; needs a package index."""
    kept = os.environ.get("NB2IMAGE_TEST_CACHE")
    cache = Path(kept) if kept else tmp_path_factory.mktemp("notebooks-cache")

    def corpus() -> Path:
        found = request.getfixturevalue("corpus")
        assert isinstance(found, Path)
        return found

    return Notebooks(tmp_path_factory.mktemp("notebooks"), cache, corpus)
