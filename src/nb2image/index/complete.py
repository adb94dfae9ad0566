"""`complete`: a lock that knows only hashes learns which files they belong to.

What an index says of a release is kept in a record of kind ``files``, by name, version and locked hashes: facts that
the hashes hold, whatever index they came from, so that a warm build asks no index. Only the URL of a file belongs
to an index; it is left out (None) where the user asks other indexes now, and looked up when the bytes are needed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from packaging.pylock import Package, PackageSdist, PackageWheel
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from nb2image.cache import Store, digest_of_key
from nb2image.errors import IndexFailure, NotCached, PackageGone
from nb2image.index.client import IndexClient
from nb2image.index.credentials import expand, redact, storable
from nb2image.index.links import LinkedFile, Links, NotRecorded
from nb2image.index.pages import IndexFile
from nb2image.index.settings import IndexSettings, resolve
from nb2image.lock.model import Lock, hashes_of
from nb2image.parallel import in_parallel
from nb2image.progress import Advanced, Listener, Warned, stage

__all__ = ["complete", "search", "stated_hashes"]

_File = TypeVar("_File", PackageWheel, PackageSdist)
_WORKERS = 16
_INCOMPLETE_SECONDS = 3600.0
_SDISTS = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")


class _Known(NamedTuple):
    """A file of a release, as the record holds it; ``source`` is its index as it may be shown."""

    file: IndexFile
    url: str | None
    source: str


class Found(NamedTuple):
    """What the indexes said: files with a locked hash, each with its index; the index URLs that were asked."""

    files: tuple[tuple[IndexFile, str], ...]
    asked: tuple[str, ...]


def complete(
    lock: Lock, settings: IndexSettings, store: Store, listener: Listener, *, client: IndexClient | None = None
) -> Lock:
    """Give every package of the lock its files: those of find-links and indexes whose hash the lock states.

    Packages that come with files keep them; where ``settings`` replaces the indexes, or a file has no URL, their
    URLs come from the indexes too. URLs hold no credentials. A file of find-links has its absolute ``path``.
    ``client`` is there for tests.

    Raises `PackageGone`, `IndexUnreachable`, `IndexAnswered`; `NotCached` when offline.
    """
    of_packages = (package.index for package in lock.packages if package.index)
    # Each once: for every request all of them are looked through for a login.
    own = client or IndexClient(dict.fromkeys((*settings.named(), *lock.indexes, *of_packages)))
    links = Links(settings.links_for(lock), store, listener, None if settings.offline else own)
    completer = _Completer(lock, settings, store, listener, own, links)
    try:
        with stage(listener, "index", lock.source, total=len(lock.packages)):
            return completer.run()
    finally:
        if client is None:
            own.close()


def search(client: IndexClient, indexes: Sequence[str], name: str, hashes: frozenset[str]) -> Found:
    """Ask the indexes in order until every hash has its file.

    Raises the first `IndexFailure` when something is still missing after all were asked.
    """
    files: dict[str, tuple[IndexFile, str]] = {}
    missing = set(hashes)
    failure: IndexFailure | None = None
    values = frozenset(h.partition(":")[2] for h in hashes)
    for index in indexes:
        if not missing:
            break
        try:
            offered = client.project(index, name, values)
        except IndexFailure as error:
            failure = failure or error
            continue
        for file in offered or ():
            if file.filename not in files and (held := stated_hashes(file.hashes) & hashes):
                files[file.filename] = (file, index)
                missing -= held
    if missing and failure is not None:
        raise failure
    return Found(tuple(files.values()), tuple(indexes))


def stated_hashes(hashes: Mapping[str, str]) -> frozenset[str]:
    """``algorithm:hex`` of each, in lower case."""
    return frozenset(f"{algorithm}:{value}".lower() for algorithm, value in hashes.items())


class _Completer:
    def __init__(
        self,
        lock: Lock,
        settings: IndexSettings,
        store: Store,
        listener: Listener,
        client: IndexClient,
        links: Links,
    ) -> None:
        self._lock = lock
        self._settings = settings
        self._store = store
        self._listener = listener
        self._client = client
        self._links = links
        self._gone: list[tuple[str, tuple[str, ...]]] = []
        self._absent: list[str] = []
        self._asked: dict[str | None, tuple[str, ...]] = {}
        self._guard = threading.Lock()

    def run(self) -> Lock:
        packages = list(self._lock.packages)
        waiting: list[tuple[int, Package, list[LinkedFile] | None]] = []
        # What records tell is read here: threads that only read small files wait for each other.
        for position, package in enumerate(packages):
            linked: list[LinkedFile] | None = None
            try:
                linked = self._linked(package, recorded=True)
                packages[position] = self._complete(package, linked, recorded=True)
            except NotRecorded:
                waiting.append((position, package, linked))
            else:
                self._listener(Advanced("index", self._lock.source))

        def ask(item: tuple[int, Package, list[LinkedFile] | None]) -> Package:
            _, package, linked = item
            return self._complete(package, self._linked(package) if linked is None else linked)

        with in_parallel(ask, waiting, workers=_WORKERS, stop=self._client.stop) as answers:
            for (position, *_), package in answers:
                packages[position] = package
                self._listener(Advanced("index", self._lock.source))
        if self._absent:
            self._raise_absent()
        if self._gone:
            self._raise_gone()
        return replace(self._lock, pylock=replace(self._lock.pylock, packages=packages))

    def _linked(self, package: Package, *, recorded: bool = False) -> list[LinkedFile]:
        if package.version is None:
            return []
        hashes = frozenset(h.lower() for h in hashes_of(package))
        return self._links.files(package.name, package.version, hashes, recorded=recorded)

    def _complete(self, package: Package, linked: Sequence[LinkedFile], *, recorded: bool = False) -> Package:
        """The package with its files; ``recorded``: without asking an index, or `NotRecorded` is raised."""
        if package.version is None or package.vcs or package.directory or package.archive:
            return package
        hashes = frozenset(h.lower() for h in hashes_of(package))
        own = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
        if own:
            return self._with_urls(package, own, linked, hashes, recorded=recorded)
        if _covered(linked) >= hashes:
            return _with_files(package, [], linked)
        known = self._known(package, hashes, bool(linked), recorded=recorded)
        if not known and not linked:
            return package
        self._warn_of_yanked(package, known)
        return _with_files(package, known, linked)

    # -- packages that come with files ----------------------------------------------------------------

    def _with_urls(
        self,
        package: Package,
        own: Sequence[PackageWheel | PackageSdist],
        linked: Sequence[LinkedFile],
        hashes: frozenset[str],
        *,
        recorded: bool,
    ) -> Package:
        """Keep the files, and find new URLs where there is need."""
        paths = {h: found for found in linked for h in stated_hashes(found.file.hashes)}
        here = [file for file in own if stated_hashes(file.hashes) & paths.keys()]
        replaced = self._settings.indexes is not None
        urls: dict[str, str | None] = {}
        needy = [f for f in own if f not in here and f.path is None and (replaced or f.url is None)]
        # Offline the bytes are in the cache or nowhere, and no URL would help.
        if needy and not self._settings.offline:
            wanted = frozenset().union(*(stated_hashes(file.hashes) for file in needy)) & hashes
            for known in self._known(package, wanted, bool(here), recorded=recorded):
                urls.update((h, known.url) for h in stated_hashes(known.file.hashes))

        def renewed(file: _File) -> _File:
            held = stated_hashes(file.hashes)
            if match := next((paths[h] for h in held if h in paths), None):
                path = str(match.path) if match.path else file.path
                return _changed(file, url=storable(match.file.url) if match.path is None else file.url, path=path)
            if file in needy:
                return _changed(file, url=next((urls[h] for h in held if h in urls), None), path=None)
            return file

        return replace(
            package,
            wheels=[renewed(wheel) for wheel in package.wheels or ()],
            sdist=renewed(package.sdist) if package.sdist else None,
        )

    # -- what the indexes know ------------------------------------------------------------------------------

    def _indexes(self, package: Package) -> tuple[str, ...]:
        """The package's own index first. Remembered, since the default is read from several files."""
        with self._guard:
            if package.index not in self._asked:
                first = (package.index,) if package.index else ()
                self._asked[package.index] = self._settings.indexes_for(dict.fromkeys((*first, *self._lock.indexes)))
            return self._asked[package.index]

    def _known(self, package: Package, hashes: frozenset[str], has_other: bool, *, recorded: bool) -> list[_Known]:
        """Files from the record or from the indexes; empty when there are none, which is then noted as a failure
        unless ``has_other`` files of the package are at hand. ``recorded`` as for `_complete`."""
        key = digest_of_key(package.name, str(package.version), sorted(hashes))
        record = _read_record(self._store.get_record("files", key))
        if self._settings.offline:
            if record is None and not has_other:
                self._note_absent(f"{package.name} {package.version}")
            return [] if record is None else record.known(None)
        indexes = self._indexes(package)
        shown = tuple(redact(expand(index)) for index in indexes)
        if record is not None:
            age = self._store.record_age("files", key) or 0.0
            recent = age < _INCOMPLETE_SECONDS and set(shown) <= set(record.asked)
            if record.whole or recent:
                return record.known(shown)
        if recorded:
            raise NotRecorded
        try:
            found = search(self._client, indexes, package.name, hashes)
        except IndexFailure as failure:
            if record is None:
                raise
            self._listener(Warned(f"{failure} What it said of {package.name} before is used."))
            return record.known(shown)
        if not found.files:
            if not has_other:
                with self._guard:
                    self._gone.append((f"{package.name} {package.version}", shown))
            return []
        known = [
            _Known(
                file._replace(hashes={a: v for a, v in file.hashes.items() if f"{a}:{v}" in hashes}),
                storable(file.url),
                redact(expand(index)),
            )
            for file, index in sorted(found.files, key=lambda pair: pair[0].filename)
        ]
        covered = frozenset().union(*(stated_hashes(k.file.hashes) for k in known))
        self._store.put_record("files", key, _record(known, shown, whole=covered >= hashes))
        return known

    def _warn_of_yanked(self, package: Package, known: Sequence[_Known]) -> None:
        if known and all(k.file.yanked is not False for k in known):
            reason = next((k.file.yanked for k in known if isinstance(k.file.yanked, str)), "")
            because = f": {reason.rstrip('.')}" if isinstance(reason, str) and reason else ""
            self._listener(Warned(f"{package.name} {package.version} was yanked by its maintainers{because}."))

    # -- failures that name every package --------------------------------------------------------------------

    def _note_absent(self, name: str) -> None:
        with self._guard:
            self._absent.append(name)

    def _raise_absent(self) -> None:
        names = sorted(self._absent)
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise NotCached(
            f"Offline, and no cached answer of an index tells the files of {shown}.",
            hint="Build once without --offline, or give a folder that holds the files with --find-links.",
        )

    def _raise_gone(self) -> None:
        gone = sorted(self._gone)
        name, indexes = gone[0]
        asked = ", ".join(redact(resolve(index)) for index in indexes) or "no index (pip is told no-index)"
        raise PackageGone(
            f"No file of {name} with a locked hash is to be had; asked: {asked}.",
            hint="Name an index that has it with --index-url or --extra-index-url, "
            "give its files with --find-links, or lock the notebook again.",
            details=tuple(f"also gone: {other}" for other, _ in gone[1:]),
        )


