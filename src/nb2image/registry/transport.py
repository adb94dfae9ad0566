"""`Connection`: the registry of one domain over HTTP: how it is reached, who is let in, what is tried again.

Every method may be called by several threads at once. Failures that may pass (408, 429, 5xx, resets, time-outs) are
tried again. ``Authorization`` is sent to the registry's own origin only, wherever redirects and upload locations lead.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar

from nb2image import __version__
from nb2image.errors import RegistryAnswered, RegistryFailure, RegistryUnreachable
from nb2image.index.credentials import origin, redact, split
from nb2image.pace import Stalled
from nb2image.registry.certificates import untrusted, verifying
from nb2image.registry.credentials import Login, find_login
from nb2image.registry.reference import api_host, is_loopback
from nb2image.registry.tokens import Challenge, fetch_token, read_challenge, refused
from nb2image.retries import AGAIN, Interrupted, Retry, certificate_error, delay, reason_of, retry_after

if TYPE_CHECKING:
    import httpx

__all__ = ["LARGEST_DOCUMENT", "Answer", "Body", "Connection"]

_R = TypeVar("_R")
_C = TypeVar("_C", bound="Connection")
Body = Callable[[], Iterable[bytes]]
"""Gives a request's bytes from their beginning, as often as they have to be sent."""

LARGEST_DOCUMENT = 4 << 20
"""Bytes of a manifest, an index or a config at most."""
_LARGEST_ANSWER = 64 << 10
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}


