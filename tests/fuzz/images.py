"""The layer writer; the readers of archives, layers and image documents."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import zstandard

from nb2image.errors import NotAnImage, OutputError
from nb2image.image.archive import write_archive
from nb2image.image.filesystem import read_filesystem
from nb2image.image.model import CONFIG_TYPE, LAYER_GZIP, MANIFEST_TYPE, Descriptor, canonical_json
from nb2image.image.names import parse_name
from nb2image.image.read import stored_images
from nb2image.layers.entry import BytesContent, Entry, HardLink, Link
from nb2image.layers.write import arrange, write_layer
from tests.fuzz.choices import Choices
from tests.unit.image.making import LAYER_TAR, MemoryLayer, image_of, sha256, tar_of

__all__ = ["IMAGE_WORDS", "image_seeds", "layer_seeds", "odd_entries", "run_image", "run_layer"]

# -- the layer writer -----------------------------------------------------------------------------------

_PARTS = ("a", "b", "é", "n" * 100, "m" * 255, "Ａ", ".x", " ", "a b", "-", "ü" * 80, "x\u2028y", "c")
_SMALL = (0, 1, 511, 512, 513, 5000)
_LARGE = ((1 << 20) - 512, 1 << 20, (1 << 20) + 1)
_MODES = (0o644, 0o755, 0o7777, 0, 0o1777)


class Ready:
    """Content that comes with a deflate stream, as a wheel's does."""

    def __init__(self, data: bytes, level: int) -> None:
        compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
        self._stream = compressor.compress(data) + compressor.flush()
        self._data = data
        self.size = len(data)
        self.crc32 = zlib.crc32(data)

    def chunks(self) -> Iterator[bytes]:
        half = len(self._data) // 2
        yield from (self._data[:half], self._data[half:])

    def deflated(self) -> Iterator[bytes]:
        yield from (self._stream[:3], self._stream[3:])

    def both(self) -> tuple[bytes, bytes] | None:
        return (self._data, self._stream) if self.size < 5000 else None


