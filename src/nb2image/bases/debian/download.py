"""Fetching from archives: one place after the other, hashed while it streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from nb2image.bases.debian.lock import BaseLock, LockedDeb, SystemLock, ToolchainLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.cache import Store
from nb2image.errors import HashMismatch, IndexAnswered, IndexFailure, IndexUnreachable, NotCached
from nb2image.index.credentials import bare, redact
from nb2image.pace import Pace, Stalled
from nb2image.parallel import in_parallel
from nb2image.progress import Advanced, Finished, Listener, Started

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["Archives", "NotThere", "fetch_packages"]

_T = TypeVar("_T")
_WORKERS = 8
_TRIES = 3
_PAUSE = 0.5  # seconds before the second try, doubled before each further one
_LONGEST_PAUSE = 30.0
_TIMEOUT = 30.0  # seconds between two bytes, as apt has it
_PROGRESS = 1 << 20
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_MISSING = frozenset({404, 410})


class NotThere(IndexAnswered):
    """Every place that answered says that it does not have the file."""


class Archives:
    """Debian's archives, over all the places where they are to be had. A context manager."""

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()
        self._dead: set[str] = set()
        self._stopped = threading.Event()

    def __enter__(self) -> Archives:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        with self._lock:
            if self._client is not None:
                self._client.close()

    def stop(self) -> None:
        """Make requests under way, in other threads, end soon: with `IndexUnreachable`."""
        self._stopped.set()

    def places(self, archive: str, moment: datetime) -> list[str]:
        """Base URLs of an archive, in the order to be tried. Raises `IndexUnreachable` when there is none."""
        places = self._mirrors.places(archive, moment)
        if not places:
            raise IndexUnreachable(
                f"No mirror of Debian's {archive} archive is known.",
                hint="Configure one for apt, or go on with --offline if the base is in the cache.",
            )
        return places

    def blob(self, store: Store, url: str, digest: str, size: int) -> Path:
        """Fetch a file of a known ``sha256:<hex>`` and size (bytes) into the store's room ``bases``.

        Raises `HashMismatch` when it is another one, `NotThere`, `IndexAnswered` or `IndexUnreachable`.
        """
        with store.writing("bases") as writing:

            def rest() -> dict[str, str]:
                # No If-Range: the hash tells whether the two halves belong together.
                return {"Range": f"bytes={writing.size}-"} if 0 < writing.size < size else {}

            def receive(response: httpx.Response) -> None:
                if response.headers.get("Content-Range", "").startswith(f"bytes {writing.size}-"):
                    resumed.append(writing.size)
                else:
                    writing.restart()
                for chunk in self._chunks(url, response):
                    writing.write(chunk)
                    if writing.size > size:
                        break

            resumed: list[int] = []
            self._get(url, receive, rest, lambda: writing.size)
            if resumed and writing.digest != digest:
                # Two halves of different files: once more in one piece.
                writing.restart()
                self._get(url, receive)
            if writing.digest != digest:
                raise HashMismatch(
                    f"{redact(url)} has the hash {writing.digest} and not {digest}, as its lock or index states.",
                    hint="The mirror is damaged or something changes downloads on the way; try another one.",
                )
            return writing.commit()

    def text(self, url: str, limit: int) -> bytes:
        """Fetch a document of at most ``limit`` bytes. Raises `IndexAnswered` when it is longer."""

        def receive(response: httpx.Response) -> bytes:
            body = bytearray()
            for chunk in self._chunks(url, response):
                body += chunk
                if len(body) > limit:
                    raise IndexAnswered(f"{redact(url)} is longer than {limit} bytes.", hint="Try another mirror.")
            return bytes(body)

        return self._get(url, receive)

    def _get(
        self,
        url: str,
        receive: Callable[[httpx.Response], _T],
        headers: Callable[[], dict[str, str]] = dict,
        arrived: Callable[[], int] = int,
    ) -> _T:
        """Hand a good answer to ``receive``, as often as it takes; ``arrived`` tells how many bytes of it stay."""
        import httpx

        host = urlsplit(url).netloc
        problem: IndexFailure = self._unreachable(url, "it did not answer before")
        attempt = furthest = 0
        while attempt < _TRIES and host not in self._dead and not self._stopped.is_set():
            begun = False
            pause = _PAUSE * 2**attempt
            attempt += 1
            try:
                with self._response(url, headers()) as response:
                    if response.status_code in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
                        begun = True
                        return receive(response)
                    problem = _refusal(url, response.status_code)
                    if response.status_code not in _TRANSIENT:
                        raise problem
                    after = response.headers.get("Retry-After", "")
                    pause = min(float(after), _LONGEST_PAUSE) if after.isascii() and after.isdigit() else pause
            except httpx.TooManyRedirects as error:
                raise IndexAnswered(f"{redact(url)} redirects in a circle.", hint="Try another mirror.") from error
            except httpx.InvalidURL as error:
                raise self._unreachable(url, str(error)) from error
            except (httpx.HTTPError, Stalled) as error:
                reason = str(error) or type(error).__name__
                problem = self._unreachable(url, reason)
                if begun:
                    problem = IndexUnreachable(
                        f"{urlsplit(bare(url)).netloc} did not deliver {redact(url)}: {reason}.",
                        hint="Try again later, or configure another mirror for apt.",
                    )
                    if arrived() >= furthest + _PROGRESS:
                        attempt, furthest = 0, arrived()
                elif attempt == _TRIES:
                    self._dead.add(host)
            if attempt < _TRIES:
                self._stopped.wait(pause)
        raise problem

    @contextmanager
    def _response(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        with self._lock:
            if self._client is None:
                self._client = _client(self._mirrors)
        # What is hashed are the bytes as they lie on the mirror.
        with self._client.stream("GET", url, headers={"Accept-Encoding": "identity", **headers}) as response:
            yield response

    def _chunks(self, url: str, response: httpx.Response) -> Iterator[bytes]:
        return Pace(_TIMEOUT).blocks(self._unless_stopped(url, response.iter_raw()))

    def _unless_stopped(self, url: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._stopped.is_set():
                raise self._unreachable(url, "the download was broken off")
            yield piece

    @staticmethod
    def _unreachable(url: str, why: str) -> IndexUnreachable:
        return IndexUnreachable(
            f"{urlsplit(bare(url)).netloc} cannot be reached for {redact(url)}: {why}.",
            hint="Check the network and proxy settings; --offline uses what is in the cache.",
        )


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes 0.1 s, so once is enough."""
    import httpx

    return httpx.create_ssl_context()


def _client(mirrors: Mirrors) -> httpx.Client:
    import httpx

    mounts: dict[str, httpx.BaseTransport | None] = {
        f"{scheme}://": httpx.HTTPTransport(verify=_tls(), proxy=None if proxy == "DIRECT" else proxy, retries=1)
        for scheme, proxy in mirrors.proxies.items()
    }
    return httpx.Client(
        verify=_tls(),
        mounts=mounts,
        follow_redirects=True,
        timeout=httpx.Timeout(_TIMEOUT, connect=15),
        limits=httpx.Limits(max_connections=_WORKERS),
    )


def _refusal(url: str, status: int) -> IndexAnswered:
    kind = NotThere if status in _MISSING else IndexAnswered
    return kind(
        f"{redact(url)} answered with status {status}.", hint="Try again later, or configure another mirror for apt."
    )


def fetch_packages(
    lock: BaseLock | ToolchainLock | SystemLock,
    store: Store,
    mirrors: Mirrors,
    listener: Listener,
    *,
    offline: bool = False,
) -> list[tuple[str, Path]]:
    """(name, file) of every locked package, from the store or from wherever it is to be had.

    Raises `NotCached` (``offline``), `NotThere` when a package is gone from every place that answers, `HashMismatch`,
    `IndexAnswered` or `IndexUnreachable`.
    """
    found = {deb.name: store.find_sound("bases", deb.digest, deb.size) for deb in lock.packages}
    missing = [deb for deb in lock.packages if found[deb.name] is None]
    if missing and offline:
        raise NotCached(
            f"{len(missing)} of the {len(lock.packages)} packages of {lock.subject} are not in the cache.",
            hint="Build once without --offline.",
            details=tuple(f"{deb.name} {deb.version}" for deb in missing),
        )
    if missing:
        subject = f"{len(missing)} Debian packages"
        begin = time.perf_counter()
        listener(Started("download", subject, sum(deb.size for deb in missing), "bytes"))
        with Archives(mirrors) as archives:

            def fetch(deb: LockedDeb) -> Path:
                return _fetch(archives, deb, lock, store)

            with in_parallel(fetch, missing, workers=_WORKERS, stop=archives.stop) as arriving:
                for deb, file in arriving:
                    found[deb.name] = file
                    listener(Advanced("download", subject, deb.size))
        listener(Finished("download", subject, time.perf_counter() - begin))
    return [(name, file) for name, file in found.items() if file is not None]


def _fetch(archives: Archives, deb: LockedDeb, lock: BaseLock | ToolchainLock | SystemLock, store: Store) -> Path:
    problems: list[IndexFailure] = []
    for place in archives.places(deb.archive, lock.signed):
        try:
            return archives.blob(store, place + quote(deb.file, safe="/+~"), deb.digest, deb.size)
        except IndexFailure as problem:
            problems.append(problem)
    raise _worst(problems, deb)


def _worst(problems: Sequence[IndexFailure], deb: LockedDeb) -> IndexFailure:
    """The failure that says most: wrong bytes; else that it is gone, if any place could say so; else the first."""
    details = tuple(problem.message for problem in problems)
    for problem in problems:
        if isinstance(problem, HashMismatch):
            return HashMismatch(problem.message, hint=problem.hint, details=details)
    for problem in problems:
        if isinstance(problem, NotThere):
            return NotThere(
                f"{deb.name} {deb.version} is on no mirror that answers.",
                hint="Write a new lock of the base with `nb2image bases update`.",
                details=details,
            )
    first = problems[0]
    return type(first)(first.message, hint=first.hint, details=details[1:])
