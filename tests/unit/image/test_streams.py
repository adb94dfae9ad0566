"""The quick way of reading tar headers reads what `tarfile` reads, and leaves to it what it does not know."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nb2image.bases.probe import probe
from nb2image.errors import NotAnImage
from nb2image.image.model import LAYER_GZIP, Descriptor
from nb2image.image.streams import BoundedTarInfo, layer_members
from nb2image.progress import Silent
from tests.unit.image.making import LAYER_TAR, LAYER_ZSTD, MemoryLayer, image_of, layer_of_tar, sha256

_FIELDS = ("name", "mode", "uid", "gid", "size", "mtime", "type", "linkname", "uname", "gname", "devmajor", "devminor")
_KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE)
_NAMES = st.text(st.characters(min_codepoint=1, max_codepoint=0x17F), min_size=1, max_size=140)
_NUMBERS = st.one_of(st.integers(0, 0o7777777), st.integers(0, 1 << 40))


def seen(info: tarfile.TarInfo) -> list[object]:
    return [getattr(info, name) for name in _FIELDS]


def read(data: bytes, kind: type[tarfile.TarInfo]) -> list[list[object]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", tarinfo=kind) as tar:
        return [seen(info) for info in tar]


@given(_NAMES, _NAMES, st.sampled_from(_KINDS), _NUMBERS, _NUMBERS, st.sampled_from([0, 1, 2]))
def test_headers_are_read_as_tarfile_reads_them(
    name: str, link: str, kind: bytes, number: int, other: int, form: int
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.uid, info.mtime, info.uname = kind, link, number, other, name[:8]
    info.mode = number & 0o7777
    out = io.BytesIO()
    try:
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            tar.addfile(info)
    except ValueError:  # ustar holds no such number or name
        return
    assert read(out.getvalue(), BoundedTarInfo) == read(out.getvalue(), tarfile.TarInfo)


@given(st.binary(min_size=512, max_size=512), st.sampled_from(b"0125"), st.booleans())
def test_any_block_is_a_header_or_none_for_both(block: bytes, kind: int, numbers: bool) -> None:
    data = bytearray(block)
    data[156] = kind
    if numbers:
        for begin, end in ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148), (329, 337), (337, 345)):
            data[begin:end] = b"0" * (end - begin - 1) + b"\0"
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data)
    found: list[object] = []
    for each in (BoundedTarInfo, tarfile.TarInfo):
        try:
            found.append(seen(each.frombuf(bytes(data), "utf-8", "surrogateescape")))
        except tarfile.HeaderError as error:
            found.append(repr(error))
    assert found[0] == found[1]


def test_contents_are_read_front_to_back_whatever_is_left_unread() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, size in enumerate((0, 1, 511, 512, 513, 3 << 20, 7)):
            info = tarfile.TarInfo(f"{'long/' * 30}{number}")
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([number]) * size))
    layer = layer_of_tar(out.getvalue(), LAYER_TAR)
    sizes = []
    with layer_members(layer) as tar:
        for info in tar:
            stream = tar.extractfile(info)
            assert stream is not None
            sizes.append((info.size, len(stream.read() if info.size % 2 else stream.read(10))))
    assert sizes == [(0, 0), (1, 1), (511, 511), (512, 10), (513, 513), (3 << 20, 10), (7, 7)]


@pytest.mark.parametrize("kind", [LAYER_GZIP, LAYER_ZSTD])
def test_a_bomb_is_given_up_on_early_in_time_and_in_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nb2image.image.streams._UNSUSPICIOUS", 64 << 20)
    info = tarfile.TarInfo("zeros")
    info.size = 8 << 30
    head = info.tobuf(tarfile.GNU_FORMAT)
    # Pieces of a mebibyte each as a stream of their own: what both formats allow, and what costs a test no time.
    pack = (lambda data: gzip.compress(data, mtime=0)) if kind == LAYER_GZIP else zstandard.ZstdCompressor().compress
    data = pack(head) + pack(bytes(1 << 20)) * (8 << 10)
    layer = MemoryLayer(Descriptor.of(kind, data), sha256(b""), data)
    with pytest.raises(NotAnImage, match="over 100 times of what is stored") as caught:
        probe(image_of(layer), "image", Silent())
    assert "exhaust" in caught.value.hint


def test_a_large_file_of_zeros_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 80 << 20
    layer = layer_of_tar(info.tobuf() + bytes(info.size + 1024))
    found = probe(image_of(layer), "image", Silent())
    assert found.files == info.size
    monkeypatch.setattr("nb2image.image.streams._UNSUSPICIOUS", 1 << 20)
    with pytest.raises(NotAnImage, match="over 100 times"):
        probe(image_of(layer), "image", Silent())


@pytest.mark.parametrize("cut", [100, 700, 512 * 4 + 100])
def test_a_tar_that_ends_early_is_refused(cut: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = 600
            tar.addfile(info, io.BytesIO(b"x" * 600))
    with pytest.raises(NotAnImage), layer_members(layer_of_tar(out.getvalue()[:cut], LAYER_TAR)) as tar:
        list(tar)
