"""A small registry on loopback that fails as told, and never otherwise: for faults that a real one does not have."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    handler: Handler


Fault: TypeAlias = Callable[[Asked], bool]
"""Answers a request in its own way, or returns False."""


@dataclass
class MemoryRegistry:
    """``faults`` are asked in order before each request; ``token``: what has to be shown, as ``Authorization`` has it,
    ``challenge``: what is said to those who do not."""

    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    token: str | None = None
    challenge: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def domain(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.domain}"

    def requests(self, method: str, part: str = "") -> list[Asked]:
        return [each for each in self.asked if each.method == method and part in each.path]

    def once(self, method: str, part: str, fault: Callable[[Asked], object], times: int = 1) -> None:
        """Let the next ``times`` requests of this kind fail."""
        left = [times]

        def maybe(asked: Asked) -> bool:
            if asked.method != method or part not in asked.path or not left[0]:
                return False
            left[0] -= 1
            fault(asked)
            return True

        self.faults.append(maybe)


class Handler(BaseHTTPRequestHandler):
    registry: MemoryRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> bool:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reset(self) -> None:
        """Break the connection as a crashed proxy does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The handler's files hold the socket open, too.
        self.wfile.close()
        self.rfile.close()
        self.connection.close()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def dispatch(self) -> None:
        registry = self.registry
        asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, self)
        with registry.lock:
            registry.asked.append(asked)
            faults = list(registry.faults)
        if any(fault(asked) for fault in faults):
            return
        if registry.token is not None and asked.headers.get("authorization") != registry.token:
            self.body()
            self.answer(401, WWW_Authenticate=registry.challenge)
            return
        with registry.lock:
            self.serve(asked)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = dispatch

    def serve(self, asked: Asked) -> None:
        parts = urlsplit(asked.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/v2/":
            self.answer(200, b"{}")
        elif found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", parts.path):
            self.manifest(f"{found[1]}@{found[2]}", found[1])
        elif "/blobs/uploads/" in parts.path:
            self.upload(parts.path, query)
        elif found := re.fullmatch(r"/v2/(.+)/blobs/(.+)", parts.path):
            self.blob(found[2])
        else:
            self.answer(404)

    def manifest(self, key: str, path: str) -> None:
        manifests = self.registry.manifests
        if self.command == "PUT":
            data = self.body()
            manifests[key] = manifests[f"{path}@{sha256(data)}"] = (self.headers["Content-Type"], data)
            self.answer(201)
        elif key in manifests:
            kind, data = manifests[key]
            self.answer(200, data, Content_Type=kind)
        else:
            self.answer(404)

    def blob(self, digest: str) -> None:
        data = self.registry.blobs.get(digest)
        if data is None:
            self.answer(404)
        elif found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(found[1])
            self.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.answer(200, data)

    def upload(self, path: str, query: dict[str, str]) -> None:
        uploads = self.registry.uploads
        if self.command == "POST":
            self.body()
            name = f"{path}{len(uploads)}"
            uploads[name] = bytearray()
            self.answer(202, Location=f"{name}?state=1")
            return
        session = uploads.get(path)
        if session is None:
            self.body()
            self.answer(404)
            return
        if self.command == "GET":
            self.answer(204, Range=f"0-{max(len(session) - 1, 0)}")
            return
        start = int(self.headers.get("Content-Range", "0-").partition("-")[0])
        if self.command == "PATCH" and start != len(session):
            self.body()
            self.answer(416)
            return
        session += self.body()
        if self.command == "PATCH":
            self.answer(202, Location=f"{path}?state=2", Range=f"0-{len(session) - 1}")
        elif sha256(bytes(session)) != query["digest"]:
            self.answer(400, json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "bad"}]}).encode())
        else:
            self.registry.blobs[query["digest"]] = bytes(session)
            self.answer(201)


@contextmanager
def memory_registry() -> Iterator[MemoryRegistry]:
    made = MemoryRegistry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"registry": made}))
    server.daemon_threads = True
    # A TLS greeting is no request; nothing is to be said of it on standard error.
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
