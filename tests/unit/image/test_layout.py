from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nb2image.cache import Store
from nb2image.errors import OutputError, Unwritable
from nb2image.image import copying
from nb2image.image.layout import CONTAINERD_NAME, REF_NAME, write_layout
from nb2image.image.model import Config, Image
from nb2image.image.read import read_layout
from nb2image.image.validate import validate
from nb2image.layers.cached import CachedLayer, cached_layer
from nb2image.layers.entry import BytesContent, Entry
from nb2image.progress import Advanced, Event, Silent, Started
from nb2image.target.model import Platform
from tests.unit.image.making import MemoryLayer, files_of, image_of, small_image


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def index_of(layout: Path) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads((layout / "index.json").read_bytes())
    rows: list[dict[str, Any]] = document["manifests"]
    return rows


def cached_image(tmp_path: Path) -> tuple[Image, CachedLayer]:
    store = Store(tmp_path / "cache")
    layer = cached_layer(
        store, "ab" * 32, "two files", lambda: [Entry("etc/motd", 0o644, BytesContent(b"hello" * 500))]
    )
    return Image(Config.new(Platform())).with_layers([layer]), layer


def test_an_image_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    image = small_image()
    write_layout(image, ["ds108"], tmp_path / "layout", Silent())
    found = read_layout(tmp_path / "layout", "ds108:latest", Platform())
    assert found.digest == image.digest
    assert found.layers[0].diff_id == image.layers[0].diff_id
    validate(found)


def test_a_descriptor_carries_both_spellings_of_its_name_and_its_platform(tmp_path: Path) -> None:
    write_layout(small_image(), ["ds108", "registry.example/team/ds108:v1"], tmp_path / "layout", Silent())
    rows = index_of(tmp_path / "layout")
    assert [row["annotations"] for row in rows] == [
        {REF_NAME: "ds108:latest", CONTAINERD_NAME: "docker.io/library/ds108:latest"},
        {REF_NAME: "registry.example/team/ds108:v1", CONTAINERD_NAME: "registry.example/team/ds108:v1"},
    ]
    assert rows[0]["platform"] == {"os": "linux", "architecture": "amd64"}


def test_an_image_without_tags_gets_one_nameless_descriptor_however_often_it_is_written(tmp_path: Path) -> None:
    for _ in range(2):
        write_layout(small_image(), [], tmp_path / "layout", Silent())
    assert [row.get("annotations") for row in index_of(tmp_path / "layout")] == [None]


def test_other_images_stay_and_the_same_name_is_replaced(tmp_path: Path) -> None:
    old, new, other = small_image("old"), small_image("new"), small_image("other")
    for image, tag in ((old, "a"), (other, "b"), (new, "a")):
        write_layout(image, [tag], tmp_path / "layout", Silent())
    assert {row["annotations"][REF_NAME]: row["digest"] for row in index_of(tmp_path / "layout")} == {
        "a:latest": new.digest,
        "b:latest": other.digest,
    }


def test_the_order_in_which_images_are_written_does_not_show(tmp_path: Path) -> None:
    for name, tags in (("one", "ab"), ("two", "ba")):
        for tag in tags:
            write_layout(small_image(tag), [tag], tmp_path / name, Silent())
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_members_of_a_foreign_index_are_kept(tmp_path: Path) -> None:
    write_layout(small_image(), ["a"], tmp_path / "layout", Silent())
    index = tmp_path / "layout" / "index.json"
    document = json.loads(index.read_bytes())
    document["annotations"] = {"example.key": "value"}
    index.write_text(json.dumps(document))
    write_layout(small_image(), ["b"], tmp_path / "layout", Silent())
    assert json.loads(index.read_bytes())["annotations"] == {"example.key": "value"}


def test_a_blob_is_the_cached_file_itself_where_the_file_system_cannot_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_cloned", lambda *_: False)
    image, layer = cached_image(tmp_path)
    write_layout(image, ["a"], tmp_path / "layout", Silent())
    blob = tmp_path / "layout" / "blobs" / "sha256" / layer.descriptor.digest.partition(":")[2]
    assert blob.samefile(layer.file())
    assert blob.stat().st_mode & 0o777 == 0o444


def test_documents_stay_writable_for_tools_that_write_them_in_place(tmp_path: Path) -> None:
    image, _ = cached_image(tmp_path)
    write_layout(image, ["a"], tmp_path / "layout", Silent())
    for digest in (image.digest, image.config_descriptor.digest):
        assert (tmp_path / "layout" / "blobs" / "sha256" / digest[7:]).stat().st_mode & 0o600 == 0o600


@pytest.mark.parametrize("kernel_copies", [True, False])
def test_a_blob_is_copied_where_it_can_be_neither_cloned_nor_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_copies: bool
) -> None:
    monkeypatch.setattr(copying, "_cloned", lambda *_: False)
    monkeypatch.setattr(copying, "_linked", lambda *_: False)
    if not kernel_copies:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    image, layer = cached_image(tmp_path)
    write_layout(image, ["a"], tmp_path / "layout", Silent())
    blob = tmp_path / "layout" / "blobs" / "sha256" / layer.descriptor.digest.partition(":")[2]
    assert not blob.samefile(layer.file())
    assert blob.read_bytes() == layer.file().read_bytes()


