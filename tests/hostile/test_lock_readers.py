"""Whatever a lock holds, reading it gives a lock or an error that says what is wrong; never anything else."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nb2image.errors import NotANotebook, NotebookError
from nb2image.lock.model import Lock
from nb2image.notebook.document import read_notebook
from nb2image.notebook.locks.find import read_lock
from tests.unit.notebook.making import document, entry, pipfile, pipfile_lock, pylock_text
from tests.unit.notebook.test_poetry_locks import package as poetry_package
from tests.unit.notebook.test_uv_locks import HEAD, manifest, package

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.quick

FORMS = ("thoth", "pylock", "pylock.toml", "uv", "poetry", "poetry-1", "pyproject")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["", "==1", "*", "sha256:00", "extra == 'x'", "os_name", "3.1", "\ud800", "\x1b[31m", "a" * 5000, "9" * 5000]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


def good(form: str) -> dict[str, Any]:
    """A lock that is fine, to be spoiled in one place."""
    if form == "thoth":
        entries = {"a": entry(markers="os_name == 'posix'", index="main"), "b": entry(extras=["x"])}
        return {"requirements": pipfile(a="*", b={"version": ">=1"}), "requirements_lock": pipfile_lock(entries)}
    if form.startswith("pylock"):
        moment = '"2026-01-02T03:04:05Z"' if form == "pylock" else "2026-01-02T03:04:05Z"
        return toml(pylock_text("a", "b").replace("2026-01-02T03:04:05Z", moment))
    if form == "uv":
        more = 'dependencies = [{ name = "b", version = "1.0", extra = ["x"], marker = "os_name == \'nt\'" }]'
        extra = '[package.optional-dependencies]\nx = [{ name = "a" }]\n'
        return toml(HEAD + manifest('name = "a", extras = ["y"]') + package("a", more=more) + package("b") + extra)
    groups: dict[str, Any] = {} if form != "poetry" else {"groups": ["main"], "markers": {"main": "os_name == 'posix'"}}
    dependencies = {"b": {"version": "^1.0", "markers": "extra == 'x'", "optional": True, "extras": ["y"]}}
    lock = {
        "package": [
            poetry_package("a", dependencies=dependencies, extras={"x": ["b (>=1)"]}, **groups),
            poetry_package("b", source={"type": "legacy", "url": "https://index.example", "reference": "r"}, **groups),
        ],
        "metadata": {"python-versions": "^3.9", "content-hash": "00", "files": {"a": []}},
    }
    wanted = {"python": "^3.9", "a": {"version": "^1", "extras": ["x"], "python": "<4"}}
    return {"lock": lock, "project": {"tool": {"poetry": {"dependencies": wanted}}, "project": {"dependencies": ["b"]}}}


def toml(text: str) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads(text)
    return document


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a document."""
    if isinstance(value, dict):
        inner = [each for key, one in value.items() for each in spots(one, (*path, key))]
    elif isinstance(value, list):
        inner = [each for number, one in enumerate(value) for each in spots(one, (*path, number))]
    else:
        inner = []
    return [path, *inner] if path else inner


def spoil(value: dict[str, Any], path: tuple[Any, ...], by: Any) -> dict[str, Any]:
    spoiled = copy.deepcopy(value)
    inside: Any = spoiled
    for part in path[:-1]:
        inside = inside[part]
    inside[path[-1]] = by
    return spoiled


def put(folder: Path, form: str, value: dict[str, Any]) -> Path:
    """Write a notebook and its lock in the way of the form; what TOML cannot hold is left out."""
    metadata: dict[str, Any] = {}
    if form == "thoth":
        metadata = value
    elif form == "pylock":
        metadata = {"pylock.toml": value}
    elif form in {"pylock.toml", "uv"}:
        metadata = {"uv.lock" if form == "uv" else form: tomli_w.dumps(without_null(value))}
    else:
        for key, name in (("lock", "poetry.lock"), ("project", "pyproject.toml")):
            (folder / name).write_bytes(tomli_w.dumps(without_null(value[key])).encode("utf-8", "replace"))
    path = folder / "n.ipynb"
    path.write_text(json.dumps(document(metadata)))
    return path


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_null(each) for each in value if each is not None]
    return value


def read(path: Path) -> Lock | None:
    """The lock, or None after an error that can be shown to a user."""
    caught = None
    try:
        lock = read_lock(read_notebook(path))
    except NotebookError as error:
        caught = error
    if caught is not None:
        assert "".join((caught.message, caught.hint, *caught.details)).isprintable()
        assert caught.hint
        return None
    said = "".join((*lock.notes, lock.freshness.difference, *lock.direct, lock.python or ""))
    assert said.isprintable()
    assert lock.digest.startswith("sha256:")
    for each in lock.packages:
        if each.marker is not None:
            each.marker.evaluate(context="lock_file")
    return lock


@pytest.mark.parametrize("form", FORMS)
def test_a_lock_that_is_not_spoiled_is_read(form: str, tmp_path: Path) -> None:
    assert read(put(tmp_path, form, good(form))) is not None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data(), form=st.sampled_from(FORMS), by=VALUES)
def test_a_lock_that_is_spoiled_anywhere_gives_a_lock_or_an_error(data: st.DataObject, form: str, by: Any) -> None:
    value = good(form)
    candidates = spots(value)
    if form.startswith(("poetry", "pyproject")):
        candidates = [path for path in candidates if len(path) > 1]
    path = data.draw(st.sampled_from(candidates))
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = put(Path(folder), form, spoil(value, path, by))
        except (TypeError, ValueError):  # Not to be written as TOML at all.
            return
        read(written)


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
@example(b'{"nbformat": 4, "metadata": {"requirements_lock": "\\"{}\\""}, "cells": []}')
@example(b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": [{}]}]}')
def test_any_bytes_are_a_notebook_or_none(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("n.ipynb", "n.py", "requirements.txt", "Pipfile.lock", "pylock.toml"):
            (Path(folder) / name).write_bytes(content)
        read(Path(folder) / "n.ipynb")
        read(Path(folder) / "n.py")
        (Path(folder) / "n.ipynb").write_text(json.dumps(document()))
        for name in ("pylock.toml", "Pipfile.lock", "requirements.txt"):
            read(Path(folder) / "n.ipynb")
            (Path(folder) / name).unlink()


@pytest.mark.parametrize("depth", [50, 200, 400, 900, 950, 980, 990, 5000, 200_000])
@pytest.mark.parametrize(
    "frame",
    [
        '{"requirements_lock": @}',
        '{"requirements_lock": {"_meta": {"sources": @}, "default": {"a": {"version": "==1", "git": @}}}}',
        '{"requirements": {"source": @, "packages": {"a": @}}, "requirements_lock": {"_meta": {"sources": @, "hash": {"sha256": "0"}}}}',  # noqa: E501
        '{"pylock.toml": {"packages": @}}',
        '{"pylock.toml": "a = @"}',
    ],
)
def test_deep_nesting_is_an_error_at_any_depth(tmp_path: Path, depth: int, frame: str) -> None:
    nested = "[" * depth + "]" * depth
    path = tmp_path / "n.ipynb"
    metadata = frame.replace("@", nested)
    path.write_text(f'{{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {metadata}}}')
    with pytest.raises(NotebookError) as caught:
        read_lock(read_notebook(path))
    assert caught.value.hint
    if depth == 200_000 and "a = @" not in frame:
        assert isinstance(caught.value, NotANotebook)
