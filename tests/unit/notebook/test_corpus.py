"""Real notebooks of others; what their locks hold was counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from nb2image.errors import EmptyLock
from nb2image.lock.model import hashes_of
from nb2image.notebook.document import read_notebook
from nb2image.notebook.locks.find import read_lock

INDEX = "https://index.example/simple"


@pytest.mark.parametrize(
    ("name", "packages", "python", "fresh"),
    [
        ("ds108", 108, "3.11", True),
        ("nbrequirements-py36-stale", 55, "3.6", False),
        ("thoth-engine-boto3", 7, "3.8", True),
        ("thoth-no-sources", 10, "3.8", True),
        ("thoth-py39-80pkgs", 80, "3.9", True),
        ("thoth-sdists-85pkgs", 85, "3.8", True),
        ("thoth-tensorflow-torch", 46, "3.8", True),
        ("thoth-torch-gpu", 6, "3.8", True),
        ("thoth-wrong-names", 2, "3.8", True),
    ],
)
def test_a_real_lock_is_read_whole(corpus: Path, name: str, packages: int, python: str, fresh: bool) -> None:
    lock = read_lock(read_notebook(corpus / f"{name}.ipynb"))
    assert (len(lock.packages), lock.python, lock.freshness.fresh) == (packages, python, fresh)
    assert lock.indexes == (() if name == "thoth-no-sources" else (INDEX,))
    assert all(hashes_of(package) for package in lock.packages)
    locked = {package.name for package in lock.packages}
    assert bool(set(lock.direct) - locked) == (not fresh)


@pytest.mark.parametrize(("name", "hashes"), [("ds108", 1752), ("thoth-py39-80pkgs", 645)])
def test_no_hash_of_a_real_lock_is_lost(corpus: Path, name: str, hashes: int) -> None:
    lock = read_lock(read_notebook(corpus / f"{name}.ipynb"))
    assert sum(len(hashes_of(package)) for package in lock.packages) == hashes


def test_the_stale_lock_names_what_it_lacks(corpus: Path) -> None:
    lock = read_lock(read_notebook(corpus / "nbrequirements-py36-stale.ipynb"))
    assert "pandas-profiling, plotly" in lock.freshness.difference


def test_the_empty_lock_is_refused(corpus: Path) -> None:
    with pytest.raises(EmptyLock):
        read_lock(read_notebook(corpus / "nbrequirements-empty-lock.ipynb"))
