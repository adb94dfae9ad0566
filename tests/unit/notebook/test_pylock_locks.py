"""PEP 751 locks, embedded and beside."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from nb2image.errors import BrokenLock, EmptyLock, LockedTwice, UnhashedPackage, UnsupportedSource
from nb2image.lock.model import hashes_of
from tests.unit.notebook.making import INDEX, digest, lock_of, pylock_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEY = "pylock.toml"


def one(**more: Any) -> dict[str, Any]:
    """A lock, as JSON, of one package whose members are replaced by ``more``; None takes one away."""
    wheel = {"url": "https://files.example/a-1.0-py3-none-any.whl", "hashes": {"sha256": digest("a")[7:]}}
    package = {"name": "a", "version": "1.0", "wheels": [wheel], **more}
    packages = [{key: value for key, value in package.items() if value is not None}]
    return {"lock-version": "1.0", "created-by": "a test", "packages": packages}


def test_text_and_object_give_the_same_lock(tmp_path: Path) -> None:
    text = pylock_text("b", "a")
    document = tomllib.loads(text)
    for package in document["packages"]:
        package["wheels"][0]["upload-time"] = "2026-01-02T03:04:05.0000007Z"
    locks = [lock_of(tmp_path, {KEY: value}) for value in (text, document)]
    for lock in locks:
        assert [p.name for p in lock.packages] == ["b", "a"]
        (wheel,) = lock.packages[0].wheels or ()
        assert wheel.upload_time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
        assert wheel.size == 10
        assert hashes_of(lock.packages[0]) == {digest("b")}
        assert (lock.indexes, lock.python, lock.freshness.fresh) == ((INDEX,), None, None)
    assert locks[0].digest == locks[1].digest


def test_a_version_that_the_lock_leaves_out_is_that_of_the_files(tmp_path: Path) -> None:
    sdist = {"url": "https://files.example/a-2.0.tar.gz", "hashes": {"sha256": digest("a")[7:]}}
    assert str(lock_of(tmp_path, {KEY: one(version=None)}).packages[0].version) == "1.0"
    assert str(lock_of(tmp_path, {KEY: one(version=None, wheels=None, sdist=sdist)}).packages[0].version) == "2.0"


def test_the_default_selection_is_noted(tmp_path: Path) -> None:
    document = {**one(marker="'dev' in dependency_groups"), "dependency-groups": ["dev"]}
    assert lock_of(tmp_path, {KEY: document}).notes == (
        'metadata["pylock.toml"] can install extras or dependency groups; the default selection is taken.',
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("packages = [", "broken TOML, Invalid value (at end of document)"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "1" * 5000, "unusable TOML"),
        ("", "Missing required value in 'lock-version'"),
        (3, "an object was expected, there is a number"),
        ({"lock-version": "2.0", "created-by": "x", "packages": []}, "version 2.0 is not supported"),
        (one(name="A_b"), "packages[0].name"),
        (one(version=3), "packages[0].version"),
        (one(marker="os is nice"), "packages[0].marker"),
        (one(marker="'x' == extra"), "cannot be evaluated"),
        (one(wheels=[3]), "packages[0]"),
        (one(wheels=[{"url": "https://files.example/b-1.0-py3-none-any.whl", "hashes": {"sha256": "0"}}]), "b-1.0"),
        (one(wheels=[{"url": "https://files.example/a-1.0-py3-none-any.whl", "hashes": {"sha256": "0"}}]), "no hash"),
        (one(wheels=[{"url": "u/a-1.0-py3-none-any.whl", "hashes": {}, "upload-time": "noon"}]), "'noon' is no date"),
        (one(wheels=None, archive={"url": "u", "hashes": {"sha256": digest("")[7:]}}, version=None), "has no version"),
        ({"lock-version": "1.0", "created-by": "x", "packages": 3}, "packages"),
    ],
)
def test_a_broken_lock_is_refused_with_the_place(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(BrokenLock) as caught:
        lock_of(tmp_path, {KEY: value} if value != "" else {KEY: " "})
    assert said in caught.value.message
    assert caught.value.message.startswith('analysis.ipynb: metadata["pylock.toml"]')


def test_a_lock_without_packages_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyLock):
        lock_of(tmp_path, {KEY: pylock_text()})


def test_a_file_with_weak_hashes_only_makes_the_package_unhashed(tmp_path: Path) -> None:
    wheel = {"url": "https://files.example/a-1.0-py3-none-any.whl", "hashes": {"md5": "00ff"}}
    strong = {**wheel, "url": "https://files.example/a-1.0-py2-none-any.whl", "hashes": {"sha256": digest("")[7:]}}
    with pytest.raises(UnhashedPackage, match="for a"):
        lock_of(tmp_path, {KEY: one(wheels=[strong, wheel])})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"vcs": {"type": "git", "url": "https://code.example/a", "commit-id": "c0"}}, "a: git https://code.example/a"),
        ({"directory": {"path": "../a", "editable": True}}, "a: directory ../a"),
    ],
)
def test_a_package_from_elsewhere_is_refused(tmp_path: Path, source: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedSource) as caught:
        lock_of(tmp_path, {KEY: one(wheels=None, **source)})
    assert caught.value.details == (said,)


@pytest.mark.parametrize("markers", [(None, None), ("os_name == 'nt'", None), ("os_name == 'nt'", "os_name == 'nt'")])
def test_entries_that_markers_do_not_tell_apart_are_locked_twice(
    tmp_path: Path, markers: tuple[str | None, str | None]
) -> None:
    document = one(marker=markers[0])
    document["packages"] += one(marker=markers[1])["packages"]
    with pytest.raises(LockedTwice):
        lock_of(tmp_path, {KEY: document})


def test_entries_that_markers_tell_apart_are_kept(tmp_path: Path) -> None:
    document = one(marker="os_name == 'nt'")
    document["packages"] += one(marker="os_name != 'nt'")["packages"]
    assert len(lock_of(tmp_path, {KEY: document}).packages) == 2