# -- records ----------------------------------------------------------------------------------------------


class _Record(NamedTuple):
    rows: tuple[_Known, ...]
    asked: tuple[str, ...]
    whole: bool

    def known(self, indexes: Iterable[str] | None) -> list[_Known]:
        """The rows; the URL only of those whose index is asked now (None: any)."""
        allowed = None if indexes is None else set(indexes)
        return [row if allowed is None or row.source in allowed else row._replace(url=None) for row in self.rows]


def _record(known: Sequence[_Known], asked: Sequence[str], *, whole: bool) -> dict[str, Any]:
    rows = [
        {
            "filename": k.file.filename,
            "hashes": dict(k.file.hashes),
            "index": k.source,
            "requires_python": k.file.requires_python,
            "size": k.file.size,
            "upload_time": k.file.upload_time.isoformat() if k.file.upload_time else None,
            "url": k.url,
            "yanked": k.file.yanked,
        }
        for k in known
    ]
    return {"files": rows, "asked": list(asked), "whole": whole}


def _read_record(document: Any) -> _Record | None:
    """None for what is not there, or was written in another shape by another version."""
    try:
        rows = [
            _Known(
                IndexFile(
                    row["filename"],
                    row["url"] or "",
                    row["hashes"],
                    row["size"],
                    row["requires_python"],
                    row["yanked"],
                    datetime.fromisoformat(row["upload_time"]) if row["upload_time"] else None,
                ),
                row["url"],
                row["index"],
            )
            for row in document["files"]
        ]
        return _Record(tuple(rows), tuple(document["asked"]), bool(document["whole"]))
    except (TypeError, KeyError, ValueError):
        return None


