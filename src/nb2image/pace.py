"""How fast an answer comes: a time-out between two bytes never ends a drip."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

__all__ = ["Pace", "Stalled"]

_SLOWEST = 100
"""Bytes per second below which an answer counts as stalled."""

_BLOCK = 256 << 10
"""Bytes that go on together: an answer comes in pieces of 16 KiB, and each has a hash, a file and a bar to wait for."""


class Stalled(Exception):
    """Next to nothing came for some time; says how little."""


class Pace:
    """Counts the bytes of one answer; ``timeout`` in seconds is the longest that nothing may come."""

    def __init__(self, timeout: float) -> None:
        self._window = 2 * timeout
        self._begin = time.monotonic()
        self._size = 0

    def add(self, size: int) -> None:
        """Count bytes that came. Raises `Stalled` when there were next to none for twice the time-out."""
        self._size += size
        seconds = time.monotonic() - self._begin
        if seconds > self._window:
            if self._size < _SLOWEST * seconds:
                raise Stalled(f"it sent {self._size} bytes in {seconds:.0f} s")
            self._begin, self._size = time.monotonic(), 0

    def blocks(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Count pieces as they come, and give them joined; also the last ones before the answer breaks off.

        Raises `Stalled`, and whatever ``pieces`` raise.
        """
        held: list[bytes] = []
        size = 0
        try:
            for piece in pieces:
                self.add(len(piece))
                held.append(piece)
                size += len(piece)
                if size >= _BLOCK:
                    yield b"".join(held)
                    held.clear()
                    size = 0
        except Exception:
            if held:
                yield b"".join(held)
            raise
        if held:
            yield b"".join(held)
