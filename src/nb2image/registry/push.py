"""An image put onto a registry: only what it lacks is opened, and so only that is built or downloaded."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol

from nb2image.errors import RegistryAnswered
from nb2image.image.model import Descriptor, Image
from nb2image.parallel import in_parallel
from nb2image.progress import Advanced, Finished, Listener, Silent, Started
from nb2image.registry.client import Manifest, Registry, push_scope
from nb2image.registry.places import Places, repositories_of
from nb2image.registry.pull import RemoteLayer
from nb2image.registry.reference import Reference
from nb2image.registry.upload import Sent, send_blob
from nb2image.sizes import shown

__all__ = ["Blob", "Pushed", "push", "push_manifest"]

_WORKERS = 4
_WORTH = 64 << 10
"""Bytes of a layer from which it is remembered where it was pushed: a smaller one is sent as quickly as mounted."""


@dataclass(frozen=True)
class Pushed:
    """What came of a push. ``sent`` and ``mounted`` are digests of blobs, the rest of which the registry had;
    ``size`` in bytes of what was sent; ``seconds``: wall time."""

    reference: Reference
    digest: str
    sent: tuple[str, ...]
    mounted: tuple[str, ...]
    size: int
    seconds: float

    def __str__(self) -> str:
        there = f"; {len(self.mounted)} mounted" if self.mounted else ""
        return f"{self.reference} ({len(self.sent)} blobs, {shown(self.size)} sent{there})"

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "reference": str(self.reference),
            "digest": self.digest,
            "sent": list(self.sent),
            "mounted": list(self.mounted),
            "sent_bytes": self.size,
            "seconds": round(self.seconds, 3),
        }


class Blob(Protocol):
    """What a manifest names: bytes on demand."""

    @property
    def descriptor(self) -> Descriptor: ...

    def open(self) -> BinaryIO: ...


@dataclass(frozen=True)
class _Config:
    """An image's config as a blob like any other."""

    descriptor: Descriptor
    data: bytes = field(repr=False)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


def push(
    image: Image, reference: Reference, registry: Registry, listener: Listener, places: Places | None = None
) -> Pushed:
    """Have ``image`` on the registry under the tag of ``reference`` (without one: under its digest). ``places``: where
    blobs were pushed before, to be mounted from there, and where these are then.

    Raises `RegistryFailure`, and whatever the layers raise when their bytes cannot be had.
    """
    manifest = Manifest(image.descriptor, image.manifest_bytes)
    blobs: list[Blob] = [*image.layers, _Config(image.config_descriptor, image.config_bytes)]
    near = repositories_of(image, reference.domain)

    def source(blob: Blob) -> str | None:
        known = places.find(reference.domain, blob.descriptor.digest) if places is not None else None
        return source_of(blob, reference) or known or next(iter(near), None)

    pushed = push_manifest(manifest, blobs, reference, registry, listener, source)
    if places is not None:
        for layer in image.layers:
            if layer.descriptor.digest in {*pushed.sent, *pushed.mounted} and layer.descriptor.size >= _WORTH:
                places.remember(reference.domain, layer.descriptor.digest, reference.path)
    return pushed


def source_of(blob: Blob, reference: Reference) -> str | None:
    """The repository of the same registry that a blob comes from."""
    if isinstance(blob, RemoteLayer) and blob.source.reference.domain == reference.domain:
        return blob.source.reference.path
    return None


def push_manifest(
    manifest: Manifest,
    blobs: Sequence[Blob],
    reference: Reference,
    registry: Registry,
    listener: Listener,
    source: Callable[[Blob], str | None] | None = None,
) -> Pushed:
    """The same for a manifest, byte for byte, and the blobs that it names; ``source`` says which repository of the
    registry may have one."""
    if source is None:
        return push_manifest(manifest, blobs, reference, registry, listener, lambda blob: source_of(blob, reference))
    begin = time.perf_counter()
    digest = manifest.descriptor.digest
    distinct = {blob.descriptor.digest: blob for blob in blobs}
    listener(Started("push", str(reference), sum(x.descriptor.size for x in distinct.values()), "bytes"))
    path, target, kind = reference.path, reference.tag or digest, manifest.descriptor.media_type
    outcome: dict[str, Sent | None] = {}
    if registry.has_manifest(path, digest):
        # A registry takes no manifest whose blobs it lacks: all of them are there.
        for blob in distinct.values():
            listener(Advanced("push", str(reference), blob.descriptor.size))
        registry.put_manifest(path, target, kind, manifest.data)
    else:
        known = _tagged_blobs(registry, reference)
        outcome = _send(registry, reference, distinct, known, listener, source)
        try:
            registry.put_manifest(path, target, kind, manifest.data)
        except RegistryAnswered:
            if not known:
                raise
            # The tag's old manifest may name blobs that were deleted since: all of them are looked for.
            named = {digest: distinct[digest] for digest in known if digest in distinct}
            outcome |= _send(registry, reference, named, set(), Silent(), source)
            registry.put_manifest(path, target, kind, manifest.data)
    seconds = time.perf_counter() - begin
    sent = tuple(digest for digest, how in outcome.items() if how == "sent")
    mounted = tuple(digest for digest, how in outcome.items() if how == "mounted")
    listener(Finished("push", str(reference), seconds, cached=not sent))
    size = sum(distinct[each].descriptor.size for each in sent)
    return Pushed(reference, digest, sent, mounted, size, seconds)


def _tagged_blobs(registry: Registry, reference: Reference) -> AbstractSet[str]:
    """Digests that the manifest names which has the tag now: one question instead of one per layer."""
    if reference.tag is None:
        return set()
    old = registry.find_manifest(replace(reference, digest=None), push=True)
    try:
        document = json.loads(old.data) if old is not None else {}
        return {str(row["digest"]) for row in (document["config"], *document["layers"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()


def _send(
    registry: Registry,
    reference: Reference,
    blobs: Mapping[str, Blob],
    known: AbstractSet[str],
    listener: Listener,
    source: Callable[[Blob], str | None],
) -> dict[str, Sent | None]:
    """What became of each blob; None: it was there."""

    def advance(count: int) -> None:
        listener(Advanced("push", str(reference), count))

    def send(blob: Blob) -> Sent | None:
        descriptor = blob.descriptor
        path = reference.path
        if descriptor.digest in known or registry.has_blob(path, descriptor.digest, push_scope(path)):
            advance(descriptor.size)
            return None
        how = send_blob(registry, path, descriptor, blob.open, advance, source=source(blob))
        if how == "mounted":
            advance(descriptor.size)
        return how

    # Large ones first: nothing waits long at the end.
    ordered = sorted(blobs.values(), key=lambda blob: -blob.descriptor.size)
    with in_parallel(send, ordered, workers=_WORKERS, stop=registry.stop) as done:
        return {blob.descriptor.digest: how for blob, how in done}
