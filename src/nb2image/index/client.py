"""Asking indexes: one pooled client, retries, and errors that name the host and the reason.

::

    IndexClient ── project(index, name) ──▶ the files of a project, None where the index does not know it
                └─ stream(url) ──▶ a response to read, for downloads and pages alike
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from nb2image import __version__
from nb2image.errors import IndexAnswered, IndexFailure, IndexUnreachable
from nb2image.index.credentials import Credentials, bare, expand, origin, redact, split
from nb2image.index.pages import ACCEPT, IndexFile, NoIndexPage, read_page
from nb2image.index.settings import Network, configured_urls, network, resolve
from nb2image.pace import Pace, Stalled
from nb2image.retries import AGAIN, Interrupted, Retry, certificate_error, delay, reason_of, retry_after

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["IndexClient", "Interrupted", "Retry", "file_path", "is_missing", "refuse"]

_R = TypeVar("_R")
_LARGEST_PAGE = 256 << 20


def file_path(url: str) -> Path | None:
    """The path that a ``file:`` URL names (RFC 8089), None for any other URL."""
    parts = split(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def is_missing(status: int) -> bool:
    """Whether a status says that there is no such page."""
    return status in {404, 410}


def refuse(url: str, status: int, reason: str = "", after: float | None = None) -> NoReturn:
    """Raise `IndexAnswered` for an error status; ``after``: the seconds that the answer asks to wait."""
    hint = "Try again later, or name another index with --index-url."
    if after:
        hint = f"It asks to wait {after:.0f} s. Try again then, or name another index with --index-url."
    if status in {401, 403, 407}:
        hint = "It may want credentials: put them into netrc, keyring, pip's or uv's configuration, or the URL."
    phrase = f"{status} {reason}".strip()
    raise IndexAnswered(f"{_host(url)} answered {phrase} for {redact(url)}.", hint=hint)


def _host(url: str) -> str:
    return split(bare(url)).netloc or redact(url)


class IndexClient:
    """An HTTP client for indexes; every method may be called by several threads at once.

    ``retries`` is how often a request is repeated after a failure that may pass: no connection, time-out, reset,
    408, 425, 429 and most of 5xx. ``timeout`` in seconds for connecting and for each read; None: pip's. ``sleep``
    is there for tests.
    """

    def __init__(
        self,
        indexes: Iterable[str] = (),
        *,
        retries: int = 5,
        timeout: float | None = None,
        connections: int = 16,
        sleep: Callable[[float], object] | None = None,
        network: Network | None = None,
    ) -> None:
        self.retries = retries
        self._indexes = tuple(indexes)
        self._timeout = timeout
        self._connections = connections
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._network = network
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._credentials: Credentials | None = None
        self._dead: dict[tuple[str, str, int], IndexUnreachable] = {}
        self._open: set[httpx.Response] = set()

    def __enter__(self) -> IndexClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()

    def stop(self) -> None:
        """Make every running request end soon, with `Interrupted`."""
        import socket

        self._stopped.set()
        with self._lock:
            responses = list(self._open)
        for response in responses:
            stream = response.extensions.get("network_stream")
            connection = stream.get_extra_info("socket") if stream else None
            if isinstance(connection, socket.socket):
                # shutdown, unlike close, wakes a thread that waits in recv; the plain socket's method leaves the
                # TLS state of the other thread alone.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    # -- project pages ----------------------------------------------------------------------------

    def project(self, index: str, name: str, wanted: Collection[str] | None = None) -> tuple[IndexFile, ...] | None:
        """The files that ``index`` (a URL, which may hold ``${VAR}`` and credentials) offers for a project; None
        when it does not know the project (404). ``wanted`` as for `read_page`.

        Raises `IndexUnreachable` and `IndexAnswered`.
        """
        return self.page(f"{expand(resolve(index)).rstrip('/')}/{canonicalize_name(name)}/", wanted)

    def page(self, url: str, wanted: Collection[str] | None = None) -> tuple[IndexFile, ...] | None:
        """The files of one index page."""
        if (path := file_path(url)) is not None:
            return self._local_page(path, url, wanted)
        return self.retrying(url, lambda: self._remote_page(url, wanted))

    def _local_page(self, path: Path, url: str, wanted: Collection[str] | None) -> tuple[IndexFile, ...] | None:
        file = path / "index.html" if path.is_dir() else path
        try:
            data = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise IndexUnreachable(
                f"The index page {file} cannot be read: {error.strerror}.", hint="Check its permissions."
            ) from error
        kind = "application/json" if file.suffix == ".json" else "text/html"
        return self._read(data, kind, url, file.as_uri(), wanted)

    def _remote_page(self, url: str, wanted: Collection[str] | None) -> tuple[IndexFile, ...] | None:
        with self.stream(url, {"Accept": ACCEPT}) as response:
            if is_missing(response.status_code):
                return None
            if response.status_code != 200:
                refuse(url, response.status_code, response.reason_phrase)
            pieces, size, pace = [], 0, self.pace()
            for piece in response.iter_bytes():
                pace.add(len(piece))
                pieces.append(piece)
                size += len(piece)
                if size > _LARGEST_PAGE:
                    raise self._no_page(url, f"more than {_LARGEST_PAGE >> 20} MiB")
            kind = response.headers.get("Content-Type", "")
            files = self._read(b"".join(pieces), kind, url, str(response.url), wanted)
            # A page from elsewhere has no say over files of this machine.
            return tuple(file for file in files if file_path(file.url) is None)

    def _read(
        self, data: bytes, content_type: str, asked: str, url: str, wanted: Collection[str] | None
    ) -> tuple[IndexFile, ...]:
        try:
            files = read_page(data, content_type, url, wanted)
        except NoIndexPage as error:
            raise self._no_page(asked, str(error)) from error
        return tuple(file._replace(url=self._logins().learn(file.url)) for file in files)

    def _no_page(self, url: str, what: str) -> IndexAnswered:
        return IndexAnswered(
            f"{redact(url)} is no index page: it answered with {what}.",
            hint="Give the URL of a simple index (PEP 503), which often ends in /simple.",
        )

    # -- requests ---------------------------------------------------------------------------------

    def retrying(self, url: str, attempt: Callable[[], _R]) -> _R:
        """Call ``attempt``, which talks to ``url``, until it works or the retries are used up."""
        for number in range(self.retries + 1):
            try:
                return attempt()
            except Retry as retry:
                if number == self.retries:
                    self.give_up(url, retry)
                self.wait(number, retry)
        raise AssertionError("unreachable")

    def wait(self, number: int, retry: Retry) -> None:
        """Sleep before attempt ``number + 1``: exponentially longer, with jitter, or as the server asks."""
        if self._stopped.is_set():
            raise Interrupted
        self._sleep(delay(number, retry))
        if self._stopped.is_set():
            raise Interrupted

    def pace(self) -> Pace:
        """For the body of an answer that is going to be read."""
        return Pace(self._timeout or self._configured().timeout)

    def give_up(self, url: str, retry: Retry, details: tuple[str, ...] = ()) -> NoReturn:
        """Raise the error of the last attempt."""
        if retry.status is not None:
            refuse(url, retry.status, retry.reason, retry.after)
        url = retry.url or url
        if retry.answered:
            raise IndexUnreachable(
                f"{_host(url)} did not deliver {redact(url)}, asked {self.retries + 1} times: {retry.reason}.",
                hint="Try again later, or name another index with --index-url.",
                details=details,
            ) from retry
        error = IndexUnreachable(
            f"{_host(url)} cannot be reached: {retry.reason}.",
            hint="Check the network and the URL, name another index with --index-url, or build with --offline.",
        )
        if retry.unconnected:
            # Eighty packages must not each wait for the same dead host.
            with self._lock:
                self._dead[origin(url)] = error
        raise error from retry

    @contextlib.contextmanager
    def stream(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """One attempt at a GET of an HTTP URL; redirects are followed, credentials found.

        Raises `Retry` (also while the body is read), `IndexFailure`, or `Interrupted`. Any status that will not
        pass by itself is the caller's to judge.
        """
        import httpx

        if dead := self._dead.get(origin(url)):
            raise dead
        if split(url).scheme not in {"http", "https"}:
            raise IndexAnswered(
                f"{redact(url)} is no URL that can be fetched.", hint="Indexes are reached by https, http or file URLs."
            )
        response: httpx.Response | None = None
        try:
            response = self._send(url, headers)
            with self._lock:
                self._open.add(response)
            if self._stopped.is_set():
                raise Interrupted
            if response.status_code in AGAIN:
                raise Retry(response.reason_phrase, response.status_code, retry_after(response))
            yield response
        except Stalled as error:
            raise Retry(str(error), answered=True) from error
        except httpx.TooManyRedirects as error:
            raise IndexAnswered(
                f"{_host(url)} redirects {redact(url)} in a circle.", hint="Name another index with --index-url."
            ) from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            if self._stopped.is_set():
                raise Interrupted from error
            raise self._as_failure(url, error, answered=response is not None) from error
        finally:
            if response is not None:
                with self._lock:
                    self._open.discard(response)
                response.close()

    def _as_failure(self, url: str, error: Exception, *, answered: bool) -> Exception:
        import httpx

        with contextlib.suppress(AttributeError, RuntimeError):
            url = str(error.request.url)  # type: ignore[attr-defined]
        if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
            return IndexAnswered(
                f"{redact(url)} leads to no URL that can be fetched.", hint="Name another index with --index-url."
            )
        if isinstance(error, httpx.DecodingError):
            return Retry("its answer is damaged (content encoding)", url=url, answered=True)
        certificate = certificate_error(error)
        if certificate is not None:
            return IndexUnreachable(
                f"{_host(url)} cannot be reached: its certificate is not trusted ({certificate}).",
                hint="Set pip's `cert` (PIP_CERT) to the file of your authorities, or `trusted-host` to accept it.",
            )
        reason = reason_of(error, answered=answered)
        unconnected = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
        return Retry(reason, unconnected=unconnected, answered=answered, url=url)

    def _send(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        client, logins = self._http(), self._logins()
        login = logins.login(url)
        plain = bare(url)

        def get(authorization: Mapping[str, str]) -> httpx.Response:
            request = client.build_request("GET", plain, headers={**headers, **authorization})
            return client.send(request, stream=True, follow_redirects=True)

        response = get({"Authorization": login.header} if login else {})
        if response.status_code == 401 and origin(str(response.url)) == origin(plain):
            second = logins.login_after_refusal(url)
            if second is not None and second != login:
                response.close()
                response = get({"Authorization": second.header})
        return response

    # -- made when first needed: an offline or warm build makes none of them ----------------------------

    def _logins(self) -> Credentials:
        with self._lock:
            if self._credentials is None:
                self._credentials = Credentials((*self._indexes, *configured_urls()))
            return self._credentials

    def _configured(self) -> Network:
        if self._network is None:
            self._network = network()
        return self._network

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                how = self._configured()
                limits = httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
                mounts: dict[str, httpx.BaseTransport | None] = {}
                if how.trusted_hosts:
                    trusting = httpx.HTTPTransport(verify=_trusting(), limits=limits)
                    mounts.update((f"https://{host}", trusting) for host in how.trusted_hosts)
                self._client = httpx.Client(
                    # Not HTTP/2: shared by threads it fails (https://github.com/encode/httpx/issues/3002), and one
                    # connection for each download is the faster way.
                    http2=False,
                    verify=_verifying(how),
                    timeout=httpx.Timeout(self._timeout or how.timeout, pool=None),
                    limits=limits,
                    mounts=mounts,
                    headers={"User-Agent": f"nb2image/{__version__}"},
                )
            return self._client


# Loading authorities takes a tenth of a second, and a build has two clients.
@lru_cache
def _verifying(how: Network) -> ssl.SSLContext:
    """The machine's authorities, as pip trusts them, and certifi's for machines whose OpenSSL knows none."""
    import ssl

    import certifi

    try:
        context = ssl.create_default_context(cafile=how.cert if how.cert and Path(how.cert).is_file() else None)
        if how.cert and Path(how.cert).is_dir():
            context.load_verify_locations(capath=how.cert)
        elif how.cert and not Path(how.cert).exists():
            raise FileNotFoundError
        elif not how.cert:
            context.load_verify_locations(certifi.where())
        if how.client_cert:
            context.load_cert_chain(how.client_cert)
    except (OSError, ssl.SSLError) as error:
        raise IndexFailure(
            f"pip's certificates cannot be loaded ({how.cert or 'cert'}, {how.client_cert or 'no client-cert'}).",
            hint="Correct `cert` and `client-cert` in pip's configuration, or PIP_CERT and PIP_CLIENT_CERT.",
        ) from error
    return context


def _trusting() -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
