"""The NVIDIA driver of this machine, and how engines are asked for its GPUs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from packaging.version import Version

__all__ = ["local_driver"]

_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_RELEASE = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")
_SECONDS = 10


def local_driver() -> Version | None:
    """The version of the loaded driver, by its kernel module or else by ``nvidia-smi``; None: there is none."""
    try:
        stated = _RELEASE.search(_KERNEL_MODULE.read_text(errors="replace"))
    except OSError:
        stated = None
    if stated:
        return Version(stated[1])
    # Where a container or WSL has no such file, the program is there.
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = re.match(r"\d+\.\d+(?:\.\d+)?$", done.stdout.splitlines()[0].strip() if done.stdout.strip() else "")
    return Version(answer[0]) if answer and done.returncode == 0 else None
