"""Which package of Debian has a shared library, by its soname: from the archive's own list of files, ``Contents``.

The list of a suite is 12 MB to download and is read once; what it says of libraries in the loader's folders is kept in
the store, 0.5 MB. It is held by the hash that the signed ``InRelease`` states.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nb2image.bases.debian.download import Archives
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.release import read_contents
from nb2image.cache import Store, digest_of_key
from nb2image.errors import IndexAnswered, NotCached
from nb2image.progress import Listener, stage

__all__ = ["SonameIndex", "packages_with_path", "read_sonames"]

_KIND = "sonames"
_FORMAT = 1
_HOLDS = 86400.0
"""Seconds for which an index is used before the archive is asked whether there is a newer one."""
_BLOCK = 1 << 20
_PIECE = 8 << 20
_LONGEST = 1 << 20
"""Bytes of a line: a package's name and path, of the packages that have the path."""
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_ALTERNATIVES = ("", "blas/", "lapack/", "openblas-pthread/")
"""Folders that the loader looks into, or that links of update-alternatives(1) lead to from there; the best first."""


@dataclass(frozen=True)
class SonameIndex:
    """The libraries of one suite and architecture."""

    suite: str
    architecture: str
    _packages: Mapping[str, tuple[str, ...]] = field(repr=False)

    def packages_with(self, sonames: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The packages that have each library, best first; empty where none has it."""
        return {soname: tuple(self._packages.get(soname, ())) for soname in sonames}


def read_sonames(
    suite: str,
    architecture: str,
    store: Store,
    listener: Listener,
    *,
    offline: bool = False,
    mirrors: Mirrors | None = None,
) -> SonameIndex:
    """The index of a suite: from the store for a day (``offline``: for ever), else from the archive.

    Raises `NotCached` (``offline``), `IndexFailure` or `BadSignature`.
    """
    pointer = digest_of_key(_KIND, _FORMAT, suite, architecture)
    age = store.record_age(_KIND, pointer)
    digest = store.get_record(_KIND, pointer) if age is not None and (offline or age < _HOLDS) else None
    found = store.get_record(_KIND, digest) if isinstance(digest, str) else None
    if found is None:
        if offline:
            raise NotCached(
                f"Which packages of {suite} have which libraries is not in the cache.",
                hint="Build once without --offline.",
            )
        with stage(listener, "index", f"libraries of {suite}"):
            with Archives(mirrors if mirrors is not None else Mirrors.of_this_machine()) as archives:
                file = read_contents(suite, architecture, archives, store)
            digest = digest_of_key(_KIND, _FORMAT, architecture, file.name)
            found = store.get_record(_KIND, digest)
            if found is None:
                found = _indexed(file, architecture)
                store.put_record(_KIND, digest, found)
            store.put_record(_KIND, pointer, digest)
    packages = {soname: tuple(names) for soname, names in found.items()}
    return SonameIndex(suite, architecture, packages)


def _indexed(file: Path, architecture: str) -> dict[str, list[str]]:
    triplet = _TRIPLETS.get(architecture, architecture)
    folders = "|".join(re.escape(folder) for folder in _ALTERNATIVES if folder)
    row = re.compile(
        rf"^(?:usr/)?lib/(?:{triplet}/)?({folders}|)([^/\s]+\.so(?:\.[^/\s]+)?)[ \t]+(\S+)$".encode(), re.MULTILINE
    )
    ranked: dict[str, set[tuple[int, int, int, str]]] = {}
    # What comes after the last library is not read.
    for text in _lines(file, b"usr/lib0"):
        for match in row.finditer(text):
            folder = _ALTERNATIVES.index(match[1].decode())
            for place in match[3].decode("utf-8", "replace").split(","):
                section, _, name = place.rpartition("/")
                ranked.setdefault(match[2].decode("utf-8", "replace"), set()).add(
                    (folder, _rank(section), len(name), name)
                )
    return {soname: list(dict.fromkeys(each[-1] for each in sorted(rows))) for soname, rows in sorted(ranked.items())}


def _rank(section: str) -> int:
    """Libraries first, what developers need last. Only `main` is read, so no area stands before the section."""
    return {"libs": 0, "oldlibs": 1, "libdevel": 3, "debug": 4}.get(section, 2)


def packages_with_path(
    pattern: str, suite: str, architecture: str, store: Store, listener: Listener, *, mirrors: Mirrors | None = None
) -> list[str]:
    """Names of the packages with a file whose path, relative to the root, matches a regular expression; those first
    whose names are shorter. Reads the whole list, which takes some seconds.

    Raises `IndexFailure` or `BadSignature`.
    """
    row = re.compile(rf"^(?:{pattern})[ \t]+(\S+)$".encode(), re.MULTILINE)
    with stage(listener, "index", f"files of {suite}"):
        with Archives(mirrors if mirrors is not None else Mirrors.of_this_machine()) as archives:
            file = read_contents(suite, architecture, archives, store)
        places = [match[1].decode("utf-8", "replace") for text in _lines(file) for match in row.finditer(text)]
    names = {place.rpartition("/")[2] for each in places for place in each.split(",")}
    return sorted(names, key=lambda name: (len(name), name))


def _lines(file: Path, end_of_interest: bytes = b"\xff") -> Iterator[bytes]:
    """The text, which is sorted, in pieces that end with a line, at least up to the first line beyond."""
    stream = zlib.decompressobj(31)
    rest = b""
    try:
        with file.open("rb") as packed:
            while block := stream.unconsumed_tail or packed.read(_BLOCK):
                text = rest + stream.decompress(block, _PIECE)
                end = text.rfind(b"\n") + 1
                yield text[:end]
                rest = text[end:]
                if rest > end_of_interest and rest.startswith(b"usr/"):
                    return
                if len(rest) > _LONGEST:
                    raise IndexAnswered(
                        f"Debian's list of files cannot be read: a line has more than {_LONGEST} bytes.",
                        hint="Try another mirror.",
                    )
    except zlib.error as error:
        raise IndexAnswered(f"Debian's list of files cannot be read: {error}.", hint="Try another mirror.") from error
    if not stream.eof:
        raise IndexAnswered("Debian's list of files cannot be read: it is cut short.", hint="Try another mirror.")
    yield rest
