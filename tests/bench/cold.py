"""Build a notebook from an empty cache, and beside it download the same files with the same client and nothing else.

::

    python -m tests.bench.cold NOTEBOOK [--repeat N] [--rate MBIT] [-- OPTIONS OF nb2image build…]

Both ask the same indexes and mirrors, through a network whose speed changes: they take turns, and the best of N runs
of each is printed. ``--rate`` puts both behind a line of so many Mbit/s. Of the options the bare download understands
``--index-url``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.throttle import throttled

__all__: list[str] = []


def bare(document: dict[str, Any], indexes: tuple[str, ...] | None, cache: Path) -> None:
    """Fetch the wheels and the base's packages of a build, as its ``--json`` tells them, into an empty cache."""
    from nb2image.bases.debian.download import fetch_packages
    from nb2image.bases.debian.lock import shipped_lock
    from nb2image.bases.debian.mirrors import Mirrors
    from nb2image.cache import Store
    from nb2image.index.download import LockedFile, download
    from nb2image.index.settings import IndexSettings
    from nb2image.parallel import Background
    from nb2image.progress import Silent
    from nb2image.target.model import Platform

    store, listener = Store(cache), Silent()
    lock = shipped_lock(document["base"]["name"], Platform())
    assert lock is not None
    debs = Background(lambda: fetch_packages(lock, store, Mirrors.of_this_machine(), listener))
    rows = {row["file"]: row for kind in ("packages", "runner", "support") for row in document[kind]}
    files = [
        LockedFile(
            *(row["name"], row["version"], row["file"], None, None),
            frozenset(f"{algorithm}:{value}" for algorithm, value in row["hashes"].items()),
        )
        for row in rows.values()
    ]
    download(files, IndexSettings(indexes), store, listener)
    debs.result()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cold", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rate", type=float, metavar="MBIT")
    parser.add_argument("--bare", type=Path, metavar="CACHE", help=argparse.SUPPRESS)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:cut])
    options = sys.argv[cut + 1 :]
    if given.bare:
        indexes = tuple(value for name, value in pairwise(options) if name == "--index-url")
        bare(json.loads(given.notebook.read_text()), indexes or None, given.bare)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nb2image-cold-")))
        cache, layout, answer = folder / "cache", folder / "layout", folder / "build.json"
        environ = {key: value for key, value in os.environ.items() if key not in {"PYTHONDONTWRITEBYTECODE"}}
        environ["NB2IMAGE_CACHE_DIR"] = str(cache)
        if given.rate:
            proxy = stack.enter_context(throttled(given.rate * 1e6 / 8))
            environ |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
        build = [sys.executable, "-m", "nb2image", "build", str(given.notebook), "-q", "--json", "-o", str(layout)]
        fetch = [sys.executable, "-m", "tests.bench.cold", str(answer), "--bare", str(cache), "--", *options]
        seconds: dict[str, list[float]] = {"build": [], "bare": []}
        for _ in range(given.repeat):
            for title, command in (("build", [*build, *options]), ("bare", fetch)):
                for path in (cache, layout):
                    shutil.rmtree(path, ignore_errors=True)
                begin = time.perf_counter()
                done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
                seconds[title].append(time.perf_counter() - begin)
                if done.returncode:
                    sys.exit(done.stderr)
                if title == "build":
                    answer.write_text(done.stdout)
                    print(json.dumps(json.loads(done.stdout)["seconds"]), file=sys.stderr)
        size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        built, fetched = min(seconds["build"]), min(seconds["bare"])
        print(f"bare download, {size / 1e6:.0f} MB        {fetched:7.2f} s")
        print(f"nb2image build, empty cache {built:7.2f} s  {built / fetched:.2f} × bare")


if __name__ == "__main__":
    main()
