"""Where on a registry a blob is to be had besides the repository that it is wanted in: it is mounted from there."""

from __future__ import annotations

from collections.abc import Iterable

from nb2image.cache import Store, digest_of_key
from nb2image.image.model import Layer
from nb2image.registry.pull import RemoteLayer

__all__ = ["Places", "repositories_of"]

_KIND = "pushed"


def repositories_of(layers: Iterable[Layer], domain: str) -> list[str]:
    """The repositories of a registry that layers come from."""
    remote = (layer.source.reference for layer in layers if isinstance(layer, RemoteLayer))
    return list(dict.fromkeys(reference.path for reference in remote if reference.domain == domain))


class Places:
    """The repository of a registry that a blob was pushed to from this machine. What is remembered may have been
    deleted since: a registry that cannot mount a blob begins an upload of it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, domain: str, digest: str) -> str | None:
        found = self._store.get_record(_KIND, digest_of_key(_KIND, domain, digest))
        return found if isinstance(found, str) else None

    def remember(self, domain: str, digest: str, path: str) -> None:
        self._store.put_record(_KIND, digest_of_key(_KIND, domain, digest), path)
