"""From one registry to another, or within one: manifests byte for byte, indexes with everything that they name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from nb2image.errors import NotAnImage
from nb2image.image.model import INDEX_TYPE, Descriptor
from nb2image.image.streams import damaged
from nb2image.progress import Listener
from nb2image.registry.client import Manifest, Registry
from nb2image.registry.pull import RemoteLayer, Source
from nb2image.registry.push import Pushed, push_manifest
from nb2image.registry.reference import Reference

__all__ = ["copy_all"]

_INDEXES = {INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json"}
_DEEPEST = 4


def copy_all(
    manifest: Manifest, source: Source, target: Reference, registry: Registry, listener: Listener, depth: int = 0
) -> list[Pushed]:
    """Copy what ``manifest`` of ``source`` stands for to ``target``; the last of the result is ``target`` itself.

    Raises `RegistryFailure` and `NotAnImage`.
    """
    if depth > _DEEPEST:
        raise damaged(source.where, f"its indexes are nested more than {_DEEPEST} deep")
    done: list[Pushed] = []
    document = _object(manifest, source)
    blobs: list[RemoteLayer] = []
    if manifest.descriptor.media_type in _INDEXES:
        for row in _rows(document.get("manifests"), source):
            assert source.registry is not None
            child = source.registry.manifest(source.reference.at(row.digest))
            done += copy_all(child, source, replace(target, tag=None, digest=row.digest), registry, listener, depth + 1)
    else:
        named = [document.get("config"), *(document.get("layers") or [])]
        blobs = [RemoteLayer(source, row, "", "") for row in _rows(named, source)]
    return [*done, push_manifest(manifest, blobs, target, registry, listener)]


def _object(manifest: Manifest, source: Source) -> dict[str, Any]:
    try:
        document = json.loads(manifest.data)
        if isinstance(document, dict):
            return document
    except (ValueError, RecursionError):
        pass
    raise damaged(source.where, f"{manifest.descriptor.digest} is no JSON object")


def _rows(rows: Any, source: Source) -> list[Descriptor]:
    try:
        found = [Descriptor(str(row["mediaType"]), str(row["digest"]), int(row["size"])) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise damaged(source.where, "a descriptor lacks its media type, digest or size") from None
    for row in found:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", row.digest):
            raise NotAnImage(f"{source.where} names {row.digest!r}, no sha256 digest.", hint="It cannot be copied.")
    return found
