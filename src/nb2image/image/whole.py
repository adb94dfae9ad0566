"""A manifest or an index with everything that it names, byte for byte: what is passed on without being understood."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from nb2image.errors import NotAnImage
from nb2image.image.documents import (
    CONFIG_TYPES,
    DEEPEST_INDEX,
    INDEX_TYPES,
    MOST_DESCRIPTORS,
    descriptor_of,
    parsed_object,
    read_blob,
    rows_of,
)
from nb2image.image.files import Files
from nb2image.image.model import Descriptor, Image, ImageIndex, Layer, Manifest
from nb2image.image.streams import damaged

__all__ = ["AnyImage", "MemoryBlob", "Whole", "read_whole", "whole_of"]


@dataclass(frozen=True)
class MemoryBlob:
    """A document as a blob like any other, in the shape of a layer."""

    descriptor: Descriptor
    data: bytes = field(repr=False)
    diff_id: str = ""
    comment: str = ""

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def file(self) -> Path | None:
        return None


@dataclass(frozen=True)
class Whole:
    """``manifests``: what is named comes before what names it, so that the last one stands for all. ``blobs`` are
    configs and layers, each once; only layers that were built or read as such have a diff ID."""

    manifests: tuple[Manifest, ...]
    blobs: tuple[Layer, ...]

    @property
    def descriptor(self) -> Descriptor:
        return self.manifests[-1].descriptor

    @property
    def digest(self) -> str:
        return self.descriptor.digest

    def first_image(self) -> tuple[str, list[str]]:
        """Digests of the config and the layers of the first image. Raises `NotAnImage` where there is none."""
        for manifest in self.manifests:
            document = json.loads(manifest.data)
            if manifest.descriptor.media_type in INDEX_TYPES or document["config"]["mediaType"] not in CONFIG_TYPES:
                continue
            # An attestation calls its config that of an image, too.
            layers = document.get("layers") or []
            if all("tar" in row["mediaType"] for row in layers):
                return document["config"]["digest"], [row["digest"] for row in layers]
        raise NotAnImage(f"{self.digest} is an index without an image.", hint="Name one that has some.")


AnyImage: TypeAlias = "Image | ImageIndex | Whole"


def whole_of(image: AnyImage) -> Whole:
    """The same with everything that it names."""
    if isinstance(image, Whole):
        return image
    images = image.images if isinstance(image, ImageIndex) else (image,)
    manifests = [Manifest(each.descriptor, each.manifest_bytes) for each in images]
    if isinstance(image, ImageIndex):
        manifests.append(Manifest(image.descriptor, image.index_bytes))
    blobs: list[Layer] = [layer for each in images for layer in each.layers]
    blobs += [MemoryBlob(each.config_descriptor, each.config_bytes) for each in images]
    return Whole(tuple(manifests), _distinct(blobs))


def _distinct(blobs: list[Layer]) -> tuple[Layer, ...]:
    return tuple({blob.descriptor.digest: blob for blob in blobs}.values())


def read_whole(files: Files, root: Descriptor, blob: Callable[[Descriptor], Layer]) -> Whole:
    """What ``root`` among ``files`` stands for; ``blob`` makes the blobs. Of several images that for linux/amd64 is the
    first. Raises `NotAnImage`, and what ``files`` raises."""
    manifests: dict[str, Manifest] = {}
    blobs: list[Layer] = []

    def read(descriptor: Descriptor, depth: int) -> None:
        if depth > DEEPEST_INDEX:
            raise damaged(files.where, f"its indexes are nested more than {DEEPEST_INDEX} deep")
        data = read_blob(files, descriptor)
        document = parsed_object(files, data, descriptor.digest)
        if descriptor.media_type in INDEX_TYPES:
            rows = rows_of(files, document.get("manifests"), f"manifests of {descriptor.digest}")
            if len(rows) + len(manifests) > MOST_DESCRIPTORS:
                raise damaged(files.where, f"its indexes list more than {MOST_DESCRIPTORS:,} images")
            for row in sorted(rows, key=_is_other):
                named = descriptor_of(files, row, descriptor.digest)
                if named.digest not in manifests:
                    read(named, depth + 1)
        else:
            where = f"manifest {descriptor.digest}"
            named_blobs = [document.get("config"), *rows_of(files, document.get("layers"), f"layers of {where}")]
            blobs.extend(blob(descriptor_of(files, row, where)) for row in named_blobs)
        manifests[descriptor.digest] = Manifest(descriptor, data)

    read(root, 0)
    return Whole(tuple(manifests.values()), _distinct(blobs))


def _is_other(row: Mapping[str, Any]) -> bool:
    platform = row.get("platform")
    pair = (platform.get("os"), platform.get("architecture")) if isinstance(platform, dict) else None
    return pair != ("linux", "amd64")
