"""Which engine is used, and what is said when there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.engines.client import choose, find_engines
from nb2image.errors import EngineAbsent
from tests.engines import daemons
from tests.engines.daemons import Daemon
from tests.engines.plugin import available


@pytest.fixture(autouse=True)
def no_engine_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("unix:///nowhere/docker.sock", "No such file or directory"),
        ("tcp://127.0.0.1:9", "Connection refused"),
        ("gopher://engine.example", "Invalid bind address protocol"),
    ],
)
def test_a_dead_docker_host_is_named_with_the_reason_and_the_way_without_engine(
    monkeypatch: pytest.MonkeyPatch, host: str, reason: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineAbsent) as caught:
        choose()
    assert f"{host} (DOCKER_HOST): {reason}" in caught.value.message
    assert "\n" not in caught.value.message
    assert "-o image.tar" in caught.value.hint


def test_a_dead_docker_host_does_not_lead_to_podman(podman_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in podman_daemon.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(EngineAbsent):
        choose()
    with choose("podman") as found:
        assert found.name == "podman"


def test_what_is_no_engine_is_absent(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = short_folder / "other.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            # The first connection only looks whether somebody listens.
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    if connection.recv(4096):
                        connection.sendall(b"220 this is a mail server\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        with pytest.raises(EngineAbsent, match=str(path)):
            choose()
        thread.join()


def test_podman_is_recognised_behind_docker_host(
    podman_daemon: Daemon, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with available(daemons.podman_service(podman_daemon, short_folder)) as path:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        with choose() as found:
            assert (found.name, found.title) == ("podman", "podman")
        with pytest.raises(EngineAbsent, match="podman answers there"):
            choose("docker")


def test_container_host_is_used_before_dockers_sockets(
    podman_daemon: Daemon, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with available(daemons.podman_service(podman_daemon, short_folder)) as path:
        monkeypatch.setenv("CONTAINER_HOST", f"unix://{path}")
        with choose() as found:
            assert str(path) in found.address.url


def test_without_program_and_socket_it_is_said_what_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if Path("/run/podman/podman.sock").exists():
        monkeypatch.setenv("CONTAINER_HOST", "unix:///nowhere")
    with pytest.raises(EngineAbsent) as caught:
        choose("podman")
    assert "podman" in caught.value.message


def test_a_private_podman_ends_with_the_engine(podman_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in podman_daemon.environment.items():
        monkeypatch.setenv(name, value)

    def services() -> set[int]:
        return set(_children("podman"))

    before = services()
    with choose("podman"):
        assert len(services() - before) == 1
    assert services() == before


def test_a_private_podman_ends_with_a_process_that_does_not_close_it(podman_daemon: Daemon) -> None:
    script = "from nb2image.engines.client import choose; print(choose('podman')._service.url)"
    environ = {**os.environ, **podman_daemon.environment}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.split("unix://")[1].strip()).parent
    assert folder.name.startswith("nb2image-")
    assert not folder.exists()


def test_a_private_podman_that_was_killed_is_started_again(
    podman_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in podman_daemon.environment.items():
        monkeypatch.setenv(name, value)
    before = set(_children("podman"))
    with choose("podman") as found:
        for process in set(_children("podman")) - before:
            os.kill(process, 9)
            # Until it is a zombie that poll() sees.
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        assert found.image_id("nowhere:1") is None


def _children(name: str) -> Iterator[int]:
    """IDs of this process's children that run a program of this name."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        command, _, rest = stat.partition("(")[2].rpartition(")")
        if command == name and int(rest.split()[1]) == os.getpid():
            yield int(folder.name)


def test_every_engine_that_answers_is_found(docker_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_daemon.environment["DOCKER_HOST"])
    engines = find_engines()
    try:
        assert engines[0].name == "docker"
        assert engines[0].version
    finally:
        for found in engines:
            found.close()
