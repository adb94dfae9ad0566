"""All layers of an image read once, several at a time, and laid over one another."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from nb2image.errors import NotAnImage
from nb2image.image.filesystem import FileSystem, Overlay, content, members, normal
from nb2image.image.model import Image, Layer
from nb2image.image.streams import damaged
from nb2image.inspection.model import Hidden
from nb2image.parallel import in_parallel
from nb2image.processes import workers
from nb2image.progress import Advanced, Listener, stage

__all__ = ["DPKG", "LOCK", "PartReader", "Scan", "is_whiteout", "scan"]

DPKG = "var/lib/dpkg"
LOCK = "opt/nb2image/pylock.toml"
_KEPT = re.compile(
    r"(?:.*/)?[^/]+\.dist-info/(?:RECORD|WHEEL)"
    rf"|{DPKG}/(?:status|info/[^/]+\.list|status\.d/[^/]+)"
    rf"|{re.escape(LOCK)}"
    r"|(?:usr/lib|etc)/os-release"
)
# Far above what real ones have: what a hostile image could make this process hold is bounded.
_LARGEST_KEPT = 32 << 20
_MOST_KEPT = 256 << 20
_MOST_MEMBERS = 2_000_000
_MOST_PARTS = 50_000
_LONGEST_PATH = 4096
"""Bytes of Linux's longest (PATH_MAX)."""


@dataclass(frozen=True)
class _Read:
    members: Mapping[str, tarfile.TarInfo]
    kept: Mapping[str, bytes]
    digests: Mapping[str, str]
    parts: Mapping[str, Any]
    raw: int


@dataclass(frozen=True)
class Scan:
    """``files`` is what a container sees; ``kept`` the content of the files that were to be kept, by path;
    ``raw`` the bytes of each layer's tar, ``counted`` its files and their bytes; ``digests`` the sha256 of files by
    path, hard links among them, of the layers that it was asked for; ``parts`` what its reader made of files, by layer
    and path."""

    files: FileSystem
    kept: Mapping[str, bytes]
    hidden: tuple[Hidden, ...]
    raw: tuple[int, ...]
    counted: tuple[tuple[int, int], ...]
    digests: Mapping[str, str]
    parts: Mapping[tuple[int, str], Any]


@dataclass(frozen=True)
class PartReader:
    """What else is to be read of an image: ``read`` makes something of a regular file that ``wanted`` names, from its
    path, its size and its content, and None where it tells nothing."""

    wanted: Callable[[str], bool]
    read: Callable[[str, int, IO[bytes]], object | None]


