"""Reading an image from an OCI layout, or from an archive as ``docker save``, skopeo or nb2image write it.

Documents are read at once, layers only on demand; whatever is read is checked against the digest and the size
that its descriptor states. Docker's media types (image manifest version 2, schema 2) are translated to OCI's.
An OCI image that is read and passed on unchanged keeps its digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nb2image.errors import NotAnImage, OutputError
from nb2image.image.documents import (
    CONFIG_TYPES,
    DEEPEST_INDEX,
    DIGEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MOST_DESCRIPTORS,
    StoredLayer,
    blob_document,
    blob_path,
    descriptor_of,
    document_at,
    has_file,
    is_text_map,
    is_texts,
    list_at,
    open_file,
    parsed_object,
    read_blob,
    read_file,
    rows_of,
    stored_blob,
)
from nb2image.image.files import ArchiveFiles, DirectoryFiles, Files
from nb2image.image.layout import CONTAINERD_NAME, REF_NAME
from nb2image.image.model import CONFIG_TYPE, LAYER_GZIP, MANIFEST_TYPE, Config, Descriptor, Image
from nb2image.image.names import parse_name
from nb2image.image.streams import damaged
from nb2image.image.whole import Whole, read_whole
from nb2image.target.model import Platform

__all__ = [
    "Stored",
    "find_image",
    "find_index",
    "images_of",
    "open_image",
    "read_archive",
    "read_layout",
    "split_base",
    "stored_images",
]

_N = TypeVar("_N", "Stored", "_Row")
_BLOB_NAME = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER = "application/vnd.docker."
_LAYER_TYPES = {
    **{kind: kind for kind in (_OCI_LAYER, LAYER_GZIP, _OCI_LAYER + "+zstd")},
    _OCI_LAYER.replace("layer", "layer.nondistributable"): _OCI_LAYER,
    LAYER_GZIP.replace("layer", "layer.nondistributable"): LAYER_GZIP,
    _DOCKER + "image.rootfs.diff.tar": _OCI_LAYER,
    _DOCKER + "image.rootfs.diff.tar.gzip": LAYER_GZIP,
    _DOCKER + "image.rootfs.diff.tar.zstd": _OCI_LAYER + "+zstd",
    _DOCKER + "image.rootfs.foreign.diff.tar.gzip": LAYER_GZIP,
}


@dataclass(frozen=True)
class Stored:
    """One image of a layout or archive. ``names`` as its annotations or ``RepoTags`` have them; ``exact`` reads it
    with its own manifest, whatever the media types, so that a copy has its digest (None: it has no manifest)."""

    names: tuple[str, ...]
    key: str
    read: Callable[[], Image]
    exact: Callable[[], Image] | None = None


def read_layout(path: Path, ref: str | None = None, platform: Platform | None = None) -> Image:
    """The image called ``ref`` in an OCI layout directory; None: the only one there.

    ``ref`` is the whole ``org.opencontainers.image.ref.name``, a name that means the same, or its tag alone.
    Raises `NotAnImage`.
    """
    return _chosen(_in_layout(DirectoryFiles(path), platform), ref, platform, str(path)).read()


def read_archive(path: Path, ref: str | None = None, platform: Platform | None = None) -> Image:
    """The same from an archive: a tar of an OCI layout, or one with ``manifest.json`` as ``docker save`` writes.

    Raises `NotAnImage`.
    """
    return _chosen(_in_archive(ArchiveFiles(path), platform), ref, platform, str(path)).read()


def open_image(location: Path | str, platform: Platform | None = None) -> Image:
    """The image at ``PATH[:REF]``, whatever stands there. Raises `NotAnImage`."""
    return find_image(location, platform).read()


def find_image(location: Path | str, platform: Platform | None = None) -> Stored:
    """The same with its names, its layers' documents not yet read."""
    path, ref = split_base(location)
    images = stored_images(path, platform)
    if not images and platform is not None and (others := stored_images(path)):
        there = sorted({str(each.read().platform) for each in others})
        raise NotAnImage(f"{path} holds no image for {platform}.", hint="It holds images for:", details=tuple(there))
    return _chosen(images, ref, platform, str(path))


