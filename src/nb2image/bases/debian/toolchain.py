"""A Debian base with a compiler: what source distributions that compile C or C++ are built in, never what is shipped.

The compiler's packages come from the same signed index as those of the base, so their versions fit exactly. They are
one more layer over the base: what the assembly of all packages has beyond that of the base's.
"""

from __future__ import annotations

from collections.abc import Iterator

from nb2image.bases.debian.assemble import ASSEMBLY, assemble_beyond
from nb2image.bases.debian.download import NotThere, fetch_packages
from nb2image.bases.debian.lock import BaseLock, Locks, shipped_lock, shipped_toolchain
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.provider import layer_key
from nb2image.bases.debian.selection import SUITES
from nb2image.bases.debian.update import renewed_before
from nb2image.bases.model import Base
from nb2image.cache import Store, digest_of_key
from nb2image.errors import BaseError, BasePackagesGone, NoCompiler
from nb2image.image.model import Image
from nb2image.layers.cached import cached_layer, known_layer
from nb2image.layers.entry import Entry
from nb2image.layers.write import WRITER
from nb2image.progress import Listener

__all__ = ["is_made_from", "toolchain_image"]


def toolchain_image(
    base: Base, store: Store, listener: Listener, *, offline: bool, mirrors: Mirrors | None = None
) -> Image:
    """The base's image with gcc, g++, make, pkg-config and the headers of its C library and of its Python.

    ``offline`` uses what is in the store; ``mirrors`` defaults to those of this machine. Raises `NoCompiler` for a
    base that `DebianProvider` did not deliver, `NotCached` (``offline``), `BasePackagesGone` when a package is to be
    had nowhere any more, `IndexFailure`, `BadPackage` or `Unwritable`.
    """
    lock, toolchain = _locks(base, store)
    places = mirrors if mirrors is not None else Mirrors.of_this_machine()

    def entries() -> list[Entry]:
        try:
            below = fetch_packages(lock, store, places, listener, offline=offline)
            files = fetch_packages(toolchain, store, places, listener, offline=offline)
        except NotThere as gone:
            raise BasePackagesGone(
                f"The compiler for {lock.suite} of {lock.day} cannot be had any more: {gone.message}",
                hint="Write new locks with `nb2image bases update`; the image's digest will differ.",
                details=gone.details,
            ) from gone
        return assemble_beyond(below, files, lock.architecture)

    key = digest_of_key("debian-toolchain", ASSEMBLY, WRITER, toolchain.digest)
    comment = f"compiler: {len(toolchain.packages)} packages of Debian {lock.release} of {lock.day}"
    return base.image.with_layers([cached_layer(store, key, comment, entries)])


def _locks(base: Base, store: Store) -> Locks:
    """The locks that a base was made from."""
    for known in _known(base, store):
        lock, toolchain = known
        if not is_made_from(base, lock, store):
            continue
        if toolchain.base != lock.digest:
            raise BaseError(
                f"The lock of {toolchain.subject} belongs to another base than that of {lock.day}.",
                hint=f"Write both anew with `nb2image bases update {lock.suite}`.",
            )
        return known
    raise NoCompiler(
        f"There is no compiler for the base {base.reference}: "
        "only the Debian bases that nb2image assembles itself have one.",
        hint=f"Build on one of these ({', '.join(SUITES)}), or lock versions that have wheels.",
    )


def _known(base: Base, store: Store) -> Iterator[Locks]:
    if base.pinned is not None:
        yield base.pinned
        return
    lock = shipped_lock(base.name, base.target.platform) if base.name in SUITES else None
    if lock is None:
        return
    toolchain = shipped_toolchain(base.name, base.target.platform)
    if toolchain is not None:
        yield Locks(lock, toolchain)
    before = renewed_before(lock, store)
    if before is not None:
        yield before


def is_made_from(base: Base, lock: BaseLock, store: Store) -> bool:
    """Whether a base is the one that `DebianProvider` makes of a lock."""
    written = known_layer(store, layer_key(lock))
    return (
        base.reference == lock.reference
        and written is not None
        and [layer.descriptor.digest for layer in base.image.layers] == [written.digest]
    )