def odd_entries(choices: Choices) -> list[Entry]:
    """Entries with any paths; a hard link leads to a file of the same list."""
    entries: list[Entry] = []
    files: list[str] = []
    for _ in range(choices.below(12)):
        path = "/".join(choices.pick(_PARTS) for _ in range(1 + choices.below(6)))
        size = choices.pick(_LARGE if choices.seldom() else _SMALL)
        data = (choices.take(8) or b"\0") * (size // 8 + 1)
        content: Any = (
            None,
            BytesContent(data[:size]),
            Ready(data[:size], choices.below(10)),
            Link("/".join(choices.pick(_PARTS) for _ in range(1 + choices.below(4)))),
            HardLink(choices.pick(files) if files else "a"),
        )[choices.below(5)]
        if isinstance(content, HardLink) and not files:
            continue
        owner = choices.pick((0, 1000, 65534)), choices.pick((0, 100))
        entries.append(Entry(path, choices.pick(_MODES), content, *owner))
        if isinstance(content, (BytesContent, Ready)):
            files.append(path)
    return entries


def run_layer(data: bytes) -> None:
    """`tarfile` reads the tree that was written, and `gzip` the tar, with the digests that were stated."""
    entries = odd_entries(Choices(data))
    out = io.BytesIO()
    try:
        arranged = arrange(entries)
        written = write_layer(entries, out.write)
    except ValueError:
        paths = [entry.path for entry in entries]
        files = {entry.path for entry in entries if entry.content is not None}
        folders = {path[:n] for path in paths for n, letter in enumerate(path) if letter == "/"}
        assert len(set(paths)) < len(paths) or files & folders, "refused without a reason"
        return
    assert arrange(reversed(entries)) == arranged
    packed = out.getvalue()
    assert (sha256(packed), len(packed)) == (written.digest, written.size)
    raw = gzip.decompress(packed)
    assert (sha256(raw), len(raw)) == (written.diff_id, written.raw_size)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        infos = tar.getmembers()
        assert [info.name for info in infos] == [entry.path for entry in arranged]
        for info, entry in zip(infos, arranged, strict=True):
            assert (info.mode, info.uid, info.gid) == (entry.mode, entry.uid, entry.gid)
            content = entry.content
            if content is None:
                assert info.isdir()
            elif isinstance(content, Link):
                assert info.issym()
                assert info.linkname == content.target
            elif isinstance(content, HardLink):
                assert info.islnk()
                assert info.linkname == content.path
            else:
                stream = tar.extractfile(info)
                assert stream is not None
                assert stream.read() == b"".join(content.chunks())
    assert written.files == sum(entry.content is not None for entry in arranged)


def layer_seeds() -> Iterator[bytes]:
    yield b""
    yield bytes([3, 2, 0, 1, 2, 3, *b"abcdefgh", 1, 0, 0, 0, 0, 4, 5, *b"12345678", 2, 6, 0, 0, 0])
    yield bytes(range(200))
    yield bytes(range(255, 50, -1))


# -- images -----------------------------------------------------------------------------------------------


def run_image(data: bytes) -> None:
    """The first byte chooses what the rest is: an archive, a layer, or a config between right digests."""
    kind, content = (data or b"\0")[0] % 4, data[1:]
    if kind == 3:
        _check_name(content.decode("utf-8", "replace"))
    elif kind == 1:
        layer = MemoryLayer(Descriptor.of(LAYER_GZIP, content), sha256(content), content)
        with suppress(NotAnImage):
            read_filesystem(image_of(layer)).read("etc/motd")
    else:
        _check_archive(content if kind == 0 else _around(content))


def _check_name(text: str) -> None:
    try:
        name = parse_name(text)
    except OutputError:
        return
    assert parse_name(name.canonical) == name
    assert parse_name(name.familiar) == name


def _check_archive(content: bytes) -> None:
    handle = os.memfd_create("image")
    try:
        os.write(handle, content)
        for stored in stored_images(Path(f"/proc/self/fd/{handle}")):
            image = stored.read()
            assert image.manifest_bytes
            for layer in image.layers:
                with layer.open() as stream:
                    stream.read()
            read_filesystem(image)
    except NotAnImage:
        pass
    finally:
        os.close(handle)


def _around(content: bytes) -> bytes:
    """An archive whose config is ``content`` up to a NUL, with what follows as further members of the manifest."""
    config, _, more = content.partition(b"\0")
    layer = gzip.compress(tar_of([("etc/motd", b"x")]), mtime=0)
    rows: dict[str, Any] = {
        "schemaVersion": 2,
        "config": Descriptor.of(CONFIG_TYPE, config).document(),
        "layers": [Descriptor.of(LAYER_GZIP, layer).document()],
    }
    try:
        added = json.loads(more or b"{}")
        rows |= added if isinstance(added, dict) else {}
        manifest = canonical_json(rows)
    except (ValueError, RecursionError):
        manifest = more
    index = {"schemaVersion": 2, "manifests": [Descriptor.of(MANIFEST_TYPE, manifest).document()]}
    blobs = [(f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob) for blob in (config, manifest, layer)]
    documents = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", canonical_json(index))]
    return tar_of([*documents, *blobs])


def _config() -> bytes:
    raw = tar_of([("etc/motd", b"x")])
    return canonical_json(
        {
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(raw)]},
            "config": {"Env": ["A=b"], "Labels": {"a": "b"}}, "history": [{"created_by": "x"}],
        }
    )  # fmt: skip


def image_seeds() -> Iterator[bytes]:
    raw = tar_of([("etc", None), ("etc/motd", b"hello"), ("etc/.wh.x", b""), ("l", Link("etc/motd")), ("h" * 150, b"")])
    plain = MemoryLayer(Descriptor.of(LAYER_TAR, raw), sha256(raw), raw)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.tar"
        write_archive(image_of(plain), (), file, lambda _: None)
        yield b"\0" + file.read_bytes()
    yield b"\0" + _around(_config())
    config = _config()
    documents = [{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l.tar"]}]
    yield b"\0" + tar_of([("manifest.json", canonical_json(documents)), ("c.json", config), ("l.tar", raw)])
    yield b"\1" + raw
    yield b"\1" + gzip.compress(raw, mtime=0)
    yield b"\1" + zstandard.ZstdCompressor().compress(raw)
    yield b"\2" + config
    yield b"\2" + config + b'\0{"annotations": {"a": "b"}, "mediaType": "x"}'
    for name in ("a", "index.example:5000/a/b:c", "localhost/a", "[::1]:80/x_y:1", "docker.io/library/a"):
        yield b"\3" + name.encode()


IMAGE_WORDS = (
    b"blobs/sha256/", b"index.json", b"oci-layout", b"manifest.json", b".wh.", b".wh..wh..opq", b"../", b"ustar\00000",
    b"ustar  \0", b"././@LongLink", b"GNU.sparse.map=", b"path=", b"size=", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd",
    b'"diff_ids"', b'"rootfs"', b'"config"', b'"layers"', b'"history"', b"null", b"1e999", b"[[[[", b"\\ud800",
)  # fmt: skip
