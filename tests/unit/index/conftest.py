from __future__ import annotations

from tests.unit.index.plugin import heard, machine, make_client, other_server, server, slept, store

__all__ = ["heard", "machine", "make_client", "other_server", "server", "slept", "store"]
