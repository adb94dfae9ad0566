"""Which indexes are asked: what the user said, and what pip and uv are configured for on this machine.

pip's configuration is read here, not by running pip: "Configuration" in pip's documentation gives the files, their
order (global, user, site, ``PIP_CONFIG_FILE``; a later one wins, ``[install]`` wins over ``[global]``, the environment
over all), and that lists are separated by white space. uv's is "Configuration files" and "Package indexes" of its own.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nb2image.errors import IndexFailure
from nb2image.lock.model import Lock

__all__ = [
    "DEFAULT",
    "IndexSettings",
    "Network",
    "configured_urls",
    "default_find_links",
    "default_indexes",
    "network",
    "resolve",
]

DEFAULT = "default"
"""The word that stands for pip's own configuration where an index URL is expected."""
PUBLIC = "public"
"""Stands for the public index until its URL is needed: the library that knows it takes half a second to import,
which a warm build must not pay."""


@dataclass(frozen=True)
class IndexSettings:
    """What the user asked for.

    ``indexes`` replace every index that the lock names; None: the lock's own, or the default where it names none.
    ``extra`` are asked after them, ``find_links`` (folders, HTML pages, URLs) before. URLs as the user wrote them:
    they may hold credentials and ``${VAR}``.
    """

    indexes: tuple[str, ...] | None = None
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    offline: bool = False

    def named(self) -> tuple[str, ...]:
        """Every URL that the user gave, which may hold credentials."""
        return tuple(url for url in (*(self.indexes or ()), *self.extra, *self.find_links) if url != DEFAULT)

    def indexes_for(self, lock_indexes: Iterable[str]) -> tuple[str, ...]:
        """The indexes to ask, in order, for a lock that names these; for `resolve`."""
        chosen = tuple(lock_indexes) if self.indexes is None else self.indexes
        return _unique(_expanded_default((*(chosen or (DEFAULT,)), *self.extra)))

    def links_for(self, lock: Lock) -> tuple[str, ...]:
        """The places of ``--find-links``; pip's own belong to the default and come with it."""
        chosen = lock.indexes if self.indexes is None else self.indexes
        uses_default = not chosen or DEFAULT in (*chosen, *self.extra)
        return _unique((*self.find_links, *(default_find_links() if uses_default else ())))


@dataclass(frozen=True)
class Network:
    """How pip is told to connect. ``timeout`` in seconds; ``trusted_hosts`` (``host`` or ``host:port``) need no
    valid certificate; ``cert`` replaces the machine's own authorities."""

    timeout: float = 15.0
    cert: str | None = None
    client_cert: str | None = None
    trusted_hosts: tuple[str, ...] = ()


def default_indexes() -> tuple[str, ...]:
    """pip's ``index-url`` and ``extra-index-url``; uv's where pip names no ``index-url``; the public index where
    uv names none either. Empty where pip is told ``no-index``."""
    return tuple(resolve(index) for index in _default())


def resolve(index: str) -> str:
    """The URL of an index, which may be `PUBLIC`."""
    if index != PUBLIC:
        return index
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return str(PYPI_SIMPLE_ENDPOINT)


def _default() -> tuple[str, ...]:
    pip = _pip_options()
    if pip.get("no-index", "").strip().lower() in {"1", "true", "yes", "on", "t", "y"}:
        return ()
    main: tuple[str, ...]
    if "index-url" in pip:
        main = (pip["index-url"].strip(),)
    else:
        uv = _uv_indexes()
        first = [index.url for index in uv if not index.default and not index.explicit]
        main = (*first, next((index.url for index in uv if index.default), None) or PUBLIC)
    return _unique((*main, *pip.get("extra-index-url", "").split()))


def default_find_links() -> tuple[str, ...]:
    """pip's ``find-links``."""
    return tuple(_pip_options().get("find-links", "").split())


def network() -> Network:
    """pip's time-out, certificates and trusted hosts."""
    pip = _pip_options()
    cert = pip.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    try:
        timeout = float(pip.get("timeout") or pip.get("default-timeout") or Network.timeout)
    except ValueError:
        timeout = Network.timeout
    trusted = tuple(pip.get("trusted-host", "").split())
    return Network(timeout, cert or None, pip.get("client-cert") or None, trusted)


def configured_urls() -> tuple[str, ...]:
    """Every index URL that pip and uv are configured with, for the credentials inside; uv's
    ``UV_INDEX_<NAME>_USERNAME`` and ``_PASSWORD`` are put into theirs."""
    pip = _pip_options()
    urls = [*pip.get("index-url", "").split(), *pip.get("extra-index-url", "").split()]
    return _unique([*urls, *(index.with_credentials() for index in _uv_indexes())])


def _expanded_default(urls: Iterable[str]) -> Iterator[str]:
    for url in urls:
        yield from _default() if url == DEFAULT else (url,)


def _unique(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(url for url in urls if url))


# -- pip ----------------------------------------------------------------------------------------------


