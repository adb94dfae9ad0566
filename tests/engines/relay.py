"""A socket in front of an engine's socket that counts what clients send, and can act when enough has passed."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


class Relay:
    """``sent`` counts the bytes from clients to the engine; `at` acts once, when so many have passed."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.sent = 0
        self._target = target
        self._limit: int | None = None
        self._action: Callable[[], None] = lambda: None
        self._closing = False
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def at(self, limit: int, action: Callable[[], None]) -> None:
        self._limit, self._action = limit, action

    def _accept(self) -> None:
        while not self._closing:
            if select.select([self._listening], [], [], 0.1)[0]:
                thread = threading.Thread(target=self._connect, args=(self._listening.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(self._target))
            other = {client: server, server: client}
            while not self._closing:
                for source in select.select(list(other), [], [], 0.1)[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    if source is client:
                        self._count(len(data))
                    other[source].sendall(data)

    def _count(self, size: int) -> None:
        self.sent += size
        if self._limit is not None and self.sent >= self._limit:
            self._limit = None
            self._action()

    def close(self) -> None:
        self._closing = True
        for thread in self._threads:
            thread.join()
        self._listening.close()


@contextlib.contextmanager
def relay(folder: Path, target: Path) -> Iterator[Relay]:
    """A relay whose socket is ``folder/relay.sock``."""
    opened = Relay(folder / "relay.sock", target)
    try:
        yield opened
    finally:
        opened.close()
