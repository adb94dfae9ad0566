"""Decisions read from fuzz bytes, so that a few bytes stand for a whole wheel or layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Choices"]

T = TypeVar("T")


class Choices:
    """A source of decisions; when its bytes are used up, every further decision is the first of its kind."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, length: int) -> bytes:
        """The next bytes, fewer at the end."""
        found = self._data[self._position : self._position + length]
        self._position += length
        return found

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1, of one byte where that is enough."""
        return int.from_bytes(self.take(1 if limit <= 256 else 2), "little") % limit

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def seldom(self) -> bool:
        """True once in sixteen times: decisions that make most inputs be refused."""
        return self.below(256) > 239
