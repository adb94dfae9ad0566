"""Layers: the bytes are deterministic, any tar reader agrees on them, and deflate streams are taken over."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb2image.errors import Nb2ImageError
from nb2image.layers.entry import BytesContent, Entry, FileContent, HardLink, Link
from nb2image.layers.write import WrittenLayer, write_layer


def written(*entries: Entry) -> tuple[WrittenLayer, bytes]:
    out = io.BytesIO()
    layer = write_layer(entries, out.write)
    return layer, out.getvalue()


def members(*entries: Entry) -> list[tarfile.TarInfo]:
    _, data = written(*entries)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return tar.getmembers()


def file(path: str, data: bytes = b"x", mode: int = 0o644) -> Entry:
    return Entry(path, mode, BytesContent(data))


@dataclass(frozen=True)
class Deflated:
    """Content that brings its own deflate stream, as a wheel's member does."""

    data: bytes
    stream: bytes

    @classmethod
    def of(cls, data: bytes) -> Deflated:
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        return cls(data, packer.compress(data) + packer.flush())

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def crc32(self) -> int:
        return zlib.crc32(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data

    def deflated(self) -> Iterator[bytes]:
        yield self.stream

    def both(self) -> tuple[bytes, bytes] | None:
        return None


class Small(Deflated):
    """The same, small enough to come whole."""

    def both(self) -> tuple[bytes, bytes]:
        return self.data, self.stream


def test_digests_and_sizes_are_those_of_the_bytes() -> None:
    layer, data = written(file("a", b"hello" * 1000), file("b/c", b""))
    raw = gzip.decompress(data)
    assert layer.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert layer.size == len(data)
    assert layer.diff_id == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert layer.raw_size == len(raw)
    assert layer.files == 2


def test_order_of_the_entries_makes_no_difference() -> None:
    entries = [file(f"d{i % 3}/f{i}", bytes([i]) * i) for i in range(40)]
    first, _ = written(*entries)
    random.Random(1).shuffle(entries)
    assert written(*entries)[0] == first


def test_size_of_the_pieces_makes_no_difference(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(3_500_001)
    (tmp_path / "f").write_bytes(data)
    assert written(file("f", data))[0] == written(Entry("f", 0o644, FileContent(tmp_path / "f")))[0]


def test_missing_parents_are_added_before_their_children() -> None:
    names = [(m.name, oct(m.mode), m.isdir()) for m in members(file("opt/kernel/x"), Entry("opt", 0o775, None))]
    assert names == [("opt", "0o775", True), ("opt/kernel", "0o755", True), ("opt/kernel/x", "0o644", False)]


def test_every_member_has_the_fixed_time_and_no_names_of_owners() -> None:
    for member in members(file("a/b"), Entry("l", 0o777, Link("a/b"))):
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (315532800, 0, 0, "", "")


def test_links_keep_their_targets_and_hard_links_come_last() -> None:
    found = members(Entry("a", 0o664, HardLink("z/file")), Entry("b", 0o777, Link("../x")), file("z/file"))
    assert [(m.name, m.type, m.linkname) for m in found] == [
        ("z", tarfile.DIRTYPE, ""),
        ("b", tarfile.SYMTYPE, "../x"),
        ("z/file", tarfile.REGTYPE, ""),
        ("a", tarfile.LNKTYPE, "z/file"),
    ]


@pytest.mark.parametrize("kind", [Deflated, Small])
def test_a_deflate_stream_is_taken_over_unchanged(kind: type[Deflated]) -> None:
    content = kind.of(b"some text that a wheel holds " * 400)
    layer, data = written(Entry("f", 0o644, content))
    assert content.stream in data
    raw = gzip.decompress(data)
    assert layer.diff_id == "sha256:" + hashlib.sha256(raw).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        found = tar.extractfile("f")
        assert found is not None
        assert found.read() == content.data


def test_two_entries_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="two entries for 'a'"):
        written(file("a"), file("a", b"y"))


def test_a_file_where_a_directory_must_be_is_refused() -> None:
    with pytest.raises(ValueError, match="both a file and a directory"):
        written(file("a"), file("a/b"))


def test_the_same_directory_twice_is_one_directory() -> None:
    assert [m.name for m in members(Entry("d", 0o755, None), Entry("d", 0o755, None))] == ["d"]


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    content = FileContent(path)
    assert content.size == 3
    path.write_bytes(b"one and more")
    with pytest.raises(Nb2ImageError, match="changed while it was read"):
        written(Entry("f", 0o644, content))


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 255, 256, 257, 900])
def test_long_paths_come_back(length: int) -> None:
    plain = "n" * length
    deep = "/".join(["d" * 9] * (length // 10)) + "/" + "f" * (length % 10 + 1)
    link = Entry("link", 0o777, Link("t" * length))
    found = {m.name: m for m in members(file(plain), file(deep), link)}
    assert plain in found
    assert deep in found
    assert found["link"].linkname == "t" * length


_letters = st.characters(codec="utf-8", exclude_characters="/\0")
_names = st.text(_letters, min_size=1, max_size=120).filter(lambda name: name not in {".", ".."})


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_names, st.tuples(st.binary(max_size=3000), st.sampled_from([0o644, 0o755, 0o4755]))))
def test_whatever_goes_in_comes_out(files: dict[str, tuple[bytes, int]]) -> None:
    _, data = written(*(file(f"top/{name}", content, mode) for name, (content, mode) in files.items()))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz", encoding="utf-8") as tar:
        found = {}
        for member in tar.getmembers():
            if member.isreg():
                stream = tar.extractfile(member)
                assert stream is not None
                found[member.name.removeprefix("top/")] = (stream.read(), member.mode)
    assert found == files
