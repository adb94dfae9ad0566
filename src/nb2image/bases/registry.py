"""`RegistryProvider`: a base that a registry has (``--base HOST/REPOSITORY[:TAG][@DIGEST]``).

Facts are read from the image once and kept under its digest. After that its layers are downloaded only where their
bytes are asked for: a build that is pushed to the same registry mounts them and downloads none.
"""

from __future__ import annotations

from collections.abc import Sequence

from nb2image.bases.facts import known_target, read_target
from nb2image.bases.model import Base, Candidate
from nb2image.cache import Store
from nb2image.errors import NotAnImage
from nb2image.image.model import Image
from nb2image.progress import Listener
from nb2image.registry.client import Registry
from nb2image.registry.pull import Pulled, fetch_layers, open_remote
from nb2image.registry.reference import parse_reference
from nb2image.target.model import Platform

__all__ = ["RegistryProvider"]


class RegistryProvider:
    """Offers the one image that a reference stands for on a platform.

    ``offline``: only what the store has of it; ``bare`` as for `read_target`. Candidates raise `RegistryFailure`,
    `NotAnImage` and `NotCached`.
    """

    def __init__(
        self,
        text: str,
        platform: Platform,
        store: Store,
        listener: Listener,
        *,
        offline: bool = False,
        plain_http: bool = False,
        bare: bool = False,
    ) -> None:
        self._bare = bare
        self._text = text
        self._reference = parse_reference(text)
        self._platform = platform
        self._store = store
        self._listener = listener
        self._registry = None if offline else Registry(self._reference.domain, plain_http=plain_http)
        self._pulled: Pulled | None = None
        self._found: tuple[Candidate, Image] | None = None

    def resolve(self) -> tuple[str, int]:
        """The digest of what the reference stands for on the platform, and the bytes of its layers; none of them is
        downloaded. Raises `RegistryFailure`, `NotAnImage` and `NotCached`."""
        if self._pulled is None:
            self._pulled = open_remote(self._registry, self._reference, self._platform, self._store, self._listener)
        image = self._pulled.read(exact=True)
        return self._pulled.digest, sum(layer.descriptor.size for layer in image.layers)

    def candidates(self) -> Sequence[Candidate]:
        return [self._read()[0]]

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:  # noqa: ARG002  (layers come when they are opened)
        found, image = self._read()
        if found != candidate:
            raise NotAnImage(f"{self._text} is no base called {candidate.name!r}.", hint="Ask for the candidates.")
        return Base(candidate.name, image, candidate.target, str(self._reference))

    def _read(self) -> tuple[Candidate, Image]:
        if self._found is None:
            digest, size = self.resolve()
            assert self._pulled is not None
            image = _image(self._pulled)
            target = known_target(image, self._store, bare=self._bare)
            if target is None:
                if self._registry is not None:
                    fetch_layers(image.layers, self._registry)
                target = read_target(image, self._store, bare=self._bare)
            at = "" if self._reference.digest == digest else f" at {digest}"
            self._found = Candidate(self._text, target, size, f"{self._reference}{at}", cached=True), image
        return self._found


def _image(pulled: Pulled) -> Image:
    """The base with layers in OCI's media types, since the image on top has an OCI manifest; itself it has the digest
    that the registry knows it by."""
    image = pulled.read(exact=False)
    exact = pulled.read(exact=True)
    image.__dict__.update({name: getattr(exact, name) for name in ("config_bytes", "manifest_bytes", "descriptor")})
    return image
