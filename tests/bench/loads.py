"""Build a notebook and load it into Docker and podman: all layers new, and after a change of the notebook alone.

::

    python -m tests.bench.loads NOTEBOOK [--repeat N] [-- OPTIONS OF nb2image build…]

As root: each engine is a private one that the measurement starts, and stops in the end. The whole command is measured,
in wall seconds: the median of N changes with the shortest and the longest.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.__main__ import Bench, measured
from tests.engines.daemons import dockerd, podman

__all__: list[str] = []


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.loads", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:cut])
    with tempfile.TemporaryDirectory(prefix="nb2image-loads-") as name:
        bench = Bench(given.notebook, sys.argv[cut + 1 :], Path(name))
        bench.build()
        layers, size = len(bench.document["layers"]), bench.document["size"]
        print(f"{given.notebook.name}: {layers} layers, {size / 1e6:.0f} MB")
        for title, start in (("Docker", dockerd), ("podman", podman)):
            with start() as engine:
                os.environ.update(engine.environment)
                begin = time.perf_counter()
                bench.load()
                print(f"{title}, nothing known{time.perf_counter() - begin:21.2f} s")
                runs = measured(given.repeat, bench.load, bench.change_notebook)
                span = f"({min(runs.seconds):.2f} to {max(runs.seconds):.2f})"
                print(f"{title}, the notebook changed{runs.median:14.2f} s  {span}", flush=True)
                for key in engine.environment:
                    os.environ.pop(key)


if __name__ == "__main__":
    main()
