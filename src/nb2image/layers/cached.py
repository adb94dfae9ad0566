"""Layers that are written once and found again by the key of what they follow from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from nb2image.cache import Store
from nb2image.image.model import LAYER_GZIP, Descriptor, Layer
from nb2image.layers.entry import Entry
from nb2image.layers.write import WrittenLayer, write_layer

__all__ = ["CachedLayer", "Elsewhere", "Known", "cached_layer", "known_layer", "store_layer"]

_KIND = "layer"


class Known(NamedTuple):
    """A layer that was written before: its bytes may have gone since."""

    written: WrittenLayer
    comment: str

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(LAYER_GZIP, self.written.digest, self.written.size)


Elsewhere: TypeAlias = Callable[[Sequence[Known]], Sequence[Layer] | None]
"""Layers whose bytes are here no more, as layers that are where the image goes; None unless all of them are there."""


@dataclass(frozen=True)
class CachedLayer:
    """A layer whose blob the store keeps; ``write`` puts it there again should it have been pruned or damaged."""

    store: Store = field(repr=False)
    written: WrittenLayer
    comment: str
    write: Callable[[], object] = field(repr=False, compare=False)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(LAYER_GZIP, self.written.digest, self.written.size)

    @property
    def diff_id(self) -> str:
        return self.written.diff_id

    def file(self) -> Path:
        """The blob in the store; written anew when it is not there."""
        found = self.store.find("layers", self.written.digest, self.written.size)
        if found is None:
            self.write()
            found = self.store.path("layers", self.written.digest)
        return found

    def open(self) -> BinaryIO:
        self.file()
        stream = self.store.open_checked("layers", self.written.digest)
        if stream is None:  # damaged, and dropped by the check
            stream = self.file().open("rb")
        return stream


def store_layer(store: Store, entries: Iterable[Entry]) -> WrittenLayer:
    """Write a layer into the store's ``layers`` room."""
    with store.writing("layers") as writing:
        written = write_layer(entries, writing.stream.write)
        writing.commit_as(written.digest)
    return written


def known_layer(store: Store, key: str) -> WrittenLayer | None:
    """What was written for ``key`` before, or None."""
    record = store.get_record(_KIND, key)
    return WrittenLayer(**record) if record is not None else None


def cached_layer(store: Store, key: str, comment: str, entries: Callable[[], Iterable[Entry]]) -> CachedLayer:
    """The layer that ``key`` (hex, see `digest_of_key`) stands for; ``entries`` is called only if it is new.

    The key must cover everything that the entries follow from, and `nb2image.layers.write.WRITER`.
    """
    written = known_layer(store, key)
    if written is None:
        written = store_layer(store, entries())
        store.put_record(_KIND, key, written._asdict())
    return CachedLayer(store, written, comment, lambda: store_layer(store, entries()))
