"""What refers to an image, copied along with it."""

from __future__ import annotations

from collections.abc import Iterable

from nb2image.progress import Listener
from nb2image.registry.client import Registry
from nb2image.registry.places import Places
from nb2image.registry.pull import Source, whole_at
from nb2image.registry.push import Pushed, push
from nb2image.registry.reference import Reference
from nb2image.registry.referrers import find_referrers

__all__ = ["copy_referrers"]


def copy_referrers(
    source: Source, digests: Iterable[str], target: Reference, registry: Registry, listener: Listener, places: Places
) -> list[Pushed]:
    """Copy whatever refers to the manifests ``digests`` of a repository, and what refers to that in turn.

    Raises `RegistryFailure` and `NotAnImage`.
    """
    assert source.registry is not None
    done: dict[str, Pushed] = {}
    waiting = list(digests)
    while waiting:
        for row in find_referrers(source.registry, source.reference.path, waiting.pop()):
            if row.digest in done:
                continue
            manifest = source.registry.manifest(source.reference.at(row.digest))
            source.know(manifest.data)
            whole = whole_at(source, manifest)
            done[row.digest] = push(whole, target.at(row.digest), registry, listener, places)
            waiting += [each.descriptor.digest for each in whole.manifests]
    return list(done.values())
