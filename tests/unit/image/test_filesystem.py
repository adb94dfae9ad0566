from __future__ import annotations

import pytest

from nb2image.errors import NotAnImage
from nb2image.image.filesystem import FileSystem, read_filesystem
from nb2image.layers.entry import HardLink, Link
from tests.unit.image.making import LAYER_TAR, LAYER_ZSTD, MemoryLayer, files_of, image_of, layer_of


def merged(*layers: MemoryLayer) -> FileSystem:
    return read_filesystem(image_of(*layers))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("kind", [LAYER_TAR, LAYER_ZSTD])
def test_the_uppermost_file_wins(kept: bool, kind: str) -> None:
    image = image_of(files_of({"a/b": b"low", "a/c": b"only"}, kind), files_of({"a/b": b"high"}, kind))
    files = read_filesystem(image, lambda _: kept)
    assert files.read("a/b") == b"high"
    assert files.read("/a/c") == b"only"
    assert files.nodes["a/b"].layer == 1
    assert files.nodes["a/c"].layer == 0
    assert files.children("a") == ["b", "c"]
    assert files.children("") == ["a"]


def test_a_whiteout_hides_a_path_and_all_below_it() -> None:
    files = merged(
        files_of({"a/b/c": b"1", "a/d": b"2", "e": b"3"}), layer_of([("a", None), ("a/.wh.b", b""), (".wh.e", b"")])
    )
    assert files.children("a") == ["d"]
    assert files.read("a/b/c") is None
    assert files.read("e") is None


def test_a_whiteout_does_not_hide_what_its_own_layer_or_one_above_brings() -> None:
    files = merged(
        files_of({"a/b": b"1"}),
        layer_of([("a", None), ("a/.wh.b", b""), ("a/b", b"2")]),
    )
    assert files.read("a/b") == b"2"
    above = merged(files_of({"a/b": b"1"}), layer_of([(".wh.a", b"")]), files_of({"a/c": b"3"}))
    assert above.children("a") == ["c"]


def test_an_opaque_directory_hides_only_what_lower_layers_have_in_it() -> None:
    files = merged(
        files_of({"a/old": b"1", "b": b"1"}), layer_of([("a", None), ("a/new", b"2"), ("a/.wh..wh..opq", b"")])
    )
    assert files.children("a") == ["new"]
    assert files.read("b") == b"1"


def test_a_file_over_a_directory_hides_what_was_in_it() -> None:
    files = merged(files_of({"a/b": b"1"}), layer_of([("a", b"a file now")]))
    assert files.read("a/b") is None
    assert files.read("a") == b"a file now"


def test_links_are_followed_inside_the_image_only() -> None:
    files = merged(
        files_of(
            {
                "usr/lib/libc.so": b"libc",
                "lib": Link("usr/lib"),
                "absolute": Link("/lib/libc.so"),
                "escape": Link("../../../../lib/libc.so"),
                "loop": Link("loop"),
                "ping": Link("pong"),
                "pong": Link("ping"),
                "dangling": Link("nowhere"),
            }
        )
    )
    assert files.resolve("lib/libc.so") == "usr/lib/libc.so"
    for path in ("lib/libc.so", "absolute", "escape", "/lib/../lib/./libc.so"):
        assert files.read(path) == b"libc"
    for path in ("loop", "ping", "dangling", "lib", "usr/lib/libc.so/x"):
        assert files.read(path) is None
    assert files.is_directory("lib")
    assert files.is_directory("/")
    assert not files.is_directory("absolute")


def test_a_hard_link_reads_its_own_layer_whatever_stands_above() -> None:
    files = merged(layer_of([("a", b"low"), ("b", HardLink("a")), ("c", HardLink("b"))]), layer_of([("a", b"high")]))
    assert files.read("b") == b"low"
    assert files.read("c") == b"low"
    assert files.read("a") == b"high"


def test_a_hard_link_to_nothing_is_refused() -> None:
    files = merged(layer_of([("b", HardLink("a"))]))
    with pytest.raises(NotAnImage, match="linked to and missing"):
        files.read("b")


def test_directories_that_no_layer_lists_are_there() -> None:
    files = merged(layer_of([("./a/b/c", b"1")]))
    assert files.is_directory("a/b")
    assert files.read("a/b/c") == b"1"


def test_a_path_that_leads_out_of_the_image_is_refused() -> None:
    with pytest.raises(NotAnImage, match="leads out of the image"):
        merged(layer_of([("a/../../b", b"1")]))


def test_an_absolute_path_is_taken_from_the_root() -> None:
    assert merged(layer_of([("/a", b"1")])).read("a") == b"1"


def test_a_layer_is_checked_to_its_end_although_its_tar_ends_before() -> None:
    right = files_of({"a": b"1"}, LAYER_TAR)
    wrong = MemoryLayer(right.descriptor, right.diff_id, right.data + b"more")
    with pytest.raises(NotAnImage, match="uncompressed tar has the digest"):
        merged(wrong)


def test_a_layer_that_is_no_tar_is_refused() -> None:
    right = files_of({"a": b"1"}, LAYER_TAR)
    for data in (b"no tar at all" * 100, right.data[:700], b""):
        with pytest.raises(NotAnImage):
            merged(MemoryLayer(right.descriptor, right.diff_id, data))
