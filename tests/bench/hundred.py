"""Build a hundred notebooks that share most packages; print time and disk of each after the first.

::

    python -m tests.bench.hundred NOTEBOOK [--count N] [-- OPTIONS OF nb2image build…]

Every notebook has cells of its own and locks what the given one locks, but for none to eight packages that nothing that
stays requires; chance decides which, the same in each run. Each is built by a process of its own, into one OCI layout.
Wheels, base and runner are in the cache before; layers of the locked packages are not. Processor time leaves out worker
processes, which only a notebook with much to write starts. Disk is what the files of cache and layout occupy, each once
however many names it has.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from nb2image.cache import Store
from nb2image.lock.model import hashes_of
from nb2image.notebook.document import read_notebook
from nb2image.notebook.locks.find import read_lock
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.metadata import read_metadata
from tests.bench.__main__ import Bench

__all__ = ["occupied", "variants"]

_MOST_DROPPED = 8


class _Row(NamedTuple):
    """One notebook: seconds of wall and of processor time, bytes of disk more than before, layers that no notebook
    before it had, their bytes, and the bytes of the whole image."""

    seconds: float
    cpu: float
    disk: int
    layers: int
    fresh: int
    size: int


def occupied(folders: Iterable[Path]) -> int:
    """Bytes of disk below some folders, hard links once (``du``'s count)."""
    seen = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            status = path.lstat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _requirements(bench: Bench) -> dict[str, set[str]]:
    """What each package of the notebook requires, extras and other platforms included."""
    store = Store(bench.cache)
    found = {}
    for package in bench.document["packages"]:
        path = store.find("wheels", f"sha256:{package['hashes']['sha256']}")
        assert path is not None
        with WheelArchive(path, package["file"]) as archive:
            needs = read_metadata(archive).requires_dist
        found[package["name"]] = {str(canonicalize_name(need.name)) for need in needs} - {package["name"]}
    return found


def _dropped(requirements: Mapping[str, Set[str]], chance: random.Random) -> set[str]:
    """Packages to leave out, one after the other, so that nothing that stays requires them."""
    kept = dict(requirements)
    for _ in range(chance.randint(0, _MOST_DROPPED)):
        leaves = sorted(kept.keys() - set().union(*kept.values()))
        if leaves:
            del kept[chance.choice(leaves)]
    return requirements.keys() - kept.keys()


def variants(notebook: Path, requirements: Mapping[str, Set[str]], count: int, folder: Path) -> list[Path]:
    """Write notebooks that differ a little from the given one in cells and lock; all of a lock's hashes are kept."""
    document = json.loads(notebook.read_text())
    lock = read_lock(read_notebook(notebook))
    sources = [{"name": f"index-{n}", "url": url, "verify_ssl": True} for n, url in enumerate(lock.indexes)]
    meta = {"pipfile-spec": 6, "requires": {"python_version": lock.python} if lock.python else {}, "sources": sources}
    packages = {
        package.name: {
            "version": f"=={package.version}",
            "hashes": sorted(hashes_of(package)),
            **({"markers": str(package.marker)} if package.marker else {}),
        }
        for package in lock.packages
    }
    shared = {key: document["metadata"][key] for key in ("kernelspec", "language_info") if key in document["metadata"]}
    written = []
    for number in range(count):
        dropped = _dropped(requirements, random.Random(number))
        kept = {name: entry for name, entry in packages.items() if name not in dropped}
        cell = {"cell_type": "markdown", "id": f"of-{number}", "metadata": {}, "source": f"# Notebook {number}"}
        mine: dict[str, Any] = {
            **document,
            "cells": [cell, *document["cells"]],
            "metadata": {**shared, "requirements_lock": json.dumps({"_meta": meta, "default": kept, "develop": {}})},
        }
        path = folder / f"notebook-{number:03}.ipynb"
        path.write_text(json.dumps(mine))
        written.append(path)
    return written


def _measured(bench: Bench, notebooks: Sequence[Path]) -> list[_Row]:
    rows = []
    places = (bench.cache, bench.layout)
    before = occupied(places[:1])
    known: set[str] = set()
    for notebook in notebooks:
        bench.notebook = notebook
        begin, used = time.perf_counter(), os.times()
        command = bench.command("-o", str(bench.layout), "--tag", f"{notebook.stem}:1")
        done = subprocess.run(command, capture_output=True, text=True, env=bench.environ)
        seconds, now = time.perf_counter() - begin, os.times()
        cpu = now.children_user + now.children_system - used.children_user - used.children_system
        if done.returncode:
            sys.exit(done.stderr)
        document = json.loads(done.stdout)
        fresh = {layer["digest"]: layer["size"] for layer in document["layers"] if layer["digest"] not in known}
        known |= fresh.keys()
        after = occupied(places)
        rows.append(_Row(seconds, cpu, after - before, len(fresh), sum(fresh.values()), document["size"]))
        before = after
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.hundred", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--count", type=int, default=100)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:cut])
    with tempfile.TemporaryDirectory(prefix="nb2image-bench-") as name:
        bench = Bench(given.notebook, sys.argv[cut + 1 :], Path(name))
        bench.build()
        notebooks = variants(given.notebook, _requirements(bench), given.count, bench.folder)
        packages = len(bench.document["packages"])
        bench.without_layers()
        first, *others = _measured(bench, notebooks)
        locks = len({json.loads(path.read_text())["metadata"]["requirements_lock"] for path in notebooks})
        print(f"{locks} different locks in {given.count} notebooks of about {packages} packages, one process each")
        print(
            f"the first: {first.seconds:.2f} s, {first.disk / 1e6:.0f} MB of disk, image {first.size / 1e6:.0f} MB\n"
            "each of the others:"
        )
        for title, values, unit in (
            ("seconds", [row.seconds for row in others], "s"),
            ("seconds of processor time", [row.cpu for row in others], "s"),
            ("disk", [row.disk / 1e6 for row in others], "MB"),
            ("layers that none before had", [float(row.layers) for row in others], ""),
            ("their size", [row.fresh / 1e6 for row in others], "MB"),
        ):
            print(
                f"  {title:<28} median {median(values):7.2f} {unit:<2}  mean {mean(values):7.2f} {unit:<2}  "
                f"most {max(values):7.2f} {unit}".rstrip()
            )
        whole = sum(row.size for row in (first, *others))
        used = sum(row.disk for row in (first, *others))
        print(f"all images: {whole / 1e6:.0f} MB, on disk {used / 1e6:.0f} MB ({whole / used:.0f} times less)")


if __name__ == "__main__":
    main()
