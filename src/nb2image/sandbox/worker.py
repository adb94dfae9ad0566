"""Runs inside a sandbox, under the base's own Python (3.8 or later) and with the standard library only.

It is the first process there, so that everything ends with it: what a build leaves behind is killed, and so is a build
that fills the disk. Its task stands in ``/build/job.json``, the answer comes to ``/build/out/result.json``::

    {"backend": "setuptools.build_meta", "path": [], "ask": true, "have": ["setuptools"],
     "memory": 1, "disk": 1, "file": 1, "processes": 1, "seconds": 1}  →  {"requires": [...]} or {"wheel": "….whl"}

``ask``: first ask the backend for further requirements (PEP 517, ``get_requires_for_build_wheel``), and build only when
it names none but packages that it has, without any version.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

FOLDER = "/build"
DISK_FULL = 120
OUT_OF_TIME = 121


def _hook(job: dict[str, Any], work: Callable[[Any], dict[str, Any]]) -> None:
    """In a process of its own, as hooks may change it: do ``work`` with the backend and write what it returns."""
    os.chdir(FOLDER + "/source")
    # The folder of this script; the source tree is importable only as far as backend-path says.
    sys.path[0:1] = [os.path.normpath(os.path.join(FOLDER, "source", each)) for each in job["path"]]
    import importlib

    module, _, names = job["backend"].partition(":")
    backend: Any = importlib.import_module(module)
    for name in names.split(".") if names else ():
        backend = getattr(backend, name)
    result = work(backend)
    with open(FOLDER + "/out/result.json", "w") as stream:
        json.dump(result, stream)


def _requires(backend: Any) -> dict[str, Any]:
    ask = getattr(backend, "get_requires_for_build_wheel", None)
    return {"requires": [str(each) for each in ask({})] if ask else []}


def _wheel(backend: Any) -> dict[str, Any]:
    return {"wheel": os.path.basename(backend.build_wheel(FOLDER + "/out", {}, None))}


def _used() -> int:
    """Bytes on disk below the folder."""
    total = 0
    waiting = [FOLDER]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return total


def _limited(job: dict[str, Any]) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, job["memory"]),
        (resource.RLIMIT_FSIZE, job["file"]),
        (resource.RLIMIT_NPROC, job["processes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _run(job: dict[str, Any], work: Callable[[Any], dict[str, Any]]) -> int:
    """Fork, do ``work`` there, watch over it, and leave no process but this one."""
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            os.close(0)
            os.open(os.devnull, os.O_RDONLY)
            _limited(job)
            _traceable(True)
            _hook(job, work)
            failed = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(failed)
    looked = time.monotonic()
    code: int | None = None
    while code is None:
        found, status = os.waitpid(-1, os.WNOHANG)
        if found == child:
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        elif found == 0:
            # Whoever holds the other end of the input is gone when it ends.
            if select.select([0] if job["lifeline"] else [], [], [], 0.01)[0] and not os.read(0, 1024):
                code = OUT_OF_TIME
            elif time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                if _used() > job["disk"]:
                    code = DISK_FULL
                elif looked > job["deadline"]:
                    code = OUT_OF_TIME
    # The first process of a PID namespace reaches all others with it, and itself not.
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    return code


def _answer() -> dict[str, Any]:
    with open(FOLDER + "/out/result.json") as stream:
        return dict(json.load(stream))


def _traceable(yes: bool) -> None:
    """Whether processes of the same user may trace this one (prctl(2), PR_SET_DUMPABLE)."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(4, int(yes), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def main() -> int:
    with open(FOLDER + "/job.json") as stream:
        job = json.load(stream)
    if os.getuid() == 0:
        sys.exit("this must not run as root")
    job["lifeline"] = os.environ.pop("NB2IMAGE_LIFELINE", "") == "1"
    job["deadline"] = time.monotonic() + job["seconds"]
    os.umask(0o022)
    _traceable(False)
    if job["ask"]:
        code = _run(job, _requires)
        if code:
            return code
        if not set(_answer()["requires"]) <= set(job["have"]):
            return 0
    return _run(job, _wheel)


if __name__ == "__main__":
    sys.exit(main())
