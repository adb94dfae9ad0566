"""Measure the build of every notebook of a folder: a table of what each took, how large it is, and what was built.

::

    python -m tests.bench.corpus FOLDER [-- OPTIONS OF nb2image build…]

``cold``: the cache holds what was downloaded (wheels, source distributions, answers of indexes, packages of the base)
and nothing that was made of it; ``warm``: a second build right after it. Both are seconds of the whole command, which
writes an OCI layout. A notebook whose Python no base has is built for the one that the
refusal advises (``--python``).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from nb2image.cache import Store
from nb2image.sizes import shown

_ADVICE = re.compile(r"build with --python (3\.\d+)")


def emptied(cache: Path, folder: Path) -> None:
    """A cache that has the downloads and bases of another one, and nothing that was made of them."""

    def ignored(path: str, names: list[str]) -> set[str]:
        made = {"build", "build-requirements"} if path.endswith("/records") else {"roots", "tmp", "layers"}
        return made.intersection(names)

    shutil.copytree(cache, folder, copy_function=os.link, ignore=ignored)


def run(
    notebook: Path, cache: Path, layout: Path, options: Sequence[str]
) -> tuple[subprocess.CompletedProcess[str], float]:
    begin = time.perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "nb2image", "build", str(notebook), "-o", str(layout), "--json"),
            *("--progress", "none", "--mode", "batch", "--no-bytecode", *options),
        ],
        env={**os.environ, "NB2IMAGE_CACHE_DIR": str(cache)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done, time.perf_counter() - begin


def row(notebook: Path, cache: Path, options: Sequence[str]) -> str:
    """A row of the table; the downloads are made before anything is measured."""
    with tempfile.TemporaryDirectory(prefix="nb2image-") as name:
        folder = Path(name)
        done, _ = run(notebook, cache, folder / "first", options)
        if done.returncode and (advice := _ADVICE.search(done.stderr)):
            options = [*options, "--python", advice[1]]
            done, _ = run(notebook, cache, folder / "first", options)
        if done.returncode:
            error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
            # What follows a semicolon are the indexes of this machine.
            words = error.removeprefix("error: ").partition(";")[0].rstrip(".")
            return f"| {notebook.stem} | – | – | – | exit code {done.returncode}: {words} |"
        emptied(cache, folder / "cache")
        _, cold = run(notebook, folder / "cache", folder / "cold", options)
        done, warm = run(notebook, folder / "cache", folder / "warm", options)
        document = json.loads(done.stdout)
        built = ", ".join(f"{each['name']} {each['version']}" for each in document["sources"]) or "nothing"
        count = f"{len(document['packages'])} packages, Python {document['base']['python']}"
        return f"| {notebook.stem} ({count}) | {cold:.1f} | {warm:.1f} | {shown(document['size'])} | {built} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("options", nargs="*", help="options of nb2image build, after --")
    given = parser.parse_args(arguments)
    print("| notebook | cold, s | warm, s | image | built from source distributions |\n|---|---:|---:|---:|---|")
    for notebook in sorted(given.folder.glob("*.ipynb")):
        print(row(notebook, Store.default().root, given.options), flush=True)


if __name__ == "__main__":
    main()
