"""Which lock counts, and what is said when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nb2image.errors import BrokenLock, NoLock, UnsupportedSource
from nb2image.notebook.document import read_notebook
from nb2image.notebook.locks.find import FORMATS, read_lock
from tests.unit.notebook.making import digest, embedded, entry, lock_of, pipfile_lock, pylock_text, write


def test_the_formats_rank_as_documented() -> None:
    assert [form.name for form in FORMATS] == [
        "PEP 751", "uv script lock", "Thoth", "Pipfile.lock", "poetry.lock", "requirements.txt",
    ]  # fmt: skip


def test_the_embedded_lock_goes_before_those_beside_which_are_noted(tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text(pylock_text("beside"))
    (tmp_path / "requirements.txt").write_text(f"b==1 --hash={digest('b')}\n")
    lock = lock_of(tmp_path, embedded({"inside": entry()}))
    assert [p.name for p in lock.packages] == ["inside"]
    assert lock.notes == (
        "pylock.toml is there as well and is not used: metadata.requirements_lock goes first.",
        "requirements.txt is there as well and is not used: metadata.requirements_lock goes first.",
    )


def test_pep_751_goes_first_and_the_lock_of_the_notebooks_own_name_before_the_general_one(tmp_path: Path) -> None:
    (tmp_path / "Pipfile.lock").write_text(json.dumps(pipfile_lock({"pipfile": entry()})))
    (tmp_path / "pylock.toml").write_text(pylock_text("general"))
    assert lock_of(tmp_path).source == "pylock.toml"
    (tmp_path / "pylock.analysis.toml").write_text(pylock_text("own"))
    assert lock_of(tmp_path).source == "pylock.analysis.toml"
    inside = {"pylock.toml": pylock_text("inside"), **embedded({"thoth": entry()})}
    assert lock_of(tmp_path, inside).source == 'metadata["pylock.toml"]'


def test_a_broken_lock_does_not_give_way_to_another(tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text(pylock_text("fine"))
    with pytest.raises(BrokenLock):
        lock_of(tmp_path, {"requirements_lock": "{"})


def test_in_a_repository_the_nearest_directory_goes_first_and_the_root_is_the_last(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    write(root, name="a/b/n.ipynb")
    (tmp_path / "pylock.toml").write_text(pylock_text("outside"))
    with pytest.raises(NoLock):
        read_lock(read_notebook(root))
    (root / "pylock.toml").write_text(pylock_text("top"))
    assert read_lock(read_notebook(root)).source == "pylock.toml"
    (root / "a/b/requirements.txt").write_text(f"b==1 --hash={digest('b')}\n")
    assert read_lock(read_notebook(root)).source == "a/b/requirements.txt"
    assert read_lock(read_notebook(root / "a/b/n.ipynb")).source == "requirements.txt"


def test_a_percent_script_has_its_lock_beside_it(tmp_path: Path) -> None:
    (tmp_path / "n.py").write_text("# %%\n1\n")
    (tmp_path / "pylock.n.toml").write_text(pylock_text("a"))
    assert read_lock(read_notebook(tmp_path / "n.py")).source == "pylock.n.toml"


def test_no_lock_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NoLock) as caught:
        lock_of(tmp_path)
    assert caught.value.message == "analysis.ipynb has no lock, neither in its metadata nor beside it."
    assert "requirements.in -o pylock.toml" in caught.value.hint


def test_requirements_without_hashes_are_no_lock(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1\n")
    with pytest.raises(NoLock, match=r"requirements\.txt has no hashes") as caught:
        lock_of(tmp_path)
    assert "uv pip compile" in caught.value.hint


def test_a_requirements_file_that_is_no_text_does_not_disturb_another_lock(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes("a==1\n".encode("utf-16"))
    with pytest.raises(NoLock):
        lock_of(tmp_path)
    assert lock_of(tmp_path, embedded({"a": entry()})).notes == ()


def test_a_projects_uv_lock_is_refused_only_where_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("version = 1\n")
    with pytest.raises(UnsupportedSource, match="locks a whole project") as caught:
        lock_of(tmp_path)
    assert "uv export" in caught.value.hint
    (tmp_path / "pylock.toml").write_text(pylock_text("a"))
    assert lock_of(tmp_path).source == "pylock.toml"


def test_a_long_name_hides_no_lock(tmp_path: Path) -> None:
    path = write(tmp_path, name="n" * 249 + ".ipynb")
    (tmp_path / "pylock.toml").write_text(pylock_text("a"))
    assert read_lock(read_notebook(path)).source == "pylock.toml"
