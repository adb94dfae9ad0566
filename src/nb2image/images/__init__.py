"""What the project pins: locks of bases and runners, rules on CUDA, and the keys that sign Debian's indexes."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from nb2image.errors import NoMatchingBase

if TYPE_CHECKING:
    from nb2image.lock.model import Lock
    from nb2image.target.cuda import Rules
    from nb2image.target.support import SupportPackage

__all__ = ["cuda_rules", "rules_of", "runner_lock", "runner_pythons", "support_locks", "support_requirements"]

_RUNNERS = Path(__file__).with_name("runners")
_CUDA = "cuda.toml"


def _file(name: str, minor: str, suffix: str) -> Path:
    file = _RUNNERS / f"{name}-{minor}.{suffix}"
    if not file.is_file():
        raise NoMatchingBase(
            f"There is no {name} runner for Python {minor}.",
            hint=f"There are runners for {', '.join(runner_pythons(name))}.",
        )
    return file


def runner_pythons(name: str) -> tuple[str, ...]:
    """The Pythons (``X.Y``, oldest first) that the runner ``jupyter`` or ``batch`` is there for."""
    return tuple(sorted((path.stem.rpartition("-")[2] for path in _RUNNERS.glob(f"{name}-*.txt")), key=Version))


def rules_of(name: str) -> tuple[str, dict[str, Any]]:
    """The rules that stand in a file here: its text, and what it says."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    text = Path(__file__).with_name(name).read_text("utf-8")
    return text, tomllib.loads(text)


@cache
def cuda_rules() -> Rules:
    """What packages need of CUDA."""
    from nb2image.target.cuda import parse_rules

    return parse_rules(rules_of(_CUDA)[1], _CUDA)


def runner_lock(name: str, minor: str) -> Lock:
    """The lock ``jupyter`` or ``batch``, or one of `support_locks`, for Python ``X.Y``; packages have hashes only.

    Raises `NoMatchingBase` when there is none for that Python.
    """
    from nb2image.notebook.locks.requirements import read_requirements

    file = _file(name, minor, "txt")
    return read_requirements(file, f"runner {file.stem}")


def support_locks(minor: str) -> tuple[str, ...]:
    """The names of the support locks for Python ``X.Y``, the one to prefer first; never none.

    Raises `NoMatchingBase` when there is none for that Python.
    """
    _file("support", minor, "txt")
    older = _RUNNERS / f"support-older-{minor}.txt"
    return ("support", "support-older") if older.is_file() else ("support",)


def support_requirements(name: str, minor: str) -> tuple[SupportPackage, ...]:
    """What the packages of the lock ``name`` for Python ``X.Y`` require, by their wheels' metadata.

    Raises `NoMatchingBase` when there is none for that Python.
    """
    from nb2image.target.support import SupportPackage

    document = json.loads(_file(name, minor, "json").read_bytes())
    return tuple(
        SupportPackage(name, Version(row["version"]), tuple(row["requires_dist"]), row["requires_python"])
        for name, row in document.items()
    )
