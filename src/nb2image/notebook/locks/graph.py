"""Under which marker a package is needed: dependency graphs of locks that put markers on edges.

A universal lock (uv.lock, poetry.lock) says ``a needs b where sys_platform == 'win32'``; PEP 751 wants one marker
for ``b``. That is the disjunction, over all ways from a root to ``b``, of the conjunction of the markers on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeAlias, TypeVar

from packaging.markers import Marker

from nb2image.notebook.locks.values import broken

__all__ = ["Edge", "needed_under"]

Node = TypeVar("Node", bound=Hashable)
Edge: TypeAlias = tuple[Node, frozenset[str]]
"""Where the edge leads, and the markers that must all hold."""

_Ways: TypeAlias = frozenset[frozenset[str]]
_LIMIT = 512
"""Ways to one package; a real lock of 300 packages with four resolution forks stays below 20."""


def needed_under(
    roots: Iterable[Edge[Node]], edges: Mapping[Node, Iterable[Edge[Node]]], where: str
) -> dict[Node, Marker | None]:
    """The marker of every node that a root reaches; None: always. Cycles are fine.

    Raises `BrokenLock` when the markers branch beyond reason.
    """
    ways: dict[Node, _Ways] = {}
    pending: deque[Node] = deque()

    def reach(node: Node, more: Iterable[frozenset[str]]) -> None:
        known = ways.get(node, frozenset())
        joined = _absorb(known.union(more))
        if joined != known:
            if len(joined) > _LIMIT:
                raise broken(where, f"the markers of the dependencies branch more than {_LIMIT} times")
            ways[node] = joined
            pending.append(node)

    for node, condition in roots:
        reach(node, [condition])
    while pending:
        node = pending.popleft()
        for target, condition in edges.get(node, ()):
            reach(target, [way | condition for way in ways[node]])
    return {node: _marker(found) for node, found in ways.items()}


def _absorb(ways: frozenset[frozenset[str]]) -> _Ways:
    """Without the ways that hold only where a shorter one holds as well (``a or (a and b)`` is ``a``)."""
    if frozenset() in ways:
        return frozenset({frozenset()})
    kept: list[frozenset[str]] = []
    for way in sorted(ways, key=len):
        if not any(other <= way for other in kept):
            kept.append(way)
    return frozenset(kept)


def _marker(ways: _Ways) -> Marker | None:
    if frozenset() in ways:
        return None
    return Marker(" or ".join(f"({' and '.join(f'({m})' for m in sorted(way))})" for way in sorted(ways, key=sorted)))
