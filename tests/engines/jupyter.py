"""Jupyter images that serve, and a client of their kernels: what a browser does, from outside of the container."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.client import connect

from tests.engines.containers import run_engine
from tests.engines.daemons import Daemon

__all__ = ["Answer", "Executed", "Server", "serving"]

_START_SECONDS = 90
_EXECUTION_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """Of an HTTP request; redirects are followed."""

    status: int
    url: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Executed:
    """What came of one execution in a kernel. ``messages``: all of the IOPub channel, in order."""

    status: str = ""
    text: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """A container that serves on 127.0.0.1; ``url`` is what it printed."""

    engine: Daemon
    container: str
    port: int
    url: str

    @property
    def token(self) -> str:
        return self.url.rpartition("token=")[2]

    def ask(self, path: str, *, token: str | None = None, method: str = "GET", data: Any = None) -> Answer:
        """One request without cookies; ``token`` goes into the header."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        if data is not None:
            request.data = json.dumps(data).encode()
        return _fetch(request)

    def visit(self) -> Answer:
        """Open the printed URL as it is."""
        return _fetch(urllib.request.Request(self.url))

    @contextlib.contextmanager
    def kernel(self) -> Iterator[str]:
        """A fresh kernel of the default specification; its identity."""
        started = self.ask("/api/kernels", token=self.token, method="POST", data={})
        assert started.status == 201, started
        identity = str(started.json()["id"])
        yield identity
        assert self.ask(f"/api/kernels/{identity}", token=self.token, method="DELETE").status == 204

    def execute(self, kernel: str, code: str) -> Executed:
        """Run code in a kernel (Jupyter messaging protocol 5, jupyter_server's default WebSocket protocol)."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        session = uuid.uuid4().hex
        header = {"msg_id": uuid.uuid4().hex, "session": session, "username": "", "date": "", "version": "5.3"}
        request = {
            "header": {**header, "msg_type": "execute_request"},
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
        }
        executed = Executed()
        address = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels?session_id={session}"
        headers = {"Authorization": f"token {self.token}"}
        with connect(address, additional_headers=headers, max_size=None, compression=None, proxy=None) as channels:
            channels.send(json.dumps(request))
            idle = False
            while not (idle and executed.status):
                message = json.loads(channels.recv(timeout=_EXECUTION_SECONDS))
                if message["parent_header"].get("msg_id") != header["msg_id"]:
                    continue
                kind = message["msg_type"]
                if message["channel"] == "iopub":
                    executed.messages.append(message)
                if kind == "execute_reply":
                    executed.status = message["content"]["status"]
                elif kind == "stream":
                    executed.text += message["content"]["text"]
                elif kind == "error":
                    executed.text += "\n".join(message["content"]["traceback"])
                elif kind == "status":
                    idle = message["content"]["execution_state"] == "idle"
        return executed

    def value(self, kernel: str, expression: str) -> Any:
        """The value of a Python expression, which JSON must be able to hold."""
        executed = self.execute(kernel, f"import json\nprint(json.dumps({expression}))")
        assert executed.status == "ok", executed.text
        return json.loads(executed.text)


def _fetch(request: urllib.request.Request) -> Answer:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(), urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return Answer(response.status, response.url, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.url, error.read())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(engine: Daemon, reference: str, *options: str, arguments: Sequence[str] = ()) -> Iterator[Server]:
    """Run a Jupyter image in the background, with ``options`` of the engine's ``run``, until it has printed its URL.

    It listens on the port on which it is published, so that the URL holds outside of the container too.
    """
    name, port = f"nb2image-{uuid.uuid4().hex[:12]}", _free_port()
    published = (f"--publish=127.0.0.1:{port}:{port}", f"--env=JUPYTER_PORT={port}")
    run_engine(
        engine,
        "run",
        "--detach",
        "--pull=never",
        "--name",
        name,
        *published,
        *options,
        reference,
        *arguments,
        check=True,
    )
    try:
        yield Server(engine, name, port, _printed_url(engine, name))
    finally:
        run_engine(engine, "rm", "--force", name)


def _printed_url(engine: Daemon, container: str) -> str:
    limit = time.monotonic() + _START_SECONDS
    while True:
        done = run_engine(engine, "logs", container)
        found = re.search(r"^JupyterLab: (http\S+)$", done.stdout, re.MULTILINE)
        if found:
            return found[1]
        state = run_engine(engine, "inspect", "--format", "{{.State.Running}}", container).stdout.strip()
        assert state == "true", f"it ended: {done.stdout}{done.stderr}"
        assert time.monotonic() < limit, f"it prints no URL: {done.stdout}{done.stderr}"
        time.sleep(0.2)
