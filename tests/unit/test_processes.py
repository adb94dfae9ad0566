"""Worker processes start, and none is left, whenever the build is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from nb2image.errors import WorkerDied
from nb2image.processes import pool, uninterrupted

# A signal comes as soon as a worker was forked, before anything knows of it.
_INTERRUPTED = """\
import multiprocessing.process, os, signal, sys, threading
from nb2image.processes import pool

if sys.argv[1] == "threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
start = multiprocessing.process.BaseProcess.start

def interrupted(process):
    start(process)
    os.kill(os.getpid(), signal.SIGINT)

multiprocessing.process.BaseProcess.start = interrupted
with pool(2) as executor:
    executor.submit(os.getpid).result()
"""


def test_a_worker_that_is_killed_is_an_error_of_its_own() -> None:
    with pytest.raises(WorkerDied) as caught, pool(2) as executor:
        executor.submit(os._exit, 9).result()
    assert "memory" in caught.value.hint


def test_workers_start_beside_other_threads_as_well() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pool(2) as executor:
            assert executor.submit(os.getpid).result() != os.getpid()
    finally:
        stop.set()
        thread.join()


# What starts workers, and imports for them, gets the signal that a terminal sends to all, before it has begun.
_AT_ONCE = """\
import multiprocessing.util, os, signal, threading
from nb2image.processes import pool

threading.Thread(target=threading.Event().wait, daemon=True).start()
spawn = multiprocessing.util.spawnv_passfds

def interrupted(path, args, passfds):
    number = spawn(path, args, passfds)
    os.kill(number, signal.SIGINT)
    return number

multiprocessing.util.spawnv_passfds = interrupted
with pool(2) as executor:
    print(executor.submit(max, 1, 2).result())
"""


@pytest.mark.parametrize("beside", ["nothing", "threads"])
def test_an_interrupt_while_workers_start_ends_them(beside: str) -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED, beside], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_an_interrupt_from_a_terminal_leaves_the_decision_to_the_build() -> None:
    done = subprocess.run([sys.executable, "-c", _AT_ONCE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_a_signal_waits_for_the_end_of_what_must_not_be_interrupted() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        steps.append("after")
    assert steps == ["after"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
