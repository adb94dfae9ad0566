"""Progress is events: the pipeline tells a listener what it does; how that looks is the listener's affair.

Listeners (terminal, plain lines, JSON lines, silence) live in :mod:`nb2image.cli`. Events may come from
several threads at once; a listener that prints takes its own lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Advanced", "Event", "Finished", "Listener", "Note", "Silent", "Started", "Warned", "stage"]


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Started(Event):
    """A piece of work begins. ``total`` is in bytes or in items as ``unit`` says; None when unknown."""

    task: str
    """What is done, one verb: ``read match index download base layer write load``."""
    subject: str = ""
    """What it is done to: a file name, a package, a path."""
    total: int | None = None
    unit: str = "items"
    """``items`` or ``bytes``."""


@dataclass(frozen=True)
class Advanced(Event):
    """``amount`` more of a piece of work that was started is done."""

    task: str
    subject: str = ""
    amount: int = 1


@dataclass(frozen=True)
class Finished(Event):
    """A piece of work ended well. ``seconds`` is its wall time, ``cached`` that nothing had to be done."""

    task: str
    subject: str = ""
    seconds: float = 0.0
    cached: bool = False


@dataclass(frozen=True)
class Note(Event):
    """Something that a user may want to know: a choice and its reason."""

    text: str


@dataclass(frozen=True)
class Warned(Event):
    """Something that a user should look at; the build goes on."""

    text: str
    hint: str = ""


class Listener(Protocol):
    """Receives events; must be quick and must not raise."""

    def __call__(self, event: Event, /) -> None: ...


@dataclass
class Silent:
    """Ignores progress and keeps the warnings."""

    warnings: list[Warned] = field(default_factory=list)

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event)


@contextmanager
def stage(
    listener: Listener, task: str, subject: str = "", *, total: int | None = None, unit: str = "items"
) -> Iterator[None]:
    """Wrap a piece of work in ``Started`` and, when it ends well, ``Finished``."""
    listener(Started(task, subject, total, unit))
    begin = time.perf_counter()
    yield
    listener(Finished(task, subject, time.perf_counter() - begin))
