"""Pipfile.lock in all the ways that notebooks hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import micropipenv  # type: ignore[import-untyped]
import pytest
import tomli_w

from nb2image.errors import BrokenLock, EmptyLock, LockedTwice, NoLock, UnhashedPackage, UnsupportedSource
from nb2image.lock.model import Freshness, hashes_of
from nb2image.notebook.document import read_notebook
from nb2image.notebook.locks.find import read_lock
from tests.unit.notebook.making import INDEX, digest, embedded, entry, lock_of, pipfile, pipfile_lock, write


@pytest.mark.parametrize("key", ["requirements_lock", "requirements_locked", "requirement_lock"])
@pytest.mark.parametrize("encodings", [0, 1, 2])
def test_every_spelling_of_a_thoth_lock_gives_the_same(tmp_path: Path, key: str, encodings: int) -> None:
    wanted = pipfile(Requests="*")
    values: dict[str, Any] = {
        "requirements": wanted,
        key: pipfile_lock({"requests": entry("2.1", markers="python_version > '3'")}, wanted),
    }
    for _ in range(encodings):
        values = {name: json.dumps(value) for name, value in values.items()}
    lock = lock_of(tmp_path, values)
    (package,) = lock.packages
    assert (package.name, str(package.version), str(package.marker)) == ("requests", "2.1", 'python_version > "3"')
    assert hashes_of(package) == {digest("2.1")}
    assert (package.index, lock.indexes, lock.python) == (INDEX, (INDEX,), "3.11")
    assert (lock.source, lock.direct, lock.freshness) == (f"metadata.{key}", ("requests",), Freshness(True))
    assert lock.notes == ()


def test_explicit_nulls_mean_absent(tmp_path: Path) -> None:
    lock = lock_of(tmp_path, embedded({"a": entry(index=None, markers=None, extras=None, git=None)}, sources=None))
    assert [(p.marker, p.index) for p in lock.packages] == [(None, None)]
    assert lock.indexes == ()


@pytest.mark.parametrize("value", [None, ""])
def test_a_null_or_empty_lock_is_no_lock(tmp_path: Path, value: str | None) -> None:
    with pytest.raises(NoLock):
        lock_of(tmp_path, {"requirements_lock": value})


def test_repeated_hashes_and_indexes_count_once(tmp_path: Path) -> None:
    sources = [{"name": "one", "url": INDEX}, {"name": "two", "url": INDEX}, {"name": "own", "url": "https://${U}@own"}]
    entries = {"a": {"version": "==1", "hashes": [digest("x"), digest("y"), digest("x").upper().replace("SHA", "sha")]}}
    lock = lock_of(tmp_path, embedded({**entries, "b": entry(index="own"), "c": entry(index="two")}, sources=sources))
    assert lock.indexes == (INDEX, "https://${U}@own")
    assert [p.index for p in lock.packages] == [INDEX, "https://${U}@own", INDEX]
    assert hashes_of(lock.packages[0]) == {digest("x"), digest("y")}


def test_an_index_that_the_lock_does_not_list_is_noted(tmp_path: Path) -> None:
    lock = lock_of(tmp_path, embedded({"a": entry(index="gone")}))
    assert lock.packages[0].index == INDEX
    assert lock.notes == ("a names the index 'gone', which the lock does not list.",)


def test_development_packages_are_not_installed(tmp_path: Path) -> None:
    document = pipfile_lock({"a": entry()})
    document["develop"] = {"b": entry()}
    assert [p.name for p in lock_of(tmp_path, {"requirements_lock": document}).packages] == ["a"]


@pytest.mark.parametrize(
    ("requires", "ran", "python"),
    [
        ({"python_version": "3.1"}, "3.10.4", "3.10"),
        ({"python_version": "3.1"}, None, "3.10"),
        ({"python_version": 3.1}, "3.12.0", "3.12"),
        ({"python_version": "3.8"}, "3.9.7", "3.8"),
        ({"python_full_version": "3.9.1"}, None, "3.9"),
        ({"python_version": "*"}, "3.9.7", None),
        ({"python_version": [3]}, "3.9.7", None),
    ],
)
def test_the_python_is_the_locks_but_for_the_writer_that_knew_one_digit(
    tmp_path: Path, requires: dict[str, Any], ran: str | None, python: str | None
) -> None:
    metadata = {**embedded({"a": entry()}, requires=requires), "language_info": {"version": ran}}
    lock = lock_of(tmp_path, metadata)
    assert lock.python == python
    assert bool(lock.notes) == (python is None or "3.1" in str(requires.values()))


def test_the_python_and_the_indexes_of_the_pipfile_stand_in_for_those_of_the_lock(tmp_path: Path) -> None:
    document = pipfile_lock({"a": entry()}, requires={}, sources=[])
    lock = lock_of(tmp_path, {"requirements": pipfile(a="*"), "requirements_lock": document})
    assert (lock.python, lock.indexes) == ("3.11", (INDEX,))


@pytest.mark.parametrize(
    ("made_for", "now", "said"),
    [
        (pipfile(a="*"), pipfile(a="*", new="*"), "asks for new, which the lock lacks"),
        (pipfile(a="*"), pipfile(a=">=2"), "asks for a >=2 (locked: 1.0)"),
        (pipfile(a="*"), pipfile(a={"version": "==3"}), "asks for a ==3 (locked: 1.0)"),
        (pipfile(a="*"), {**pipfile(a="*"), "requires": {"python_version": "3.12"}}, "Python 3.12 where the lock has"),
        (pipfile(a="*"), {**pipfile(a="*"), "source": [{"url": "https://other"}]}, "other package indexes"),
        (pipfile(a="*", b="*"), pipfile(a="*"), "a package was removed"),
    ],
)
def test_a_stale_lock_says_what_differs(
    tmp_path: Path, made_for: dict[str, Any], now: dict[str, Any], said: str
) -> None:
    lock = lock_of(tmp_path, {"requirements": now, "requirements_lock": pipfile_lock({"a": entry()}, made_for)})
    assert lock.freshness.fresh is False
    assert said in lock.freshness.difference
    assert lock.freshness.difference.startswith("metadata.requirements ")


def test_a_lock_without_its_requirements_cannot_be_told_stale(tmp_path: Path) -> None:
    assert lock_of(tmp_path, embedded({"a": entry()})).freshness == Freshness(None)


@pytest.mark.parametrize("without", [(), ("source",), ("source", "requires", "dev-packages")])
def test_freshness_agrees_with_micropipenv_where_that_can_read_it(tmp_path: Path, without: tuple[str, ...]) -> None:
    wanted = {key: value for key, value in pipfile(a="*").items() if key not in without}
    document = pipfile_lock({"a": entry()}, wanted)
    assert micropipenv._compute_pipfile_hash({"source": [], **wanted}) == document["_meta"]["hash"]["sha256"]
    lock = lock_of(tmp_path, {"requirements": wanted, "requirements_lock": document})
    assert lock.freshness == Freshness(True)


def test_a_pipfile_lock_beside_the_notebook_is_read_with_its_pipfile(tmp_path: Path) -> None:
    wanted = pipfile(a="*", b={"version": "*", "markers": "sys_platform == 'win32'"})
    (tmp_path / "Pipfile").write_text(tomli_w.dumps(wanted))
    (tmp_path / "Pipfile.lock").write_text(json.dumps(pipfile_lock({"a": entry(), "b": entry()}, wanted)))
    lock = lock_of(tmp_path)
    assert (lock.source, lock.direct, lock.freshness) == ("Pipfile.lock", ("a", "b"), Freshness(True))
    (tmp_path / "Pipfile").write_text(tomli_w.dumps(pipfile(c="*")))
    assert lock_of(tmp_path).freshness == Freshness(False, "Pipfile asks for c, which the lock lacks.")


def test_a_marker_on_an_extra_never_holds(tmp_path: Path) -> None:
    entries = {"a": entry(markers="extra == 'x' or os_name == 'nt'"), "b": entry(markers="'x' != extra")}
    first, second = lock_of(tmp_path, embedded(entries)).packages
    assert first.marker is not None
    assert second.marker is not None
    assert not first.marker.evaluate({"os_name": "posix"}, context="lock_file")
    assert first.marker.evaluate({"os_name": "nt"}, context="lock_file")
    assert second.marker.evaluate(context="lock_file")


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ('{"default": }', "metadata.requirements_lock: broken JSON, Expecting value at line 1, column 13"),
        ("[" * 100_000, "nested too deeply"),
        ('{"_meta": ' + "1" * 5000 + "}", "unusable JSON"),
        ('"3"', "an object was expected, there is a number"),
        ([], "an object was expected, there is a list"),
        ({"default": []}, "default: an object was expected"),
        ({"default": {"a": "==1"}}, "a: an object was expected, there is a string"),
        ({"default": {"a": {"hashes": []}}}, "a: a string was expected, there is null"),
        ({"default": {"a": {"version": "*"}}}, "a: '*' does not pin a version"),
        ({"default": {"a": {"version": "==" + "1" * 5000}}}, "is no version"),
        ({"default": {"a": {"version": "==1", "hashes": "sha256:0"}}}, "a list was expected"),
        ({"default": {"a": {"version": "==1", "hashes": ["sha256:0"]}}}, "'sha256:0' is no hash"),
        ({"default": {"a": {"version": "==1", "hashes": [7]}}}, "a string was expected, there is a number"),
        ({"default": {"a": {"version": "==1", "markers": "os is nice"}}}, "'os is nice' is no environment marker"),
        ({"default": {"a": {"version": "==1", "markers": "(" * 50_000}}}, "environment marker"),
        ({"default": {"a": {"version": "==1", "index": 3}}}, "a string was expected"),
        ({"default": {"../a": {"version": "==1"}}}, "'../a' is no package name"),
        ({"default": {"\ud800\x1b": {"version": "==1"}}}, "\\ud800\\x1b"),
        ({"_meta": 3}, "_meta: an object was expected"),
        ({"_meta": {"sources": [3]}}, "source 1: an object was expected"),
        ({"_meta": {"requires": 3}, "default": {}}, "requires: an object was expected"),
    ],
)
def test_a_broken_lock_is_refused_with_the_place(tmp_path: Path, lock: object, said: str) -> None:
    with pytest.raises(BrokenLock) as caught:
        lock_of(tmp_path, {"requirements_lock": lock})
    assert said in caught.value.message
    assert caught.value.message.startswith("analysis.ipynb: metadata.requirements_lock: ")
    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_broken_requirements_are_refused_under_their_own_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenLock, match=r"metadata\.requirements: broken JSON"):
        lock_of(tmp_path, {"requirements": "{", **embedded({"a": entry()})})


def test_an_empty_lock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyLock, match=r"metadata\.requirements_lock"):
        lock_of(tmp_path, embedded({}))


def test_all_packages_without_a_strong_hash_are_named(tmp_path: Path) -> None:
    entries = {"a": entry(), "b": entry(hashes=None), "c": entry(hashes=["md5:00ff"])}
    with pytest.raises(UnhashedPackage, match="for b, c"):
        lock_of(tmp_path, embedded(entries))


def test_packages_from_elsewhere_are_named_with_their_origin(tmp_path: Path) -> None:
    entries: dict[str, Any] = {
        "a": entry(),
        "b": {"git": "https://code.example/b", "ref": "c0ffee"},
        "c": {"path": ".", "editable": True},
    }
    with pytest.raises(UnsupportedSource) as caught:
        lock_of(tmp_path, embedded(entries))
    assert caught.value.details == ("b: git 'https://code.example/b'", "c: path '.'")


def test_two_spellings_of_one_package_are_locked_twice(tmp_path: Path) -> None:
    with pytest.raises(LockedTwice, match=r"a-b is locked more than once for the same target \(1 and 2\)"):
        lock_of(tmp_path, embedded({"A_b": entry("1"), "a.b": entry("2")}))


def test_a_lock_beside_that_cannot_be_read_is_broken(tmp_path: Path) -> None:
    (tmp_path / "Pipfile.lock").write_bytes(b"\xff")
    with pytest.raises(BrokenLock, match=r"Pipfile\.lock is not UTF-8"):
        lock_of(tmp_path)


def test_the_notebook_is_named_by_its_path_in_the_repository(tmp_path: Path) -> None:
    write(tmp_path, {"requirements_lock": "{"}, "work/n.ipynb")
    with pytest.raises(BrokenLock, match=r"^work/n\.ipynb: "):
        read_lock(read_notebook(tmp_path))
