"""Run an image in an engine: a batch image until it ends, a Jupyter image until it is interrupted."""

from __future__ import annotations

import http.client
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from nb2image.engines.client import Engine
from nb2image.engines.nvidia import gpu_options, gpus_explained
from nb2image.errors import EngineRefused, Unwritable
from nb2image.runtime import OUTPUT, RUNNER
from nb2image.runtime.entries import MODE_LABEL, Mode

if TYPE_CHECKING:
    from docker.types.daemon import CancellableStream

__all__ = ["Server", "check_processor", "image_mode", "run_batch", "serve"]

_Frame: TypeAlias = tuple[bytes | None, bytes | None]
"""A piece of the output, and a piece of the error output."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""OCI's names for those that engines may call as ``uname -m`` does."""
_PORT_IN_IMAGE = 8888
_PORTS = range(8888, 8988)
_GRACE_SECONDS = 30
"""Between SIGTERM and SIGKILL: a batch run writes the partial notebook meanwhile."""
_ANSWER_SECONDS = 180
_LOOK_SECONDS = 10
"""Between looks at a container whose output goes on; its end is seen at once by the end of the output."""
_INTERRUPTED = 130
"""Exit code of a run that was interrupted, where the container itself reports success: 128 + SIGINT."""


def image_mode(engine: Engine, reference: str) -> Mode:
    """What the image does when it runs, from its label.

    Raises `EngineRefused` when the engine lacks the image or another tool built it.
    """
    document = engine.inspect(reference)
    if document is None:
        raise EngineRefused(
            f"{engine.title} has no image {reference}.",
            hint="Load it first (nb2image build --load -t NAME NOTEBOOK), or give a notebook instead of an image.",
        )
    labels = (document.get("Config") or {}).get("Labels") or {}
    mode = labels.get(MODE_LABEL)
    if mode == "jupyter" or mode == "batch":
        return "jupyter" if mode == "jupyter" else "batch"
    raise EngineRefused(
        f"The image {reference} was not built by nb2image: it has no label {MODE_LABEL}.",
        hint=f"Run it with {engine.name} run {reference} instead.",
    )


def check_processor(engine: Engine, reference: str) -> None:
    """Raise `EngineRefused` for an image of another processor than the engine's machine has, unless that is emulated:
    its Python is started, and nothing else tells for sure."""
    document = engine.inspect(reference) or {}
    wanted, machine = str(document.get("Architecture") or ""), engine.architecture.lower()
    if not wanted or wanted == _ARCHITECTURES.get(machine, machine):
        return
    with engine.asked(f"to run {reference}"):
        created = engine.api.create_container(reference, entrypoint=[f"{RUNNER}/bin/python", "-I", "-c", ""])
    try:
        with suppress(EngineRefused), engine.asked(f"to run {reference}"):
            engine.api.start(created["Id"])
            if engine.api.wait(created["Id"], timeout=_ANSWER_SECONDS)["StatusCode"] == 0:
                return
    finally:
        with engine.asked(f"to remove a container of {reference}"):
            engine.api.remove_container(created["Id"], force=True, v=True)
    raise EngineRefused(
        f"{reference} is an image for linux/{wanted}, and {engine.title}'s machine ({machine}) does not emulate that.",
        hint=f"Run it on such a machine; build one for this machine with "
        f"--platform linux/{_ARCHITECTURES.get(machine, machine)}; or install an emulator there, such as Debian's "
        "qemu-user-static with binfmt-support.",
    )


