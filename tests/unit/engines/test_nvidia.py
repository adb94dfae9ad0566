"""The driver of this machine, told by its kernel module or by a program; why containers get no GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from nb2image.engines import nvidia
from nb2image.engines.nvidia import gpus_explained, local_driver
from nb2image.errors import EngineRefused

if TYPE_CHECKING:
    from nb2image.engines.client import Engine

PROPRIETARY = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a driver: a folder that is all of PATH, and no kernel module."""
    monkeypatch.setattr(nvidia, "_KERNEL_MODULE", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


@pytest.mark.usefixtures("machine")
def test_a_machine_without_driver_has_none() -> None:
    assert local_driver() is None


@pytest.mark.parametrize(("text", "version"), [(PROPRIETARY, "535.183.01"), (OPEN, "580.65.06")])
def test_the_kernel_module_states_the_version(machine: Path, text: str, version: str) -> None:
    (machine / "version").write_text(text)
    program(machine, "echo 1.0")
    assert local_driver() == version


def test_without_the_module_the_program_is_asked(machine: Path) -> None:
    program(machine, "echo 470.256.02; echo 470.256.02")
    assert local_driver() == "470.256.02"


@pytest.mark.parametrize("script", ["echo 'No devices were found'", "exit 9", "echo 535.1; exit 9"])
def test_a_program_that_fails_tells_nothing(machine: Path, script: str) -> None:
    program(machine, script)
    assert local_driver() is None


# -- why there is no GPU for a container -------------------------------------------------------------


def explained(message: str, name: str = "docker", *, gpu: bool = True) -> EngineRefused:
    """What an engine's refusal becomes for the image ``gpu-image:1``."""
    engine = cast("Engine", SimpleNamespace(name=name, title=name.title(), version="1.2"))
    with (
        pytest.raises(EngineRefused) as caught,
        gpus_explained(engine, "gpu-image:1", "podman run gpu-image:1", gpu=gpu),
    ):
        raise EngineRefused(message, hint="as it was")
    return caught.value


@pytest.mark.usefixtures("machine")
def test_a_refusal_for_want_of_a_gpu_says_whether_there_is_a_driver() -> None:
    told = explained('Docker refused to run gpu-image:1: could not select device driver "" with capabilities: [[gpu]].')
    assert told.message == "Docker 1.2 can give gpu-image:1 no GPU. No driver of NVIDIA is loaded on this machine."
    assert "nvidia-ctk runtime configure --runtime=docker" in told.hint
    assert "could not select device driver" in told.details[0]


def test_a_refusal_for_want_of_a_toolkit_names_the_driver_that_is_there(machine: Path) -> None:
    (machine / "version").write_text(PROPRIETARY)
    told = explained("podman refused: stat nvidia.com/gpu=all: no such file or directory.", "podman")
    assert told.message.endswith("NVIDIA's driver 535.183.01 is loaded here.")
    assert told.hint.endswith("its own command does it: podman run gpu-image:1")


def test_a_driver_that_is_too_old_for_the_image_is_said(machine: Path) -> None:
    (machine / "version").write_text(PROPRIETARY)
    told = explained(
        "Docker refused to run gpu-image:1: nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0."
    )
    assert told.message == (
        "The driver is too old for gpu-image:1, says Docker: NVIDIA's driver 535.183.01 is loaded here."
    )


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("message", "gpu"), [("gpu-image:1: port 8888 is taken.", True), ("no [[gpu]] here.", False)])
def test_other_refusals_stay_as_they_are(message: str, gpu: bool) -> None:
    told = explained(message, gpu=gpu)
    assert (told.message, told.hint) == (message, "as it was")
