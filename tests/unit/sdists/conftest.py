"""The world of the pipeline's tests is this folder's, too."""

from __future__ import annotations

from tests.unit.index.plugin import machine, server
from tests.unit.world import world

__all__ = ["machine", "server", "world"]
