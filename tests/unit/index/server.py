"""A package index on loopback that answers as told, faults included."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class Request:
    """A request that came, as a reply may look at it."""

    path: str
    headers: Mapping[str, str]
    handler: BaseHTTPRequestHandler


Reply: TypeAlias = Callable[[Request], None]


@dataclass
class IndexServer:
    """``replies`` by path; of several for one path each is used once, and the last from then on. ``otherwise``
    (None: 404) elsewhere."""

    host: str
    port: int
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    otherwise: Reply | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def simple(self) -> str:
        return f"{self.url}/simple"

    def with_login(self, login: str, path: str = "/simple") -> str:
        return f"http://{login}@{self.host}:{self.port}{path}"

    def on(self, path: str, *replies: Reply) -> str:
        self.replies[path] = list(replies)
        return self.url + path

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def authorizations(self) -> list[str | None]:
        return [request.headers.get("Authorization") for request in self.requests]

    def project(self, name: str, files: Mapping[str, bytes], **details: Any) -> None:
        """A project with a JSON page, and its files under /files."""
        rows = [
            {"filename": n, "url": f"../../files/{n}", "hashes": {"sha256": sha256(d)}, "size": len(d), **details}
            for n, d in files.items()
        ]
        self.on(f"/simple/{name}/", json_page(rows))
        for filename, data in files.items():
            self.on(f"/files/{filename}", body(data))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


# -- replies ----------------------------------------------------------------------------------------


def _send(request: Request, code: int, headers: Mapping[str, str], data: bytes, *, promise: int | None = None) -> None:
    handler = request.handler
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data) if promise is None else promise))
    handler.end_headers()
    handler.wfile.write(data)
    handler.wfile.flush()


def status(code: int, **headers: str) -> Reply:
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: _send(request, code, shown, b"")


def redirect(url: str) -> Reply:
    return status(302, Location=url)


def body(data: bytes, **headers: str) -> Reply:
    """The bytes, with a strong entity tag and byte ranges (RFC 9110, 14)."""
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    tag = f'"{sha256(data)[:16]}"'

    def reply(request: Request) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if found and request.headers.get("If-Range", tag) == tag:
            start = int(found.group(1))
            place = f"bytes {start}-{len(data) - 1}/{len(data)}"
            _send(request, 206, {"ETag": tag, "Content-Range": place, **shown}, data[start:])
        else:
            _send(request, 200, {"ETag": tag, **shown}, data)

    return reply


def html_page(text: str, **headers: str) -> Reply:
    return body(text.encode(), **{"Content-Type": "text/html; charset=utf-8", **headers})


def gzipped(text: str) -> Reply:
    return body(gzip.compress(text.encode()), Content_Type="text/html", Content_Encoding="gzip")


def json_page(files: Sequence[Mapping[str, Any]], version: str = "1.1") -> Reply:
    document = {"meta": {"api-version": version}, "name": "demo", "files": list(files)}
    return body(json.dumps(document).encode(), Content_Type=JSON)


def guarded(login: str, reply: Reply) -> Reply:
    """Basic authentication in front of another reply."""

    def checked(request: Request) -> None:
        if request.headers.get("Authorization") == basic(login):
            reply(request)
        else:
            _send(request, 401, {"WWW-Authenticate": 'Basic realm="index"'}, b"")

    return checked


def cut(data: bytes, at: int, *, reset: bool = True, tag: str | None = None) -> Reply:
    """Promise all of the bytes, send ``at`` of them, and break off: by a reset, or as if all were sent."""

    def reply(request: Request) -> None:
        etag = tag if tag is not None else f'"{sha256(data)[:16]}"'
        _send(request, 200, {"ETag": etag} if etag else {}, data[:at], promise=len(data))
        request.handler.close_connection = True
        if reset:
            # Give the client time to read: a reset discards what it has not read yet.
            time.sleep(0.05)
            connection = request.handler.connection
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    return reply


def stalled(data: bytes, at: int, seconds: float) -> Reply:
    """Send ``at`` of the bytes, then nothing for some seconds."""

    def reply(request: Request) -> None:
        _send(request, 200, {}, data[:at], promise=len(data))
        time.sleep(seconds)
        request.handler.close_connection = True

    return reply


# -- the server ---------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    index: IndexServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave in mid-answer are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        request = Request(self.path, dict(self.headers.items()), self)
        index = self.server.index
        index.requests.append(request)
        replies = index.replies.get(self.path, [index.otherwise or status(404)])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        reply(request)

    def log_message(self, *_: object) -> None:
        """Tests look at `IndexServer.requests`."""


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[IndexServer]:
    """``localhost`` and ``127.0.0.1`` are two hosts to a client, which is what redirects are tested with."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.index = IndexServer(host, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
