"""`Image`: a config and layers. Functions return new images; nothing here knows where bytes come from.

The documents are those of the OCI image specification 1.1 (``config.md``, ``manifest.md``,
``descriptor.md``); JSON is written with sorted keys and no spaces, so that equal images have equal digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from nb2image.target.model import Platform

__all__ = [
    "CONFIG_TYPE",
    "DEFAULT_PATH",
    "INDEX_TYPE",
    "LAYER_GZIP",
    "MANIFEST_TYPE",
    "Config",
    "Descriptor",
    "Image",
    "ImageIndex",
    "Layer",
    "Manifest",
    "canonical_json",
]

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What engines set where an image's config has no ``PATH``."""


def canonical_json(document: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8: one document, one byte string."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Descriptor:
    """A content descriptor (``descriptor.md``). ``size`` in bytes, ``digest`` as ``sha256:<hex>``."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Descriptor:
        return cls(media_type, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))

    def document(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class Manifest(NamedTuple):
    """A manifest or an index, byte for byte."""

    descriptor: Descriptor
    data: bytes


class Layer(Protocol):
    """A value; bytes only on demand."""

    @property
    def descriptor(self) -> Descriptor:
        """Of the compressed bytes."""
        ...

    @property
    def diff_id(self) -> str:
        """``sha256:<hex>`` of the uncompressed tar."""
        ...

    @property
    def comment(self) -> str:
        """What the layer holds, for the image's history."""
        ...

    def open(self) -> BinaryIO:
        """The compressed bytes; the caller closes. Raises `Nb2ImageError` when they cannot be had."""
        ...

    def file(self) -> Path | None:
        """A file of exactly these bytes that an output may link to, or None."""
        ...


@dataclass(frozen=True)
class Config:
    """An image configuration (``config.md``) without ``rootfs`` and ``history``, which follow from the layers.

    ``document`` keeps whatever a foreign base brought; the methods return changed copies.
    """

    document: Mapping[str, Any]

    @classmethod
    def new(cls, platform: Platform) -> Config:
        return cls({"architecture": platform.architecture, "os": platform.os, "config": {}})

    @property
    def platform(self) -> Platform:
        return Platform(str(self.document["os"]), str(self.document["architecture"]))

    @property
    def execution(self) -> Mapping[str, Any]:
        """The ``config`` member: ``User``, ``Env``, ``Entrypoint`` and the like."""
        found: Mapping[str, Any] = self.document.get("config") or {}
        return found

    @property
    def env(self) -> dict[str, str]:
        pairs = (item.partition("=") for item in self.execution.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.execution.get("Labels") or {})

    def with_execution(self, **changes: Any) -> Config:
        """Set members of ``config`` (``User="1001:0"``); None removes one."""
        merged = {**self.execution, **changes}
        kept = {k: v for k, v in merged.items() if v is not None}
        return Config({**self.document, "config": kept})

    def with_env(self, values: Mapping[str, str]) -> Config:
        merged = {**self.env, **values}
        return self.with_execution(Env=[f"{name}={value}" for name, value in merged.items()])

    def with_labels(self, values: Mapping[str, str]) -> Config:
        return self.with_execution(Labels={**self.labels, **values})

    def with_created(self, created: str) -> Config:
        """``created`` as RFC 3339."""
        return Config({**self.document, "created": created})


@dataclass(frozen=True)
class Image:
    """Config, layers from the bottom up, and the manifest's annotations."""

    config: Config
    layers: tuple[Layer, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    base_history: Sequence[Mapping[str, Any]] = ()
    """History that a base brought for its layers; own layers get one line each."""

    def with_layers(self, layers: Iterable[Layer]) -> Image:
        """The same image with more layers on top."""
        return replace(self, layers=(*self.layers, *layers))

    def with_config(self, config: Config) -> Image:
        return replace(self, config=config)

    def annotated(self, values: Mapping[str, str]) -> Image:
        return replace(self, annotations={**self.annotations, **values})

    @property
    def platform(self) -> Platform:
        return self.config.platform

    @cached_property
    def config_bytes(self) -> bytes:
        created = self.config.document.get("created")
        history = [dict(row) for row in self.base_history]
        covered = sum(1 for row in history if not row.get("empty_layer"))
        for layer in self.layers[covered:]:
            row = {"created_by": "nb2image", "comment": layer.comment}
            history.append({**row, "created": created} if created else row)
        document = {
            **self.config.document,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": history,
        }
        return canonical_json(document)

    @cached_property
    def config_descriptor(self) -> Descriptor:
        return Descriptor.of(CONFIG_TYPE, self.config_bytes)

    @cached_property
    def manifest_bytes(self) -> bytes:
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.config_descriptor.document(),
            "layers": [layer.descriptor.document() for layer in self.layers],
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return canonical_json(document)

    @cached_property
    def descriptor(self) -> Descriptor:
        """Of the manifest: its digest is the image's digest."""
        return Descriptor.of(MANIFEST_TYPE, self.manifest_bytes)

    @property
    def digest(self) -> str:
        return self.descriptor.digest


@dataclass(frozen=True)
class ImageIndex:
    """Images of one name for several platforms (``image-index.md``), each platform once."""

    images: tuple[Image, ...]

    @cached_property
    def index_bytes(self) -> bytes:
        rows = [
            {
                **image.descriptor.document(),
                "platform": {"architecture": image.platform.architecture, "os": image.platform.os},
            }
            for image in sorted(self.images, key=lambda image: str(image.platform))
        ]
        return canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": rows})

    @cached_property
    def descriptor(self) -> Descriptor:
        return Descriptor.of(INDEX_TYPE, self.index_bytes)

    @property
    def digest(self) -> str:
        return self.descriptor.digest