def run_batch(
    engine: Engine,
    reference: str,
    arguments: Sequence[str],
    output: Path,
    stdout: BinaryIO,
    stderr: BinaryIO,
    *,
    gpu: bool = False,
) -> int:
    """Run a batch image, its output streamed, ``output`` mounted where it writes; return its exit code. With ``gpu`` it
    gets the GPUs of the machine.

    On KeyboardInterrupt the container gets SIGTERM and the time to leave the partial notebook, and the code is never
    0. Raises `EngineRefused`, and `Unwritable` when ``output`` cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(
            f"The folder {output} for executed notebooks cannot be made: {error.strerror}.",
            hint="Name another one with --output.",
        ) from error
    mounts = {output.absolute(): OUTPUT}
    with _container(engine, reference, arguments, user=_user(engine), mounts=mounts, gpu=gpu) as container:
        container.attach(stdout, stderr)
        try:
            container.start()
            return container.wait()
        except KeyboardInterrupt:
            container.stop()
            return container.wait() or _INTERRUPTED


@dataclass(frozen=True)
class Server:
    """A Jupyter image that runs and answers. ``wait`` blocks until it ends and returns its exit code."""

    url: str
    wait: Callable[[], int]


@contextmanager
def serve(
    engine: Engine,
    reference: str,
    arguments: Sequence[str],
    stdout: BinaryIO,
    stderr: BinaryIO,
    *,
    gpu: bool = False,
) -> Iterator[Server]:
    """Run a Jupyter image on a free port of this machine; on leaving, it is stopped and removed.

    Entered once it answers over HTTP. Raises `EngineRefused` when it ends or stays silent instead.
    """
    token = secrets.token_urlsafe(24)
    port = _free_port()
    with _container(
        engine, reference, arguments, environment={"JUPYTER_TOKEN": token}, ports={_PORT_IN_IMAGE: port}, gpu=gpu
    ) as container:
        container.attach(stdout, stderr)
        container.start()
        try:
            _wait_for_answer(container, port)
            yield Server(f"http://127.0.0.1:{port}/lab?token={token}", container.wait)
        finally:
            container.stop()


def _user(engine: Engine) -> str:
    """The user whose files in a mounted folder belong to whoever runs this; group 0 owns what images may write.

    Of a rootless engine that is the container's root. (podman's ``keep-id`` would need subordinate UIDs.)
    """
    return "0:0" if engine.rootless else f"{os.getuid()}:0"


def _free_port() -> int:
    for port in _PORTS:
        with socket.socket() as probe:
            # As servers do: otherwise a port counts as taken for a minute after its last connection.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EngineRefused(
        f"No port from {_PORTS.start} to {_PORTS.stop - 1} is free on 127.0.0.1.",
        hint="Stop servers that are not needed any more.",
    )


@dataclass
class _Container:
    engine: Engine
    reference: str
    id: str
    gpu: bool
    command: str
    _readers: list[threading.Thread] = field(default_factory=list)
    _ending: Future[int] | None = None

    def attach(self, stdout: BinaryIO, stderr: BinaryIO) -> None:
        """Copy the output from its first byte on: to be called before `start`."""
        with self.engine.asked(f"the output of {self.reference}"):
            stream = self.engine.api.attach(self.id, stdout=True, stderr=True, stream=True, demux=True)
        reader = threading.Thread(target=self._copy, args=(stream, stdout, stderr), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _copy(self, stream: CancellableStream[_Frame], stdout: BinaryIO, stderr: BinaryIO) -> None:
        # Whatever breaks the connection also breaks `wait`, which reports it; a reader that has gone (`| head`) must
        # not keep the container from ending.
        with suppress(EngineRefused), self.engine.asked(f"the output of {self.reference}"):
            try:
                for out, err in stream:
                    for data, sink in ((out, stdout), (err, stderr)):
                        if data:
                            with suppress(BrokenPipeError):
                                sink.write(data)
                                sink.flush()
            finally:
                # The stream's own close() leaves the connection's file open.
                stream._response.close()  # type: ignore[attr-defined]

    def finish_output(self) -> None:
        """Wait until all output is copied; at once where the container has ended."""
        for reader in self._readers:
            reader.join(10)

    def start(self) -> None:
        explained = gpus_explained(self.engine, self.reference, self.command, gpu=self.gpu)
        with explained, self.engine.asked(f"to run {self.reference}"):
            self.engine.api.start(self.id)

    def wait(self) -> int:
        """Wait until it ends and its output has been copied; the exit code. May be interrupted, and called again."""
        if self._ending is None:
            # In a thread, so that Ctrl-C interrupts no request and its answer is still there afterwards.
            self._ending = Future()
            threading.Thread(target=self._await_end, args=(self._ending,), daemon=True).start()
        code = self._ending.result()
        self.finish_output()
        return code

    def _await_end(self, ending: Future[int]) -> None:
        try:
            # The output ends with the container. While podman 4.3 is asked to wait, it reads its database without a
            # pause, which takes half a processor for as long as a server runs.
            while any(reader.is_alive() for reader in self._readers) and self.running:
                self._readers[0].join(_LOOK_SECONDS)
            with self.engine.asked(f"the end of {self.reference}"):
                ending.set_result(int(self.engine.api.wait(self.id, timeout=None)["StatusCode"]))
        except BaseException as error:  # noqa: BLE001  (raised again by whoever waits, who would else wait for ever)
            ending.set_exception(error)

    @property
    def running(self) -> bool:
        with self.engine.asked(f"the state of {self.reference}"):
            state: Mapping[str, Any] = self.engine.api.inspect_container(self.id)["State"]
        return bool(state.get("Running"))

    def stop(self) -> None:
        with self.engine.asked(f"to stop {self.reference}"):
            self.engine.api.stop(self.id, timeout=_GRACE_SECONDS)


@contextmanager
def _container(
    engine: Engine,
    reference: str,
    arguments: Sequence[str],
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    mounts: Mapping[Path, str] | None = None,
    ports: Mapping[int, int] | None = None,
    gpu: bool = False,
) -> Iterator[_Container]:
    """A container that is removed on leaving, whatever its state."""
    import docker.errors

    api = engine.api
    command = _command(reference, arguments, user, mounts or {}, ports or {})
    with gpus_explained(engine, reference, command, gpu=gpu), engine.asked(f"to run {reference}"):
        host = api.create_host_config(
            # What `podman run` takes as an ordinary user; its Docker API would make a bridge, which asks for more.
            network_mode="private" if engine.rootless and engine.name == "podman" else None,
            binds=[f"{source}:{target}:rw" for source, target in (mounts or {}).items()],
            port_bindings={inner: ("127.0.0.1", outer) for inner, outer in (ports or {}).items()},
            **(gpu_options(engine.name) if gpu else {}),
        )
        created = api.create_container(
            reference,
            command=list(arguments) or None,
            user=user,
            environment=dict(environment or {}),
            ports=list(ports or ()),
            host_config=host,
        )
    container = _Container(engine, reference, str(created["Id"]), gpu, command)
    try:
        yield container
    finally:
        with engine.asked(f"to remove the container of {reference}"), suppress(docker.errors.NotFound):
            engine.api.remove_container(container.id, force=True, v=True)
        container.finish_output()


def _command(
    reference: str, arguments: Sequence[str], user: str | None, mounts: Mapping[Path, str], ports: Mapping[int, int]
) -> str:
    """What does the same with podman's own program, GPUs included."""
    options = ["--rm", "--device", "nvidia.com/gpu=all", *(["--user", user] if user else [])]
    for source, target in mounts.items():
        options += ["-v", f"{source}:{target}"]
    for inner, outer in ports.items():
        options += ["-p", f"127.0.0.1:{outer}:{inner}"]
    return shlex.join(["podman", "run", *options, reference, *arguments])


def _wait_for_answer(container: _Container, port: int) -> None:
    limit = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < limit:
        if not container.running:
            code = container.wait()
            raise EngineRefused(
                f"{container.reference} ended with exit code {code} before it answered.",
                hint="What it printed says why.",
            )
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/api")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise EngineRefused(
        f"{container.reference} does not answer on port {port} after {_ANSWER_SECONDS} seconds.",
        hint="What it printed may say why.",
    )
