"""Build a notebook and push it: to a registry that has nothing, and after a change of the notebook alone.

::

    python -m tests.bench.pushes NOTEBOOK [--repeat N] [-- OPTIONS OF nb2image build…]

The registry is a private one on loopback (Debian's docker-registry). The whole command is measured, in wall seconds:
the median of N changes with the shortest and the longest, and the mean of its processor seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.__main__ import Bench, measured
from tests.engines.daemons import registry

__all__: list[str] = []


def processor_seconds() -> float:
    """What ended children of this process have used; the registry has not ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.pushes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:cut])
    with tempfile.TemporaryDirectory(prefix="nb2image-pushes-") as name, registry() as address:
        bench = Bench(given.notebook, sys.argv[cut + 1 :], Path(name))
        bench.build()
        pushed: dict[str, Any] = {}

        def push() -> None:
            command = bench.command("--push", "-t", f"{address}/bench/notebook:1")
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=bench.environ)
            pushed.update(json.loads(done.stdout)["pushed"][0])

        begin = time.perf_counter()
        push()
        sent = f"{len(pushed['sent'])} blobs, {pushed['sent_bytes'] / 1e6:.1f} MB"
        print(f"{given.notebook.name}, nothing there{time.perf_counter() - begin:14.2f} s  ({sent})")
        before = processor_seconds()
        runs = measured(given.repeat, push, bench.change_notebook)
        processor = (processor_seconds() - before) / given.repeat
        sent = f"{len(pushed['sent'])} blobs, {pushed['sent_bytes'] / 1e6:.3f} MB"
        span = f"{min(runs.seconds):.2f} to {max(runs.seconds):.2f}; {processor:.2f} s of a processor"
        print(f"{given.notebook.name}, the notebook changed{runs.median:7.2f} s  ({span}; {sent})")


if __name__ == "__main__":
    main()
