"""``--find-links``: files in folders and on flat HTML pages, offered before any index is asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from nb2image.cache import Store, digest_of_key
from nb2image.errors import IndexFailure
from nb2image.index.client import IndexClient, file_path
from nb2image.index.credentials import expand, redact
from nb2image.index.pages import IndexFile
from nb2image.lock.model import STRONG_HASHES
from nb2image.progress import Listener, Note, Warned

__all__ = ["LinkedFile", "Links", "NotRecorded", "project_and_version"]


class NotRecorded(Exception):
    """What was asked for takes longer than reading a record."""


class LinkedFile(NamedTuple):
    """A file of ``--find-links`` that the lock allows; ``path`` where it lies on this machine, else None."""

    file: IndexFile
    path: Path | None


def project_and_version(filename: str) -> tuple[NormalizedName, Version] | None:
    """What the name of a wheel or source distribution says; None for any other file."""
    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
            return name, version
        return parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


def _digest_of(path: Path, algorithm: str, store: Store, *, recorded: bool) -> str:
    """Hex digest of a file, remembered by path, size and time of change. Raises `OSError`, or with ``recorded``
    `NotRecorded` instead of hashing."""
    status = path.stat()
    key = digest_of_key(str(path.absolute()), status.st_size, status.st_mtime_ns, algorithm)
    if isinstance(known := store.get_record("linked", key), str):
        return known
    if recorded:
        raise NotRecorded
    value = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            value.update(piece)
    store.put_record("linked", key, value.hexdigest())
    return value.hexdigest()


class Links:
    """The files of some places, read once when first asked; thread-safe.

    ``client`` None: pages of other machines are passed over (``--offline``).
    """

    def __init__(self, places: Iterable[str], store: Store, listener: Listener, client: IndexClient | None) -> None:
        self._places = tuple(places)
        self._store = store
        self._listener = listener
        self._client = client
        self._lock = threading.Lock()
        self._found: dict[tuple[NormalizedName, Version], list[LinkedFile]] | None = None

    def files(
        self, name: NormalizedName, version: Version, hashes: frozenset[str], *, recorded: bool = False
    ) -> list[LinkedFile]:
        """The files of a release whose hash is among ``hashes`` (``algorithm:hex``); others get a note.

        ``recorded``: raise `NotRecorded` rather than hash a file.
        """
        with self._lock:
            if self._found is None:
                self._found = self._read()
        kept = []
        algorithms = sorted({h.partition(":")[0] for h in hashes}.intersection(STRONG_HASHES))
        for checked in [self._hashed(each, algorithms, recorded) for each in self._found.get((name, version), ())]:
            if locked := {a: v for a, v in checked.file.hashes.items() if f"{a}:{v}" in hashes}:
                # What else a page states must not find its way into an image.
                kept.append(checked._replace(file=checked.file._replace(hashes=locked)))
            elif checked.file.hashes:
                place = checked.path or redact(checked.file.url)
                self._listener(Note(f"{place} is not used: the lock states another hash for {name} {version}."))
        return kept

    def _hashed(self, linked: LinkedFile, algorithms: Iterable[str], recorded: bool) -> LinkedFile:
        if linked.path is None:
            return linked
        try:
            size = linked.path.stat().st_size
            hashes = {a: _digest_of(linked.path, a, self._store, recorded=recorded) for a in algorithms}
        except OSError as error:
            self._listener(Warned(f"{linked.path} cannot be read: {error.strerror}."))
            return linked._replace(file=linked.file._replace(hashes={}))
        return linked._replace(file=linked.file._replace(hashes=hashes, size=size))

    def _read(self) -> dict[tuple[NormalizedName, Version], list[LinkedFile]]:
        found: dict[tuple[NormalizedName, Version], list[LinkedFile]] = {}
        for place in self._places:
            for linked in self._read_place(place):
                if release := project_and_version(linked.file.filename):
                    found.setdefault(release, []).append(linked)
        return found

    def _read_place(self, place: str) -> list[LinkedFile]:
        url = expand(place)
        shown = redact(url) if "://" in url else place
        remote = "://" in url and not url.startswith("file:")
        path = None if remote else file_path(url) or Path(url).expanduser().absolute()
        try:
            if path is not None and path.is_dir():
                files = sorted(file for file in path.iterdir() if file.is_file())
                return [LinkedFile(IndexFile(f.name, f.as_uri(), {}), f) for f in files]
            if path is not None and project_and_version(path.name) and path.is_file():
                return [LinkedFile(IndexFile(path.name, path.as_uri(), {}), path)]
            if path is None and self._client is None:
                return []
            with ExitStack() as stack:
                client = self._client or stack.enter_context(IndexClient())
                page = client.page(path.as_uri() if path is not None else url)
        except (OSError, IndexFailure) as error:
            self._listener(Warned(f"--find-links {shown} cannot be read: {error}"))
            return []
        if page is None:
            self._listener(Warned(f"--find-links {shown} is not there."))
            return []
        return [LinkedFile(file, file_path(file.url)) for file in page]
