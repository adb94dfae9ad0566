"""Blobs sent to a registry: mounted from another repository, in one request, or in parts that can be taken up again.

Distribution specification 1.1, "Pushing blobs" and "Mounting a blob from another repository".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Literal
from urllib.parse import urlencode

from nb2image.errors import RegistryAnswered
from nb2image.image.model import Descriptor
from nb2image.index.credentials import origin
from nb2image.registry.client import Registry, pull_scope, push_scope
from nb2image.registry.transport import Answer
from nb2image.retries import Retry

__all__ = ["Opener", "Sent", "send_blob"]

Opener = Callable[[], BinaryIO]
Sent = Literal["mounted", "sent"]

_PART = 32 << 20
"""Bytes of one request of a large blob: what is lost when a connection breaks, and more than a proxy keeps waiting."""
_ATTEMPTS = 6
_CHUNK = 1 << 20
_TYPE = "application/octet-stream"


def send_blob(
    registry: Registry,
    path: str,
    descriptor: Descriptor,
    open_: Opener,
    advance: Callable[[int], None],
    *,
    source: str | None = None,
    part: int = _PART,
) -> Sent:
    """Have a blob in the repository ``path`` that lacks it. ``source`` is a repository of the registry that may have
    it; ``open_`` is called only when bytes have to be sent, and ``advance`` hears of them (less than nothing, when some
    are sent again). Blobs of more than ``part`` bytes go in parts.

    Raises `RegistryFailure`, and what ``open_`` and the stream raise.
    """
    location = None
    if source is not None and source != path:
        answer = _begin(registry, path, {"mount": descriptor.digest, "from": source}, source)
        if answer is not None and answer.status == 201:
            return "mounted"
        # "If a registry does not support cross-repository mounting, it should return 202": an upload has begun.
        location = _location(registry, answer) if answer is not None and answer.status == 202 else None
    for number in range(_ATTEMPTS):
        upload = _Upload(registry, path, descriptor, open_, advance)
        try:
            upload.run(location or _begun(registry, path), part)
        except Retry as retry:
            # Whatever was left of that upload is lost: the next one begins from nothing.
            upload.forget()
            location = None
            if number == _ATTEMPTS - 1:
                registry.give_up(registry.url(f"{path}/blobs/uploads/"), retry, _ATTEMPTS)
            registry.pause(number, retry)
        else:
            return "sent"
    raise AssertionError("unreachable")


def _begin(registry: Registry, path: str, query: dict[str, str], source: str | None = None) -> Answer | None:
    """POST an upload; None where a mount was not allowed."""
    from nb2image.errors import RegistryRefused

    url = registry.url(f"{path}/blobs/uploads/") + (f"?{urlencode(query)}" if query else "")
    scopes = [push_scope(path), *([pull_scope(source)] if source else [])]
    try:
        return registry.ask("POST", url, scopes, {"Content-Length": "0"})
    except RegistryRefused:
        if source is None:
            raise
        return None


def _begun(registry: Registry, path: str) -> str:
    answer = _begin(registry, path, {})
    assert answer is not None
    registry.expect(answer, {202})
    return _location(registry, answer)


def _location(registry: Registry, answer: Answer) -> str:
    """Where an upload goes on; may be relative. Behind a proxy that ends TLS, some registries call themselves http."""
    from urllib.parse import urljoin

    stated = answer.headers.get("location", "")
    if not stated:
        raise RegistryAnswered(
            f"{registry.domain} began an upload and does not say where.", hint="Its administrator knows more."
        )
    url = urljoin(answer.url, stated)
    here, there = origin(answer.url), origin(url)
    if here[0] == "https" and there[0] == "http":
        if here[1] != there[1]:
            raise RegistryAnswered(
                f"{registry.domain} sends uploads from https to a place without.", hint="Its administrator knows more."
            )
        url = urljoin(answer.url, re.sub(r"^http://[^/]*", "", url))
    return url


class _Upload:
    """One upload session."""

    def __init__(
        self,
        registry: Registry,
        path: str,
        descriptor: Descriptor,
        open_: Opener,
        advance: Callable[[int], None],
    ) -> None:
        self._registry = registry
        self._scopes: Sequence[str] = [push_scope(path)]
        self._descriptor = descriptor
        self._open = open_
        self._advance = advance
        self._counted = 0

    def forget(self) -> None:
        """Take back what was counted."""
        self._advance(-self._counted)
        self._counted = 0

    def run(self, location: str, part: int) -> None:
        """Send all. Raises `Retry` when the upload is lost."""
        size = self._descriptor.size
        if size <= part:
            self._finish(location, 0, size)
            return
        done, failures = 0, 0
        while done < size:
            length = min(part, size - done)
            try:
                answer = self._patch(location, done, length)
            except Retry as retry:
                failures += 1
                if failures == _ATTEMPTS:
                    raise
                self._registry.pause(failures - 1, retry)
                location, done = self._stands(location, done)
                continue
            if answer.status == 416:
                location, done = self._stands(location, done)
                failures += 1
                if failures == _ATTEMPTS:
                    raise Retry("it does not say where the upload stands", answered=True)
                continue
            self._registry.expect(answer, {202})
            location = _location(self._registry, answer)
            done = self._end_of(answer, done + length)
            failures = 0
        self._finish(location, done, 0)

    def _patch(self, location: str, start: int, length: int) -> Answer:
        headers = {
            "Content-Type": _TYPE,
            "Content-Length": str(length),
            # Without "bytes ": the specification's own form.
            "Content-Range": f"{start}-{start + length - 1}",
        }
        return self._once("PATCH", location, headers, start, length)

    def _finish(self, location: str, start: int, length: int) -> None:
        joint = "&" if "?" in location else "?"
        url = f"{location}{joint}{urlencode({'digest': self._descriptor.digest})}"
        headers = {"Content-Type": _TYPE, "Content-Length": str(length)}
        if start and length:
            headers["Content-Range"] = f"{start}-{start + length - 1}"
        answer = self._once("PUT", url, headers, start, length)
        if answer.status in {404, 416}:
            raise Retry("it lost the upload", answered=True)
        self._registry.expect(answer, {201, 204})

    def _once(self, method: str, url: str, headers: dict[str, str], start: int, length: int) -> Answer:
        """One attempt, in which the bytes are counted once however often they are sent."""
        return self._registry.attempt(method, url, self._scopes, headers, lambda: self._bytes(start, length))

    def _stands(self, location: str, done: int) -> tuple[str, int]:
        """Where an upload goes on, and after how many bytes. Raises `Retry` when it is lost."""
        answer = self._registry.ask("GET", location, self._scopes)
        if answer.status != 204:
            raise Retry("it lost the upload", answered=True)
        stated = self._end_of(answer, done)
        return (_location(self._registry, answer) if "location" in answer.headers else location), stated

    def _end_of(self, answer: Answer, otherwise: int) -> int:
        """``Range: 0-99`` says that 100 bytes are there."""
        found = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("range", ""))
        if found is None:
            return otherwise
        end = int(found[1])
        # Registries say "0-0" of an upload that has nothing yet.
        end = end + 1 if end else 0
        if end > self._descriptor.size:
            raise Retry("it has more of the upload than was sent", answered=True)
        return end

    def _bytes(self, start: int, length: int) -> Iterator[bytes]:
        if not length:
            return
        self._advance(start - self._counted)
        self._counted = start
        with self._open() as stream:
            _skip(stream, start)
            while length:
                piece = stream.read(min(_CHUNK, length))
                if not piece:
                    raise RegistryAnswered(
                        f"The layer {self._descriptor.digest} ends too early.", hint="Build or copy the image again."
                    )
                yield piece
                length -= len(piece)
                self._counted += len(piece)
                self._advance(len(piece))


def _skip(stream: BinaryIO, count: int) -> None:
    if count and stream.seekable():
        stream.seek(count)
        return
    while count:
        count -= len(stream.read(min(_CHUNK, count)) or b"x" * count)
