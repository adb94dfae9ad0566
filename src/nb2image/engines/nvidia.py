"""The NVIDIA driver of this machine, and how engines are asked for its GPUs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from nb2image.errors import EngineRefused

if TYPE_CHECKING:
    from nb2image.engines.discovery import Kind

__all__ = ["gpu_options", "gpus_explained", "local_driver"]

_HELP = {
    "docker": "`docker run --gpus all` needs the same.",
    # podman 4.3 looks for a file of that name when the device comes through its Docker API; its own command does not.
    "podman": "Where podman's API does not take such a device, `podman run --device nvidia.com/gpu=all IMAGE` does.",
}
_TOOLKIT = (
    "Containers get GPUs from NVIDIA's container toolkit, which has to be installed and set up for the engine; "
    "`nb2image doctor` shows this machine's driver."
)

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


def gpu_options(engine: Kind) -> Mapping[str, Any]:
    """What a container's host configuration needs for all GPUs: Docker's ``--gpus all``, and for podman the device that
    the toolkit describes (Container Device Interface)."""
    if engine == "podman":
        # Without a path in the container it is the name of a device, not a file.
        return {"devices": [{"PathOnHost": "nvidia.com/gpu=all"}]}
    from docker.types import DeviceRequest

    return {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}


@contextmanager
def gpus_explained(engine: Kind, *, gpu: bool) -> Iterator[None]:
    """Say what GPUs in containers take, where an engine refuses one that was to have them."""
    try:
        yield
    except EngineRefused as error:
        if not gpu:
            raise
        raise EngineRefused(error.message, hint=f"{_TOOLKIT} {_HELP[engine]}", details=error.details) from error
