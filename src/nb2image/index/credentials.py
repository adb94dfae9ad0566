"""Credentials for an index, and the ways in which they are kept out of everything that is shown or stored.

Sources in order, as pip has them ("Authentication"): the URL itself, an index URL of the same origin (the user's, the
lock's, pip's, uv's), netrc; and, only after an answer of 401, keyring. A secret belongs to one *origin* (scheme, host,
port; plain HTTP may be upgraded to HTTPS of the same host), and is never offered to another.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import itertools
import json
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

__all__ = ["Credentials", "Login", "bare", "expand", "origin", "redact", "split", "storable"]

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_HIDDEN = "****"
_DEFAULT_PORTS = {"http": 80, "https": 443}

_expanded: set[str] = set()
"""Values that came from the environment into a URL: they may be tokens, and an index repeats them in its links."""


class Login(NamedTuple):
    """A user name and a password, either of which may be empty."""

    user: str
    password: str

    @property
    def header(self) -> str:
        """The value of ``Authorization`` (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


def expand(url: str) -> str:
    """Replace ``${VAR}`` by the environment's value; pip's rule: capitals, digits and underscores only, and a
    variable that is not set stays as it is written."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match.group(1))
        if not found:
            return match.group(0)
        # Shorter values are no secrets, and hiding them would blank out half of every URL.
        if len(found) >= 4:
            _expanded.add(found)
        return found

    return _VARIABLE.sub(value, url)


def bare(url: str) -> str:
    """The URL without user name and password."""
    parts = split(url)
    return url if "@" not in parts.netloc else urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def redact(url: str) -> str:
    """The URL as it may be shown: user name, password, query and what came from the environment are hidden."""
    parts = split(url)
    netloc = parts.netloc
    if "@" in netloc:
        netloc = f"{_HIDDEN}@{netloc.rpartition('@')[2]}"
    path = parts.path
    for secret in sorted(_expanded, key=len, reverse=True):
        path = path.replace(secret, _HIDDEN)
    return urlunsplit(parts._replace(netloc=netloc, path=path, query=_HIDDEN if parts.query else "", fragment=""))


def storable(url: str) -> str | None:
    """The URL as it may be written down and used again, or None when it does not work without a secret."""
    plain = bare(url)
    return plain if redact(plain) == plain else None


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454)."""
    parts = split(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.scheme, (parts.hostname or "").lower(), port or _DEFAULT_PORTS.get(parts.scheme, 0)


def split(url: str) -> SplitResult:
    """The parts of a URL; of one that cannot be taken apart, nothing."""
    try:
        return urlsplit(url)
    except ValueError:
        # A malformed host ("http://[x"): nothing in it can be told apart, so nothing of it is kept.
        return SplitResult("", "", _HIDDEN, "", "")


class Credentials:
    """Finds logins. ``indexes`` are URLs that may hold some; thread-safe."""

    def __init__(self, indexes: Iterable[str] = ()) -> None:
        self._indexes = [expand(url) for url in indexes]
        self._asked: dict[tuple[str, str, int], Login | None] = {}
        self._lock = threading.Lock()

    def learn(self, url: str) -> str:
        """Remember the login inside a URL that an index gave for its files; returns the bare URL."""
        if _login(url) is not None:
            with self._lock:
                if url not in self._indexes:
                    self._indexes.append(url)
        return bare(url)

    def login(self, url: str) -> Login | None:
        """The login to offer with the first request."""
        if own := _login(url):
            return own
        wanted = origin(url)
        with self._lock:
            if asked := self._asked.get(wanted):
                return asked
            near = [index for index in self._indexes if _may_share(origin(index), wanted) and _login(index)]
        if near:
            # Several indexes of one host may have a login each: the one with most of the path in common.
            path = split(url).path
            return _login(max(near, key=lambda index: _shared_path(split(index).path, path)))
        return _from_netrc(wanted[1])

    def login_after_refusal(self, url: str) -> Login | None:
        """The login that keyring has, asked once per origin since it may prompt; None where there is none."""
        wanted = origin(url)
        with self._lock:
            if wanted not in self._asked:
                services = [bare(index) for index in self._indexes if _may_share(origin(index), wanted)]
                user = next((u for index in self._indexes if origin(index) == wanted and (u := _user(index))), None)
                netloc = bare(url).partition("://")[2].partition("/")[0]
                found = (_from_keyring(service, user) for service in (*services, netloc))
                self._asked[wanted] = next((login for login in found if login), None)
            return self._asked[wanted]


def _may_share(known: tuple[str, str, int], wanted: tuple[str, str, int]) -> bool:
    upgraded = (known[0], known[2], wanted[0], wanted[2]) == ("http", 80, "https", 443)
    return known == wanted or (known[1] == wanted[1] and upgraded)


def _shared_path(one: str, other: str) -> int:
    """How many leading components two URL paths have in common."""
    pairs = zip(one.strip("/").split("/"), other.strip("/").split("/"), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _user(url: str) -> str | None:
    return unquote(split(url).username or "") or None


def _login(url: str) -> Login | None:
    """The login inside a URL. A lone user name is a token where there is no password (RFC 3986, 3.2.1 leaves it
    to the scheme; indexes use it so), unless keyring has the password, which an answer of 401 will show."""
    parts = split(url)
    if not parts.username and not parts.password:
        return None
    return Login(unquote(parts.username or ""), unquote(parts.password or ""))


def _from_netrc(host: str) -> Login | None:
    import netrc

    configured = os.environ.get("NETRC")
    for file in [Path(configured)] if configured else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        # A netrc that is broken or belongs to others is passed over, as pip does: it may be meant for other tools.
        with contextlib.suppress(netrc.NetrcParseError, OSError, UnicodeDecodeError):
            found = netrc.netrc(str(file)).authenticators(host)
            return Login(found[0] or "", found[2] or "") if found else None
    return None


def _from_keyring(service: str, user: str | None) -> Login | None:
    try:
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        return _from_keyring_program(service, user)
    try:
        found = keyring.get_credential(service, user)
    except Exception:  # noqa: BLE001  (backends raise what they like; a keyring that fails holds no login for us)
        return None
    return Login(found.username or "", found.password or "") if found else None


def _from_keyring_program(service: str, user: str | None) -> Login | None:
    import shutil
    import subprocess

    program = shutil.which("keyring")
    if program is None:
        return None
    command = [program, "--mode=creds", "--output=json", "get", service, *([user] if user else [])]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
        document = json.loads(done.stdout)
        return Login(str(document["username"]), str(document["password"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
