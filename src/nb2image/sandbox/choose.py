"""Which sandbox is used: bubblewrap where it starts, else an engine that answers."""

from __future__ import annotations

from typing import NamedTuple

from nb2image.cache import Store
from nb2image.errors import EngineAbsent
from nb2image.progress import Listener
from nb2image.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from nb2image.sandbox.model import Sandbox

__all__ = ["Absent", "choose_sandbox"]


class Absent(NamedTuple):
    """Why nothing can run here, and what would change that; both without a full stop."""

    reason: str
    remedy: str

    @property
    def hint(self) -> str:
        """The remedy as a sentence."""
        return f"{self.remedy[:1].upper()}{self.remedy[1:]}."


def choose_sandbox(store: Store, listener: Listener) -> Sandbox | Absent:
    """The sandbox to use; the caller closes it."""
    found = find_bubblewrap()
    if found.program is not None:
        return Bubblewrap(found, store)
    from nb2image.engines.client import choose
    from nb2image.sandbox.container import Container

    try:
        return Container(choose(), listener)
    except EngineAbsent:
        remedy = "start Docker or podman"
        return Absent(
            f"{found.reason}, and no Docker or podman answers",
            f"{found.remedy}, or {remedy}" if found.remedy else remedy,
        )