class Answer(NamedTuple):
    """An answer that was read whole. ``url``: where it came from in the end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Connection:
    """HTTP to the registry of one domain, as references name it.

    ``plain_http``: whether HTTP is taken where HTTPS is not to be had; for this machine's own registries it always is.
    ``retries`` is how often a request is repeated; ``timeout`` in seconds for connecting and each read; ``sleep`` is
    there for tests.
    """

    def __init__(
        self,
        domain: str,
        *,
        plain_http: bool = False,
        retries: int = 5,
        timeout: float = 30.0,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        # httpx brings a command line of its own, and with that rich: half of what importing it takes.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
        self.domain = domain
        self._plain_http = plain_http
        self._retries = retries
        self._timeout = timeout
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._lock = threading.RLock()
        self._client: httpx.Client | None = None
        self._base: str | None = None
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], str] = {}
        self._logins: dict[str, tuple[Login | None, list[str]]] = {}

    def __enter__(self: _C) -> _C:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Layers of a base may be opened until the last of them is forgotten.
        with contextlib.suppress(AttributeError):
            self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()

    def stop(self) -> None:
        """Make running transfers end at their next piece, with `Interrupted`."""
        self._stopped.set()

    def check_stopped(self) -> None:
        """Raise `Interrupted` after `stop`."""
        if self._stopped.is_set():
            raise Interrupted

    def url(self, path: str) -> str:
        """The URL of something below ``/v2/``; finds out first how the registry is to be reached."""
        return f"{self._reached()}/v2/{path}"

    # -- requests ----------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        url: str,
        scopes: Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        largest: int = _LARGEST_ANSWER,
    ) -> Answer:
        """Send a request, again where that may help, and read the answer of at most ``largest`` bytes.

        Any status that will not pass by itself is the caller's to judge. Raises `RegistryFailure`.
        """

        return self.retrying(url, lambda: self.attempt(method, url, scopes, headers, body, largest=largest))

    def attempt(
        self,
        method: str,
        url: str,
        scopes: Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        largest: int = _LARGEST_ANSWER,
    ) -> Answer:
        """The same once; raises `Retry` where another attempt may help."""
        with self._attempt(method, url, scopes, headers or {}, body) as response:
            pieces, size = [], 0
            for piece in response.iter_bytes():
                size += len(piece)
                if size > largest:
                    raise RegistryAnswered(
                        f"{self.domain} answers {redact(url)} with more than {largest >> 10} KiB.",
                        hint="This is no document that a registry has.",
                    )
                pieces.append(piece)
            return Answer(response.status_code, response.headers, b"".join(pieces), str(response.url))

    def retrying(self, url: str, attempt: Callable[[], _R], retries: int | None = None) -> _R:
        """Call ``attempt`` until it raises no `Retry`, or the retries are used up."""
        most = self._retries if retries is None else retries
        for number in range(most + 1):
            try:
                return attempt()
            except Retry as retry:
                if number == most:
                    self.give_up(url, retry, most + 1)
                self.pause(number, retry)
        raise AssertionError("unreachable")

    def pause(self, number: int, retry: Retry) -> None:
        """Wait before attempt ``number + 1``. Raises `Interrupted`."""
        self.check_stopped()
        self._sleep(delay(number, retry))
        self.check_stopped()

    def give_up(self, url: str, retry: Retry, attempts: int) -> NoReturn:
        """Raise the error of the last attempt."""
        if retry.status is not None:
            after = f"It asks to wait {retry.after:.0f} s. Try again then." if retry.after else "Try again later."
            phrase = f"{retry.status} {retry.reason}".strip()
            raise RegistryAnswered(f"{self.domain} answered {phrase} for {redact(url)}.", hint=after)
        where = retry.url or url
        if retry.answered:
            raise RegistryUnreachable(
                f"{split(where).netloc} did not deliver {redact(where)}, asked {attempts} times: {retry.reason}.",
                hint="Try again later.",
            ) from retry
        raise RegistryUnreachable(
            f"{split(where).netloc} cannot be reached: {retry.reason}.",
            hint="Check the network and the registry's name.",
        ) from retry

    def expect(self, answer: Answer, statuses: set[int]) -> None:
        """Raise `RegistryAnswered` for another status than these."""
        if answer.status not in statuses:
            self.refuse(answer.url, answer.status, answer.body)

    def refuse(self, url: str, status: int, body: bytes = b"") -> NoReturn:
        """Raise the error for a status; what the registry says of it is shown as a detail."""
        raise RegistryAnswered(
            f"{self.domain} answered {status} for {redact(url)}.",
            hint="See what it says; its administrator knows more."
            if body
            else "Check the reference; the registry's administrator knows more.",
            details=_said(body),
        )

    @contextlib.contextmanager
    def _attempt(
        self,
        method: str,
        url: str,
        scopes: Sequence[str],
        headers: Mapping[str, str],
        body: Body | None = None,
    ) -> Iterator[httpx.Response]:
        """One attempt, with whatever the registry wants to see. Raises `Retry` (also while the body is read),
        `RegistryFailure`, or `Interrupted`."""
        with self._failing(url) as began:
            response = self._authorised(method, url, scopes, headers, body)
            began()
            try:
                if response.status_code in AGAIN:
                    raise Retry(response.reason_phrase, response.status_code, retry_after(response))
                yield response
            finally:
                response.close()

    @contextlib.contextmanager
    def _failing(self, url: str) -> Iterator[Callable[[], None]]:
        """Turn what httpx raises into `Retry` and `RegistryFailure`; call what is yielded when an answer begins."""
        import httpx

        answered = False

        def began() -> None:
            nonlocal answered
            answered = True

        try:
            yield began
        except Stalled as error:
            raise Retry(str(error), answered=True) from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            self.check_stopped()
            if (certificate := certificate_error(error)) is not None:
                raise untrusted(split(url).netloc, self.domain, certificate) from error
            if "WRONG_VERSION_NUMBER" in str(error):
                raise RegistryUnreachable(
                    f"{split(url).netloc} does not speak https.",
                    hint="If it is a registry without, and the network between is to be trusted, give --plain-http.",
                ) from error
            if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
                raise RegistryAnswered(
                    f"{self.domain} leads to no URL that can be fetched.", hint="Its administrator knows more."
                ) from error
            unconnected = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            reason = reason_of(error, answered=answered)
            raise Retry(reason, unconnected=unconnected, answered=answered, url=url) from error

    def _authorised(
        self, method: str, url: str, scopes: Sequence[str], headers: Mapping[str, str], body: Body | None
    ) -> httpx.Response:
        if origin(url) != origin(self._reached()):
            # An upload location elsewhere, which brings what it wants to see in its query.
            return self._redirected(method, url, headers, "", body)
        shown = self._authorization(scopes)
        response = self._redirected(method, url, headers, shown, body)
        if response.status_code not in {401, 403} or origin(str(response.url)) != origin(url):
            return response
        login, problems = self._login(_path_of(scopes))
        if response.status_code == 403:
            response.close()
            raise refused(self.domain, login, problems)
        challenge = read_challenge(response.headers.get_list("WWW-Authenticate"))
        response.close()
        if challenge is None:
            raise RegistryAnswered(
                f"{self.domain} wants a login and does not say of which kind.", hint="It may be no registry."
            )
        with self._lock:
            self._challenge = challenge
            # What was shown has expired, or was for less; another thread may have a new one already.
            if self._tokens.get(tuple(scopes)) == shown:
                del self._tokens[tuple(scopes)]
        again = self._authorization(scopes)
        if again == shown:
            raise refused(self.domain, login, problems)
        response = self._redirected(method, url, headers, again, body)
        if response.status_code in {401, 403} and origin(str(response.url)) == origin(url):
            response.close()
            raise refused(self.domain, login, problems)
        return response

    def _authorization(self, scopes: Sequence[str]) -> str:
        """The value of ``Authorization``, empty where nothing was asked for yet or nothing is there."""
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return ""
            login, problems = self._login(_path_of(scopes))
            if login is not None and login.token:
                return f"Bearer {login.token}"
            if challenge.scheme == "basic":
                if login is None or not login.user:
                    raise refused(self.domain, None, problems)
                return login.basic
            key = tuple(scopes)
            if key not in self._tokens:
                # With the lock held, so that a hundred layers ask for one token.
                try:
                    token = fetch_token(challenge, scopes, login, self._reached(), self._send_bare)
                except RegistryFailure as error:
                    error.details = (*error.details, *problems)
                    raise
                self._tokens[key] = f"Bearer {token}"
            return self._tokens[key]

    def _login(self, path: str) -> tuple[Login | None, list[str]]:
        with self._lock:
            if path not in self._logins:
                problems: list[str] = []
                self._logins[path] = (find_login(self.domain, path, problems), problems)
            return self._logins[path]

    def _send_bare(self, request: httpx.Request) -> httpx.Response:
        response = self._http().send(request, stream=True, follow_redirects=False)
        if response.status_code in AGAIN:
            response.close()
            raise Retry(response.reason_phrase, response.status_code, retry_after(response))
        return response

    def _redirected(
        self, method: str, url: str, headers: Mapping[str, str], authorization: str, body: Body | None
    ) -> httpx.Response:
        """Send, and follow redirects of what has no body."""
        client = self._http()
        start = origin(url)
        for _ in range(_MOST_REDIRECTS + 1):
            shown = {"Authorization": authorization} if authorization and origin(url) == start else {}
            content = self._pieces(body) if body is not None else None
            request = client.build_request(method, url, headers={**headers, **shown}, content=content)
            response = client.send(request, stream=True, follow_redirects=False)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None or body is not None:
                return response
            response.close()
            following = str(response.url.join(location))
            if origin(url)[0] == "https" and origin(following)[0] != "https":
                raise RegistryAnswered(
                    f"{self.domain} redirects from https to another protocol.", hint="Its administrator knows more."
                )
            url = following
        raise RegistryAnswered(f"{self.domain} redirects in a circle.", hint="Its administrator knows more.")

    def _pieces(self, body: Body) -> Iterator[bytes]:
        for piece in body():
            self.check_stopped()
            yield piece

    # -- how it is reached ---------------------------------------------------------------------------------

    def ping(self) -> None:
        """Find out that a registry answers. Raises `RegistryFailure`."""
        self._reached()

    def _reached(self) -> str:
        with self._lock:
            if self._base is None:
                self._base = self._find_base()
            return self._base

    def _find_base(self) -> str:
        host = api_host(self.domain)
        if is_loopback(self.domain) or self._plain_http:
            try:
                return self._pinged(f"https://{host}", retries=0)
            except RegistryUnreachable as error:
                if certificate_error(error) is not None:
                    raise
            return self._pinged(f"http://{host}")
        return self._pinged(f"https://{host}")

    def _pinged(self, base: str, retries: int | None = None) -> str:
        """End-1 of the specification: 200, or 401 with a challenge."""
        url = f"{base}/v2/"

        def attempt() -> tuple[int, httpx.Headers]:
            with self._failing(url) as began:
                response = self._redirected("GET", url, {}, "", None)
                began()
                response.close()
                if response.status_code in AGAIN:
                    raise Retry(response.reason_phrase, response.status_code, retry_after(response))
                return response.status_code, response.headers

        status, headers = self.retrying(url, attempt, retries)
        challenge = read_challenge(headers.get_list("WWW-Authenticate")) if status == 401 else None
        page = "html" in headers.get("Content-Type", "") and "Docker-Distribution-Api-Version" not in headers
        if (status != 200 or page) and challenge is None:
            raise RegistryAnswered(
                f"{self.domain} is no registry: it answered {status}{' with a web page' if page else ''} for {url}.",
                hint="Check the host and the port of the reference.",
            )
        self._challenge = challenge
        return base

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    # As for indexes: HTTP/2 fails when threads share it (https://github.com/encode/httpx/issues/3002).
                    http2=False,
                    verify=verifying(self.domain),
                    timeout=httpx.Timeout(self._timeout, pool=None),
                    limits=httpx.Limits(max_connections=16, max_keepalive_connections=16),
                    # No proxy leads to this machine.
                    trust_env=not is_loopback(self.domain),
                    headers={"User-Agent": f"nb2image/{__version__}"},
                )
            return self._client


def _path_of(scopes: Sequence[str]) -> str:
    return scopes[0].split(":")[1] if scopes else ""


def _said(body: bytes) -> tuple[str, ...]:
    """The messages of an error document (distribution specification, "Error codes")."""
    try:
        rows = json.loads(body)["errors"]
        texts = [f"{row.get('code', '')}: {row.get('message', '')}" for row in rows[:3]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    return tuple("".join(c for c in text[:300] if c.isprintable()) for text in texts)
