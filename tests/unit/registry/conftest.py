"""A registry that fails as told, and a machine without logins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.registry.client import Registry
from tests.unit.registry.server import MemoryRegistry, memory_registry


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: none of the machine's logins is found."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def server() -> Iterator[MemoryRegistry]:
    with memory_registry() as made:
        yield made


@pytest.fixture
def slept() -> list[float]:
    """The pauses that the client made."""
    return []


@pytest.fixture
def client(server: MemoryRegistry, slept: list[float]) -> Iterator[Registry]:
    with Registry(server.domain, timeout=5, sleep=slept.append) as registry:
        yield registry
