"""Failures of HTTP that may pass, and how long to wait: what package indexes and registries have in common."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

__all__ = ["AGAIN", "Interrupted", "Retry", "certificate_error", "delay", "reason_of", "retry_after"]

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be others when asked again."""
_LONGEST_WAIT = 30.0


class Interrupted(Exception):
    """The work was called off from another thread."""


class Retry(Exception):
    """A failure that may pass. ``status`` where that is the failure; ``after`` seconds that the answer asks to wait;
    ``unconnected`` where the host was not even reached, ``answered`` where an answer had begun; ``url`` where a
    redirect had led by then."""

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        after: float | None = None,
        *,
        unconnected: bool = False,
        answered: bool = False,
        url: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.after = after
        self.unconnected = unconnected
        self.answered = answered
        self.url = url


def delay(number: int, retry: Retry) -> float:
    """Seconds to wait after attempt ``number`` (from 0): exponentially longer, with jitter, or as the server asks."""
    if retry.after is not None:
        return min(retry.after, _LONGEST_WAIT)
    return min(8.0, 0.25 * 2.0**number) * random.uniform(0.5, 1.0)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that an answer asks to wait (RFC 9110, 10.2.3: seconds or a date), None where it does not."""
    import email.utils

    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def certificate_error(error: BaseException | None) -> str | None:
    """Why a server's certificate was not trusted, None where that is not what failed."""
    import ssl

    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def reason_of(error: Exception, *, answered: bool) -> str:
    """An error of httpx in a few words; ``answered``: an answer had begun."""
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return "connecting took too long"
    if isinstance(error, httpx.TimeoutException):
        return "it stopped sending" if answered else "it did not answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[0].lower() + cause.strerror[1:]
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.RemoteProtocolError):
        return "it closed the connection in mid-answer" if answered else "it closed the connection without an answer"
    return f"the connection broke ({type(error).__name__})"