def find_index(location: Path | str) -> tuple[Whole, tuple[str, ...]] | None:
    """The index at ``PATH[:REF]`` with all that it names, and its names; None where an image or nothing stands there.
    Raises `NotAnImage`."""
    path, ref = split_base(location)
    if not path.exists():
        return None
    files: Files = DirectoryFiles(path) if path.is_dir() else ArchiveFiles(path)
    index = document_at(files, "index.json") or {}
    rows = [
        _Row(_names(row), descriptor_of(files, row, "index.json"))
        for row in rows_of(files, index.get("manifests"), "manifests of index.json")
    ]
    found = {row.descriptor for row in (rows if ref is None else _named(rows, ref))}
    only = found.pop() if len(found) == 1 else None
    if only is None or only.media_type not in INDEX_TYPES:
        return None
    names = dict.fromkeys(name for row in rows if row.descriptor == only for name in row.names)
    return read_whole(files, only, partial(stored_blob, files)), tuple(names)


class _Row(NamedTuple):
    names: tuple[str, ...]
    descriptor: Descriptor


def split_base(location: Path | str) -> tuple[Path, str | None]:
    """Divide ``PATH[:REF]`` at the first colon before which something exists; a path that exists is all path."""
    text = str(location)
    if Path(text).exists():
        return Path(text), None
    for colon in re.finditer(":", text):
        path, ref = text[: colon.start()], text[colon.end() :]
        if path and ref and Path(path).exists():
            return Path(path), ref
    return Path(text), None


def stored_images(path: Path, platform: Platform | None = None) -> list[Stored]:
    """What stands at a path, for one platform (None: for every one). Raises `NotAnImage`."""
    if path.is_dir():
        return _in_layout(DirectoryFiles(path), platform)
    if path.exists():
        return _in_archive(ArchiveFiles(path), platform)
    raise NotAnImage(f"There is nothing at {path}.", hint="Name an OCI layout, an image archive or a known base.")


# -- choosing -----------------------------------------------------------------------------------------


def _chosen(images: Sequence[Stored], ref: str | None, platform: Platform | None, where: str) -> Stored:
    found = images if ref is None else _named(images, ref)
    distinct = {image.key: image for image in found}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    offered = tuple(sorted({name for image in images for name in image.names}))
    if distinct:
        raise NotAnImage(
            f"{where} holds {len(distinct)} images{f' called {ref!r}' if ref else ''}.",
            hint=f"Choose one as {where}:NAME."
            if len({image.names for image in distinct.values()}) > 1
            else "They are for several platforms: choose one with --platform.",
            details=offered,
        )
    kind = f" for {platform}" if platform else ""
    if ref is None:
        raise NotAnImage(f"{where} holds no image{kind}.", hint="Name a layout or archive that does.")
    raise NotAnImage(f"{where} holds no image called {ref!r}{kind}.", hint="These are there:", details=offered)


def _named(images: Sequence[_N], ref: str) -> list[_N]:
    for same in (
        lambda name: name == ref,
        lambda name: _canonical(name) == _canonical(ref),
        lambda name: _tag(name) == ref,
    ):
        if found := [image for image in images if any(same(name) for name in image.names)]:
            return found
    return []


def _canonical(name: str) -> str:
    try:
        return parse_name(name).canonical
    except OutputError:
        return name


def _tag(name: str) -> str:
    return name.rpartition("/")[2].rpartition(":")[2]


# -- OCI layouts --------------------------------------------------------------------------------------


def _in_layout(files: Files, platform: Platform | None) -> list[Stored]:
    marker = document_at(files, "oci-layout")
    version = marker.get("imageLayoutVersion") if marker else None
    if version is None:
        raise NotAnImage(
            f"{files.where} is no OCI layout: it has no file oci-layout that states a version.",
            hint="Name an OCI layout or an archive as `docker save` or `skopeo copy` write it.",
        )
    if version != "1.0.0":
        raise damaged(files.where, f"its layout version is {version!r}, and 1.0.0 is the one there is")
    index = document_at(files, "index.json")
    if index is None:
        raise damaged(files.where, "index.json is missing")
    found = list(_Walk(files, platform).images(index, "index.json"))
    # The same image under several names is one image.
    merged: dict[str, Stored] = {}
    for image in found:
        known = merged.get(image.key)
        names = (*known.names, *image.names) if known else image.names
        merged[image.key] = replace(image, names=tuple(dict.fromkeys(names)))
    return list(merged.values())


