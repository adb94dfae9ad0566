"""What an image says of the packages of its base's distribution that were added to that base."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nb2image.inspection.model import Inspection

__all__ = ["SYSTEM", "Added", "Untold", "added_to"]

SYSTEM = "io.nb2image.system."
"""How labels begin that tell of such packages."""
_COMMENT = re.compile(r"Debian \S+: \d+ packages? for (.+)")
_SONAME = re.compile(r"\.so(\.|$)")
_WANTED = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")


class Untold(Exception):
    """Packages were added, and labels and history do not tell which were asked for."""


@dataclass(frozen=True)
class Added:
    """``wanted``: what was asked for by name (``libgl1`` or ``libgl1=1.6.0-1``). ``layers`` is 1 or, where the base had
    all of it, 0; ``libraries``: those that wheels need and nothing had, by their sonames."""

    wanted: tuple[str, ...]
    layers: int
    libraries: tuple[str, ...]

    @property
    def missing(self) -> bool:
        """Whether libraries were among the reasons."""
        return bool(self.libraries)

    def __str__(self) -> str:
        reasons = [f"{', '.join(self.wanted)} asked for"] if self.wanted else []
        if self.libraries:
            others = len(self.libraries) - 4
            more = f" and {others} more" if others > 0 else ""
            reasons.append(f"for {', '.join(self.libraries[:4])}{more}, which packages need")
        return "; ".join(reasons)


def added_to(found: Inspection) -> Added | None:
    """What was added, None: nothing. Raises `Untold`."""
    stated = found.labels.get(f"{SYSTEM}packages")
    if not stated:
        return None
    comment = _COMMENT.fullmatch(found.layers[found.base_layers - 1].comment) if found.base_layers else None
    # Where the base had all of it there is no version.
    if comment is None and "=" in stated:
        raise Untold
    words = (comment[1] if comment else stated).split()
    wanted = tuple(word for word in words if not _SONAME.search(word))
    if not all(map(_WANTED.fullmatch, wanted)):
        raise Untold
    return Added(wanted, int(comment is not None), tuple(word for word in words if _SONAME.search(word)))
