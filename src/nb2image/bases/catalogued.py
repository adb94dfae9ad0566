"""Bases that catalogues name, beside those of Debian packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nb2image.bases.catalogue import Catalogue, CatalogueEntry
from nb2image.bases.layout import LayoutProvider
from nb2image.bases.model import Base, Candidate
from nb2image.cache import Store
from nb2image.errors import NoMatchingBase
from nb2image.progress import Listener
from nb2image.target.model import Platform

__all__ = ["CataloguedProvider"]

_LATER = 1
"""The order of what is not assembled from Debian packages: other things equal, those come first."""


class CataloguedProvider:
    """Offers the layouts and archives that a catalogue names, by the facts that it states; nothing is read before one
    is delivered."""

    def __init__(self, catalogue: Catalogue, platform: Platform, store: Store) -> None:
        self._catalogue = catalogue
        self._platform = platform
        self._store = store

    def candidates(self) -> Sequence[Candidate]:
        found = (self._candidate(entry) for entry in self._catalogue.entries.values() if entry.provider == "layout")
        return [each for each in found if each is not None]

    def elsewhere(self) -> Sequence[Candidate]:
        """What it names of registries, under the references that ``--base`` takes: for advice; none of it is delivered
        here."""
        named = (each for each in self._catalogue.entries.values() if each.provider == "registry")
        found = ((entry.reference, self._candidate(entry)) for entry in named)
        return [replace(each, name=reference) for reference, each in found if each is not None]

    def _candidate(self, entry: CatalogueEntry) -> Candidate | None:
        target = entry.target(self._platform)
        if target is None:
            return None
        origin = f"{entry.reference}, as {entry.where} states it"
        return Candidate(entry.name, target, entry.size or 0, origin, entry.end_of_life, order=_LATER)

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:
        """The base, with facts as read from it. Raises `NotAnImage` or `NoMatchingBase`."""
        entry = self._catalogue.entry(candidate.name)
        provider = LayoutProvider(entry.reference, self._platform, self._store)
        offered = provider.candidates()
        if len(offered) > 1:
            raise NoMatchingBase(
                f"{entry.reference} holds {len(offered)} images, and {entry.where} does not say which one "
                f"{entry.name} is.",
                hint="Add :TAG to its reference in the catalogue.",
            )
        base = provider.deliver(offered[0], listener)
        return replace(base, name=entry.name)
