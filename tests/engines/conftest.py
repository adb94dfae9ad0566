"""What the tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.engines.client import Engine, choose
from tests.engines.daemons import Daemon, private_folder
from tests.engines.images import busybox_layer
from tests.engines.plugin import available_value


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A cache for layers of test images; needs busybox."""
    made = Store(tmp_path_factory.mktemp("store"))
    available_value(lambda: busybox_layer(made))
    return made


@pytest.fixture
def connected(engine: Daemon) -> Iterator[Engine]:
    """Each engine in turn, as nb2image finds it."""
    with choose() as found:
        assert found.name == engine.name
        yield found


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with private_folder("test") as folder:
        yield folder
