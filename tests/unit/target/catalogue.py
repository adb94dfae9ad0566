"""Bases as catalogues describe them, and locks of real releases, for tests of the choice between bases.

``data/releases.json`` has the wheels that the package index offers of well-known releases: their names, their
Requires-Python, and whether there is a source distribution; of other systems than Linux one wheel each.
"""

from __future__ import annotations

import json
from datetime import date
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.pylock import Package, PackageSdist, PackageWheel
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.bases.model import Candidate
from nb2image.lock.model import Lock, new_pylock
from nb2image.target.model import Cuda, Platform, Target

TODAY = date(2026, 11, 21)


def base(
    name: str,
    python: str,
    glibc: str | None,
    megabytes: int,
    *,
    end: str | None = None,
    cuda: tuple[str, str] | None = None,
    architecture: str = "amd64",
) -> Candidate:
    """A base of which a catalogue tells this much; ``end`` is its end of life, ``cuda`` with cuDNN."""
    minor = ".".join(python.split(".")[:2])
    target = Target(
        Platform("linux", architecture),
        Version(python),
        PurePosixPath(f"/usr/local/bin/python{minor}"),
        PurePosixPath(f"/usr/local/lib/python{minor}/site-packages"),
        Version(glibc) if glibc else None,
        Cuda(Version(cuda[0]), Version(cuda[1])) if cuda else None,
    )
    return Candidate(name, target, megabytes << 20, "described", date.fromisoformat(end) if end else None)


BASES = (
    base("bullseye", "3.9.2", "2.31", 32, end="2026-08-31"),
    base("bookworm", "3.11.2", "2.36", 34),
    base("trixie", "3.13.5", "2.41", 36),
    base("python:3.7-slim", "3.7.17", "2.36", 45, end="2023-06-27"),
    base("python:3.8-slim", "3.8.20", "2.36", 45, end="2024-10-07"),
    base("python:3.9-slim", "3.9.25", "2.41", 45, end="2025-10-31"),
    base("python:3.10-slim", "3.10.19", "2.41", 45, end="2026-10-31"),
    base("python:3.11-slim", "3.11.14", "2.41", 45),
    base("python:3.12-slim", "3.12.12", "2.41", 45),
    base("python:3.13-slim", "3.13.9", "2.41", 45),
    base("python:3.14-slim", "3.14.0", "2.41", 45),
    base("python:3.9-alpine", "3.9.25", None, 18, end="2025-10-31"),
    base("python:3.12-alpine", "3.12.12", None, 18),
    base("ubi8/python-39", "3.9.20", "2.28", 330),
    base("ubi9/python-311", "3.11.13", "2.34", 360),
    base("ubi9/python-312", "3.12.11", "2.34", 360),
    base("centos7-python38", "3.8.13", "2.17", 200, end="2024-06-30"),
    base("cuda11.2-python3.8", "3.8.10", "2.31", 1800, cuda=("11.2", "8.1"), end="2025-05-31"),
    base("cuda11.8-python3.10", "3.10.12", "2.35", 2300, cuda=("11.8", "8.9")),
    base("cuda12.6-python3.10", "3.10.12", "2.35", 2400, cuda=("12.6", "9.5")),
    base("cuda13.0-python3.12", "3.12.3", "2.39", 2600, cuda=("13.0", "9.10")),
    base("arm-trixie", "3.13.5", "2.41", 35, architecture="arm64"),
)


@cache
def _releases() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "releases.json").read_bytes())
    return found


def release(pin: str) -> Package:
    """A package of ``data/releases.json``; hashes are made up."""
    name, _, version = pin.partition("==")
    row = _releases()[pin]
    return Package(
        name=canonicalize_name(name),
        version=Version(version),
        wheels=[PackageWheel(name=each, hashes={"sha256": "0" * 64}) for each in row["wheels"]] or None,
        sdist=PackageSdist(name=f"{name}-{version}.tar.gz", hashes={"sha256": "1" * 64}) if row["sdist"] else None,
        requires_python=SpecifierSet(row["requires_python"]) if row["requires_python"] else None,
    )


def lock_of(pins: str, python: str | None) -> Lock:
    """A lock of releases, ``name==version`` with spaces between them."""
    return Lock(new_pylock(release(pin) for pin in pins.split()), "Pipfile.lock", python=python)