def test_a_damaged_cached_blob_is_made_anew_when_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "cloned_or_linked", lambda *_: False)
    monkeypatch.setattr("nb2image.image.layout.cloned_or_linked", lambda *_: False)
    image, layer = cached_image(tmp_path)
    cached = layer.file()
    cached.chmod(0o644)
    cached.write_bytes(bytes(cached.stat().st_size))
    write_layout(image, ["a"], tmp_path / "layout", Silent())
    validate(read_layout(tmp_path / "layout"))


def test_progress_adds_up_to_the_announced_bytes(tmp_path: Path) -> None:
    events: list[Event] = []
    write_layout(small_image(), ["a"], tmp_path / "layout", events.append)
    started = next(event for event in events if isinstance(event, Started))
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == started.total


def test_a_blob_that_is_there_with_its_size_is_kept(tmp_path: Path) -> None:
    image = small_image()
    write_layout(image, ["a"], tmp_path / "layout", Silent())
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    before = {path.name: path.stat().st_ino for path in blobs.iterdir()}
    write_layout(image, ["b"], tmp_path / "layout", Silent())
    assert {path.name: path.stat().st_ino for path in blobs.iterdir()} == before


def test_a_blob_of_another_size_is_written_anew(tmp_path: Path) -> None:
    image = small_image()
    write_layout(image, ["a"], tmp_path / "layout", Silent())
    blob = tmp_path / "layout" / "blobs" / "sha256" / image.layers[0].descriptor.digest.partition(":")[2]
    blob.chmod(0o644)
    blob.write_bytes(b"cut")
    write_layout(image, ["a"], tmp_path / "layout", Silent())
    validate(read_layout(tmp_path / "layout"))


def wrong_layer() -> MemoryLayer:
    right = files_of({"etc/motd": b"right"})
    return replace(right, data=b"wrong" * 20)


def test_a_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="other bytes than its digest"):
        write_layout(image_of(files_of({"a": b"1"}), wrong_layer()), ["a"], tmp_path / "layout", Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_into_an_empty_folder_leaves_it_empty(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_layout(image_of(wrong_layer()), ["a"], tmp_path, Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_later_write_leaves_the_layout_as_it_was(tmp_path: Path) -> None:
    write_layout(small_image(), ["a"], tmp_path / "layout", Silent())
    before = tree(tmp_path / "layout")
    with pytest.raises(OutputError):
        write_layout(image_of(files_of({"new": b"1"}), wrong_layer()), ["a"], tmp_path / "layout", Silent())
    assert tree(tmp_path / "layout") == before


def test_what_a_killed_writer_left_behind_goes_with_the_next_write(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    (layout / ".partial").mkdir(parents=True)
    (layout / ".partial" / "half").write_bytes(b"half")
    (layout / "oci-layout").touch()
    write_layout(small_image(), ["a"], layout, Silent())
    assert sorted(path.name for path in layout.iterdir()) == ["blobs", "index.json", "oci-layout"]
    validate(read_layout(layout))


def test_writers_at_once_lose_no_image(tmp_path: Path) -> None:
    tags = [f"t{number}" for number in range(12)]
    errors: list[BaseException] = []

    def write(tag: str) -> None:
        try:
            write_layout(small_image(tag), [tag], tmp_path / "layout", Silent())
        except BaseException as error:
            errors.append(error)
            raise

    def fail() -> None:
        for _ in range(20):
            with pytest.raises(OutputError):
                write_layout(image_of(wrong_layer()), ["wrong"], tmp_path / "layout", Silent())

    threads = [threading.Thread(target=fail), *(threading.Thread(target=write, args=(tag,)) for tag in tags)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {row["annotations"][REF_NAME] for row in index_of(tmp_path / "layout")} == {f"{tag}:latest" for tag in tags}
    for tag in tags:
        validate(read_layout(tmp_path / "layout", tag))


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(Unwritable, match="holds other files"):
        write_layout(small_image(), ["a"], tmp_path, Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"manifests": 1}', '{"manifests": [1]}', "[" * 100_000])
def test_a_damaged_index_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    write_layout(small_image(), ["a"], tmp_path / "layout", Silent())
    (tmp_path / "layout" / "index.json").write_text(content)
    with pytest.raises(Unwritable, match="damaged"):
        write_layout(small_image(), ["a"], tmp_path / "layout", Silent())
    assert (tmp_path / "layout" / "index.json").read_text() == content


def test_a_file_where_a_folder_must_be_is_unwritable(tmp_path: Path) -> None:
    (tmp_path / "layout").write_text("a file")
    with pytest.raises(Unwritable, match="Not a directory"):
        write_layout(small_image(), ["a"], tmp_path / "layout", Silent())


def test_a_missing_parent_is_unwritable(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="No such file"):
        write_layout(small_image(), ["a"], tmp_path / "no" / "layout", Silent())


def test_a_full_disk_is_unwritable_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nb2image.image.layout.pour", full)
    with pytest.raises(Unwritable, match="No space left"):
        write_layout(small_image(), ["a"], tmp_path / "layout", Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_bad_tag_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no image name"):
        write_layout(small_image(), ["Not A Name"], tmp_path / "layout", Silent())
    assert list(tmp_path.iterdir()) == []
