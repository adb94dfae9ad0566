"""The shared objects of single layers: of images that are here without their wheels."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from nb2image.abi.elf import MAGIC, WHOLE, Damaged, SharedObject, read_object
from nb2image.abi.wheel import Objects, from_record, looks_shared, to_record
from nb2image.cache import Store, digest_of_key
from nb2image.image.filesystem import members
from nb2image.image.model import Layer
from nb2image.parallel import in_parallel
from nb2image.processes import workers

__all__ = ["objects_in_layers"]

_KIND = "layer-elf"
_FORMAT = 2
_CHUNK = 1 << 20


def objects_in_layers(layers: Collection[Layer], store: Store) -> dict[str, Mapping[str, SharedObject]]:
    """By diff ID, the shared objects of each layer by their paths (relative to the root); kept in the store.

    What only looks like a shared object is left out. Raises `NotAnImage` when a layer is damaged.
    """
    found: dict[str, Mapping[str, SharedObject]] = {}
    unread: dict[str, Layer] = {}
    for layer in layers:
        if (record := store.get_record(_KIND, _key(layer))) is not None:
            found[layer.diff_id] = from_record(record).found
        else:
            unread[layer.diff_id] = layer
    stopped: list[bool] = []
    folder = store.scratch()
    try:
        with in_parallel(
            lambda layer: _read(layer, folder, stopped),
            list(unread.values()),
            workers=workers(),
            stop=lambda: stopped.append(True),
        ) as arriving:
            for layer, objects in arriving:
                store.put_record(_KIND, _key(layer), to_record(Objects(objects, ())))
                found[layer.diff_id] = objects
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _key(layer: Layer) -> str:
    return digest_of_key(_KIND, _FORMAT, layer.diff_id)


def _read(layer: Layer, folder: Path, stopped: Collection[bool]) -> dict[str, SharedObject]:
    found: dict[str, SharedObject] = {}
    for path, info, tar in members(layer):
        if stopped:
            break
        if info.isreg() and looks_shared(path) and (each := _object(tar, info, folder)) is not None:
            found[path] = each
    return found


def _object(tar: tarfile.TarFile, info: tarfile.TarInfo, folder: Path) -> SharedObject | None:
    stream = tar.extractfile(info)
    if stream is None:
        return None
    with stream, tempfile.TemporaryFile(dir=folder) as file:
        head = stream.read(4)
        if head != MAGIC:
            return None
        if info.size <= WHOLE:
            data = head + stream.read()
            pieces = [data]
            return _sound(lambda: iter(pieces), len(data))
        # A tar is read once, front to back, and a giant is looked at in several places.
        file.write(head)
        shutil.copyfileobj(stream, file, _CHUNK)

        def again() -> Iterator[bytes]:
            file.seek(0)
            while chunk := file.read(_CHUNK):
                yield chunk

        return _sound(again, info.size)


def _sound(pieces: Callable[[], Iterator[bytes]], size: int) -> SharedObject | None:
    try:
        return read_object(pieces, size)
    except Damaged:
        return None
