"""Under which marker a package is needed: dependency graphs of locks that put markers on edges.

A universal lock (uv.lock, poetry.lock) says ``a needs b where sys_platform == 'win32'``; PEP 751 wants one marker
for ``b``. That is the disjunction, over all ways from a root to ``b``, of the conjunction of the markers on the way.

Resolutions for several Pythons meet again and again on such ways, and a plain disjunction grows to thousands of
terms. So what a marker says of the Python version is kept as a set of version ranges (`_Pythons`), where
"below 3.10, or 3.10 and above" is simply "always", and only the rest is kept as text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeAlias, TypeVar

from packaging.markers import Marker

from nb2image.notebook.locks.values import broken

__all__ = ["Edge", "needed_under", "never_holds"]

Node = TypeVar("Node", bound=Hashable)
Edge: TypeAlias = tuple[Node, frozenset[str]]
"""Where the edge leads, and the markers that must all hold, in the normal form of `Marker`."""

_Ways: TypeAlias = dict[frozenset[str], int]
"""Markers that say nothing of Python, all of which hold on a way, and the Pythons (bits) of that way."""

_LIMIT = 256
"""Ways to one package; a real lock of 350 packages with four resolution forks stays below 20."""
_VARIABLE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b|\bextra\b")
_PYTHON = {"python_version", "python_full_version"}
_QUOTED = re.compile(r"""(["'])(.*?)\1""")
_RELEASE = re.compile(r"(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?(?:\.\*)?", re.ASCII)


class _Pythons:
    """Final releases of Python, cut into ranges in which every marker of a lock gives one answer.

    A set of ranges is an integer: bit ``i`` is the range from cut ``i`` up to the next one.
    """

    def __init__(self, markers: Iterable[str]) -> None:
        cuts = {(0, 0, 0)}
        for part in {part for text in markers for part in _conjuncts(text)}:
            for written in _python_versions(part) or ():
                major, minor, micro = written
                cuts |= {written, (major, minor, micro + 1), (major, minor + 1, 0), (major + 1, 0, 0)}
        self._cuts = sorted(cuts)
        self.all = (1 << len(self._cuts)) - 1
        self._known: dict[str, tuple[int, frozenset[str]]] = {}

    def split(self, condition: frozenset[str]) -> tuple[int, frozenset[str]]:
        """The Pythons for which all markers may hold, and what else they ask for."""
        pythons = self.all
        rest: frozenset[str] = frozenset()
        for text in condition:
            if text not in self._known:
                self._known[text] = self._split_one(text)
            allowed, more = self._known[text]
            pythons &= allowed
            rest |= more
        return pythons, rest

    def _split_one(self, text: str) -> tuple[int, frozenset[str]]:
        pythons = self.all
        rest = set()
        for part in _conjuncts(text):
            if _python_versions(part) is None:
                rest.add(part)
            else:
                pythons &= self._holding(Marker(part))
        return pythons, frozenset(rest)

    def _holding(self, marker: Marker) -> int:
        bits = 0
        for number, (major, minor, micro) in enumerate(self._cuts):
            environment = {"python_version": f"{major}.{minor}", "python_full_version": f"{major}.{minor}.{micro}"}
            bits |= marker.evaluate(environment, context="requirement") << number
        return bits

    def text(self, bits: int) -> str:
        """A marker that holds for exactly these ranges; empty for all of them."""
        if bits == self.all:
            return ""
        ranges = []
        for found in re.finditer("1+", "".join(str(bits >> number & 1) for number in range(len(self._cuts)))):
            low, high = found.span()
            ends = [f"python_full_version >= '{_dotted(self._cuts[low])}'"] if low else []
            if high < len(self._cuts):
                ends.append(f"python_full_version < '{_dotted(self._cuts[high])}'")
            ranges.append(" and ".join(ends))
        return ranges[0] if len(ranges) == 1 else "(" + " or ".join(f"({each})" for each in ranges) + ")"


def needed_under(
    roots: Iterable[Edge[Node]], edges: Mapping[Node, Iterable[Edge[Node]]], where: str
) -> dict[Node, Marker | None]:
    """The marker of every node that a root reaches under some marker; None: always. Cycles are fine.

    Raises `BrokenLock` when the markers branch beyond reason.
    """
    roots = list(roots)
    conditions = [condition for _, condition in roots]
    conditions += [condition for targets in edges.values() for _, condition in targets]
    pythons = _Pythons({text for condition in conditions for text in condition})
    ways: dict[Node, _Ways] = {}
    pending: deque[Node] = deque()

    def reach(node: Node, more: Iterable[tuple[int, frozenset[str]]]) -> None:
        known = ways.get(node, {})
        joined = dict(known)
        for allowed, rest in more:
            joined[rest] = joined.get(rest, 0) | allowed
        joined = _absorb(joined)
        if joined != known:
            if len(joined) > _LIMIT:
                raise broken(where, f"the markers of the dependencies branch more than {_LIMIT} times")
            ways[node] = joined
            pending.append(node)

    for node, condition in roots:
        reach(node, [pythons.split(condition)])
    while pending:
        node = pending.popleft()
        for target, condition in edges.get(node, ()):
            allowed, rest = pythons.split(condition)
            reach(target, [(bits & allowed, way | rest) for way, bits in ways[node].items()])
    return {node: _marker(found, pythons) for node, found in ways.items()}


def never_holds(marker: Marker) -> bool:
    """Whether a marker plainly holds for no Python, as one does that asks for an extra."""
    pythons = _Pythons([str(marker)])
    return pythons.split(frozenset({str(marker)}))[0] == 0


def _absorb(ways: _Ways) -> _Ways:
    """Without the ways that hold for no Python, or only where ways that ask for less hold as well."""
    kept: _Ways = {}
    for way in sorted(ways, key=len):
        covered = 0
        for other, bits in kept.items():
            if other < way:
                covered |= bits
        if ways[way] & ~covered:
            kept[way] = ways[way]
    return kept


def _marker(ways: _Ways, pythons: _Pythons) -> Marker | None:
    terms = []
    for way in sorted(ways, key=sorted):
        parts = [f"({part})" if " or " in part else part for part in sorted(way)]
        term = " and ".join(filter(None, [pythons.text(ways[way]), *parts]))
        if not term:
            return None
        terms.append(term)
    return Marker(terms[0] if len(terms) == 1 else " or ".join(f"({term})" for term in terms))


def _conjuncts(text: str) -> list[str]:
    """The parts of a marker that must all hold, as far as plain reading can tell them apart."""
    if " or " in text or "(" in text or len(_QUOTED.findall(text)) != text.count(" and ") + 1:
        return [text]
    return text.split(" and ")


def _python_versions(text: str) -> list[tuple[int, int, int]] | None:
    """The final releases that a marker compares with; None when it is not about the Python version alone."""
    bare = _QUOTED.sub("", text)
    if not set(_VARIABLE.findall(bare)) <= _PYTHON or re.search(r"\bin\b|~=|===", bare):
        return None
    found = [_RELEASE.fullmatch(value) for _, value in _QUOTED.findall(text)]
    return [(int(m[1]), int(m[2] or 0), int(m[3] or 0)) for m in found if m] if all(found) else None


def _dotted(release: tuple[int, int, int]) -> str:
    return ".".join(map(str, release if release[2] else release[:2]))
