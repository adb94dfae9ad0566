"""Logins that Docker and podman have stored, read where they keep them.

``$REGISTRY_AUTH_FILE``, else ``$XDG_RUNTIME_DIR/containers/auth.json`` (without that variable
``/run/containers/UID/auth.json``) and ``~/.config/containers/auth.json`` (containers-auth.json(5)); then
``config.json`` of ``$DOCKER_CONFIG`` or ``~/.docker``. In each file a helper program for the host (``credHelpers``)
comes first, then ``auths``, then the helper for everything (``credsStore``). Keys may name a repository or the
folders above it; the closest one counts.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Login", "find_login"]

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_SECONDS = 60
_RUN = Path("/run/containers")
_DOCKER_IO = ("docker.io", "index.docker.io", "registry-1.docker.io")
_DOCKER_KEY = "https://index.docker.io/v1/"
_IDENTITY_USER = "<token>"


@dataclass(frozen=True)
class Login:
    """What to show a registry: user and password, an identity token (``refresh_token`` of OAuth 2), or a token that
    is ready to be used. ``source`` says where it was found."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    source: str = ""

    @property
    def basic(self) -> str:
        """The value of ``Authorization`` (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


def find_login(domain: str, path: str, problems: list[str]) -> Login | None:
    """The login for a repository, None where none is stored. What could not be read is added to ``problems``: it
    matters only if the registry then refuses."""
    for file in _files():
        document = _document(file, problems)
        if document is not None and (found := _in_document(document, domain, path, file, problems)) is not None:
            return found
    return None


def _files() -> Iterator[Path]:
    configured = os.environ.get("REGISTRY_AUTH_FILE")
    if configured:
        yield Path(configured)
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if runtime:
            yield Path(runtime, "containers/auth.json")
        # Without that variable podman keeps logins by the number of the user. Where root has used it first, the folder
        # is for root only.
        elif os.access(_RUN, os.X_OK):
            yield _RUN / str(os.getuid()) / "auth.json"
        config = os.environ.get("XDG_CONFIG_HOME")
        yield (Path(config) if config else Path.home() / ".config") / "containers" / "auth.json"
    docker = os.environ.get("DOCKER_CONFIG")
    yield (Path(docker) if docker else Path.home() / ".docker") / "config.json"


def _document(file: Path, problems: list[str]) -> Mapping[str, Any] | None:
    try:
        document = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problems.append(f"{file} cannot be read: {error.strerror}")
        return None
    except (ValueError, RecursionError):
        problems.append(f"{file} is no JSON document")
        return None
    return document if isinstance(document, dict) else None


def _in_document(document: Mapping[str, Any], domain: str, path: str, file: Path, problems: list[str]) -> Login | None:
    keys = list(_keys(domain, path))
    helpers = _by_place(document.get("credHelpers"))
    for key in keys:
        if isinstance(helper := helpers.get(key), str):
            return _from_helper(helper, domain, file, problems)
    auths = _by_place(document.get("auths"))
    for key in keys:
        if isinstance(entry := auths.get(key), dict) and (found := _from_entry(entry, file, problems)) is not None:
            return found
    store = document.get("credsStore")
    return _from_helper(store, domain, file, problems) if isinstance(store, str) and store else None


def _keys(domain: str, path: str) -> Iterator[str]:
    """A repository, the folders above it, and its host."""
    for host in _DOCKER_IO if domain in _DOCKER_IO else (domain,):
        parts = path.split("/")
        for count in range(len(parts), -1, -1):
            yield "/".join((host, *parts[:count]))


def _by_place(value: Any) -> dict[str, Any]:
    """Old files have URLs as keys: ``https://registry.example/v1/``."""
    if not isinstance(value, dict):
        return {}
    return {re.sub(r"^https?://|/(?:v[12]/?)?$", "", str(key)): entry for key, entry in value.items()}


def _from_entry(entry: Mapping[str, Any], file: Path, problems: list[str]) -> Login | None:
    texts = {key: value for key, value in entry.items() if isinstance(value, str) and value}
    user, password = texts.get("username", ""), texts.get("password", "")
    if "auth" in texts:
        try:
            user, _, password = base64.b64decode(texts["auth"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            problems.append(f"{file} has an entry whose `auth` is no base64")
    login = Login(
        user, password.rstrip("\0"), texts.get("identitytoken", ""), texts.get("registrytoken", ""), str(file)
    )
    return login if login.user or login.identity or login.token else None


def _from_helper(name: str, domain: str, file: Path, problems: list[str]) -> Login | None:
    """Ask ``docker-credential-NAME get`` (its protocol: the host on standard input, JSON on standard output)."""
    program = f"docker-credential-{name}"
    if not _HELPER.fullmatch(name):
        problems.append(f"{file} names a helper whose name is no file name")
        return None
    place = _DOCKER_KEY if domain in _DOCKER_IO else domain
    try:
        done = subprocess.run(
            [program, "get"], input=place.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "it took too long" if isinstance(error, subprocess.TimeoutExpired) else str(error.strerror)
        problems.append(f"{program}, which {file} names, cannot be asked: {reason}")
        return None
    if done.returncode:
        # What a helper prints is not shown: it may be anything. Most often it has nothing for this host.
        problems.append(f"{program}, which {file} names, has no login for {domain}")
        return None
    try:
        document = json.loads(done.stdout)
        user, secret = str(document["Username"]), str(document["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError):
        problems.append(f"{program}, which {file} names, answered with something else than a login")
        return None
    if user == _IDENTITY_USER:
        return Login(identity=secret, source=program)
    return Login(user, secret, source=program)
