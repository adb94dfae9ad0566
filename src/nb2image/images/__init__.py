"""What the project pins: locks of bases and runners, and the keys that sign Debian's indexes. Data, and its readers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nb2image.errors import NoMatchingBase

if TYPE_CHECKING:
    from nb2image.lock.model import Lock

__all__ = ["runner_lock"]

_RUNNERS = Path(__file__).with_name("runners")


def runner_lock(name: str, minor: str) -> Lock:
    """The lock ``jupyter``, ``batch`` or ``support`` for Python ``X.Y``; its packages come with hashes only.

    Raises `NoMatchingBase` when there is none for that Python.
    """
    from nb2image.notebook.locks.place import Place
    from nb2image.notebook.locks.requirements import REQUIREMENTS

    file = _RUNNERS / f"{name}-{minor}.txt"
    if not file.is_file():
        known = sorted((path.stem.rpartition("-")[2] for path in _RUNNERS.glob(f"{name}-*.txt")), key=len)
        raise NoMatchingBase(
            f"There is no {name} runner for Python {minor}.", hint=f"There are runners for {', '.join(known)}."
        )
    return REQUIREMENTS.read(Place(cast("Any", None), f"runner {file.stem}", file=file))
