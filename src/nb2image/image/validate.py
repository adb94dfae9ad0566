"""Checking any image from outside: its documents against each other, its layers against the documents."""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from typing import Any

from nb2image.errors import Nb2ImageError, NotAnImage
from nb2image.image.model import CONFIG_TYPE, LAYER_GZIP, MANIFEST_TYPE, Image, Layer
from nb2image.image.streams import layer_members
from nb2image.layers.entry import parents

__all__ = ["validate"]

_MAGIC = {
    LAYER_GZIP: b"\x1f\x8b",
    LAYER_GZIP.replace("+gzip", "+zstd"): b"\x28\xb5\x2f\xfd",
    LAYER_GZIP.removesuffix("+gzip"): b"",
}


def validate(image: Image) -> None:
    """Check digests, sizes, media types, diff IDs, history and the tar of every layer.

    A layer must have each path once, parents before children, and hard links after what they link to. Reads
    every byte. Raises `NotAnImage` with all findings in its ``details``.
    """
    findings = [*_documents(image)]
    for number, layer in enumerate(image.layers):
        findings.extend(f"layer {number} ({layer.descriptor.digest}): {finding}" for finding in _layer(layer))
    if findings:
        raise NotAnImage(
            f"The image {image.digest} breaks the image specification in {len(findings)} places.",
            hint="Report it to whoever made the image.",
            details=tuple(findings),
        )


def _documents(image: Image) -> Iterator[str]:
    manifest: dict[str, Any] = json.loads(image.manifest_bytes)
    config: dict[str, Any] = json.loads(image.config_bytes)
    if manifest.get("schemaVersion") != 2 or manifest.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
        yield "the manifest states another schema version or media type"
    stated = manifest.get("config", {})
    if stated.get("mediaType") != CONFIG_TYPE:
        yield f"the config has the media type {stated.get('mediaType')!r}"
    if stated.get("digest") != "sha256:" + hashlib.sha256(image.config_bytes).hexdigest():
        yield "the config has another digest than the manifest states"
    if stated.get("size") != len(image.config_bytes):
        yield "the config has another size than the manifest states"
    listed = [(row.get("mediaType"), row.get("digest"), row.get("size")) for row in manifest.get("layers", ())]
    own = [(layer.descriptor.media_type, layer.descriptor.digest, layer.descriptor.size) for layer in image.layers]
    if listed != own:
        yield "the manifest lists other layers than the image has"
    if not config.get("os") or not config.get("architecture"):
        yield "the config states no platform"
    rootfs = config.get("rootfs", {})
    if rootfs.get("type") != "layers" or (rootfs.get("diff_ids") or []) != [layer.diff_id for layer in image.layers]:
        yield "the config lists other diff IDs than the layers have"
    history = config.get("history")
    if history and sum(1 for row in history if not row.get("empty_layer")) != len(image.layers):
        yield "the history has another number of lines than there are layers"


def _layer(layer: Layer) -> Iterator[str]:
    magic = _MAGIC.get(layer.descriptor.media_type)
    value = hashlib.sha256()
    size = 0
    with layer.open() as stream:
        head = stream.read(4)
        chunk = head
        while chunk:
            value.update(chunk)
            size += len(chunk)
            chunk = stream.read(1 << 20)
    if magic is None or not head.startswith(magic):
        yield f"its bytes are not {layer.descriptor.media_type}"
    if "sha256:" + value.hexdigest() != layer.descriptor.digest:
        yield f"its digest is sha256:{value.hexdigest()}"
        return
    if size != layer.descriptor.size:
        yield f"it has {size:,} bytes instead of {layer.descriptor.size:,}"
    try:
        with layer_members(layer) as tar:
            yield from _tar(tar)
    except Nb2ImageError as error:
        yield error.message


def _tar(tar: tarfile.TarFile) -> Iterator[str]:
    seen: dict[str, tarfile.TarInfo] = {}
    for info in tar:
        path = posixpath.normpath(info.name).lstrip("/")
        if info.name.startswith("/") or path == ".." or path.startswith("../"):
            yield f"{info.name!r} leads out of the image"
        if path in seen:
            yield f"{path!r} is there twice"
        if info.issparse():
            yield f"{path!r} is a sparse file"
        # The root is always there, whether or not the layer has an entry for it.
        above = [parent for parent in parents(path) if parent not in seen or not seen[parent].isdir()]
        if above:
            yield f"{path!r} comes before its directory {above[0]!r}"
        if info.islnk():
            target = seen.get(posixpath.normpath(info.linkname).lstrip("/"))
            if target is None or not (target.isreg() or target.islnk()):
                yield f"{path!r} is a hard link to {info.linkname!r}, which no file before it is"
        seen[path] = info
