"""Downloads: several at once, hashed while they stream, resumed where they broke, kept only when they are right."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from packaging.pylock import Package, PackageSdist, PackageWheel

from nb2image.cache import Store, Writing, digest_of_key
from nb2image.errors import HashMismatch, IndexAnswered, IndexUnreachable, NotCached, PackageGone, UnhashedPackage
from nb2image.index.client import IndexClient, Interrupted, Retry, file_path, is_missing, refuse
from nb2image.index.complete import search, stated_hashes
from nb2image.index.credentials import expand, redact
from nb2image.index.settings import IndexSettings, resolve
from nb2image.lock.model import STRONG_HASHES
from nb2image.parallel import in_parallel
from nb2image.progress import Advanced, Finished, Listener, Started

if TYPE_CHECKING:
    import httpx

__all__ = ["LockedFile", "download", "download_each", "locked_file"]

_WORKERS = 8
_PROGRESS = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class LockedFile(NamedTuple):
    """One file that a lock allows.

    ``hashes`` are ``algorithm:hex``; the file must agree with each algorithm of sha256 or stronger that is named.
    ``url`` None: looked up at the indexes by hash. ``path``: where the file lies on this machine (find-links).
    """

    package: str
    version: str
    filename: str
    url: str | None
    size: int | None
    hashes: frozenset[str]
    path: Path | None = None


def locked_file(package: Package, file: PackageWheel | PackageSdist) -> LockedFile:
    """A file of a completed lock, ready to be downloaded."""
    hashes = frozenset(h for h in stated_hashes(file.hashes) if h.partition(":")[0] in STRONG_HASHES)
    path = Path(file.path) if file.path is not None and Path(file.path).is_absolute() else None
    return LockedFile(package.name, str(package.version), file.filename, file.url, file.size, hashes, path)


def download(
    files: Sequence[LockedFile],
    settings: IndexSettings,
    store: Store,
    listener: Listener,
    *,
    indexes: Sequence[str] = (),
    client: IndexClient | None = None,
) -> dict[str, Path]:
    """Have every file in the store; returns file name → path. See `download_each`."""
    with closing(download_each(files, settings, store, listener, indexes=indexes, client=client)) as arriving:
        return {file.filename: path for file, path in arriving}


def download_each(
    files: Sequence[LockedFile],
    settings: IndexSettings,
    store: Store,
    listener: Listener,
    *,
    indexes: Sequence[str] = (),
    client: IndexClient | None = None,
) -> Generator[tuple[LockedFile, Path], None, None]:
    """Yield each file with its path in the store's ``wheels`` room as soon as it is there, cached ones first.

    ``indexes`` are the lock's own: they may hold the credentials of its URLs, and tell URLs that are missing or
    gone. A transfer that starts anew takes its progress back with a negative `Advanced`. Closing the iterator (or
    `KeyboardInterrupt`) stops all transfers and leaves no unfinished file. ``client`` is there for tests.

    Raises `HashMismatch`, `IndexUnreachable`, `IndexAnswered`, `PackageGone`, `Unwritable`; `UnhashedPackage` before
    anything is asked, and `NotCached` when offline.
    """
    absent = []
    for file in files:
        if not _wanted(file):
            raise UnhashedPackage(
                f"{file.filename} of {file.package} {file.version} has no hash of sha256 or stronger.",
                hint="Lock the notebook again with hashes.",
            )
    for file in files:
        if path := _cached(file, store):
            listener(Started("download", file.filename, file.size, "bytes"))
            listener(Finished("download", file.filename, 0.0, cached=True))
            yield file, path
        else:
            absent.append(file)
    if settings.offline:
        _refuse_offline(absent)
    if not absent:
        return
    # The biggest first: the small ones fill the gaps at the end.
    absent.sort(key=lambda file: file.size or 0, reverse=True)
    own = client or IndexClient((*settings.named(), *indexes), connections=_WORKERS * 2)
    fetcher = _Fetcher(settings.indexes_for(indexes), store, listener, own)
    try:
        with in_parallel(fetcher.fetch, absent, workers=_WORKERS, stop=fetcher.stop) as arriving:
            yield from arriving
    finally:
        fetcher.sweep()
        if client is None:
            own.close()


def _refuse_offline(absent: Sequence[LockedFile]) -> None:
    remote = sorted(f.filename for f in absent if f.path is None and (f.url is None or file_path(f.url) is None))
    if remote:
        shown = ", ".join(remote[:8]) + (f" and {len(remote) - 8} more" if len(remote) > 8 else "")
        raise NotCached(
            f"Offline, and not in the cache: {shown}.",
            hint="Build once without --offline, or give a folder that holds the files with --find-links.",
        )


def _wanted(file: LockedFile) -> dict[str, frozenset[str]]:
    """Algorithm → allowed hex digests, of the algorithms that hold a file."""
    pairs = [h.lower().partition(":")[::2] for h in file.hashes]
    return {a: frozenset(v for b, v in pairs if a == b) for a in STRONG_HASHES if any(a == b for b, _ in pairs)}


def _cached(file: LockedFile, store: Store) -> Path | None:
    wanted = _wanted(file)
    digests = [f"sha256:{value}" for value in sorted(wanted.get("sha256", ()))]
    if not digests:
        # The store knows sha256 only; which one a stronger hash means was noted when the file came.
        values = (f"{algorithm}:{value}" for algorithm in wanted for value in sorted(wanted[algorithm]))
        records = (store.get_record("digests", digest_of_key(value)) for value in values)
        digests = [record for record in records if isinstance(record, str)]
    return next((path for digest in digests if (path := store.find_sound("wheels", digest, file.size))), None)


class _Transfer:
    """One file on its way: what is written, and every hash that the lock wants of it."""

    def __init__(self, file: LockedFile, writing: Writing, listener: Listener) -> None:
        self.file = file
        self.wanted = _wanted(file)
        self.validator: str | None = None
        self.resumed = False
        self.sent_as = ""
        self._writing = writing
        self._listener = listener
        self._others = {a: hashlib.new(a) for a in self.wanted if a != "sha256"}

    @property
    def size(self) -> int:
        return self._writing.size

    def write(self, piece: bytes) -> None:
        self._writing.write(piece)
        for other in self._others.values():
            other.update(piece)
        self._listener(Advanced("download", self.file.filename, len(piece)))

    def restart(self) -> None:
        if self.size:
            self._listener(Advanced("download", self.file.filename, -self.size))
        self._writing.restart()
        self._others = {a: hashlib.new(a) for a in self._others}
        self.validator = None
        self.resumed = False

    def wrong(self) -> tuple[str, str] | None:
        """Expected and found hash when they differ."""
        found = {"sha256": self._writing.sha256.hexdigest(), **{a: h.hexdigest() for a, h in self._others.items()}}
        for algorithm, values in self.wanted.items():
            if found[algorithm] not in values:
                expected = " or ".join(f"{algorithm}:{value}" for value in sorted(values))
                return expected, f"{algorithm}:{found[algorithm]}"
        return None

    def commit(self, store: Store) -> Path:
        digest = self._writing.digest
        path = self._writing.commit()
        if "sha256" not in self.wanted:
            for algorithm, other in self._others.items():
                store.put_record("digests", digest_of_key(f"{algorithm}:{other.hexdigest()}"), digest)
        return path


class _Fetcher:
    def __init__(self, indexes: Sequence[str], store: Store, listener: Listener, client: IndexClient) -> None:
        self._indexes = indexes
        self._store = store
        self._listener = listener
        self._client = client
        self._stopped = threading.Event()
        self._unfinished: set[Path] = set()

    def stop(self) -> None:
        self._stopped.set()
        self._client.stop()

    def sweep(self) -> None:
        """Remove what a thread that is stuck in a connection has not removed itself."""
        for path in self._unfinished.copy():
            path.unlink(missing_ok=True)

    def fetch(self, file: LockedFile) -> Path:
        begin = time.perf_counter()
        self._listener(Started("download", file.filename, file.size, "bytes"))
        with self._store.writing("wheels") as writing:
            self._unfinished.add(writing.path)
            transfer = _Transfer(file, writing, self._listener)
            source = self._fill(transfer)
            if differing := transfer.wrong():
                self._refuse(transfer, source, *differing)
            if file.size not in {None, transfer.size}:
                # Which wheels share a layer follows from the sizes: a wrong one would change the image.
                self._refuse(transfer, source, f"{file.size} bytes", f"{transfer.size} bytes")
            path = transfer.commit(self._store)
        self._unfinished.discard(writing.path)
        self._listener(Finished("download", file.filename, time.perf_counter() - begin))
        return path

    def _refuse(self, transfer: _Transfer, source: str, expected: str, found: str) -> NoReturn:
        what = "hash than the lock states" if ":" in expected else "size than is stated for it"
        kind = (f"sent as:  {transfer.sent_as}",) if transfer.sent_as else ()
        hint = (
            "The file was changed after it was locked, or damaged on the way: do not use it; "
            "try another index with --index-url, or lock the notebook again."
        )
        if transfer.sent_as.startswith("text/"):
            hint = (
                "The answer is a page and no package: something between may want a login. "
                "Open the URL in a browser, or try another index with --index-url."
            )
        raise HashMismatch(
            f"{transfer.file.filename} from {source} has another {what}.",
            hint=hint,
            details=(f"expected: {expected}", f"got:      {found}", *kind),
        )

    def _fill(self, transfer: _Transfer) -> str:
        """Write the whole file; returns where it came from, as it may be shown."""
        file = transfer.file
        if file.path is not None:
            self._copy(transfer, file.path)
            return str(file.path)
        url = expand(file.url) if file.url else self._look_up(file)
        if (path := file_path(url)) is not None:
            self._copy(transfer, path)
            return str(path)
        status = self._get(transfer, url)
        if is_missing(status) and file.url:
            # The URL may be an old one, remembered or locked: ask where the file is now.
            try:
                newer = self._look_up(file)
            except (PackageGone, IndexAnswered, IndexUnreachable):
                newer = url
            if newer != url:
                url = newer
                if (path := file_path(url)) is not None:
                    self._copy(transfer, path)
                    return str(path)
                status = self._get(transfer, url)
        if status != 200:
            refuse(url, status)
        return redact(url)

    def _look_up(self, file: LockedFile) -> str:
        wanted = frozenset(f"{algorithm}:{value}" for algorithm, values in _wanted(file).items() for value in values)
        found = search(self._client, self._indexes, file.package, wanted)
        for offered, _ in found.files:
            return offered.url
        asked = ", ".join(redact(expand(resolve(index))) for index in self._indexes) or "no index"
        raise PackageGone(
            f"{file.filename} of {file.package} {file.version} is to be had nowhere; asked: {asked}.",
            hint="Name an index that has it with --index-url or --extra-index-url, or lock the notebook again.",
        )

    def _copy(self, transfer: _Transfer, path: Path) -> None:
        try:
            stream = path.open("rb")
        except OSError as error:
            raise IndexUnreachable(
                f"{path} cannot be read: {error.strerror}.", hint="Check the folder and its permissions."
            ) from error
        with stream:
            while True:
                try:
                    piece = stream.read(1 << 20)
                except OSError as error:
                    raise IndexUnreachable(
                        f"{path} cannot be read: {error.strerror}.", hint="Check the folder and its permissions."
                    ) from error
                if not piece:
                    return
                if self._stopped.is_set():
                    raise Interrupted
                transfer.write(piece)

    def _get(self, transfer: _Transfer, url: str) -> int:
        """Fetch over HTTP, as often as it takes; returns 200, or the status of a refusal."""
        number, furthest, from_scratch = 0, 0, False
        while True:
            try:
                status = self._attempt(transfer, url)
            except Retry as retry:
                # Whoever makes progress may go on: the limit is on failures in a row.
                if transfer.size >= furthest + _PROGRESS:
                    number, furthest = 0, transfer.size
                if number >= self._client.retries:
                    if isinstance(retry, _Short):
                        self._refuse(transfer, redact(url), f"{transfer.file.size} bytes", f"{transfer.size} bytes")
                    self._client.give_up(url, retry, _arrived(transfer))
                self._client.wait(number, retry)
                number += 1
                continue
            if status == 200 and transfer.resumed and transfer.wrong() and not from_scratch:
                # Two halves that do not fit: a server that mixes two versions of a file. Once more in one piece.
                from_scratch = True
                transfer.restart()
                continue
            return status

    def _attempt(self, transfer: _Transfer, url: str) -> int:
        headers = {"Accept-Encoding": "identity"}
        if transfer.size and transfer.validator:
            headers |= {"Range": f"bytes={transfer.size}-", "If-Range": transfer.validator}
        else:
            transfer.restart()
        with self._client.stream(url, headers) as response:
            status = response.status_code
            if status == 206 and _continues(response, transfer):
                transfer.resumed = True
            elif status == 200:
                transfer.restart()
                transfer.validator = _validator(response)
                transfer.sent_as = _sent_as(response)
            elif status in {206, 416}:
                transfer.restart()
                raise Retry("it answered with another part of the file than asked for", answered=True)
            else:
                return status
            # Raw: a server that calls the gzip of a .tar.gz an encoding must not have it undone.
            for block in self._client.pace().blocks(self._unless_stopped(response.iter_raw())):
                transfer.write(block)
                self._check_length(transfer, url)
        if transfer.file.size is not None and transfer.size < transfer.file.size and transfer.wrong():
            raise _Short("it sent less than the file and called that all", answered=True)
        return 200

    def _unless_stopped(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._stopped.is_set():
                raise Interrupted
            yield piece

    def _check_length(self, transfer: _Transfer, url: str) -> None:
        limit = transfer.file.size
        if limit is not None and transfer.size > limit:
            self._refuse(transfer, redact(url), f"{limit} bytes", f"{transfer.size} bytes or more")


class _Short(Retry):
    """An answer that is complete by its own account, and shorter than the file."""


def _arrived(transfer: _Transfer) -> tuple[str, ...]:
    whole = f" of {transfer.file.size}" if transfer.file.size is not None else ""
    return (f"{transfer.size}{whole} bytes of {transfer.file.filename} arrived",) if transfer.size else ()


def _sent_as(response: httpx.Response) -> str:
    """What an answer says of itself where that is not what a file is sent as; empty otherwise."""
    kind = str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    encoding = str(response.headers.get("Content-Encoding", "")).strip().lower()
    page = kind if kind.startswith("text/") else ""
    packed = f"content encoding {encoding}" if encoding not in {"", "identity"} else ""
    return ", ".join(word[:60] for word in (page, packed) if word)


def _validator(response: httpx.Response) -> str | None:
    """What ``If-Range`` may name (RFC 9110, 13.1.5): a strong entity tag, else the date, which is strong enough
    since the hash decides in the end."""
    if response.headers.get("Accept-Ranges") == "none":
        return None
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _continues(response: httpx.Response, transfer: _Transfer) -> bool:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return match is not None and int(match.group(1)) == transfer.size
