"""Where Debian's archives are to be had: apt's own configuration, else the dated snapshots.

A pool is shared by all suites of its archive, so a mirror that apt uses for any suite of Debian has the files of
every other one. Anything may be fetched from anywhere: hashes and signatures decide.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from nb2image.bases.debian.lock import ARCHIVES

__all__ = ["Mirrors", "apt_sources"]

_NAMES = ("stable", "oldstable", "oldoldstable", "testing", "unstable", "sid")
_CODENAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke")
_SECURITY = ("-security", "/updates")
_ASKED = {
    "sources": "Dir::Etc::sourcelist/f",
    "parts": "Dir::Etc::sourceparts/d",
    "http": "Acquire::http::Proxy",
    "https": "Acquire::https::Proxy",
}


@dataclass(frozen=True)
class Mirrors:
    """``bases`` are base URLs by archive (`ARCHIVES`), ``proxies`` proxy URLs by scheme (``DIRECT``: none, whatever
    the environment says), ``snapshot`` a URL with places for ``archive`` and ``time``; empty: not used."""

    bases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    snapshot: str = ""

    @classmethod
    def of_this_machine(cls) -> Mirrors:
        """Mirrors and proxies that apt is configured for, where there is apt, and the snapshots."""
        file = resources.files("nb2image") / "images" / "bases" / "snapshot.json"
        snapshot = str(json.loads(file.read_bytes())["url"])
        configured = _apt_configuration()
        found: dict[str, list[str]] = {}
        for archive, url in apt_sources(configured.get("sources", ""), configured.get("parts", "")):
            if url not in found.setdefault(archive, []):
                found[archive].append(url)
        bases = {archive: tuple(urls) for archive, urls in found.items()}
        proxies = {scheme: configured[scheme] for scheme in ("http", "https") if configured.get(scheme)}
        return cls(bases, proxies, snapshot)

    def places(self, archive: str, time: datetime) -> list[str]:
        """Base URLs of an archive in the order to be tried, each ending in ``/``: mirrors, then snapshots.

        A snapshot is made some hours after the signing that ``time`` is, so the one of the next day is tried first.
        """
        places = [url.rstrip("/") + "/" for url in self.bases.get(archive, ())]
        if self.snapshot:
            for moment in (time + timedelta(days=1), time):
                stamp = moment.strftime("%Y%m%dT%H%M%SZ")
                places.append(self.snapshot.format(archive=ARCHIVES[archive], time=stamp))
        return places


def _apt_configuration() -> dict[str, str]:
    """What apt itself says of its configuration (``APT_CONFIG`` included); empty where there is no apt."""
    program = shutil.which("apt-config")
    if program is None:
        return {}
    words = [word for pair in _ASKED.items() for word in pair]
    try:
        done = subprocess.run([program, "shell", *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (word.partition("=") for word in shlex.split(done.stdout))
    return {name: value for name, _, value in pairs}


def apt_sources(sources: str, parts: str) -> Iterator[tuple[str, str]]:
    """(archive, base URL) of every Debian source that apt uses: ``sources.list(5)`` in both its formats."""
    files = [Path(sources)] if sources else []
    if parts and Path(parts).is_dir():
        files += sorted(path for path in Path(parts).iterdir() if path.suffix in {".list", ".sources"})
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        rows = _deb822(text) if file.suffix == ".sources" else _one_line(text)
        for uri, suite, components in rows:
            archive = _archive(suite, components)
            if archive is not None:
                yield from ((archive, url) for url in _urls(uri))


def _one_line(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] not in {"deb", "deb-src"}:
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):  # options, which may hold spaces
            end = next((n for n, word in enumerate(rest) if word.endswith("]")), len(rest))
            rest = rest[end + 1 :]
        if words[0] == "deb" and len(rest) >= 2:
            yield rest[0], rest[1], rest[2:]


def _deb822(text: str) -> Iterator[tuple[str, str, list[str]]]:
    from debian.deb822 import Deb822

    for paragraph in Deb822.iter_paragraphs(text.splitlines()):
        if paragraph.get("Enabled", "yes").strip().lower() in {"no", "false", "without", "off", "disable"}:
            continue
        if "deb" in paragraph.get("Types", "").split():
            for uri in paragraph.get("URIs", "").split():
                for suite in paragraph.get("Suites", "").split():
                    yield uri, suite, paragraph.get("Components", "").split()


def _archive(suite: str, components: list[str]) -> str | None:
    """Which of Debian's archives a source is, judged by its suite; None when it is somebody else's."""
    if "main" not in components:
        return None
    security = suite.endswith(_SECURITY)
    name = suite
    for ending in (*_SECURITY, "-updates", "-backports", "-proposed-updates"):
        name = name.removesuffix(ending)
    if name not in _NAMES + _CODENAMES:
        return None
    return "security" if security else "main"


def _urls(uri: str) -> Iterator[str]:
    """A source's URL, or those of the list that it names (apt-transport-mirror(1)); other methods are passed over."""
    scheme = urlsplit(uri).scheme
    if scheme in {"http", "https"}:
        yield uri
    elif scheme == "mirror+file":
        try:
            lines = Path(urlsplit(uri).path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            words = line.partition("#")[0].split()
            if words and urlsplit(words[0]).scheme in {"http", "https"}:
                yield words[0]