class _Walk:
    """From ``index.json`` down through nested indexes to the manifests for a platform."""

    def __init__(self, files: Files, platform: Platform | None) -> None:
        self._files = files
        self._platform = platform
        # Indexes that name one another many times over can unfold to any number of images.
        self._left = MOST_DESCRIPTORS

    def images(
        self, index: Mapping[str, Any], where: str, names: tuple[str, ...] = (), depth: int = 0
    ) -> Iterator[Stored]:
        files = self._files
        if depth > DEEPEST_INDEX:
            raise damaged(files.where, f"its indexes are nested more than {DEEPEST_INDEX} deep")
        for row in rows_of(files, index.get("manifests"), f"manifests of {where}"):
            self._left -= 1
            if self._left < 0:
                raise damaged(files.where, f"its indexes list more than {MOST_DESCRIPTORS:,} images")
            descriptor = descriptor_of(files, row, where)
            own = names or _names(row)
            if descriptor.media_type in INDEX_TYPES:
                inner = blob_document(files, descriptor)
                yield from self.images(inner, descriptor.digest, own, depth + 1)
            elif descriptor.media_type in MANIFEST_TYPES and _fits(row, self._platform):
                readers = (_reader(files, descriptor, self._platform, exact=exact) for exact in (False, True))
                yield Stored(own, descriptor.digest, *readers)


def _reader(files: Files, descriptor: Descriptor, platform: Platform | None, *, exact: bool) -> Callable[[], Image]:
    return lambda: _from_manifest(files, descriptor, platform, exact=exact)


def images_of(files: Files, descriptor: Descriptor, platform: Platform | None) -> list[Stored]:
    """The images for a platform (None: for every one) that a manifest or an index among ``files`` stands for.

    Raises `NotAnImage`.
    """
    index = {"manifests": [descriptor.document()]}
    return list({image.key: image for image in _Walk(files, platform).images(index, files.where)}.values())


def _names(row: Mapping[str, Any]) -> tuple[str, ...]:
    annotations = row.get("annotations")
    if not isinstance(annotations, dict):
        return ()
    found = (annotations.get(key) for key in (REF_NAME, CONTAINERD_NAME))
    return tuple(dict.fromkeys(name for name in found if isinstance(name, str) and name))


def _fits(row: Mapping[str, Any], platform: Platform | None) -> bool:
    stated = row.get("platform")
    if not isinstance(stated, dict):
        return True
    pair = stated.get("os"), stated.get("architecture")
    # buildkit puts attestations beside the images, as manifests for this platform.
    if pair == ("unknown", "unknown"):
        return False
    return platform is None or pair == (platform.os, platform.architecture)


def _from_manifest(files: Files, descriptor: Descriptor, platform: Platform | None, *, exact: bool = False) -> Image:
    raw = read_blob(files, descriptor)
    manifest = parsed_object(files, raw, f"manifest {descriptor.digest}")
    config = descriptor_of(files, manifest.get("config"), f"config of manifest {descriptor.digest}")
    if config.media_type not in CONFIG_TYPES:
        raise NotAnImage(
            f"{files.where}: {descriptor.digest} is no container image but {config.media_type!r}.",
            hint="Name a layout that holds an image.",
        )
    rows = rows_of(files, manifest.get("layers"), f"layers of manifest {descriptor.digest}")
    stored = [descriptor_of(files, row, f"layers of manifest {descriptor.digest}") for row in rows]
    layers = [Descriptor(_layer_type(files, layer), layer.digest, layer.size) for layer in stored]
    names = [blob_path(layer.digest) for layer in layers]
    raw_config = read_blob(files, config)
    annotations = manifest.get("annotations") or {}
    if not is_text_map(annotations):
        raise damaged(files.where, f"the annotations of {descriptor.digest} are no map of strings")
    image = _image(files, raw_config, layers, names, annotations, platform)
    if exact or (
        manifest.get("mediaType", MANIFEST_TYPE) == MANIFEST_TYPE
        and config.media_type == CONFIG_TYPE
        and layers == stored
    ):
        # Cached properties of this object only: images made from it compute their own documents.
        image.__dict__["config_bytes"] = raw_config
        image.__dict__["manifest_bytes"] = raw
    if exact:
        image.__dict__["descriptor"] = descriptor
    return image


def _layer_type(files: Files, descriptor: Descriptor) -> str:
    found = _LAYER_TYPES.get(descriptor.media_type)
    if found is None:
        raise damaged(files.where, f"layer {descriptor.digest} has the media type {descriptor.media_type!r}")
    return found


# -- docker save --------------------------------------------------------------------------------------


def _in_archive(files: Files, platform: Platform | None) -> list[Stored]:
    if has_file(files, "index.json") and has_file(files, "oci-layout"):
        return _in_layout(files, platform)
    rows = list_at(files, "manifest.json")
    if rows is None:
        raise NotAnImage(
            f"{files.where} is no image archive: it has neither index.json with oci-layout nor manifest.json.",
            hint="Name an archive as `docker save` or `skopeo copy` write it; a root file system is not one.",
        )
    return [_saved(files, row, platform) for row in rows]


