"""An image put onto a registry: only what it lacks is opened, and so only that is built or downloaded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from nb2image.errors import RegistryAnswered
from nb2image.image.documents import INDEX_TYPES
from nb2image.image.model import Layer, Manifest
from nb2image.image.whole import AnyImage, Whole, whole_of
from nb2image.parallel import in_parallel
from nb2image.progress import Advanced, Finished, Listener, Silent, Started
from nb2image.registry.client import Registry, push_scope
from nb2image.registry.places import Places, repositories_of
from nb2image.registry.pull import RemoteLayer
from nb2image.registry.reference import Reference
from nb2image.registry.referrers import keep_referrer
from nb2image.registry.upload import Sent, send_blob
from nb2image.sizes import shown

__all__ = ["Pushed", "push"]

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


def push(
    image: AnyImage, reference: Reference, registry: Registry, listener: Listener, places: Places | None = None
) -> Pushed:
    """Have ``image`` on the registry under the tag of ``reference`` (without one: under its digest), and all images of
    an index. ``places``: where blobs were pushed before, to be mounted from there, and where these are then.

    Raises `RegistryFailure`, and whatever the layers raise when their bytes cannot be had.
    """
    return _Pushing(whole_of(image), reference, registry, listener, places).run()


class _Pushing:
    """One push of one image or index."""

    def __init__(
        self, whole: Whole, reference: Reference, registry: Registry, listener: Listener, places: Places | None
    ) -> None:
        self._whole = whole
        self._blobs = {blob.descriptor.digest: blob for blob in whole.blobs}
        self._reference = reference
        self._registry = registry
        self._listener = listener
        self._places = places
        self._near = repositories_of(whole.blobs, reference.domain)

    def run(self) -> Pushed:
        begin = time.perf_counter()
        reference, digest = self._reference, self._whole.digest
        total = sum(blob.descriptor.size for blob in self._blobs.values())
        self._listener(Started("push", str(reference), total, "bytes"))
        outcome: dict[str, Sent | None] = {}
        # The index before its images, each of which is asked for: some registries take an index without them.
        digests = [manifest.descriptor.digest for manifest in reversed(self._whole.manifests)]
        if all(self._registry.has_manifest(reference.path, each) for each in digests):
            # A registry takes no manifest whose blobs it lacks: all of them are there.
            self._advance(total)
            self._put_root()
        else:
            known = self._tagged()
            outcome = self._send(self._blobs.keys(), known)
            try:
                self._put()
            except RegistryAnswered:
                if not known:
                    raise
                # The tag's old manifest may name blobs that were deleted since: all of them are looked for.
                self._listener = Silent()
                outcome |= self._send(known & self._blobs.keys(), set())
                self._put()
        seconds = time.perf_counter() - begin
        sent = tuple(digest for digest, how in outcome.items() if how == "sent")
        mounted = tuple(digest for digest, how in outcome.items() if how == "mounted")
        self._remember((*sent, *mounted))
        self._listener(Finished("push", str(reference), seconds, cached=not sent))
        size = sum(self._blobs[each].descriptor.size for each in sent)
        return Pushed(reference, digest, sent, mounted, size, seconds)

    def _put(self) -> None:
        for manifest in self._whole.manifests[:-1]:
            self._put_one(manifest, manifest.descriptor.digest)
        self._put_root()

    def _put_root(self) -> None:
        root = self._whole.manifests[-1]
        self._put_one(root, self._reference.tag or root.descriptor.digest)

    def _put_one(self, manifest: Manifest, target: str) -> None:
        path = self._reference.path
        answer = self._registry.put_manifest(path, target, manifest.descriptor.media_type, manifest.data)
        keep_referrer(self._registry, path, manifest, answer)

    def _tagged(self) -> AbstractSet[str]:
        """Digests of blobs that the tag stands for now: one question for each image instead of one for each layer."""
        if self._reference.tag is None:
            return set()
        return self._named(replace(self._reference, digest=None), 1)

    def _named(self, reference: Reference, depth: int) -> AbstractSet[str]:
        found = self._registry.find_manifest(reference, push=True)
        try:
            document = json.loads(found.data) if found is not None else {}
            if found is not None and found.descriptor.media_type in INDEX_TYPES:
                rows = document["manifests"][: len(self._whole.manifests)] if depth else ()
                return {each for row in rows for each in self._named(reference.at(str(row["digest"])), depth - 1)}
            return {str(row["digest"]) for row in (document["config"], *document["layers"])}
        except (ValueError, KeyError, TypeError, RecursionError):
            return set()

    def _send(self, digests: Iterable[str], known: AbstractSet[str]) -> dict[str, Sent | None]:
        """What became of each blob; None: it was there."""
        path = self._reference.path

        def send(blob: Layer) -> Sent | None:
            descriptor = blob.descriptor
            if descriptor.digest in known or self._registry.has_blob(path, descriptor.digest, push_scope(path)):
                self._advance(descriptor.size)
                return None
            source = self._source(blob)
            how = send_blob(self._registry, path, descriptor, blob.open, self._advance, source=source)
            if how == "mounted":
                self._advance(descriptor.size)
            return how

        # Large ones first: nothing waits long at the end.
        ordered = sorted((self._blobs[digest] for digest in digests), key=lambda blob: -blob.descriptor.size)
        with in_parallel(send, ordered, workers=_WORKERS, stop=self._registry.stop) as done:
            return {blob.descriptor.digest: how for blob, how in done}

    def _source(self, blob: Layer) -> str | None:
        """A repository of the registry that may have a blob."""
        domain = self._reference.domain
        if isinstance(blob, RemoteLayer) and blob.source.reference.domain == domain:
            return blob.source.reference.path
        known = self._places.find(domain, blob.descriptor.digest) if self._places is not None else None
        return known or next(iter(self._near), None)

    def _remember(self, digests: Iterable[str]) -> None:
        if self._places is None:
            return
        for digest in digests:
            if self._blobs[digest].descriptor.size >= _WORTH:
                self._places.remember(self._reference.domain, digest, self._reference.path)

    def _advance(self, count: int) -> None:
        self._listener(Advanced("push", str(self._reference), count))
