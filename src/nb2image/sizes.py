"""Sizes as people read them."""

from __future__ import annotations

__all__ = ["shown"]


def shown(size: float) -> str:
    """A size in bytes, in the unit that leaves at most four digits before the point."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
