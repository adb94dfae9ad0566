"""`Base` and `Provider`: the plug point for everything a base image may come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nb2image.image.model import Image
from nb2image.progress import Listener
from nb2image.target.model import Target

if TYPE_CHECKING:
    from nb2image.bases.debian.lock import Locks

__all__ = ["Base", "Candidate", "Provider", "Remote"]


@dataclass(frozen=True)
class Candidate:
    """A base that a provider could deliver, known without having it.

    ``name`` is what ``--base`` takes (``bookworm``), ``target`` its facts as its lock or document states them,
    ``size`` its compressed size in bytes (for the choice among equals), ``origin`` one phrase on where it comes
    from (``Debian 12, 63 packages of 2026-11-20``), ``end_of_life`` the last day on which whoever makes it mends it,
    ``cached`` whether it is on this machine; of two that fit equally the one of the lower ``order`` is taken.
    """

    name: str
    target: Target
    size: int
    origin: str
    end_of_life: date | None = None
    cached: bool = False
    order: int = 0


@dataclass(frozen=True)
class Base:
    """A base that is here: the image, and its facts as read from the image itself.

    ``reference`` is a fully qualified name for ``org.opencontainers.image.base.name``; ``notes`` are sentences a
    user must see (a base resolved anew, so that its digest differs); ``pinned`` the locks of Debian packages that it
    was made of, where they are the user's own.
    """

    name: str
    image: Image
    target: Target
    reference: str
    notes: tuple[str, ...] = ()
    pinned: Locks | None = None


class Provider(Protocol):
    """Offers candidates, and delivers one of them."""

    def candidates(self) -> Sequence[Candidate]:
        """What could be delivered, without any download."""
        ...

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:
        """The base itself. Raises `BaseError`, `IndexFailure` or `Unwritable`."""
        ...


@runtime_checkable
class Remote(Provider, Protocol):
    """A provider whose candidates are known by what somebody wrote down, and may be gone where they are."""

    def confirm(self, candidate: Candidate) -> Candidate:
        """The candidate as it is there now; nothing is downloaded but documents. Raises `RegistryFailure`,
        `NotAnImage` and `NotCached`."""
        ...
