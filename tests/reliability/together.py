"""Start several builds of the example at the same moment, on one empty cache and into one layout.

::

    python -m tests.reliability.together [2 8 …] [--folder DIR]

Each also writes an archive of its own. A line of JSON per number of builds: seconds until the last one ended, how often
each file was fetched from loopback (once by a single build; by several at most once by each), and what was wrong: a
build that failed or did not end, a digest or an archive unlike that of a build alone, a blob in the cache with other
bytes than its name says, something unfinished. Exit code 1 if anything was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nb2image.cache import Store
from tests.reliability.kills import damaged_blobs, sha256_of
from tests.reliability.loopback import EXAMPLE, OPTIONS, Loopback, loopback

__all__ = ["Outcome", "together"]

_LONGEST = 900.0


class Outcome(NamedTuple):
    """``digests`` are image digest and archive hash of each build that ended well."""

    seconds: float
    digests: set[tuple[str, str]]
    wrong: list[str]


def together(builds: int, folder: Path, command: Sequence[str], notebook: Path, environ: Mapping[str, str]) -> Outcome:
    """Builds that begin at the same time in a new folder; ``command`` is ``build`` without outputs and notebook."""
    folder.mkdir()
    store, wrong, digests = Store(folder / "cache"), [], set()
    layout = ("-o", str(folder / "layout"))
    begin = time.monotonic()
    running = [
        subprocess.Popen(
            [*command, str(notebook), *layout, "-o", str(folder / f"{n}.tar"), "--quiet", "--json"],
            cwd=folder,
            env={**environ, "NB2IMAGE_CACHE_DIR": str(store.root)},
            stdin=subprocess.DEVNULL,
            stdout=(folder / f"{n}.json").open("wb"),
            stderr=(folder / f"{n}.err").open("wb"),
        )
        for n in range(builds)
    ]
    for n, process in enumerate(running):
        try:
            process.wait(max(0.0, begin + _LONGEST - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            wrong.append(f"build {n} did not end")
            continue
        said = (folder / f"{n}.err").read_text()
        if process.returncode or said:
            wrong.append(f"build {n}: exit code {process.returncode}: {said}")
        else:
            document: dict[str, Any] = json.loads((folder / f"{n}.json").read_bytes())
            digests.add((document["digest"], sha256_of(folder / f"{n}.tar")))
    seconds = time.monotonic() - begin
    if len(digests) != 1:
        wrong.append(f"{len(digests)} digests: {digests}")
    wrong += damaged_blobs(store)
    wrong += [f"unfinished: {path}" for path in (store.root / "v1" / "tmp").iterdir()]
    wrong += [f"left: {path}" for path in folder.rglob("*.partial*")]
    for blob in (folder / "layout" / "blobs" / "sha256").iterdir():
        if sha256_of(blob) != blob.name:
            wrong.append(f"in the layout: {blob.name} has other bytes")
    return Outcome(seconds, digests, wrong)


def _fetched(served: Loopback) -> str:
    """How often files were asked for, as ``times: number of files``; forgets it."""
    count = Counter(Counter(path for path in served.server.paths() if not path.startswith("/simple/")).values())
    served.server.requests.clear()
    return ", ".join(f"{times}: {files}" for times, files in sorted(count.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", type=int, nargs="*", default=[2, 8])
    parser.add_argument("--folder", type=Path, help="Where to work; a new folder in it is used, and removed.")
    options = parser.parse_args()
    problems, alone = 0, None
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        with loopback(folder, Store.default()) as served:
            notebook = Path(shutil.copy(EXAMPLE, folder))
            command = (sys.executable, "-m", "nb2image", "build", *OPTIONS)
            for builds in (1, *options.builds):
                outcome = together(builds, folder / str(builds), command, notebook, served.environ)
                alone = alone or outcome.digests
                wrong = [*outcome.wrong, *(["another digest than alone"] if outcome.digests != alone else [])]
                row = {"builds": builds, "seconds": round(outcome.seconds, 1), "fetched": _fetched(served)}
                print(json.dumps({**row, "wrong": wrong}), flush=True)
                problems += len(wrong)
                shutil.rmtree(folder / str(builds))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