# -- packages --------------------------------------------------------------------------------------------------


def _covered(linked: Iterable[LinkedFile]) -> frozenset[str]:
    return frozenset().union(*(stated_hashes(found.file.hashes) for found in linked))


def _with_files(package: Package, known: Sequence[_Known], linked: Sequence[LinkedFile]) -> Package:
    files: dict[str, PackageWheel | PackageSdist] = {}
    for row in known:
        if kind := _kind(row.file.filename):
            files[row.file.filename] = kind(
                name=row.file.filename,
                url=row.url,
                size=row.file.size,
                upload_time=row.file.upload_time,
                hashes=row.file.hashes,
            )
    for found in linked:
        name = found.file.filename
        if kind := _kind(name):
            before = files.get(name)
            files[name] = kind(
                name=name,
                url=before.url if before else storable(found.file.url),
                path=str(found.path) if found.path else None,
                size=found.file.size,
                upload_time=before.upload_time if before else None,
                hashes=before.hashes if before else found.file.hashes,
            )
    ordered = [files[name] for name in sorted(files)]
    sdists = [file for file in ordered if isinstance(file, PackageSdist)]
    return replace(
        package,
        wheels=[file for file in ordered if isinstance(file, PackageWheel)],
        # PEP 751 has room for one; where a release has several, every index client takes the .tar.gz.
        sdist=min(sdists, key=lambda s: [s.filename.endswith(suffix) for suffix in _SDISTS].index(True), default=None),
        requires_python=package.requires_python or _common_requires([row.file for row in known]),
    )


def _kind(filename: str) -> type[PackageWheel] | type[PackageSdist] | None:
    if filename.endswith(".whl"):
        return PackageWheel
    return PackageSdist if filename.endswith(_SDISTS) else None


def _common_requires(files: Sequence[IndexFile]) -> SpecifierSet | None:
    """Requires-Python belongs to files at an index and to the release in a lock: only what all agree on."""
    stated = {file.requires_python for file in files}
    if len(stated) != 1 or not (text := stated.pop()):
        return None
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return None


def _changed(file: _File, *, url: str | None, path: str | None) -> _File:
    return replace(file, name=file.filename, url=url, path=path)
