"""A browser, and the pages that it opens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.progress import Silent
from tests.browser.chromium import Tab, chromium
from tests.engines.built import Notebooks
from tests.engines.plugin import available


@dataclass(frozen=True)
class Page:
    """A page that ``nb2image inspect`` wrote, and the document that it printed of the same image."""

    path: Path
    document: dict[str, Any] = field(repr=False)

    @property
    def url(self) -> str:
        return self.path.as_uri()


def _inspected(image: Path | str, page: Path) -> Page:
    command = [sys.executable, "-m", "nb2image", "inspect", str(image), "--html", str(page), "--json", "--files"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return Page(page, json.loads(done.stdout))


@pytest.fixture(scope="session")
def browser() -> Iterator[Tab]:
    with available(chromium()) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab) -> Iterator[Tab]:
    """The browser's tab, as a desktop shows it; a test in which the page reports an error fails."""
    browser.size(1280, 900)
    browser.scheme("light")
    browser.errors.clear()
    browser.requests.clear()
    yield browser
    assert browser.errors == []


@pytest.fixture(scope="session")
def example(notebooks: Notebooks, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of the example notebook's image."""
    return _inspected(notebooks.build("anscombe").oci, tmp_path_factory.mktemp("example") / "page.html")


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., Page]:
    """Make the page of an image that is made by the test."""

    def make(image: Image, name: str = "made:1") -> Page:
        write_layout(image, [name], tmp_path / "layout", Silent())
        return _inspected(tmp_path / "layout", tmp_path / "page.html")

    return make


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where screenshots go: ``NB2IMAGE_RESULTS``, to be looked at, else a folder that is thrown away."""
    kept = os.environ.get("NB2IMAGE_RESULTS")
    folder = Path(kept) if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder
