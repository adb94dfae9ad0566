"""Measure a build of a notebook, wheels local, and print it beside the limit and the peers.

::

    python -m tests.bench NOTEBOOK [--repeat N] [--docker] [-- OPTIONS OF nb2image build…]

Each line is the median of N runs in wall seconds, with the shortest and the longest. ``--docker`` needs a running
Docker and ``uv`` on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nb2image.cache import Store
from nb2image.processes import workers
from tests.bench.limit import limit
from tests.bench.peers import DOCKERFILES, docker_build

_BYTECODE = "bytecode of "


class Runs(NamedTuple):
    """Wall seconds of several runs of one thing."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measured(repeat: int, run: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> Runs:
    seconds = []
    for _ in range(repeat):
        prepare()
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return Runs(seconds)


class Bench:
    """One notebook, one cache of its own that has the wheels, and the command line under measurement."""

    def __init__(self, notebook: Path, options: Sequence[str], folder: Path) -> None:
        self.notebook = folder / notebook.name
        shutil.copy(notebook, self.notebook)
        self.options = list(options)
        self.folder = folder
        self.cache = folder / "cache"
        self.layout = folder / "layout"
        self.document: dict[str, Any] = {}

    def command(self, *more: str) -> list[str]:
        """The build without an output."""
        return [sys.executable, "-m", "nb2image", "build", str(self.notebook), "-q", "--json", *self.options, *more]

    @property
    def environ(self) -> dict[str, str]:
        # As on a user's machine, Python may keep what it compiled of nb2image itself.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "NB2IMAGE_CACHE_DIR": str(self.cache)}

    def build(self, *more: str) -> dict[str, Any]:
        command = self.command("-o", str(self.layout), *more)
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=self.environ)
        self.document = json.loads(done.stdout)
        return self.document

    @property
    def in_stages(self) -> float:
        """Seconds that the last build spent in its stages; those inside others are not counted twice."""
        seconds: dict[str, float] = self.document["seconds"]
        return sum(value for name, value in seconds.items() if name not in {"index", "download", "layer"})

    def load(self) -> None:
        """Build into the engine that the environment names."""
        subprocess.run(self.command("--load"), check=True, capture_output=True, env=self.environ)

    def without_layers(self) -> None:
        """Forget what the notebook's packages became; the wheels, the base and the runner stay as they are."""
        shutil.rmtree(self.layout, ignore_errors=True)
        store = Store(self.cache)
        for layer in self._kernel_layers():
            store.drop("layers", layer["digest"])

    def without_needs(self) -> None:
        """Forget the layers, and what was read of shared objects."""
        self.without_layers()
        for kind in ("elf", "missing-libraries"):
            shutil.rmtree(Store(self.cache).root / "records" / kind, ignore_errors=True)

    def plan(self) -> None:
        command = [sys.executable, "-m", "nb2image", "plan", str(self.notebook), "-q", "--json", *self.options]
        subprocess.run(command, check=True, capture_output=True, env=self.environ)

    def _kernel_layers(self) -> list[dict[str, Any]]:
        """Layers and bytecode of the notebook's own packages; in an image they follow those of the runner."""
        names = {f"{package['name']}=={package['version']}" for package in self.document["packages"]}
        others = {f"{p['name']}=={p['version']}" for p in (*self.document["runner"], *self.document["support"])}
        waiting = {"": set(others), _BYTECODE: set(others)}
        found = []
        for layer in self.document["layers"]:
            kind = _BYTECODE if layer["comment"].startswith(_BYTECODE) else ""
            words = set(layer["comment"].removeprefix(kind).split())
            if words & waiting[kind]:
                waiting[kind] -= words
            elif words <= names:
                found.append(layer)
        return found

    def change_notebook(self) -> None:
        document = json.loads(self.notebook.read_text())
        document["cells"].append({"cell_type": "markdown", "id": f"c{time.time_ns()}", "metadata": {}, "source": "x"})
        self.notebook.write_text(json.dumps(document))

    def prepare(self) -> None:
        self.build()
        store = Store(self.cache)
        found = [
            (p["file"], store.find("wheels", f"sha256:{p['hashes']['sha256']}")) for p in self.document["packages"]
        ]
        self.wheels = []
        links = self.folder / "wheels"
        links.mkdir(exist_ok=True)
        for name, path in found:
            assert path is not None
            shutil.copy(path, links / name)
            self.wheels.append(links / name)
        self.requirements = "".join(
            f"{p['name']}=={p['version']} --hash=sha256:{p['hashes']['sha256']}\n" for p in self.document["packages"]
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--docker", action="store_true", help="measure docker build too")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:cut])
    with tempfile.TemporaryDirectory(prefix="nb2image-bench-") as name:
        bench = Bench(given.notebook, sys.argv[cut + 1 :], Path(name))
        bench.prepare()
        size = sum(path.stat().st_size for path in bench.wheels)
        print(f"{given.notebook.name}: {len(bench.wheels)} wheels, {size / 1e6:.0f} MB, {workers()} processors")
        floor = measured(given.repeat, lambda: limit(bench.wheels, workers()))
        row("limit (read, inflate, hash twice)", floor, floor)
        mine = measured(given.repeat, lambda: bench.build("--no-bytecode"), bench.without_layers)
        row("nb2image build, layers new", mine, floor)
        unread = measured(given.repeat, lambda: bench.build("--no-bytecode"), bench.without_needs)
        row(
            "  and what wheels need of the system unread",
            unread,
            floor,
            f"{unread.median / mine.median:.2f} × layers new",
        )
        changed = measured(given.repeat, bench.build, bench.change_notebook)
        row("nb2image build, notebook changed", changed, floor)
        row("  of it in no stage: start, imports, exit", Runs([changed.seconds[-1] - bench.in_stages]), floor)
        row("nb2image plan", measured(given.repeat, bench.plan), floor)
        compiled = measured(given.repeat, lambda: bench.build("--bytecode"), bench.without_layers)
        row("nb2image build --bytecode, layers new", compiled, floor)
        if given.docker:
            base = load_base(bench)
            for title, dockerfile in DOCKERFILES.items():
                context = bench.folder / "context"
                theirs = measured(
                    given.repeat,
                    lambda: docker_build(dockerfile, base, bench.wheels, bench.requirements, context),  # noqa: B023
                )
                ours = compiled if "bytecode" in title else mine
                row(title, theirs, floor, f"{theirs.median / ours.median:.1f} × nb2image")


def load_base(bench: Bench) -> str:
    """The base image alone, loaded into Docker; returns its name."""
    from nb2image.bases.debian.provider import DebianProvider
    from nb2image.engines.client import choose
    from nb2image.engines.load import load
    from nb2image.progress import Silent
    from nb2image.target.model import Platform

    provider = DebianProvider(Store(bench.cache), platform=Platform())
    name = bench.document["base"]["name"]
    candidate = next(each for each in provider.candidates() if each.name == name)
    with choose("docker") as engine:
        load(engine, provider.deliver(candidate, Silent()).image, ["nb2image-bench-base"], Silent())
    return "nb2image-bench-base"


def row(title: str, runs: Runs, floor: Runs, note: str = "") -> None:
    span = f"({min(runs.seconds):.2f} to {max(runs.seconds):.2f})"
    times = f"{runs.median / floor.median:5.1f} × limit"
    print(f"{title:<50} {runs.median:7.2f} s  {span:<18} {times}  {note}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
