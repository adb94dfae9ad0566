"""Every hostile wheel, and what must be said of it; each is built byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.unit.wheels.builder import Part, build_zip, wheel_parts

__all__ = ["Case", "from_part", "from_parts"]


@dataclass(frozen=True)
class Case:
    """``member`` is the one that the refusal names, None for the whole archive; ``rule`` a part of what it says."""

    group: str
    title: str
    member: str | None
    rule: str
    make: Callable[[], bytes]

    @property
    def id(self) -> str:
        return f"{self.group}: {self.title}"


def from_part(group: str, title: str, rule: str, part: Part, *, member: str | None = None) -> Case:
    """An honest wheel but for one member; ``member`` where another than that one is refused."""
    name = part.name if isinstance(part.name, str) else part.name.decode("utf-8", "backslashreplace")
    return Case(group, title, name if member is None else member, rule, lambda: build_zip(wheel_parts(part)))


def from_parts(group: str, title: str, member: str | None, rule: str, *parts: Part, **archive: Any) -> Case:
    """A wheel with further members; ``archive`` is what `build_zip` takes."""
    return Case(group, title, member, rule, lambda: build_zip(wheel_parts(*parts), **archive))
