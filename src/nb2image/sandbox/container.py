"""`Container`: the sandbox for where bubblewrap cannot start, a container of Docker or podman.

The folder is a volume that the engine makes and drops, filled and read through the engine's API: a remote engine, or
one in a virtual machine, sees no folder of this machine.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nb2image.engines.client import Engine
from nb2image.engines.load import load
from nb2image.image.model import Image
from nb2image.progress import Listener
from nb2image.sandbox.model import ENVIRONMENT, FOLDER, LIFELINE, USER, Limits, Outcome, Tail

__all__ = ["Container"]

_LABEL = "io.nb2image.sandbox"
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_LARGEST_RESULT = 1 << 30


class Container:
    """A `Sandbox` of an engine. Images are loaded into it and stay, as its cache."""

    def __init__(self, engine: Engine, listener: Listener) -> None:
        self._engine = engine
        self._listener = listener

    @property
    def title(self) -> str:
        return f"{self._engine.title} {self._engine.version}"

    @property
    def architecture(self) -> str:
        machine = self._engine.architecture.lower()
        return _ARCHITECTURES.get(machine, machine)

    def close(self) -> None:
        self._engine.close()

    def run(self, image: Image, folder: Path, command: Sequence[str], limits: Limits) -> Outcome:
        name = f"nb2image.local/sandbox:{image.digest.partition(':')[2][:16]}"
        identity = load(self._engine, image, [name], self._listener).id
        self._sweep()
        api = self._engine.api
        with self._engine.asked("a container to build in"):
            container = str(self._create(identity, command, limits)["Id"])
        try:
            return self._ran(api, container, folder, limits)
        finally:
            with suppress(Exception):
                api.remove_container(container, v=True, force=True)

    def _create(self, identity: str, command: Sequence[str], limits: Limits) -> dict[str, Any]:
        api = self._engine.api
        host = api.create_host_config(
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": f"size={limits.temporary},mode=1777"},
            mem_limit=limits.memory if self._engine.limits_memory else None,
            pids_limit=limits.processes if self._engine.limits_processes else None,
        )
        return dict(
            api.create_container(
                identity,
                list(command),
                user=f"{USER}:{USER}",
                environment={**ENVIRONMENT, LIFELINE: "1"},
                entrypoint=[],
                working_dir=FOLDER,
                volumes=[FOLDER],
                host_config=host,
                network_disabled=True,
                hostname="localhost",
                # Closed when whoever attached to it goes, however that ends: the worker ends then, too.
                stdin_open=True,
                labels={_LABEL: "1"},
            )
        )

    def _ran(self, api: Any, container: str, folder: Path, limits: Limits) -> Outcome:
        tail = Tail(limits.log)
        with self._engine.asked("to build in a container"):
            with tempfile.TemporaryFile() as tar:
                _pack(folder, tar)
                api.put_archive(container, FOLDER, tar)
            stream = api.attach(container, stdout=True, stderr=True, stream=True)
            reader = threading.Thread(target=_copy, args=(stream, tail), daemon=True)
            reader.start()
            lifeline = api.attach_socket(container, params={"stdin": 1, "stream": 1})
            try:
                api.start(container)
                ended, code = self._await(api, container, limits.seconds)
            finally:
                # The connection's own close() leaves its file open.
                if (response := getattr(lifeline, "_response", None)) is not None:
                    response.close()
                lifeline.close()
            reader.join(10)
            self._fetch(api, container, folder)
        return Outcome("time limit" if ended else "itself", code, tail.text)

    def _await(self, api: Any, container: str, seconds: float) -> tuple[bool, int]:
        deadline = time.monotonic() + seconds
        pause = 0.05
        while True:
            state = api.inspect_container(container)["State"]
            if not state["Running"] and state["Status"] != "created":
                return False, int(state["ExitCode"])
            if time.monotonic() > deadline:
                api.kill(container, signal="SIGKILL")
                return True, 137
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)

    def _fetch(self, api: Any, container: str, folder: Path) -> None:
        """Copy regular files of ``out`` back, and nothing else that may stand there."""
        import docker.errors

        shutil.rmtree(folder / "out")
        (folder / "out").mkdir()
        try:
            chunks, _ = api.get_archive(container, f"{FOLDER}/out")
        except docker.errors.NotFound:
            return
        left = _LARGEST_RESULT
        with tarfile.open(fileobj=_Chunks(chunks), mode="r|") as tar:
            for info in tar:
                parts = info.name.strip("/").split("/")
                stream = tar.extractfile(info) if info.isreg() and len(parts) == 2 else None
                left -= info.size
                if left < 0:
                    return
                if stream is not None and parts[0] == "out" and parts[1] not in (".", ".."):
                    with open(folder / "out" / parts[1], "wb") as file:
                        shutil.copyfileobj(stream, file)

    def _sweep(self) -> None:
        """Remove what builds left that were killed; their containers have ended by themselves."""
        with suppress(Exception):
            found = self._engine.api.containers(all=True, filters={"label": _LABEL, "status": "exited"})
            for each in found:
                self._engine.api.remove_container(each["Id"], v=True)


def _copy(stream: Any, tail: Tail) -> None:
    # What breaks the connection breaks whoever waits for the container, too.
    with suppress(Exception):
        try:
            for data in stream:
                tail.write(data)
        finally:
            stream._response.close()


class _Chunks(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._chunks, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = USER
    info.uname = info.gname = ""
    return info


def _pack(folder: Path, stream: IO[bytes]) -> None:
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=_owned)
    stream.seek(0)
