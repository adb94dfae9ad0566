"""Index pages: HTML (PEP 503, 592, 629) and JSON (PEP 691, 700) to `IndexFile`.

Read with the standard library's parsers: a cold build reads a page per package, and a general HTML tree or a validating
model takes twice the time for a page and half a second to be imported.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin

__all__ = ["ACCEPT", "IndexFile", "NoIndexPage", "read_page"]

_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = "application/vnd.pypi.simple.v1+html"
ACCEPT = f"{_JSON}, {_HTML};q=0.2, text/html;q=0.01"
"""PEP 691, "Version + Format Selection"."""


class NoIndexPage(Exception):
    """The answer is no index page; the text says why, to follow "answered with"."""


class IndexFile(NamedTuple):
    """A file that an index offers.

    ``url`` absolute, without fragment; ``hashes`` algorithm → hex, lower case; ``size`` in bytes; ``yanked`` True or
    the reason (PEP 592); ``upload_time`` in UTC. HTML has neither size nor upload time.
    """

    filename: str
    url: str
    hashes: Mapping[str, str]
    size: int | None = None
    requires_python: str | None = None
    yanked: str | bool = False
    upload_time: datetime | None = None


def read_page(data: bytes, content_type: str, url: str, wanted: Collection[str] | None = None) -> tuple[IndexFile, ...]:
    """The files of a project page that came from ``url``. Raises `NoIndexPage`.

    ``wanted`` are hex hashes, lower case: files that state none of them may be left out, which spares a page of
    thousands of files most of its parsing (numpy's: 0.30 s, and 0.06 s when nothing of it is wanted).
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind in {_JSON, "application/json"}:
        return _read_json(data, url, wanted)
    if kind in {_HTML, "text/html", "application/xhtml+xml"}:
        text = _text(data, parameters)
        return _read_html(text if wanted is None else _relevant(text, wanted), url)
    raise NoIndexPage(f"the content type {kind or '(none)'!r}")


def _text(data: bytes, parameters: str) -> str:
    _, _, charset = parameters.partition("charset=")
    try:
        return data.decode(charset.split(";")[0].strip(" \"'") or "utf-8", "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def _check_version(text: object) -> None:
    """PEP 629: a client refuses a major version that it does not know."""
    major = str(text).partition(".")[0]
    if major != "1":
        raise NoIndexPage(f"version {str(text)[:20]!r} of the simple API, of which nb2image knows 1")


def _safe_name(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and not set(name) & {"/", "\\", "\0"}


# -- JSON ---------------------------------------------------------------------------------------------


def _read_json(data: bytes, url: str, wanted: Collection[str] | None) -> tuple[IndexFile, ...]:
    try:
        document = json.loads(data)
        _check_version(document["meta"]["api-version"])
        rows = document["files"]
        if wanted is not None:
            rows = [row for row in rows if any(str(v).lower() in wanted for v in (row.get("hashes") or {}).values())]
        files = [_json_file(row, url) for row in rows]
    except NoIndexPage:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NoIndexPage("JSON that breaks PEP 691") from error
    return tuple(file for file in files if _safe_name(file.filename))


def _json_file(row: Mapping[str, Any], url: str) -> IndexFile:
    size, yanked = row.get("size"), row.get("yanked", False)
    requires = row.get("requires-python")
    return IndexFile(
        filename=str(row["filename"]),
        url=urljoin(url, str(row["url"])).partition("#")[0],
        hashes={str(k).lower(): str(v).lower() for k, v in (row.get("hashes") or {}).items()},
        size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        requires_python=requires if isinstance(requires, str) else None,
        yanked=yanked if isinstance(yanked, str) and yanked else bool(yanked) or yanked == "",
        upload_time=parse_time(row.get("upload-time")),
    )


def parse_time(value: object) -> datetime | None:
    """PEP 700's ``yyyy-mm-ddThh:mm:ss.ffffffZ``; None for anything else."""
    if not isinstance(value, str):
        return None
    seconds, _, fraction = value.removesuffix("Z").partition(".")
    try:
        moment = datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}")
    except ValueError:
        return None
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


# -- HTML ---------------------------------------------------------------------------------------------


def _relevant(text: str, wanted: Collection[str]) -> str:
    """The page without those anchors that state only other hashes: parsing all of a large page takes a second."""
    if not text.isascii() or "<A" in text or text.count("<a") != text.count("<a "):
        return text
    head, *anchors = text.split("<a ")
    # What looks like an anchor stands inside an attribute's value.
    if any(anchor.count('"') % 2 or anchor.count("'") % 2 for anchor in anchors):
        return text
    lower = text.lower()
    starts = set()
    # A comment may begin in one anchor and end in another.
    for value in (*wanted, "--"):
        position = lower.find(value, len(head))
        while position >= 0:
            starts.add(text.rfind("<a ", 0, position))
            position = lower.find(value, position + len(value))
    ends = {start: text.find("<a ", start + 1) for start in starts}
    return head + "".join(text[start : ends[start] if ends[start] > 0 else None] for start in sorted(starts))


def _read_html(text: str, url: str) -> tuple[IndexFile, ...]:
    parser = _Anchors(url)
    try:
        parser.feed(text)
        parser.close()
    except AssertionError as error:  # html.parser of some Pythons, for a declaration like <![CDA[
        raise NoIndexPage("HTML that cannot be read") from error
    return tuple(parser.files)


class _Anchors(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.files: list[IndexFile] = []
        self._base = url
        self._based = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._anchor(dict(attrs))
        elif tag == "base" and not self._based:
            # HTML, 4.2.3: the first one that has an href counts, relative to the page's own URL.
            if href := dict(attrs).get("href"):
                self._based = True
                self._base = self._join(href) or self._base
        elif tag == "meta":
            values = dict(attrs)
            if values.get("name") == "pypi:repository-version":
                _check_version(values.get("content"))

    def _join(self, href: str) -> str | None:
        try:
            return urljoin(self._base, href.strip())
        except ValueError:
            return None

    def _anchor(self, attributes: dict[str, str | None]) -> None:
        href, _, fragment = (attributes.get("href") or "").partition("#")
        url = self._join(href) if href else None
        if url is None:
            return
        filename = unquote(url.partition("?")[0].rpartition("/")[2])
        if not _safe_name(filename):
            return
        # Old pages put more into the fragment ("egg=x&sha256=…"), as pip accepts.
        pairs = (pair.partition("=") for pair in fragment.split("&"))
        hashes = {name.lower(): value.lower() for name, _, value in pairs if value}
        yanked: str | bool = "data-yanked" in attributes and (attributes["data-yanked"] or True)
        self.files.append(IndexFile(filename, url, hashes, None, attributes.get("data-requires-python"), yanked))
