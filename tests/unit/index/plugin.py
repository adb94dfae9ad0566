"""Fixtures of everything that talks to an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.index.client import IndexClient
from nb2image.index.settings import Network
from nb2image.progress import Event, Note, Warned
from tests.unit.index.server import IndexServer, serving


@dataclass
class Recorder:
    """A listener that keeps what it hears."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Warned)]

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without any configuration of pip, uv or netrc; its path."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "XDG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "environment"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    return home


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def heard() -> Recorder:
    return Recorder()


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with serving() as index:
        yield index


@pytest.fixture
def other_server() -> Iterator[IndexServer]:
    """An index on another host, as far as a client can tell."""
    with serving("localhost") as index:
        yield index


@pytest.fixture
def slept() -> list[float]:
    """The seconds that clients of `make_client` would have slept."""
    return []


@pytest.fixture
def make_client(slept: list[float]) -> Iterator[Callable[..., IndexClient]]:
    """Clients that do not really sleep between attempts."""
    made: list[IndexClient] = []

    def make(*indexes: str, retries: int = 3, timeout: float = 5.0) -> IndexClient:
        client = IndexClient(indexes, retries=retries, timeout=timeout, sleep=slept.append, network=Network())
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
