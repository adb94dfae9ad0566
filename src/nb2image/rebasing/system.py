"""Packages of Debian that an image adds to its base: they belong to that base, and another one gets its own."""

from __future__ import annotations

from collections.abc import Sequence

from nb2image.abi.check import Findings, MissingLibrary
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import SystemPackagesUnusable, UnfitBase
from nb2image.image.model import Layer
from nb2image.inspection.added import Added, Untold, added_to
from nb2image.inspection.model import Inspection
from nb2image.progress import Listener, Note
from nb2image.system.add import SystemPackages, resolve, system_layer
from nb2image.system.installed import installed_in
from nb2image.system.missing import needed_of
from nb2image.system.wanted import Wanted

__all__ = ["added_anew", "said_of"]


def said_of(found: Inspection) -> Added | None:
    """What an image says was added to its base. Raises `UnfitBase` where labels and history do not tell."""
    try:
        return added_to(found)
    except Untold:
        raise UnfitBase(
            f"{found.provenance.reference} has packages of its base's distribution added, and its history does not say "
            "which were asked for.",
            hint="Build it anew: `nb2image build --base NEW`.",
        ) from None


def added_anew(
    added: Added,
    name: str,
    lost: Sequence[MissingLibrary],
    before: Sequence[MissingLibrary],
    base: Base,
    store: Store,
    listener: Listener,
    *,
    offline: bool,
) -> tuple[SystemPackages, tuple[Layer, ...]]:
    """The packages that ``base`` lacks of those that were asked for and of those that have missing libraries (of the
    image ``name``; ``before``: missing on its own base, too), and their layer, if there are any.

    Raises `UnfitBase` for a base that is none of Debian's, and what `resolve` and `system_layer` raise.
    """
    try:
        installed = installed_in(base, store)
    except SystemPackagesUnusable as error:
        names = " ".join(added.wanted) or "for libraries that wheels need"
        raise UnfitBase(
            f"{name} has Debian packages added ({names}), which belong to its base, and they cannot be added to "
            f"{base.name}: {error.message}",
            hint="Choose a Debian base that has its database of packages.",
        ) from error
    missing = (*lost, *before) if added.missing else tuple(lost)
    needed = needed_of(Findings(missing, ()), base, store)
    words = (word.partition("=") for word in added.wanted)
    wanted = [Wanted(package, version, "the image's history") for package, _, version in words]
    system = resolve(wanted, installed, store, listener, needed=needed, offline=offline)
    for text in (system.sentence(), *system.reasons()):
        listener(Note(text))
    if not system.lock.packages:
        return system, ()
    return system, (system_layer(base, installed, system.lock, store, listener, offline=offline),)
