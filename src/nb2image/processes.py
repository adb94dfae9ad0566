"""Worker processes that end when the build does, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nb2image.errors import WorkerDied

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from multiprocessing.context import BaseContext
    from types import FrameType

__all__ = ["pool", "uninterrupted", "workers"]


def workers() -> int:
    """Processes to use: the processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def uninterrupted() -> Iterator[None]:
    """SIGINT and SIGTERM that come inside are raised at the end.

    For the few places where an exception between two steps leaves something that nobody ends. Does nothing in another
    than the main thread, where no signal raises anything.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Masks would not do: a signal that another thread takes is still raised in this one.
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
        for caught in came[:1]:
            signal.raise_signal(caught)


def _begin() -> None:
    """In a worker, before its first work."""
    from multiprocessing import parent_process

    # Ctrl-C reaches every process of the terminal: that of the build decides, and its workers end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    # One that was killed cannot end its workers, and they would wait for work for ever.
    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def pool(size: int) -> Iterator[Executor]:
    """Worker processes: forked where this process has one thread (5 ms), else started clean (a quarter of a second),
    since a fork would copy locks that other threads hold.

    Raises `WorkerDied` when one of them is killed while its work is waited for.
    """
    import multiprocessing
    from concurrent.futures.process import BrokenProcessPool

    method = "spawn" if sys.platform != "linux" else "fork" if threading.active_count() == 1 else "forkserver"
    context: BaseContext = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["nb2image.environment", "email.parser"])
    with contextlib.ExitStack() as stack:
        with uninterrupted():
            executor = _executor(size, context)
            stack.callback(executor.shutdown, wait=True, cancel_futures=True)
            if method == "fork":
                executor.submit(os.getpid)  # forks all of them now, before the caller starts threads
        try:
            yield executor
        except BrokenProcessPool as error:
            raise WorkerDied from error


def _executor(size: int, context: BaseContext) -> Executor:
    from concurrent.futures import Future, ProcessPoolExecutor

    class Whole(ProcessPoolExecutor):
        """Starts workers with nothing in between: one that is started and not yet noted would be waited for at the end,
        and never told to end."""

        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            with uninterrupted():
                # What is started inherits the mask: Ctrl-C reaches it, too, before it can say that it does not mind.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                try:
                    return super().submit(*args, **kwargs)
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)

    if context.get_start_method() != "fork":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # else it is started by the first submit, and takes the mask away
    return Whole(size, mp_context=context, initializer=_begin)