def _pip_files() -> Iterator[Path]:
    """pip's configuration files, the least binding first."""
    import platformdirs

    basename = "pip.ini" if sys.platform == "win32" else "pip.conf"
    home = Path.home()
    configured = os.environ.get("PIP_CONFIG_FILE")
    if configured == os.devnull:
        return
    if sys.platform == "darwin":
        yield from (
            Path(p) / basename for p in platformdirs.site_data_dir("pip", False, multipath=True).split(os.pathsep)
        )
        application_support = Path(platformdirs.user_data_dir("pip", False))
        user = application_support if application_support.is_dir() else home / ".config" / "pip"
    else:
        shared = platformdirs.site_config_dir("pip", False, multipath=True)
        yield from (Path(p) / basename for p in ([shared] if sys.platform == "win32" else shared.split(os.pathsep)))
        if sys.platform != "win32":
            yield Path("/etc") / basename
        user = Path(platformdirs.user_config_dir("pip", False, roaming=True))
    yield home / ("pip" if sys.platform == "win32" else ".pip") / basename
    yield user / basename
    # The pip that the user calls is the active environment's, wherever nb2image itself is installed.
    yield Path(os.environ.get("VIRTUAL_ENV") or sys.prefix) / basename
    if configured:
        yield Path(configured)


def _pip_options() -> dict[str, str]:
    """pip's options for ``install``, by long name without dashes; empty values count as absent, as for pip."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in _pip_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise IndexFailure(
                f"pip's configuration file {file} cannot be read: {type(error).__name__}.",
                hint="Correct it (`pip config debug` shows where pip looks), or set PIP_CONFIG_FILE to another file.",
            ) from error
        for section, options in sections.items():
            if parser.has_section(section):
                options.update((_option(key), value or "") for key, value in parser.items(section))
    environment = {_option(k[4:]): v for k, v in os.environ.items() if k.startswith("PIP_")}
    merged: dict[str, str] = {}
    for options in (sections["global"], sections["install"], environment):
        merged.update((key, value) for key, value in options.items() if value.strip())
    return merged


def _option(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


# -- uv -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _UvIndex:
    url: str
    name: str = ""
    default: bool = False
    explicit: bool = False

    @classmethod
    def parse(cls, text: str, *, default: bool = False) -> _UvIndex:
        """``URL`` or ``name=URL``, as ``UV_INDEX`` and ``UV_DEFAULT_INDEX`` take it."""
        name, separator, url = text.partition("=")
        if separator and ":" not in name and "/" not in name:
            return cls(url, name, default)
        return cls(text, "", default)

    def with_credentials(self) -> str:
        from urllib.parse import quote, urlsplit, urlunsplit

        stem = "UV_INDEX_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in self.name).upper()
        user = os.environ.get(f"{stem}_USERNAME") if self.name else None
        password = os.environ.get(f"{stem}_PASSWORD") if self.name else None
        if user is None and password is None:
            return self.url
        parts = urlsplit(self.url)
        userinfo = f"{quote(user or '', safe='')}:{quote(password or '', safe='')}"
        return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc.rpartition('@')[2]}"))


def _uv_indexes() -> list[_UvIndex]:
    """uv's indexes, the most binding first: environment, then the user's and the system's configuration."""
    environment = os.environ
    found = [_UvIndex.parse(text) for text in environment.get("UV_INDEX", "").split()]
    found += [_UvIndex(url) for url in environment.get("UV_EXTRA_INDEX_URL", "").split()]
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if text := environment.get(variable, "").strip():
            found.append(_UvIndex.parse(text, default=True))
    for document in _uv_documents():
        found += _uv_document_indexes(document)
    return found


def _uv_document_indexes(document: Mapping[str, Any]) -> Iterator[_UvIndex]:
    for row in _list(document.get("index")):
        if isinstance(row, dict) and isinstance(row.get("url"), str):
            yield _UvIndex(
                row["url"], str(row.get("name") or ""), row.get("default") is True, row.get("explicit") is True
            )
    for table in (document, document.get("pip")):
        if isinstance(table, dict):
            yield from (_UvIndex(url) for url in _list(table.get("extra-index-url")) if isinstance(url, str))
            if isinstance(url := table.get("index-url"), str):
                yield _UvIndex(url, default=True)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _uv_documents() -> Iterator[Mapping[str, Any]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    for file in _uv_files():
        try:
            yield tomllib.loads(file.read_text("utf-8"))
        except OSError:
            continue
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise IndexFailure(
                f"uv's configuration file {file} cannot be read: it is no TOML.",
                hint="Correct it, or set UV_CONFIG_FILE to another file.",
            ) from error


def _uv_files() -> Iterator[Path]:
    environment = os.environ
    if environment.get("UV_NO_CONFIG"):
        return
    if configured := environment.get("UV_CONFIG_FILE"):
        yield Path(configured)
        return
    if sys.platform == "win32":
        yield Path(environment.get("APPDATA", "")) / "uv" / "uv.toml"
        yield Path(environment.get("PROGRAMDATA", "C:/ProgramData")) / "uv" / "uv.toml"
        return
    yield Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv" / "uv.toml"
    for folder in (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(folder) / "uv" / "uv.toml"
    yield Path("/etc/uv/uv.toml")
