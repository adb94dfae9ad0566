"""Layers that registries have: what need not be built to be pushed there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nb2image.cache import Store
from nb2image.errors import RegistryRefused
from nb2image.image.model import Descriptor, Image, Layer
from nb2image.layers.cached import Known
from nb2image.parallel import in_parallel
from nb2image.progress import Listener
from nb2image.registry.client import Registry, pull_scope, push_scope
from nb2image.registry.places import Places, repositories_of
from nb2image.registry.pull import RemoteLayer, Source
from nb2image.registry.reference import Reference

__all__ = ["held_layers"]

_WORKERS = 6


def held_layers(
    targets: Sequence[tuple[Registry, Reference]],
    base: Image,
    wanted: Sequence[Known],
    store: Store,
    listener: Listener,
) -> list[Layer] | None:
    """``wanted`` as layers of registries, if each of these has all of them: in the repository that is pushed to, in
    that of ``base``, or where they were pushed before. Of the first registry they are downloaded should another one
    lose them meanwhile. None otherwise. Raises `RegistryFailure`.
    """
    found: list[Layer] = []
    for registry, target in targets:
        places = _places(registry, target, base, wanted, store)
        if places is None:
            return None
        if not found:
            sources = {
                path: Source(registry, replace(target, path=path, tag=None), store, listener) for path in set(places)
            }
            rows = zip(wanted, places, strict=True)
            found = [RemoteLayer(sources[path], x.descriptor, x.written.diff_id, x.comment) for x, path in rows]
    return found


def _places(
    registry: Registry, target: Reference, base: Image, wanted: Sequence[Known], store: Store
) -> list[str] | None:
    """The repository that has each of the layers; None when one has none."""
    near = repositories_of(base.layers, registry.domain)
    known = Places(store)

    def place(layer: Known) -> str | None:
        for path in _candidates(target, near, known.find(registry.domain, layer.written.digest)):
            if _has(registry, target, path, layer.descriptor):
                return path
        return None

    digests = {layer.written.digest: layer for layer in wanted}
    with in_parallel(place, [*digests.values()], workers=_WORKERS, stop=registry.stop) as answers:
        found = {layer.written.digest: path for layer, path in answers}
    paths = [path for layer in wanted if (path := found[layer.written.digest]) is not None]
    return paths if len(paths) == len(wanted) else None


def _candidates(target: Reference, near: Sequence[str], known: str | None) -> Iterator[str]:
    yield target.path
    yield from dict.fromkeys(path for path in (*near, known) if path and path != target.path)


def _has(registry: Registry, target: Reference, path: str, descriptor: Descriptor) -> bool:
    if path == target.path:
        return registry.has_blob(path, descriptor.digest, push_scope(path))
    try:
        return registry.has_blob(path, descriptor.digest, pull_scope(path))
    except RegistryRefused:
        # Of a repository that is not asked for, a refusal says no more than that it is of no use.
        return False
