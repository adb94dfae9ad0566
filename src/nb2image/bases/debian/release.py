"""The signed index of a suite: ``InRelease``, checked with Debian's keys, and the ``Packages`` files it vouches for.

A passed ``Valid-Until`` is a warning and no error: snapshots and suites that ended stay as they were signed.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from nb2image.bases.debian.download import Archives
from nb2image.bases.debian.resolve import PackageIndex, Stanza
from nb2image.cache import Store
from nb2image.errors import BadSignature, IndexAnswered, IndexFailure
from nb2image.index.credentials import redact
from nb2image.progress import Listener, Warned, stage

if TYPE_CHECKING:
    from pysequoia import Cert

__all__ = ["Release", "SuiteIndex", "read_contents", "read_release", "read_suite", "trusted_keys"]

_LARGEST_RELEASE = 4 << 20
_HOST_KEYRINGS = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Release:
    """A verified ``InRelease``. ``date`` is when it was made, ``valid_until`` when a newer one should be there at the
    latest (None: never), ``version`` the point release (may be empty)."""

    codename: str
    version: str
    date: datetime
    valid_until: datetime | None
    by_hash: bool
    files: dict[str, tuple[str, int]]
    """Path below ``dists/<suite>/`` → (sha256 in hex, size in bytes)."""


@dataclass(frozen=True)
class SuiteIndex:
    """All packages of a suite with its updates and security fixes; ``date`` of the newest of its indexes."""

    packages: PackageIndex
    version: str
    date: datetime


def trusted_keys() -> list[Cert]:
    """Debian's archive keys: those that nb2image brings, and those of this machine's keyring package.

    Raises `BadSignature` where signatures cannot be checked at all.
    """
    try:
        from pysequoia import Cert
    except ModuleNotFoundError as error:
        raise BadSignature(
            "Signatures of Debian's indexes cannot be checked here: there is no pysequoia for this Python on macOS.",
            hint="Use Python 3.11 or later to resolve a base; those that nb2image brings need no signature.",
        ) from error

    folder = resources.files("nb2image") / "images" / "keys"
    keys = [Cert.from_bytes(file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".asc")]
    for name in _HOST_KEYRINGS:
        keyring = Path("/usr/share/keyrings") / name
        if keyring.is_file():
            keys += Cert.split_bytes(keyring.read_bytes())
    return list({key.fingerprint: key for key in reversed(keys)}.values())


def read_release(signed: bytes, suite: str, keys: list[Cert], place: str) -> Release:
    """Check the signature of an ``InRelease`` and read what it signs; ``place`` stands in messages.

    Raises `BadSignature` when no key of ``keys`` signed it or it is of another suite, `IndexAnswered` when what was
    signed lacks a field.
    """
    from pysequoia import verify

    hint = "The mirror may be damaged, or something changes downloads on the way; try again or another mirror."
    try:
        # Only what the signature covers is read: text around it is nobody's.
        body = verify(signed, store=lambda _: keys).bytes
    except Exception as error:
        # pysequoia raises no class of its own.
        raise BadSignature(f"{place} has no valid signature of Debian: {error}.", hint=hint) from error
    paragraph = Stanza("", (body or b"").decode())
    codename = paragraph.field("Codename")
    if codename != suite:
        raise BadSignature(f"{place} is signed by Debian but is that of {codename!r}.", hint=hint)
    try:
        date = _date(paragraph.field("Date"))
        end = paragraph.field("Valid-Until")
        valid_until = _date(end) if end else None
        rows = (line.split() for line in paragraph.field("SHA256").splitlines())
        files = {path: (digest, int(size)) for digest, size, path in rows}
    except (ValueError, TypeError) as error:
        raise IndexAnswered(f"{place} cannot be read: {error}.", hint=hint) from error
    by_hash = paragraph.field("Acquire-By-Hash") == "yes"
    return Release(codename, paragraph.field("Version"), date, valid_until, by_hash, files)


def _date(text: str) -> datetime:
    return parsedate_to_datetime(text).astimezone(timezone.utc)


def read_suite(suite: str, architecture: str, archives: Archives, store: Store, listener: Listener) -> SuiteIndex:
    """Fetch and check the indexes of a suite, of its updates and of its security fixes.

    All three are required: a mirror that could hide one could hold back fixes. Raises `BadSignature`,
    `HashMismatch`, `IndexAnswered` or `IndexUnreachable`.
    """
    keys = trusted_keys()
    now = datetime.now(timezone.utc)
    texts: list[tuple[str, str]] = []
    releases = []
    for archive, name in (("main", suite), ("main", f"{suite}-updates"), ("security", f"{suite}-security")):
        with stage(listener, "index", name):
            release, text = _read_part(archive, name, architecture, archives, store, keys, now)
        if release.valid_until is not None and release.valid_until < now:
            listener(
                Warned(
                    f"The index of {name} was to be renewed by {release.valid_until:%Y-%m-%d}: fixes may be missing.",
                    hint="The mirror may be stale; another one may have a newer index.",
                )
            )
        releases.append(release)
        texts.append((archive, text))
    return SuiteIndex(PackageIndex(texts), releases[0].version, max(release.date for release in releases))


def _read_part(
    archive: str, suite: str, architecture: str, archives: Archives, store: Store, keys: list[Cert], now: datetime
) -> tuple[Release, str]:
    problems: list[IndexFailure | BadSignature] = []
    for place in archives.places(archive, now):
        root = f"{place}dists/{suite}/"
        try:
            signed = archives.text(root + "InRelease", _LARGEST_RELEASE)
            release = read_release(signed, suite, keys, redact(root) + "InRelease")
            return release, _packages(release, architecture, root, archives, store)
        except (IndexFailure, BadSignature) as problem:
            problems.append(problem)
    # A bad signature is the one that must not go unseen.
    raise next((p for p in problems if isinstance(p, BadSignature)), problems[0])


def _packages(release: Release, architecture: str, root: str, archives: Archives, store: Store) -> str:
    path = f"main/binary-{architecture}/Packages.xz"
    data = _fetched(release, path, architecture, root, archives, store).read_bytes()
    try:
        return lzma.decompress(data).decode()
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise IndexAnswered(f"{redact(root)}{path} cannot be read: {error}.", hint="Try another mirror.") from error


def read_contents(suite: str, architecture: str, archives: Archives, store: Store) -> Path:
    """The list of all files of a suite (``Contents-<architecture>.gz``), checked by its signed hash, in the store.

    Raises what `read_suite` raises.
    """
    keys = trusted_keys()
    problems: list[IndexFailure | BadSignature] = []
    for place in archives.places("main", datetime.now(timezone.utc)):
        root = f"{place}dists/{suite}/"
        try:
            signed = archives.text(root + "InRelease", _LARGEST_RELEASE)
            release = read_release(signed, suite, keys, redact(root) + "InRelease")
            return _fetched(release, f"main/Contents-{architecture}.gz", architecture, root, archives, store)
        except (IndexFailure, BadSignature) as problem:
            problems.append(problem)
    raise next((p for p in problems if isinstance(p, BadSignature)), problems[0])


def _fetched(release: Release, path: str, architecture: str, root: str, archives: Archives, store: Store) -> Path:
    if path not in release.files:
        raise IndexAnswered(
            f"{redact(root)}InRelease lists no {path}.",
            hint=f"The suite may not exist for {architecture}.",
        )
    digest, size = release.files[path]
    file = store.find("bases", f"sha256:{digest}", size)
    if file is None:
        file = _first(archives, store, [root + p for p in _paths(path, digest, release)], f"sha256:{digest}", size)
    return file


def _paths(path: str, digest: str, release: Release) -> Iterator[str]:
    """A file is named by its hash as well, so that a mirror may be updated between two requests."""
    if release.by_hash:
        yield f"{path.rpartition('/')[0]}/by-hash/SHA256/{digest}"
    yield path


def _first(archives: Archives, store: Store, urls: list[str], digest: str, size: int) -> Path:
    for url in urls[:-1]:
        try:
            return archives.blob(store, url, digest, size)
        except IndexFailure:
            continue
    return archives.blob(store, urls[-1], digest, size)
