"""What an image may make its reader hold is bounded."""

from __future__ import annotations

import pytest

from nb2image.errors import NotAnImage
from nb2image.inspection import scan
from tests.unit.image.making import files_of, image_of, layer_of
from tests.unit.inspection.making import look, look_into


def test_a_path_that_no_system_can_have_is_refused() -> None:
    with pytest.raises(NotAnImage, match=r"a path has 5,999 bytes, 'a/a/"):
        look(image_of(layer_of([("/".join("a" * 3000), b"")])))


def test_more_files_than_there_is_memory_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_MOST_MEMBERS", 9)
    assert look_into({str(number): b"" for number in range(9)}).total.files == 9
    with pytest.raises(NotAnImage, match="the image has more than 9 files"):
        look_into({str(number): b"" for number in range(5)}, {f"b{number}": b"" for number in range(5)})


def test_lists_and_names_beyond_the_memory_for_them_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_MOST_KEPT", 1 << 20)
    record = b"x" * (600 << 10)
    assert look_into({"a-1.dist-info/RECORD": record}).total.files == 1
    with pytest.raises(NotAnImage, match="more than 1 MiB of lists and names"):
        look_into({"a-1.dist-info/RECORD": record, "b-1.dist-info/RECORD": record})


def test_folders_that_only_paths_name_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_MOST_KEPT", 1 << 20)
    deep = "/".join("abcdefgh")
    # Two thousand files of one folder cost what one costs.
    look(image_of(layer_of([(f"{deep}/{number}", b"") for number in range(2000)])))
    with pytest.raises(NotAnImage, match="more than 1 MiB of lists and names"):
        look(image_of(layer_of([(f"{number}/" + "/".join("d" * 500), b"") for number in range(5)])))


def test_a_list_too_large_to_be_one_is_a_file_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_LARGEST_KEPT", 10)
    found = look_into({"demo-1.dist-info/RECORD": b"demo.py,,\ndemo-1.dist-info/RECORD,,\n", "demo.py": b""})
    assert [found.tallies[number].files for number in found.packages] == [1]


def test_a_layer_that_stands_twice_in_an_image_is_read_once() -> None:
    layer = files_of({"a": b"1"})
    opened = []

    class Counted(type(layer)):  # type: ignore[misc]
        def open(self) -> object:
            opened.append(1)
            return super().open()

    counted = Counted(layer.descriptor, layer.diff_id, layer.data)
    found = look(image_of(counted, counted))
    assert len(opened) == 1
    assert [layer.hidden for layer in found.layers] == [1, 0]


def test_a_layer_with_another_digest_is_refused() -> None:
    layer = files_of({"a": b"1"})
    wrong = type(layer)(layer.descriptor, "sha256:" + "0" * 64, layer.data)
    with pytest.raises(NotAnImage, match="instead of sha256:0000"):
        look(image_of(files_of({"b": b""}), wrong))
