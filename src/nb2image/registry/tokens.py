"""What a registry wants to see: the challenge of a 401 (RFC 9110, 11.6.1), and tokens for it.

A token is asked for at the challenge's realm, as Docker's token specification has it: with the login by HTTP Basic,
with an identity token by OAuth 2's ``refresh_token``, or anonymously.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nb2image.errors import RegistryAnswered, RegistryRefused
from nb2image.index.credentials import origin, split
from nb2image.registry.credentials import Login

if TYPE_CHECKING:
    import httpx

__all__ = ["Challenge", "fetch_token", "read_challenge", "refused"]

_LARGEST_TOKEN = 64 << 10
_CLIENT = "nb2image"
_SCHEME = re.compile(r"(?:^|,)\s*(Bearer|Basic)(?=\s|,|$)", re.IGNORECASE)
_PARAMETER = re.compile(r'([a-zA-Z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Challenge(NamedTuple):
    """``scheme`` is ``bearer`` or ``basic``."""

    scheme: str
    parameters: Mapping[str, str]


def read_challenge(values: Sequence[str]) -> Challenge | None:
    """The challenge of ``WWW-Authenticate`` fields that can be answered, Bearer before Basic."""
    found: list[Challenge] = []
    for value in values:
        starts = list(_SCHEME.finditer(value))
        for number, match in enumerate(starts):
            end = starts[number + 1].start() if number + 1 < len(starts) else len(value)
            pairs = _PARAMETER.findall(value[match.end() : end])
            parameters = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in pairs}
            found.append(Challenge(match[1].lower(), parameters))
    bearer = [each for each in found if each.scheme == "bearer" and each.parameters.get("realm")]
    return next(iter([*bearer, *(each for each in found if each.scheme == "basic")]), None)


def fetch_token(
    challenge: Challenge,
    scopes: Sequence[str],
    login: Login | None,
    registry: str,
    send: Callable[[httpx.Request], httpx.Response],
) -> str:
    """A token for ``scopes`` from the challenge's realm; ``registry`` is the base URL of who sent the challenge, and
    ``send`` a way to send requests that follows no redirect.

    Raises `RegistryRefused`, `RegistryAnswered`, and what ``send`` raises.
    """
    import httpx

    realm = challenge.parameters["realm"]
    place = split(registry).netloc
    scheme, host, _ = origin(realm)
    own = origin(registry)
    if not host or (scheme != "https" and (scheme, host) != own[:2]):
        raise RegistryAnswered(
            f"{place} sends for its tokens to a place that is not asked by https.",
            hint="Whoever answers there could read the login; ask the registry's administrator.",
        )
    service = {"service": challenge.parameters["service"]} if challenge.parameters.get("service") else {}
    if login is not None and login.identity:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": login.identity,
            "client_id": _CLIENT,
            "scope": " ".join(scopes),
            **service,
        }
        request = httpx.Request("POST", realm, data=form)
    else:
        query = [*service.items(), *(("scope", scope) for scope in scopes)]
        url = httpx.URL(realm)
        merged = httpx.QueryParams([*url.params.multi_items(), *query])
        headers = {"Authorization": login.basic} if login is not None else {}
        request = httpx.Request("GET", url.copy_with(params=merged), headers=headers)
    response = send(request)
    try:
        if response.status_code in {400, 401, 403}:
            raise refused(place, login)
        if response.status_code != 200:
            raise RegistryAnswered(
                f"{host}, which gives out the tokens of {place}, answered {response.status_code}.",
                hint="Try again later.",
            )
        return _token(response, host, place)
    finally:
        response.close()


def refused(place: str, login: Login | None, problems: Sequence[str] = ()) -> RegistryRefused:
    """The error for a registry that lets nobody in, or not this login."""
    if login is None:
        return RegistryRefused(
            f"{place} wants a login, and none is stored for it.",
            hint=f"Log in with `docker login {place}` or `podman login {place}`.",
            details=tuple(problems),
        )
    return RegistryRefused(
        f"{place} refuses the login that {login.source} has for it.",
        hint=f"It may be wrong, expired, or without the right to this repository; `docker login {place}` or "
        f"`podman login {place}` stores another one.",
        details=tuple(problems),
    )


def _token(response: httpx.Response, host: str, place: str) -> str:
    body = b""
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _LARGEST_TOKEN:
            break
    try:
        if len(body) > _LARGEST_TOKEN:
            raise ValueError
        document: Any = json.loads(body)
        found = document.get("token") or document.get("access_token")
        # What goes into a header must be one line of ASCII.
        if not isinstance(found, str) or not found.isascii() or not found.isprintable():
            raise ValueError
    except (ValueError, AttributeError, RecursionError):
        raise RegistryAnswered(
            f"{host}, which gives out the tokens of {place}, answered with something that is no token.",
            hint="Ask the registry's administrator.",
        ) from None
    return found