def _saved(files: Files, row: Mapping[str, Any], platform: Platform | None) -> Stored:
    config = row.get("Config")
    names = row.get("RepoTags") or []
    layers = row.get("Layers") or []
    if not isinstance(config, str) or not is_texts(names) or not is_texts(layers):
        raise damaged(files.where, "manifest.json has an entry without Config, or with wrong RepoTags or Layers")
    return Stored(tuple(names), config, lambda: _from_saved(files, config, layers, platform))


def _from_saved(files: Files, config: str, names: Sequence[str], platform: Platform | None) -> Image:
    raw = read_file(files, config)
    stated = _BLOB_NAME.fullmatch(config)
    if stated and hashlib.sha256(raw).hexdigest() != stated[1]:
        raise damaged(files.where, f"{config} has other bytes than its name says")
    diff_ids = _diff_ids(files, parsed_object(files, raw, config))
    if len(diff_ids) != len(names):
        raise damaged(files.where, f"manifest.json lists {len(names)} layers and {config} {len(diff_ids)}")
    layers = [_saved_layer(files, name, diff_id) for name, diff_id in zip(names, diff_ids, strict=True)]
    return _image(files, raw, layers, names, {}, platform)


def _saved_layer(files: Files, name: str, diff_id: str) -> Descriptor:
    """A layer of ``docker save``: uncompressed, so that its digest is its diff ID; or compressed, and then its
    digest is nowhere stated."""
    stream, size = open_file(files, name)
    with stream:
        head = stream.read(4)
        if not head.startswith(b"\x1f\x8b") and head != b"\x28\xb5\x2f\xfd":
            return Descriptor(_OCI_LAYER, diff_id, size)
        value = hashlib.sha256(head)
        while chunk := stream.read(1 << 20):
            value.update(chunk)
    kind = LAYER_GZIP if head.startswith(b"\x1f\x8b") else _OCI_LAYER + "+zstd"
    return Descriptor(kind, "sha256:" + value.hexdigest(), size)


# -- both ---------------------------------------------------------------------------------------------


def _image(
    files: Files,
    raw_config: bytes,
    layers: Sequence[Descriptor],
    names: Sequence[str],
    annotations: Mapping[str, str],
    platform: Platform | None,
) -> Image:
    document = parsed_object(files, raw_config, "the config")
    _check_config(files, document)
    diff_ids = _diff_ids(files, document)
    if len(diff_ids) != len(layers):
        raise damaged(files.where, f"the manifest lists {len(layers)} layers and the config {len(diff_ids)} diff IDs")
    config = Config({key: value for key, value in document.items() if key not in {"rootfs", "history"}})
    if platform is not None and config.platform != platform:
        raise NotAnImage(
            f"{files.where} holds an image for {config.platform}, not for {platform}.",
            hint=f"Name an image for {platform}, or choose --platform {config.platform}.",
        )
    stored = tuple(
        StoredLayer(files, name, layer, diff_id) for name, layer, diff_id in zip(names, layers, diff_ids, strict=True)
    )
    return Image(config, stored, annotations, _history(files, document, len(layers)))


def _check_config(files: Files, document: Mapping[str, Any]) -> None:
    for key in ("os", "architecture"):
        if not isinstance(document.get(key), str) or not document[key]:
            raise damaged(files.where, f"the config does not state {key!r}")
    execution = document.get("config") or {}
    if not isinstance(execution, dict):
        raise damaged(files.where, "the member 'config' of the config is no object")
    if not is_texts(execution.get("Env") or []) or not is_text_map(execution.get("Labels") or {}):
        raise damaged(files.where, "'Env' or 'Labels' of the config have the wrong type")


def _diff_ids(files: Files, document: Mapping[str, Any]) -> list[str]:
    rootfs = document.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    # Go writes an empty list as null.
    if found is None and isinstance(rootfs, dict) and rootfs.get("type") == "layers":
        return []
    if not isinstance(found, list) or not is_texts(found) or not all(DIGEST.fullmatch(item) for item in found):
        raise damaged(files.where, "the config has no list of sha256 diff IDs")
    return found


def _history(files: Files, document: Mapping[str, Any], layers: int) -> tuple[Mapping[str, Any], ...]:
    """History that covers every layer: the image's own where it does, else one bare line per layer."""
    rows = rows_of(files, document.get("history"), "the config's history")
    if sum(1 for row in rows if not row.get("empty_layer")) == layers:
        return tuple(rows)
    return tuple({"created_by": "unknown"} for _ in range(layers))
