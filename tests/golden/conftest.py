from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.golden.place import Place, make_place


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    with make_place() as made:
        yield made
