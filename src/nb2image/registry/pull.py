"""Images on a registry, as values: documents are read at once, layers are downloaded when they are opened.

What is downloaded goes through the store, where the digest is checked and the next one finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from nb2image.cache import Store, digest_of_key
from nb2image.errors import NotAnImage, NotCached
from nb2image.image.model import Descriptor, Image, Layer, Manifest
from nb2image.image.read import Stored, images_of
from nb2image.image.whole import Whole, read_whole
from nb2image.parallel import in_parallel
from nb2image.progress import Advanced, Listener, stage
from nb2image.registry.client import Registry
from nb2image.registry.reference import Reference
from nb2image.target.model import Platform

__all__ = [
    "Pulled",
    "RemoteLayer",
    "Source",
    "fetch_layers",
    "open_remote",
    "platforms_of",
    "pulled_image",
    "resolve",
    "whole_at",
]

_KIND = "reference"
_WORKERS = 6
_BLOBS = "blobs/sha256/"


@dataclass(frozen=True)
class RemoteLayer:
    """A layer that a repository has. Its blob comes into the store when it is asked for."""

    source: Source = field(repr=False)
    descriptor: Descriptor
    diff_id: str
    comment: str

    def file(self) -> Path:
        """The blob in the store. Raises `RegistryFailure`, `NotCached` and `Unwritable`."""
        return self.source.fetched(self.descriptor)

    def open(self) -> BinaryIO:
        self.file()
        stream = self.source.store.open_checked("bases", self.descriptor.digest)
        if stream is None:  # damaged, and dropped by the check
            stream = self.file().open("rb")
        return stream


class Source:
    """The documents and blobs of one repository, in the shape of `nb2image.image.files.Files`.

    ``registry`` None: nothing but the store is looked into.
    """

    def __init__(self, registry: Registry | None, reference: Reference, store: Store, listener: Listener) -> None:
        self.registry = registry
        self.reference = reference
        self.store = store
        self.where = str(reference)
        self._listener = listener
        self._documents: dict[str, bytes] = {}
        self._manifests: set[str] = set()

    def know(self, data: bytes) -> None:
        """Have a manifest or an index at hand. What an index names is asked for as manifests, all else as blobs."""
        self._documents["sha256:" + hashlib.sha256(data).hexdigest()] = data
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._manifests.update(str(row["digest"]) for row in json.loads(data)["manifests"])

    def open(self, name: str) -> tuple[BinaryIO, int]:
        digest = "sha256:" + name.removeprefix(_BLOBS)
        data = self._documents.get(digest)
        if data is None:
            stream = self.store.open_checked("bases", digest)
            if stream is not None:
                with stream:
                    data = stream.read()
            else:
                data = self._asked(digest)
                self.keep(data)
            if digest in self._manifests:
                self.know(data)
        return io.BytesIO(data), len(data)

    def _asked(self, digest: str) -> bytes:
        if self.registry is None:
            raise _not_cached(self.reference)
        if digest in self._manifests:
            return self.registry.manifest(self.reference.at(digest)).data
        return self.registry.document(self.reference.path, digest)

    def keep(self, data: bytes) -> None:
        """Have a document in the store."""
        with self.store.writing("bases") as writing:
            writing.write(data)
            writing.commit()

    def fetched(self, descriptor: Descriptor) -> Path:
        """A blob's file in the store, downloaded where it is not there."""
        found = self.store.find("bases", descriptor.digest, descriptor.size)
        if found is not None:
            return found
        if self.registry is None:
            raise _not_cached(self.reference)
        subject, counted = descriptor.digest[:19], 0
        with (
            stage(self._listener, "download", subject, total=descriptor.size, unit="bytes"),
            self.store.writing("bases") as writing,
        ):

            def start() -> None:
                nonlocal counted
                writing.restart()
                self._listener(Advanced("download", subject, -counted))
                counted = 0

            def write(data: bytes) -> None:
                nonlocal counted
                # The client hashes; the file alone is written here.
                writing.stream.write(data)
                counted += len(data)
                self._listener(Advanced("download", subject, len(data)))

            self.registry.blob(self.reference.path, descriptor, start, write)
            return writing.commit_as(descriptor.digest)


def _not_cached(reference: Reference) -> NotCached:
    return NotCached(
        f"{reference} is not, or not whole, in the cache.", hint="Run once without --offline, which downloads it."
    )


