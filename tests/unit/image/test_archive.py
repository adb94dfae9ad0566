from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nb2image.cache import Store
from nb2image.errors import NotAnImage, OutputError, Unwritable
from nb2image.image.archive import archive_stream, write_archive
from nb2image.image.model import Config, Image
from nb2image.image.read import read_archive
from nb2image.image.validate import validate
from nb2image.layers.cached import cached_layer
from nb2image.layers.entry import BytesContent, Entry
from nb2image.progress import Advanced, Event, Silent, Started
from nb2image.target.model import Platform
from tests.unit.image.making import files_of, image_of, small_image


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: info for info in tar}


def document(data: bytes, name: str) -> Any:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        stream = tar.extractfile(name)
        assert stream is not None
        return json.load(stream)


def test_an_archive_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    image = small_image()
    write_archive(image, ["ds108"], tmp_path / "image.tar", Silent())
    found = read_archive(tmp_path / "image.tar", "ds108", Platform())
    assert found.digest == image.digest
    validate(found)


def test_an_archive_is_the_same_bytes_every_time_and_in_a_stream(tmp_path: Path) -> None:
    for name in ("one.tar", "two.tar"):
        write_archive(small_image(), ["a"], tmp_path / name, Silent())
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert (tmp_path / "one.tar").read_bytes() == b"".join(archive_stream(small_image(), ["a"]))


def test_members_are_sorted_and_carry_nothing_of_this_machine() -> None:
    data = b"".join(archive_stream(small_image(), ["a"]))
    found = members(data)
    assert list(found) == sorted(found)
    for info in found.values():
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (1, 0, 0, "root", "root")
        assert info.mode == (0o755 if info.isdir() else 0o644)
        assert not info.pax_headers
    assert len(data) % 512 == 0


def test_old_engines_find_names_and_layers_in_the_manifest() -> None:
    image = small_image()
    data = b"".join(archive_stream(image, ["ds108", "docker.io/team/ds108:v1", "registry.example/x:1"]))
    (row,) = document(data, "manifest.json")
    assert row["RepoTags"] == ["ds108:latest", "team/ds108:v1", "registry.example/x:1"]
    assert row["Layers"] == ["blobs/sha256/" + layer.descriptor.digest[7:] for layer in image.layers]
    assert row["Config"] == "blobs/sha256/" + image.config_descriptor.digest[7:]
    assert {row["Config"], *row["Layers"]} <= set(members(data))


def test_an_image_without_tags_has_no_names() -> None:
    data = b"".join(archive_stream(small_image(), []))
    assert document(data, "manifest.json")[0]["RepoTags"] is None
    assert len(document(data, "index.json")["manifests"]) == 1


@pytest.mark.parametrize("by", ["digest", "diff_id"])
def test_layers_that_the_engine_has_are_left_out_and_still_listed(by: str) -> None:
    image = small_image()
    first, second = image.layers
    skip = {first.descriptor.digest if by == "digest" else first.diff_id}
    data = b"".join(archive_stream(image, ["a"], skip))
    names = members(data)
    assert "blobs/sha256/" + first.descriptor.digest[7:] not in names
    assert "blobs/sha256/" + second.descriptor.digest[7:] in names
    assert len(document(data, "manifest.json")[0]["Layers"]) == 2


def test_a_layer_that_stands_twice_in_an_image_is_written_once() -> None:
    layer = files_of({"a": b"1"})
    image = image_of(layer, layer)
    names = list(members(b"".join(archive_stream(image, ["a"]))))
    assert len(names) == len(set(names))


def test_a_cached_layer_is_copied_and_progress_adds_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    layer = cached_layer(store, "cd" * 32, "x", lambda: [Entry("x", 0o644, BytesContent(os.urandom(3_000_000)))])
    image = Image(Config.new(Platform())).with_layers([layer])
    events: list[Event] = []
    write_archive(image, ["a"], tmp_path / "image.tar", events.append)
    validate(read_archive(tmp_path / "image.tar"))
    started = next(event for event in events if isinstance(event, Started))
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == started.total


def test_a_damaged_cached_layer_is_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    layer = cached_layer(store, "cd" * 32, "x", lambda: [Entry("x", 0o644, BytesContent(b"x" * 9000))])
    cached = layer.file()
    cached.chmod(0o644)
    cached.write_bytes(bytes(cached.stat().st_size))
    image = Image(Config.new(Platform())).with_layers([layer])
    events: list[Event] = []
    write_archive(image, ["a"], tmp_path / "image.tar", events.append)
    validate(read_archive(tmp_path / "image.tar"))
    started = next(event for event in events if isinstance(event, Started))
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == started.total


def test_a_failed_write_keeps_the_old_archive_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    target.write_bytes(b"old")
    wrong = replace(files_of({"a": b"1"}), data=b"wrong")
    with pytest.raises(OutputError, match="other bytes than its digest"):
        write_archive(image_of(wrong), ["a"], target, Silent())
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_stream_of_a_damaged_layer_ends_in_an_error() -> None:
    right = files_of({"a": b"1"})
    wrong = replace(right, data=bytes(right.descriptor.size))
    with pytest.raises(NotAnImage, match="has the digest"):
        b"".join(archive_stream(image_of(wrong), ["a"]))


def test_the_file_gets_the_mode_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_archive(small_image(), ["a"], tmp_path / "image.tar", Silent())
    finally:
        os.umask(before)
    assert (tmp_path / "image.tar").stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_to_the_archive_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.tar").symlink_to(tmp_path / "real.tar")
    write_archive(small_image(), ["a"], tmp_path / "link.tar", Silent())
    assert (tmp_path / "link.tar").is_symlink()
    validate(read_archive(tmp_path / "real.tar"))


def test_a_device_or_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder.tar").mkdir()
    os.mkfifo(tmp_path / "fifo.tar")
    for name in ("folder.tar", "fifo.tar"):
        with pytest.raises(Unwritable, match="no regular file"):
            write_archive(small_image(), ["a"], tmp_path / name, Silent())


def test_a_folder_that_is_not_there_is_unwritable(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="No such file"):
        write_archive(small_image(), ["a"], tmp_path / "no" / "image.tar", Silent())
