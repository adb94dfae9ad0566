"""The driver of this machine, told by its kernel module or by a program."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from nb2image.engines import nvidia
from nb2image.engines.nvidia import local_driver

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
    assert local_driver() == Version(version)


def test_without_the_module_the_program_is_asked(machine: Path) -> None:
    program(machine, "echo 470.256.02; echo 470.256.02")
    assert local_driver() == Version("470.256.02")


@pytest.mark.parametrize("script", ["echo 'No devices were found'", "exit 9", "echo 535.1; exit 9"])
def test_a_program_that_fails_tells_nothing(machine: Path, script: str) -> None:
    program(machine, script)
    assert local_driver() is None
