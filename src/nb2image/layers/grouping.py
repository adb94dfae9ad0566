"""Which packages share a layer: few layers, in a stable order, so that two notebooks have most of them in common.

A large package has a layer of its own, the largest first. Small ones, in order of their names, are cut into groups
where the hash of a *name* says so (content-defined chunking): adding or dropping a package changes the group that it
falls into and no other, a new version changes one group, and coarser cuts are a subset of finer ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["LARGE", "Item", "group"]

LARGE = 4 << 20
"""Bytes from which a package is worth a layer of its own: below, a round trip to a registry costs more."""
_CUT = 4
"""Small packages per group, on average."""


class Item(NamedTuple):
    """A package as grouping sees it; ``size`` in bytes, compressed."""

    name: str
    size: int


def _cuts(name: str, modulus: int) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % modulus == 0


def group(items: Sequence[Item], limit: int) -> list[list[str]]:
    """Names, layer by layer from the bottom up; at most ``limit`` (at least 1) layers.

    Depends on nothing but the arguments, and not on their order.
    """
    large, cut = LARGE, _CUT
    while True:
        layers = _group(items, large, cut)
        if len(layers) <= limit:
            return layers
        own = sum(1 for item in items if item.size >= large)
        # Cuts first; packages lose their own layer only when these alone exceed half of what is allowed.
        if own > max(1, limit // 2):
            large *= 2
        else:
            cut *= 2


def _group(items: Sequence[Item], large: int, cut: int) -> list[list[str]]:
    by_size = sorted((item for item in items if item.size >= large), key=lambda item: (-item.size, item.name))
    layers = [[item.name] for item in by_size]
    small: list[list[str]] = []
    for item in sorted(item for item in items if item.size < large):
        if not small or _cuts(item.name, cut):
            small.append([])
        small[-1].append(item.name)
    return layers + small
