"""A proxy in front of a real registry that fails as told."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Proxy:
    """``faults`` are tried in order on each request; one that returns True has answered it. ``seen``: method, path and
    ``Authorization`` of all requests."""

    upstream: str
    port: int = 0
    faults: list[Callable[[Handler], bool]] = field(default_factory=list)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def domain(self) -> str:
        return f"127.0.0.1:{self.port}"

    def once(self, method: str, part: str, fault: Callable[[Handler], object], times: int = 1) -> None:
        """Let the next requests of this kind fail."""
        left = [times]

        def maybe(handler: Handler) -> bool:
            if handler.command != method or part not in handler.path or not left[0]:
                return False
            left[0] -= 1
            fault(handler)
            return True

        self.faults.append(maybe)

    def methods(self, part: str = "") -> list[str]:
        return [method for method, path, _ in self.seen if part in path]


class Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def dispatch(self) -> None:
        self.proxy.seen.append((self.command, self.path, self.headers.get("Authorization")))
        if not any(fault(self) for fault in list(self.proxy.faults)):
            self.forward()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = dispatch

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def forward(
        self, change: Callable[[bytes], bytes] = bytes, *, reset_at: int | None = None, pause: float = 0.0
    ) -> None:
        """Pass the request on, and its answer back: changed, slowly, or only the first ``reset_at`` bytes."""
        upstream = http.client.HTTPConnection(self.proxy.upstream)
        # The registry makes upload locations of the host that was asked: the proxy.
        upstream.request(self.command, self.path, self.body(), dict(self.headers))
        reply = upstream.getresponse()
        data = change(reply.read())
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        upstream.close()
        if reset_at is not None:
            self.wfile.write(data[:reset_at])
            self.wfile.flush()
            time.sleep(0.05)
            self.reset()
            return
        for start in range(0, len(data), 1 << 16):
            time.sleep(pause)
            self.wfile.write(data[start : start + (1 << 16)])

    def reset(self) -> None:
        """Break the connection as a crashed proxy does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.close()
        self.rfile.close()
        self.connection.close()


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    made = Proxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"proxy": made}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
