"""`lock_bases`: what bases stand for now, written down so that builds take the same ones from then on.

What is written is a folder for version control: ``locked.toml``, a catalogue whose entries name images by digest, and
beside it the locks of Debian packages that it refers to, in the form in which nb2image ships its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from nb2image.bases.catalogue import CatalogueEntry, read_catalogue
from nb2image.bases.debian.lock import Locks, read_locks, shipped_lock, shipped_toolchain
from nb2image.cache import Store
from nb2image.errors import BadCatalogue, BaseError, NotAnImage, RegistryFailure
from nb2image.progress import Listener
from nb2image.target.model import Platform

__all__ = ["CATALOGUE", "Locked", "files_of", "lock_bases", "locked_before"]

CATALOGUE = "locked.toml"
_HEAD = (
    "# Written by `nb2image bases lock`. Each base is what it was on the day that `locked` names; without names, the\n"
    "# same command locks all of them anew.\n"
)


@dataclass(frozen=True)
class Locked:
    """An entry that means one thing for each of its platforms, and for a base of Debian packages the locks of each.
    ``left_out`` are the platforms that the entry stated and that are not to be had."""

    entry: CatalogueEntry
    locks: Mapping[str, Locks]
    left_out: tuple[str, ...] = ()

    def states(self) -> Mapping[str, str]:
        """What it is, by platform, in a word."""
        made = {platform: f"{each.base.day}, {each.base.digest[:19]}" for platform, each in self.locks.items()}
        return made or {platform: digest[:19] for platform, digest in self.entry.digests.items()}


def locked_before(folder: Path) -> dict[str, Locked]:
    """What a folder has of an earlier time, by name. Raises `BadCatalogue` and `BaseError`."""
    file = folder / CATALOGUE
    if not file.exists():
        return {}
    entries = read_catalogue(file)
    if not file.read_text("utf-8").startswith(_HEAD):
        raise BadCatalogue(
            f"{file} was not written by `nb2image bases lock`, which would replace it.",
            hint="Name another folder with --output, and that file with --catalogue.",
        )
    found = {}
    for entry in entries:
        locks = {}
        for platform in _platforms(entry):
            if entry.locks is not None and (each := read_locks(entry.locks, entry.reference, platform)) is not None:
                locks[str(platform)] = each
        found[entry.name] = Locked(entry, locks)
    return found


def lock_bases(
    entries: Sequence[CatalogueEntry], today: date, store: Store, listener: Listener, *, plain_http: bool = False
) -> list[Locked]:
    """Look up what each entry stands for. A registry is asked for documents only.

    Raises `RegistryFailure`, `NotAnImage`, and `BaseError` where an entry is there for none of its platforms.
    """
    found = []
    for entry in entries:
        if entry.provider == "debian":
            found.append(_debian(entry, today))
        else:
            found.append(_images(entry, today, store, listener, plain_http=plain_http))
    return found


def _platforms(entry: CatalogueEntry) -> list[Platform]:
    return [Platform(*each.split("/")) for each in entry.platforms]


def _debian(entry: CatalogueEntry, today: date) -> Locked:
    locks: dict[str, Locks] = {}
    for platform in _platforms(entry):
        if entry.locks is not None:
            each = read_locks(entry.locks, entry.reference, platform)
        else:
            base, toolchain = shipped_lock(entry.reference, platform), shipped_toolchain(entry.reference, platform)
            each = Locks(base, toolchain) if base is not None and toolchain is not None else None
        if each is not None:
            locks[str(platform)] = each
    return _locked(replace(entry, locked=today), locks, dict.fromkeys(locks))


def _images(entry: CatalogueEntry, today: date, store: Store, listener: Listener, *, plain_http: bool) -> Locked:
    digests: dict[str, str] = {}
    size = None
    missing: NotAnImage | None = None
    for platform in _platforms(entry):
        try:
            if entry.provider == "registry":
                from nb2image.bases.registry import RegistryProvider

                provider = RegistryProvider(entry.reference, platform, store, listener, plain_http=plain_http)
                digest, bytes_ = provider.resolve()
            else:
                from nb2image.image.read import find_image

                image = find_image(entry.reference, platform).read()
                digest, bytes_ = image.digest, sum(layer.descriptor.size for layer in image.layers)
        except NotAnImage as failure:
            missing = failure
            continue
        except RegistryFailure as failure:
            failure.message = f"The base {entry.name} cannot be locked: {failure.message}"
            raise
        digests[str(platform)] = digest
        size = bytes_ if size is None else size
    if not digests and missing is not None:
        raise missing
    return _locked(replace(entry, locked=today, size=size, digests=digests), {}, digests)


def _locked(entry: CatalogueEntry, locks: Mapping[str, Locks], there: Mapping[str, object]) -> Locked:
    if not there:
        raise BaseError(f"The base {entry.name} is there for none of its platforms.", hint="Correct its catalogue.")
    left_out = tuple(each for each in entry.platforms if each not in there)
    return Locked(replace(entry, platforms=tuple(there)), locks, left_out)


def files_of(locked: Sequence[Locked], before: Mapping[str, Locked], folder: Path) -> dict[str, str]:
    """The texts to be written below ``folder``, by relative path: of what was locked now, and of the rest of what was
    locked ``before``."""
    texts: dict[str, str] = {}
    entries = {name: each.entry for name, each in before.items()}
    for each in locked:
        entry = each.entry
        # Files are named for their suite, of which there may be several.
        below = "" if entry.name == entry.reference else f"{entry.name}/"
        entries[entry.name] = replace(entry, locks=folder / below if each.locks else None)
        for locks in each.locks.values():
            name = f"{locks.base.suite}-{locks.base.architecture}.json"
            texts[f"{below}toolchain/{name}"] = locks.toolchain.text()
            texts[below + name] = locks.base.text()
    texts[CATALOGUE] = _HEAD + "".join(_table(entry, folder) for entry in entries.values())
    return texts


def _table(entry: CatalogueEntry, folder: Path) -> str:
    values: dict[str, object] = {
        "name": entry.name,
        "provider": entry.provider,
        "reference": _path(entry.reference, folder) if entry.provider == "layout" else entry.reference,
        "platforms": list(entry.platforms),
        "python": entry.python,
        "interpreter": entry.interpreter,
        "glibc": entry.glibc,
        "musl": entry.musl,
        "cuda": entry.cuda,
        "cudnn": entry.cudnn,
        "licences": list(entry.licences),
        "end_of_life": entry.end_of_life,
        "size": entry.size,
        "locked": entry.locked,
        "locks": _path(str(entry.locks), folder) if entry.locks is not None else None,
        **{f'digests."{platform}"': digest for platform, digest in entry.digests.items()},
    }
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if value not in (None, [])]
    return "\n".join(["", "[[base]]", *lines, ""])


def _value(value: object) -> str:
    """A printable text, a list of such, a number or a date, as TOML 1.0 has them."""
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)


def _path(path: str, folder: Path) -> str:
    """A path as the catalogue in a folder states it: relative where that leads no further up than a folder."""
    relative = os.path.relpath(path, folder)
    return relative if not relative.startswith(f"..{os.sep}..") else os.path.abspath(path)  # noqa: PTH100 - links stay
