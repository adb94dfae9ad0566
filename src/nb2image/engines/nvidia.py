"""The NVIDIA driver of this machine, and how engines are asked for its GPUs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nb2image.errors import EngineRefused

if TYPE_CHECKING:
    from nb2image.engines.client import Engine
    from nb2image.engines.discovery import Kind

__all__ = ["gpu_options", "gpus_explained", "local_driver"]

_TAKES = {
    "docker": "Docker takes GPUs from NVIDIA's container toolkit: install it, call "
    "`nvidia-ctk runtime configure --runtime=docker`, and start Docker anew.",
    # podman looks for a file of that name when the device comes through its Docker API (mended in 2026,
    # https://github.com/podman-container-tools/podman/pull/28495); its own command never did.
    "podman": "podman takes GPUs from NVIDIA's container toolkit: install it and call `nvidia-ctk cdi generate "
    "--output=/etc/cdi/nvidia.yaml`. Where podman's API still refuses, its own command does it: {command}",
}

_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_RELEASE = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")
_SECONDS = 10


def local_driver() -> str | None:
    """The version of the loaded driver as NVIDIA writes it (``535.183.01``), by its kernel module or else by
    ``nvidia-smi``; None: there is none."""
    try:
        stated = _RELEASE.search(_KERNEL_MODULE.read_text(errors="replace"))
    except OSError:
        stated = None
    if stated:
        return stated[1]
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
    return answer[0] if answer and done.returncode == 0 else None


def gpu_options(engine: Kind) -> Mapping[str, Any]:
    """What a container's host configuration needs for all GPUs: Docker's ``--gpus all``, and for podman the device that
    the toolkit describes (Container Device Interface)."""
    if engine == "podman":
        # Without a path in the container it is the name of a device, not a file.
        return {"devices": [{"PathOnHost": "nvidia.com/gpu=all"}]}
    from docker.types import DeviceRequest

    return {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}


@contextmanager
def gpus_explained(engine: Engine, reference: str, command: str, *, gpu: bool) -> Iterator[None]:
    """Say what GPUs in containers take, where an engine refuses one because of those that it was to have.

    ``command`` is what a user can call instead, with podman's own program.
    """
    try:
        yield
    except EngineRefused as error:
        # The name of an image may have such a word.
        said = error.message.replace(reference, "").lower()
        if not gpu or not ("gpu" in said or "nvidia" in said):
            raise
        here = local_driver()
        driver = f"NVIDIA's driver {here} is loaded here" if here else "No driver of NVIDIA is loaded on this machine"
        if "requirement error" in said:
            raise EngineRefused(
                f"The driver is too old for {reference}, says {engine.title}: {driver}.",
                hint="Update the driver; `nb2image plan` on the notebook says which one is needed.",
                details=(error.message,),
            ) from error
        raise EngineRefused(
            f"{engine.title} {engine.version} can give {reference} no GPU. {driver}.",
            hint=_TAKES[engine.name].format(command=command),
            details=(error.message,),
        ) from error
