"""How progress looks: bars on a terminal, plain lines, JSON lines, or nothing but warnings."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nb2image.cli import say
from nb2image.progress import Advanced, Event, Finished, Listener, Note, Started, Warned
from nb2image.sizes import shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["listening"]

_VERBS = {
    "read": "Reading",
    "index": "Asking indexes",
    "match": "Matching",
    "download": "Downloading",
    "base": "Preparing base",
    "sdists": "Building source distributions",
    "sdist": "Building",
    "environments": "Writing environments",
    "layer": "Writing layers",
    "bytecode": "Compiling bytecode",
    "sbom": "Listing packages",
    "assemble": "Assembling",
    "write": "Writing",
    "load": "Loading",
    "push": "Pushing",
    "export": "Exporting",
}
_PIECES = {"download", "layer", "index"}
"""Tasks that a stage has many of."""


def _warning(event: Warned) -> None:
    say(f"{click.style('warning:', fg='yellow', bold=True)} {event.text}")
    if event.hint:
        say(f"{click.style('hint:', fg='cyan')} {event.hint}")


class Quiet:
    """Warnings only; not even those when ``silent``."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, Warned) and not self._silent:
            _warning(event)


class Plain:
    """A line for each stage that ends; one for each file and layer as well when ``verbose``."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._lock = threading.Lock()
        self._downloads = 0
        self._bytes = 0

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            if isinstance(event, Warned):
                _warning(event)
            elif isinstance(event, Note):
                say(event.text)
            elif isinstance(event, Advanced) and event.task == "download":
                self._bytes += event.amount
            elif isinstance(event, Finished):
                self._finished(event)

    def _finished(self, event: Finished) -> None:
        piece = event.task in _PIECES and event.subject
        if event.task == "download" and not event.cached:
            self._downloads += 1
        if piece and not self._verbose:
            return
        words = [_VERBS.get(event.task, event.task), event.subject] if self._verbose or event.task != "read" else []
        if event.task == "environments" and self._downloads:
            words.append(f"from {self._downloads} downloads of {shown(self._bytes)}")
        if words and (event.seconds or self._verbose):
            state = "cached" if event.cached else f"{event.seconds:.2f} s"
            say(f"{' '.join(word for word in words if word)} ({state})")


class JsonLines:
    """Every event as one JSON object on a line of standard error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        line = json.dumps({"event": type(event).__name__.lower(), **asdict(event)})
        with self._lock:
            say(line)


class _Row:
    """One bar: everything of one task, in the unit of its pieces. ``open`` maps a subject to what of it is left."""

    def __init__(self, bar: TaskID, unit: str) -> None:
        self.bar = bar
        self.unit = unit
        self.open: dict[str, int] = {}
        self.total = 0
        self.done = 0

    def start(self, event: Started) -> None:
        self.open[event.subject] = event.total or 0
        self.total += event.total or 0

    def advance(self, subject: str, amount: int) -> None:
        """``amount`` is negative where a transfer starts anew; more than was announced widens the bar."""
        self.done = max(0, self.done + amount)
        self.total = max(self.total, self.done)
        if subject in self.open:
            self.open[subject] -= amount

    def finish(self, subject: str) -> None:
        if subject in self.open:
            self.done = min(self.total, self.done + max(0, self.open.pop(subject)))
        elif self.open:
            # A piece of what was started last: one layer of an environment.
            self.advance(next(reversed(self.open)), 1)

    @property
    def amount(self) -> str:
        if self.unit == "bytes":
            return f"{shown(self.done)} of {shown(self.total)}" if self.total else shown(self.done)
        return f"{self.done} of {self.total}" if self.total else ""


class Bars:
    """A bar per task, drawn by rich."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rows: dict[str, _Row] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Warned):
            self._print("warning:", "bold yellow", event.text)
            if event.hint:
                self._print("hint:", "cyan", event.hint)
        elif isinstance(event, Note):
            self._progress.console.print(event.text, highlight=False, style="dim", markup=False)
        elif isinstance(event, Started):
            if event.task not in self._rows:
                verb = _VERBS.get(event.task, event.task)
                self._rows[event.task] = _Row(self._progress.add_task(verb, total=None, amount=""), event.unit)
            self._rows[event.task].start(event)
            self._draw(event.task)
        elif isinstance(event, Advanced) and event.task in self._rows:
            self._rows[event.task].advance(event.subject, event.amount)
            self._draw(event.task)
        elif isinstance(event, Finished) and event.task in self._rows:
            self._rows[event.task].finish(event.subject)
            self._draw(event.task)

    def _draw(self, task: str) -> None:
        row = self._rows[task]
        # Without a total the bar pulses while something is open, and is full afterwards.
        total = row.total or (None if row.open else 1)
        self._progress.update(row.bar, total=total, completed=row.done if row.total else 1, amount=row.amount)

    def _print(self, word: str, style: str, text: str) -> None:
        from rich.text import Text

        # Not as markup: what a lock or an index says may hold brackets.
        self._progress.console.print(Text.assemble((word, style), " ", text), highlight=False, soft_wrap=True)


class Patient:
    """Starts ``bars`` when the work has taken ``wait`` seconds, and tells them what was until then.

    A short build needs none: importing rich takes a tenth of a second, and the thread that redraws bars keeps worker
    processes from being forked.
    """

    def __init__(self, bars: Callable[[], Listener], *, wait: float = 0.6) -> None:
        self._start = bars
        self._bars: Listener | None = None
        self._due = time.monotonic() + wait
        self._heard: list[Event] = []
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            if self._bars is None and time.monotonic() >= self._due:
                self._bars = self._start()
                for each in self._heard:
                    self._bars(each)
            if self._bars is not None:
                self._bars(event)
            elif isinstance(event, Warned):
                _warning(event)
            elif isinstance(event, Note):
                say(event.text)
            else:
                self._heard.append(event)


@contextmanager
def listening(progress: str, *, quiet: bool, verbose: bool) -> Iterator[Listener]:
    """The listener for ``--progress``, ``-q`` and ``-v``, for as long as the work takes."""
    if progress == "json":
        yield JsonLines()
    elif quiet or progress == "none":
        yield Quiet(silent=quiet)
    elif progress == "plain" or not sys.stderr.isatty():
        yield Plain(verbose=verbose)
    else:
        with ExitStack() as stack:
            yield Patient(lambda: Bars(stack.enter_context(_progress())))


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
