"""Waiting for many answers at once, and stopping at once; work that goes on in the background."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["Background", "in_parallel"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_PATIENCE = 2.0
"""Seconds that the end waits for threads which were told to stop."""


@contextmanager
def in_parallel(
    work: Callable[[_T], _R], items: Sequence[_T], *, workers: int, stop: Callable[[], None]
) -> Iterator[Iterator[tuple[_T, _R]]]:
    """Do ``work`` on every item in threads; gives an iterator of (item, result) as they come.

    The first exception of any thread is raised by the iterator. Whatever ends it early (an exception of the caller's
    own, `KeyboardInterrupt`, a caller that breaks off) drops the items not begun and calls ``stop``, which must make
    the running ``work`` return or raise soon. The threads are daemons: one that is stuck in a connection attempt
    holds up neither this nor the end of the process.
    """
    waiting: queue.SimpleQueue[_T] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[_T, _R] | BaseException] = queue.SimpleQueue()
    ended = threading.Event()
    done = False
    for item in items:
        waiting.put(item)

    def loop() -> None:
        while not ended.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results.put((item, work(item)))
            except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
                results.put(error)
                return

    def answers() -> Iterator[tuple[_T, _R]]:
        nonlocal done
        for _ in items:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
        done = True

    threads = [threading.Thread(target=loop, daemon=True) for _ in range(min(workers, len(items)))]
    try:
        for thread in threads:
            thread.start()
        yield answers()
    finally:
        ended.set()
        if not done:
            stop()
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))


class Background(Generic[_R]):
    """Work in a thread of its own; a daemon, so the end of the process does not wait for it."""

    def __init__(self, work: Callable[[], _R]) -> None:
        self._work = work
        self._results: list[_R] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001  (raised again where the result is asked for)
            self._error = error

    def ends_within(self, seconds: float) -> bool:
        """Whether the work has ended, and its thread with it, before so many seconds have passed."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> _R:
        """What the work returned; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]
