"""Packages of Debian that an image adds to its base: they belong to that base, and another one gets its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nb2image.abi.check import Findings, MissingLibrary
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import SystemPackagesUnusable, UnfitBase
from nb2image.image.model import Layer
from nb2image.inspection.model import Inspection
from nb2image.progress import Listener, Note
from nb2image.system.add import SystemPackages, resolve, system_layer
from nb2image.system.installed import installed_in
from nb2image.system.missing import needed_of
from nb2image.system.wanted import Wanted

__all__ = ["SYSTEM", "Added", "added_anew", "added_to"]

SYSTEM = "io.nb2image.system."
"""How labels begin that tell of such packages."""
_COMMENT = re.compile(r"Debian \S+ of \S+: \d+ packages for (.+)")
_SONAME = re.compile(r"\.so(\.|$)")
_WANTED = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:=([A-Za-z0-9.+:~-]+))?")


@dataclass(frozen=True)
class Added:
    """What was asked for when an image was built. ``layers`` is 1 or, where its base had all of it, 0; ``missing``:
    whether libraries that wheels need were among the reasons."""

    wanted: tuple[Wanted, ...]
    layers: int
    missing: bool


def added_to(found: Inspection, base_layers: int, comments: Sequence[str]) -> Added | None:
    """What an image says was added to its base, which with that has ``base_layers``; None: nothing.

    Raises `UnfitBase` where labels and history do not tell.
    """
    stated = found.labels.get(f"{SYSTEM}packages")
    comment = _COMMENT.fullmatch(comments[base_layers - 1]) if stated and base_layers else None
    if not stated:
        return None
    if comment is None and "=" in stated:
        raise _untold(found)
    words = (comment[1] if comment else stated).split()
    names = [_WANTED.fullmatch(word) for word in words if not _SONAME.search(word)]
    wanted = [Wanted(name[1], name[2] or "", "the image's history") for name in names if name]
    if len(wanted) != len(names):
        raise _untold(found)
    return Added(tuple(wanted), int(comment is not None), len(names) != len(words))


def _untold(found: Inspection) -> UnfitBase:
    return UnfitBase(
        f"{found.provenance.reference} has packages of its base's distribution added, and its history does not say "
        "which were asked for.",
        hint="Build it anew: `nb2image build --base NEW`.",
    )


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
        names = " ".join(map(str, added.wanted)) or "for libraries that wheels need"
        raise UnfitBase(
            f"{name} has Debian packages added ({names}), which belong to its base, and they cannot be added to "
            f"{base.name}: {error.message}",
            hint="Choose a Debian base that has its database of packages.",
        ) from error
    missing = (*lost, *before) if added.missing else tuple(lost)
    needed = needed_of(Findings(missing, ()), base, store)
    system = resolve(added.wanted, installed, store, listener, needed=needed, offline=offline)
    for text in (system.sentence(), *system.reasons()):
        listener(Note(text))
    if not system.lock.packages:
        return system, ()
    return system, (system_layer(base, installed, system.lock, store, listener, offline=offline),)
