"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.engines.plugin", "tests.engines.built"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: fast enough for every run although it stands outside of tests/unit")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real notebooks of others, which the project does not ship: ``NB2IMAGE_CORPUS``, else beside the repository."""
    configured = os.environ.get("NB2IMAGE_CORPUS")
    folder = Path(configured) if configured else Path(__file__).parents[2] / "shared" / "corpus"
    if not folder.is_dir():
        pytest.skip(f"no corpus of real notebooks at {folder} (NB2IMAGE_CORPUS names another place)")
    return folder
