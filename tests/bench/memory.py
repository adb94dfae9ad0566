"""Measure the peak memory of builds, all layers of the notebook's packages new.

::

    python -m tests.bench.memory NOTEBOOK [-- OPTIONS OF nb2image build…]

``together`` is the largest sum of the proportional set sizes (proc(5), ``smaps_rollup``) of all processes of a build at
one moment, sampled every 10 ms: pages that processes share count once. ``largest`` is the resident set of the process
that had most at any time. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nb2image.cache import Store
from tests.bench.__main__ import Bench

__all__ = ["Measured", "measured"]

_INTERVAL = 0.01


@dataclass(frozen=True)
class Measured:
    """A command that has ended. ``together`` and ``largest`` in bytes, as the module says; ``seconds`` of wall and
    ``cpu`` of processor time, as last seen of each process; ``processes`` that were there at one moment at most."""

    returncode: int
    stdout: str
    stderr: str
    together: int
    largest: int
    processes: int
    seconds: float
    cpu: float


def _tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended meanwhile.
    return found


def _sizes(pid: int) -> tuple[int, int]:
    """Proportional and resident set size in bytes; zeros for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0, 0
    rows = dict(line.split(":", 1) for line in text.splitlines()[1:] if ":" in line)
    return int(rows.get("Pss", "0 kB").split()[0]) << 10, int(rows.get("Rss", "0 kB").split()[0]) << 10


def _cpu(pid: int) -> float | None:
    """Seconds of user and system time (proc(5), ``stat``)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(command: Sequence[str], environ: Mapping[str, str], cwd: Path | None = None) -> Measured:
    """Run a command to its end and watch all of its processes."""
    begin, together, largest, processes = time.perf_counter(), 0, 0, 0
    cpu: dict[int, float] = {}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        while process.poll() is None:
            tree = _tree(process.pid)
            cpu.update((pid, used) for pid in tree if (used := _cpu(pid)) is not None)
            sizes = [_sizes(pid) for pid in tree]
            together = max(together, sum(pss for pss, _ in sizes))
            largest = max(largest, *(rss for _, rss in sizes))
            processes = max(processes, len(sizes))
            time.sleep(_INTERVAL)
        seconds = time.perf_counter() - begin
        out.seek(0)
        err.seek(0)
        return Measured(
            process.returncode, out.read(), err.read(), together, largest, processes, seconds, sum(cpu.values())
        )


def _wheel_sizes(bench: Bench) -> list[int]:
    """Bytes of the notebook's wheels; an index need not tell them, so the store does."""
    store = Store(bench.cache)
    digests = [f"sha256:{package['hashes']['sha256']}" for package in bench.document["packages"]]
    return [path.stat().st_size for digest in digests if (path := store.find("wheels", digest)) is not None]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.memory", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("notebook", type=Path)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:cut])
    with tempfile.TemporaryDirectory(prefix="nb2image-bench-") as name:
        bench = Bench(given.notebook, sys.argv[cut + 1 :], Path(name))
        bench.build()
        sizes = _wheel_sizes(bench)
        print(
            f"{given.notebook.name}: {len(sizes)} wheels, {sum(sizes) / 1e6:.0f} MB, "
            f"the largest {max(sizes) / 1e6:.0f} MB",
            flush=True,
        )
        archive = bench.folder / "image.tar"
        built: tuple[str, ...] = ()
        for title, output, options in (
            ("Jupyter, into a layout", bench.layout, ("--no-bytecode",)),
            ("Jupyter, into an archive", archive, ("--no-bytecode",)),
            ("batch with bytecode, into a layout", bench.layout, ("--mode", "batch")),
            ("batch with bytecode, into an archive", archive, ("--mode", "batch")),
        ):
            if options != built:
                bench.build(*options)
                built = options
            bench.without_layers()
            done = measured(bench.command("-o", str(output), *options), bench.environ)
            if done.returncode:
                sys.exit(done.stderr)
            size = json.loads(done.stdout)["size"]
            print(
                f"{title:<36} together {done.together / 1e6:4.0f} MB  largest {done.largest / 1e6:4.0f} MB  "
                f"{done.processes:2} processes  {done.seconds:6.2f} s  cpu {done.cpu:6.2f} s  "
                f"image {size / 1e6:5.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