class _Budget:
    """What all layers together may make this process hold."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = _MOST_KEPT
        self._members = _MOST_MEMBERS
        self.stopped = False

    def spend(self, layer: Layer, *, kept: int = 0, members: int = 0) -> None:
        with self._lock:
            self._bytes -= kept
            self._members -= members
        if self._bytes < 0 or self._members < 0:
            what = f"{_MOST_MEMBERS:,} files" if self._members < 0 else f"{_MOST_KEPT >> 20} MiB of lists and names"
            raise damaged(f"layer {layer.descriptor.digest}", f"the image has more than {what}")
        if self.stopped:
            raise NotAnImage("Reading was stopped.")


def is_whiteout(path: str) -> bool:
    """Whether an entry of a layer deletes what layers below have (``layer.md``, "Whiteouts")."""
    return path.rpartition("/")[2].startswith(".wh.")


def _tells_owners(path: str) -> bool:
    return _KEPT.fullmatch(path) is not None


def scan(
    image: Image,
    where: str,
    listener: Listener,
    *,
    hashed: Callable[[str], bool] | None = None,
    keep: Callable[[str], bool] = _tells_owners,
    reader: PartReader | None = None,
) -> Scan:
    """Read every layer, checking its digests; ``hashed`` says of a diff ID whether to hash the layer's files (None: of
    none), ``keep`` of a path whether to keep the content of the regular file there; ``reader`` looks at files besides,
    where they are not hashed.

    Raises `NotAnImage` for a layer that is damaged.
    """
    budget = _Budget()
    # A layer that stands in the image twice is read once.
    distinct = {layer.diff_id: layer for layer in image.layers}
    # The largest first, so that no processor waits for it alone in the end.
    work = sorted(distinct.values(), key=lambda layer: -layer.descriptor.size)
    read: dict[str, _Read] = {}

    def stop() -> None:
        budget.stopped = True

    total = sum(layer.descriptor.size for layer in work)
    with (
        stage(listener, "read", where, total=total, unit="bytes"),
        in_parallel(
            lambda layer: _read(layer, budget, hashed is not None and hashed(layer.diff_id), keep, reader),
            work,
            workers=workers(),
            stop=stop,
        ) as done,
    ):
        for layer, found in done:
            read[layer.diff_id] = found
            listener(Advanced("read", where, layer.descriptor.size))
    return _overlaid(image, [read[layer.diff_id] for layer in image.layers])


def _read(layer: Layer, budget: _Budget, hashed: bool, keep: Callable[[str], bool], reader: PartReader | None) -> _Read:
    found: dict[str, tarfile.TarInfo] = {}
    implied: set[str] = set()
    kept: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    parts: dict[str, object] = {}
    sizes: list[int] = []
    for path, info, tar in members(layer, sizes.append):
        if len(path) > _LONGEST_PATH:
            raise damaged(f"layer {layer.descriptor.digest}", f"a path has {len(path):,} bytes, {path[:64]!r}…")
        budget.spend(layer, members=1)
        folder = path.rpartition("/")[0]
        # A path names all folders above it, and laying layers together makes those that no member makes.
        while folder and folder not in found and folder not in implied:
            budget.spend(layer, kept=len(folder))
            implied.add(folder)
            folder = folder.rpartition("/")[0]
        found[path] = info
        kept.pop(path, None)
        digests.pop(path, None)
        parts.pop(path, None)
        read_in = reader is not None and info.isreg() and reader.wanted(path) and len(parts) < _MOST_PARTS
        if info.isreg() and info.size <= _LARGEST_KEPT and keep(path):
            budget.spend(layer, kept=info.size)
            kept[path] = content(tar, info, layer)
            if hashed:
                digests[path] = hashlib.sha256(kept[path]).hexdigest()
            if reader is not None and read_in:
                parts[path] = reader.read(path, info.size, io.BytesIO(kept[path]))
        elif hashed and info.isreg():
            digests[path] = _sha256(tar, info)
        elif hashed and info.islnk() and (linked := digests.get(normal(info.linkname))) is not None:
            digests[path] = linked
        elif reader is not None and read_in and (stream := tar.extractfile(info)) is not None:
            with stream:
                parts[path] = reader.read(path, info.size, stream)
    return _Read(found, kept, digests, parts, sizes[0])


def _sha256(tar: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    value = hashlib.sha256()
    stream = tar.extractfile(info)
    if stream is not None:
        with stream:
            while data := stream.read(1 << 18):
                value.update(data)
    return value.hexdigest()


def _overlaid(image: Image, read: Sequence[_Read]) -> Scan:
    overlay = Overlay()
    kept: dict[tuple[int, str], bytes] = {}
    hidden: list[Hidden] = []
    counted: list[tuple[int, int]] = []
    for number in range(len(read) - 1, -1, -1):
        files = size = 0
        with overlay.layer(number) as take:
            for path, info in read[number].members.items():
                by = take(path, info)
                # The root is a directory whatever the tar says.
                if not path or info.isdir() or is_whiteout(path):
                    continue
                files += 1
                size += info.size if info.isreg() else 0
                if by is not None:
                    hidden.append(Hidden(path, info.size if info.isreg() else 0, number, by))
                elif path in read[number].kept:
                    kept[number, path] = read[number].kept[path]
        counted.append((files, size))
    hidden.sort(key=lambda file: (-file.size, file.path, file.layer))
    documents = {path: data for (_, path), data in kept.items()}
    merged = overlay.merged(image.layers, kept)
    digests = {
        path: digest
        for path, node in merged.nodes.items()
        if (digest := read[node.layer].digests.get(path)) is not None
    }
    raw = tuple(each.raw for each in read)
    parts = {
        (number, path): part
        for number, each in enumerate(read)
        for path, part in each.parts.items()
        if part is not None
    }
    return Scan(merged, documents, tuple(hidden), raw, tuple(reversed(counted)), digests, parts)
