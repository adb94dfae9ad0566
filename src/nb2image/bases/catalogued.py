"""Bases that catalogues name, beside those of Debian packages: in layouts, archives and registries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nb2image.bases.catalogue import Catalogue, CatalogueEntry
from nb2image.bases.layout import LayoutProvider
from nb2image.bases.model import Base, Candidate
from nb2image.cache import Store
from nb2image.errors import NoMatchingBase
from nb2image.progress import Listener
from nb2image.target.model import Platform

if TYPE_CHECKING:
    from nb2image.bases.registry import RegistryProvider

__all__ = ["CataloguedProvider"]

_HERE, _IN_A_REGISTRY = 1, 2
"""The order of what is not assembled from Debian packages: other things equal, those come first."""


class CataloguedProvider:
    """Offers what catalogues name, by the facts that they state; nothing is read, and no registry asked, before one is
    confirmed or delivered.

    Registries that nobody but nb2image's own catalogue names are asked only for the base that is ``named``.
    ``offline``, ``plain_http`` and ``bare`` as for `RegistryProvider`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        platform: Platform,
        store: Store,
        listener: Listener,
        *,
        named: str = "auto",
        offline: bool = False,
        plain_http: bool = False,
        bare: bool = False,
    ) -> None:
        self._bare = bare
        self._catalogue = catalogue
        self._platform = platform
        self._store = store
        self._listener = listener
        self._named = named
        self._offline = offline
        self._plain_http = plain_http
        self._registries: dict[str, RegistryProvider] = {}

    def candidates(self) -> Sequence[Candidate]:
        found = (self._candidate(each) for each in self._entries() if not self._unasked(each))
        return [each for each in found if each is not None]

    def elsewhere(self) -> Sequence[Candidate]:
        """What it names of registries that nobody asked for: for advice; none of it is delivered unless it is named."""
        found = (self._candidate(each) for each in self._entries() if self._unasked(each))
        return [each for each in found if each is not None]

    def _entries(self) -> list[CatalogueEntry]:
        return [each for each in self._catalogue.entries.values() if each.provider != "debian"]

    def _unasked(self, entry: CatalogueEntry) -> bool:
        return entry.provider == "registry" and entry.shipped and entry.name != self._named

    def _candidate(self, entry: CatalogueEntry) -> Candidate | None:
        target = entry.bare(self._platform) if self._bare else entry.target(self._platform)
        if target is None:
            return None
        origin = f"{entry.reference}, as {entry.where} states it"
        order = _HERE if entry.provider == "layout" else _IN_A_REGISTRY
        return Candidate(entry.name, target, entry.size or 0, origin, entry.end_of_life, order=order)

    def confirm(self, candidate: Candidate) -> Candidate:
        """The candidate, with what its registry has under its reference now; no layer is downloaded for it. One that
        is not in a registry stays as it is.

        Raises `RegistryFailure`, `NotAnImage` and `NotCached`, with a hint on what to do without the registry.
        """
        entry = self._catalogue.entry(candidate.name)
        if entry.provider != "registry":
            return candidate
        from nb2image.errors import NotCached, RegistryFailure

        try:
            digest, size = self._registry(entry).resolve()
        except (RegistryFailure, NotCached) as failure:
            raise type(failure)(
                f"The base {entry.name} cannot be had: {failure.message}",
                hint=f"{failure.hint} Or fetch it where its registry can be reached, `nb2image pull {entry.reference} "
                "-o DIR`, and name what was fetched: --base DIR.",
                details=failure.details,
            ) from failure
        locked = f", locked on {entry.locked}" if entry.locked else ""
        return replace(candidate, origin=f"{entry.reference} at {digest}{locked}", size=size)

    def _registry(self, entry: CatalogueEntry) -> RegistryProvider:
        if entry.name not in self._registries:
            from nb2image.bases.registry import RegistryProvider

            self._registries[entry.name] = RegistryProvider(
                entry.exact(self._platform),
                self._platform,
                self._store,
                self._listener,
                offline=self._offline,
                plain_http=self._plain_http,
                bare=self._bare,
            )
        return self._registries[entry.name]

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:
        """The base, with facts as read from it.

        Raises `NotAnImage` and `NoMatchingBase`; of a registry `RegistryFailure` and `NotCached`.
        """
        entry = self._catalogue.entry(candidate.name)
        if entry.provider == "registry":
            self.confirm(candidate)
            remote = self._registry(entry)
            from nb2image.registry.reference import parse_reference

            base = remote.deliver(remote.candidates()[0], listener)
            # A lock changes nothing of the image, nor what it calls its base.
            return replace(base, name=entry.name, reference=str(parse_reference(entry.reference)))
        provider = LayoutProvider(entry.reference, self._platform, self._store, bare=self._bare)
        offered = provider.candidates()
        if (digest := entry.digests.get(str(self._platform))) is not None:
            for each in offered:
                base = provider.deliver(each, listener)
                if base.image.digest == digest:
                    return replace(base, name=entry.name)
            raise NoMatchingBase(
                f"{entry.reference} does not hold {digest}, which {entry.where} locks for {entry.name}.",
                hint=f"Put that image back, or lock what is there now: `nb2image bases lock {entry.name}`.",
            )
        if len(offered) > 1:
            raise NoMatchingBase(
                f"{entry.reference} holds {len(offered)} images, and {entry.where} does not say which one "
                f"{entry.name} is.",
                hint="Add :TAG to its reference in the catalogue.",
            )
        return replace(provider.deliver(offered[0], listener), name=entry.name)
