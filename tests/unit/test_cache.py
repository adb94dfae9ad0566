"""The store: whole files or none, checked when read, pruned by age and size."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from nb2image.cache import Store, digest_of_key
from nb2image.errors import Unwritable

_DATA = b"a wheel"
_DIGEST = "sha256:" + hashlib.sha256(_DATA).hexdigest()


def put(store: Store, data: bytes = _DATA) -> Path:
    with store.writing("wheels") as writing:
        writing.write(data)
        return writing.commit()


def test_what_is_committed_is_found_under_its_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = put(store)
    assert store.find("wheels", _DIGEST) == path
    assert path.read_bytes() == _DATA
    assert path.stat().st_mode & 0o777 == 0o444


def test_without_commit_nothing_remains(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing("wheels") as writing:
        writing.write(_DATA)
    assert store.find("wheels", _DIGEST) is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_blob_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = put(store)
    path.chmod(0o644)
    path.write_bytes(_DATA[:-1])
    assert store.find("wheels", _DIGEST, size=len(_DATA)) is None
    assert not path.exists()


def test_a_sound_blob_outlives_a_wrong_statement_of_its_size(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = put(store)
    assert store.find("wheels", _DIGEST, size=len(_DATA) + 1) == path
    assert path.read_bytes() == _DATA


def test_a_damaged_blob_is_dropped_when_it_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = put(store)
    path.chmod(0o644)
    path.write_bytes(b"b wheel")
    assert store.open_checked("wheels", _DIGEST) is None
    assert not path.exists()


def test_a_sound_blob_is_read_from_its_beginning(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    stream = store.open_checked("wheels", _DIGEST)
    assert stream is not None
    with stream:
        assert stream.read() == _DATA


def test_a_record_comes_back_and_a_damaged_one_is_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = digest_of_key("a", 1)
    store.put_record("files", key, {"b": [1, 2]})
    assert store.get_record("files", key) == {"b": [1, 2]}
    (path,) = (tmp_path / "v1" / "records").rglob(key)
    path.write_bytes(path.read_bytes().replace(b"1", b"7"))
    assert store.get_record("files", key) is None
    assert not path.exists()


def test_equal_parts_give_equal_keys_and_other_parts_others() -> None:
    assert digest_of_key("a", {"x": 1, "y": 2}) == digest_of_key("a", {"y": 2, "x": 1})
    assert digest_of_key("a", "bc") != digest_of_key("ab", "c")


def test_pruning_by_age_keeps_what_was_used_lately(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = put(store, b"old")
    new = put(store, b"new")
    os.utime(old, (0, time.time() - 10 * 86400))
    removed = store.prune(("wheels",), older_than=5 * 86400)
    assert (removed.files, old.exists(), new.exists()) == (1, False, True)


def test_pruning_by_size_removes_the_oldest_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paths = [put(store, bytes([i]) * 100) for i in range(5)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (0, time.time() - age * 100))
    store.prune(("wheels",), max_size=250)
    assert [path.exists() for path in paths] == [False, False, False, True, True]


def test_an_unpacked_python_goes_as_a_whole_with_the_bases(tmp_path: Path) -> None:
    store = Store(tmp_path)
    root = store.root_of("sha256:" + "ab" * 32)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/python3").write_text("x")
    store.prune(("wheels", "layers"))
    assert (root / "usr/bin/python3").exists()
    store.prune(("bases",))
    assert not root.exists()
    assert not list((tmp_path / "v1/tmp").iterdir())


def test_an_unpacked_python_stays_while_there_is_room_and_counts_as_one_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    root = store.root_of("sha256:" + "ab" * 32)
    root.mkdir(parents=True)
    for name in ("python3", "os.py"):
        (root / name).write_bytes(bytes(100))
    assert store.prune(("bases",), max_size=200).files == 0
    assert (root / "os.py").exists()
    removed = store.prune(("bases",), max_size=199)
    assert (removed.files, removed.size, root.exists()) == (1, 200, False)


def test_finding_a_blob_marks_it_as_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = put(store)
    os.utime(path, (0, time.time() - 10 * 86400))
    store.find("wheels", _DIGEST)
    assert store.prune(("wheels",), older_than=86400).files == 0


def test_a_place_that_cannot_hold_a_cache_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unwritable) as caught, Store(tmp_path / "file").writing("wheels"):
        pass
    assert "NB2IMAGE_CACHE_DIR" in caught.value.hint


def test_a_cache_that_cannot_be_read_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    # A link to itself fails for root as well, whom permissions do not stop.
    for name in ("records", "wheels"):
        (tmp_path / "v1").mkdir(exist_ok=True)
        (tmp_path / "v1" / name).symlink_to(name)
    store = Store(tmp_path)
    for read in (lambda: store.get_record("files", digest_of_key("k")), lambda: store.find("wheels", _DIGEST)):
        with pytest.raises(Unwritable) as caught:
            read()
        assert "NB2IMAGE_CACHE_DIR" in caught.value.hint


def _writer(root: Path) -> None:
    store = Store(root)
    for _ in range(30):
        put(store, b"shared" * 1000)
        store.put_record("files", digest_of_key("k"), ["value"] * 100)


def test_processes_may_write_the_same_things_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_writer, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    store = Store(tmp_path)
    assert store.get_record("files", digest_of_key("k")) == ["value"] * 100
    assert {usage.room: usage.files for usage in store.usage() if usage.files} == {"wheels": 1, "records": 1}
    assert not list((tmp_path / "v1" / "tmp").iterdir())
