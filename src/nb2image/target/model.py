"""`Target`: everything the packaging half needs to know of a base image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from packaging.markers import Environment
from packaging.tags import Tag
from packaging.version import Version

from nb2image.target.environment import marker_environment, wheel_tags

__all__ = ["Cuda", "Platform", "Target"]


@dataclass(frozen=True)
class Platform:
    """An OCI platform: operating system and architecture in the words of the image specification."""

    os: str = "linux"
    architecture: str = "amd64"

    @property
    def machine(self) -> str:
        """The architecture as ``uname -m`` and wheel tags spell it."""
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(self.architecture, self.architecture)

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


@dataclass(frozen=True)
class Cuda:
    """The CUDA libraries of a base image: their version (``X.Y``) and that of cuDNN, if there is one.

    ``libraries`` False: only libcudart is there, as in images that NVIDIA tags ``base``.
    """

    version: Version
    cudnn: Version | None = None
    libraries: bool = True

    def __str__(self) -> str:
        return f"CUDA {self.version}" + (f", cuDNN {self.cudnn}" if self.cudnn else "")


@dataclass(frozen=True)
class Target:
    """Facts of a base image, read from the image itself (or, before it is there, from its lock).

    ``python`` is the full version of its CPython (``3.11.2``), ``interpreter`` the absolute path of that
    Python in the image, ``glibc`` its C library (None: another one), ``cuda`` the CUDA libraries that it brings.
    """

    platform: Platform
    python: Version
    interpreter: PurePosixPath
    site_packages: PurePosixPath
    glibc: Version | None
    cuda: Cuda | None = None

    @property
    def minor(self) -> str:
        """``X.Y``."""
        return f"{self.python.major}.{self.python.minor}"

    @cached_property
    def environment(self) -> Environment:
        """The complete marker environment (dependency specifiers, "Environment markers")."""
        return marker_environment(self.python, self.platform.machine)

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """Wheel tags that this target installs, best first."""
        return wheel_tags(self.python, self.platform.machine, self.glibc)

    def __str__(self) -> str:
        libc = f"glibc {self.glibc}" if self.glibc else "no glibc"
        cuda = f", {self.cuda}" if self.cuda else ""
        return f"Python {self.minor}, {libc}, {self.platform}{cuda}"