@dataclass(frozen=True)
class Pulled:
    """What a reference stands for: ``manifest`` is what the registry has under it, maybe an index; ``stored`` the one
    image for the platform."""

    reference: Reference
    manifest: Manifest
    stored: Stored
    source: Source = field(repr=False)

    @property
    def digest(self) -> str:
        """Of the platform's manifest, as the registry has it."""
        return self.stored.key

    def read(self, *, exact: bool) -> Image:
        """The image; ``exact``: with its own manifest whatever its media types, else in OCI's. Raises `NotAnImage`
        and `RegistryFailure`."""
        image = self.stored.exact() if exact and self.stored.exact is not None else self.stored.read()
        layers = tuple(RemoteLayer(self.source, x.descriptor, x.diff_id, x.comment) for x in image.layers)
        made = replace(image, layers=layers)
        for name in ("config_bytes", "manifest_bytes", "descriptor"):
            if name in image.__dict__:
                made.__dict__[name] = image.__dict__[name]
        return made


def open_remote(
    registry: Registry | None,
    reference: Reference,
    platform: Platform | None,
    store: Store,
    listener: Listener,
) -> Pulled:
    """The image that a reference stands for; nothing of its layers is downloaded yet. ``platform`` as for
    `pulled_image`. Without ``registry``: what the reference stood for the last time, and the store has.

    Raises `RegistryFailure`, `NotAnImage` and `NotCached`.
    """
    return pulled_image(*resolve(registry, reference, store, listener), platform)


def resolve(
    registry: Registry | None, reference: Reference, store: Store, listener: Listener
) -> tuple[Source, Manifest]:
    """What the registry has under a reference: a manifest or an index."""
    source = Source(registry, reference, store, listener)
    manifest = _resolved(registry, reference, source)
    source.know(manifest.data)
    return source, manifest


def whole_at(source: Source, manifest: Manifest) -> Whole:
    """A manifest or an index with all that it names. Raises `NotAnImage` and `RegistryFailure`."""
    return read_whole(source, manifest.descriptor, lambda descriptor: RemoteLayer(source, descriptor, "", ""))


def pulled_image(source: Source, manifest: Manifest, platform: Platform | None) -> Pulled:
    """The image for a platform; None: the only one, else that of linux/amd64. Raises `NotAnImage`."""
    stored = images_of(source, manifest.descriptor, platform)
    if len(stored) > 1 and platform is None:
        platform = Platform()
        stored = images_of(source, manifest.descriptor, platform)
    reference = source.reference
    if len(stored) == 1:
        return Pulled(reference, manifest, stored[0], source)
    if stored:
        raise NotAnImage(
            f"{reference} has {len(stored)} images for {platform}.", hint="Name the one that is meant by its digest."
        )
    raise NotAnImage(
        f"{reference} has no image{f' for {platform}' if platform else ''}.",
        hint="These platforms are there:" if platforms_of(manifest) else "Name another image.",
        details=platforms_of(manifest),
    )


def _resolved(registry: Registry | None, reference: Reference, source: Source) -> Manifest:
    key = digest_of_key(_KIND, reference.domain, reference.path, reference.target)
    if registry is not None and reference.digest is None:
        manifest = registry.manifest(reference)
    else:
        record = source.store.get_record(_KIND, key)
        stream = source.store.open_checked("bases", record["digest"]) if record is not None else None
        if record is not None and stream is not None:
            with stream:
                data = stream.read()
            return Manifest(Descriptor(record["type"], record["digest"], len(data)), data)
        if registry is None:
            raise _not_cached(reference)
        manifest = registry.manifest(reference)
    source.keep(manifest.data)
    source.store.put_record(_KIND, key, {"digest": manifest.descriptor.digest, "type": manifest.descriptor.media_type})
    return manifest


def platforms_of(manifest: Manifest) -> tuple[str, ...]:
    """The platforms that an index has images for, sorted; none of an image."""
    try:
        rows = json.loads(manifest.data).get("manifests") or []
        found = {f"{row['platform']['os']}/{row['platform']['architecture']}" for row in rows if "platform" in row}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    return tuple(sorted(found - {"unknown/unknown"}))


def fetch_layers(layers: Sequence[Layer], registry: Registry) -> None:
    """Have all layers of a registry's image in the store, six at a time."""
    remote = [*{x.descriptor.digest: x for x in layers if isinstance(x, RemoteLayer)}.values()]
    remote.sort(key=lambda layer: -layer.descriptor.size)
    with in_parallel(RemoteLayer.file, remote, workers=_WORKERS, stop=registry.stop) as arriving:
        for _ in arriving:
            pass
