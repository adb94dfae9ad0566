"""How progress looks: bars on a terminal, plain lines, JSON lines, or nothing but warnings."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nb2image.cli.cache import shown
from nb2image.progress import Advanced, Event, Finished, Listener, Note, Started, Warned

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["listening"]

_VERBS = {
    "read": "Reading",
    "index": "Asking indexes",
    "match": "Matching",
    "download": "Downloading",
    "base": "Preparing base",
    "environments": "Writing environments",
    "layer": "Writing layers",
    "bytecode": "Compiling bytecode",
    "assemble": "Assembling",
    "write": "Writing",
    "load": "Loading",
}
_PIECES = {"download", "layer", "index"}
"""Tasks that a stage has many of."""


def _warning(event: Warned) -> None:
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {event.text}", err=True)
    if event.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {event.hint}", err=True)


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
                click.echo(event.text, err=True)
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
            click.echo(f"{' '.join(word for word in words if word)} ({state})", err=True)


class JsonLines:
    """Every event as one JSON object on a line of standard error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        line = json.dumps({"event": type(event).__name__.lower(), **asdict(event)})
        with self._lock:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


class Bars:
    """Bars for downloads and layers, drawn by rich."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._totals: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Warned):
            self._progress.console.print(f"[bold yellow]warning:[/] {event.text}", highlight=False)
            if event.hint:
                self._progress.console.print(f"[cyan]hint:[/] {event.hint}", highlight=False)
        elif isinstance(event, Note):
            self._progress.console.print(event.text, highlight=False, style="dim", markup=False)
        elif isinstance(event, Started):
            if event.total is not None:
                self._totals[event.task] = self._totals.get(event.task, 0) + event.total
            if event.task not in self._tasks:
                verb = _VERBS.get(event.task, event.task)
                self._tasks[event.task] = self._progress.add_task(verb, total=None, unit=event.unit)
            self._progress.update(self._tasks[event.task], total=self._totals.get(event.task), visible=True)
        elif isinstance(event, Advanced) and event.task in self._tasks:
            self._progress.advance(self._tasks[event.task], event.amount)
        elif isinstance(event, Finished) and event.task in self._tasks and event.seconds:
            task = self._tasks[event.task]
            self._progress.update(
                task, total=self._totals.get(event.task, 1), completed=self._totals.get(event.task, 1)
            )


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
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            yield Bars(bars)
