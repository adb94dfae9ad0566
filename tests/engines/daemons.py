"""Real engines for tests, private to one run: their data, sockets and networks are thrown away at its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# The VMs that tests run in neither permit raising rlimits nor have the cgroups that crun wants.
ULIMITS = ("nofile=1024:1024", "nproc=1024:1024")


class Unavailable(Exception):
    """A program that the test needs is not installed, or does not start here; says which and why."""


@dataclass
class Daemon:
    """A running engine: the environment variables that lead clients to it, and its process, if it has one."""

    name: str
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    socket: Path | None = None


def require(*programs: str, root: bool = True) -> None:
    """Raise `Unavailable` unless each program is installed and this process is root."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Unavailable(f"not installed: {', '.join(missing)}")
    if root and os.geteuid() != 0:
        raise Unavailable(f"{programs[0]} needs root here")


@contextlib.contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """A folder with a short path: sockets' paths are limited to 107 bytes. Mounts below it are undone."""
    folder = Path(tempfile.mkdtemp(prefix=f"nb2image-{name}-"))
    try:
        yield folder
    finally:
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            point = line.split()[1]
            if point.startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", point], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _bridge() -> Iterator[str]:
    """A network bridge of our own, so that another Docker on this machine keeps its ``docker0``."""
    name = f"nb{os.getpid() % 10**6:x}x{int(time.monotonic() * 1000) % 4096:x}"
    # One of the /24 networks of 172.31.0.0/16 that no interface has.
    taken = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    number = next(n for n in range(os.getpid() % 200, 255) if f"172.31.{n}." not in taken)
    subprocess.run(["ip", "link", "add", "name", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"172.31.{number}.1/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=False)


@contextlib.contextmanager
def dockerd() -> Iterator[Daemon]:
    """Docker Engine with data, socket and bridge of its own."""
    require("dockerd", "containerd", "runc", "iptables", "ip")
    with private_folder("docker") as folder, contextlib.ExitStack() as stack:
        path, log = folder / "docker.sock", folder / "log"
        try:
            bridge = stack.enter_context(_bridge())
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"no network bridge can be made: {error}") from error
        command = [
            "dockerd",
            f"--data-root={folder / 'data'}",
            f"--exec-root={folder / 'exec'}",
            f"--pidfile={folder / 'pid'}",
            f"--host=unix://{path}",
            f"--bridge={bridge}",
            *(f"--default-ulimit={limit}" for limit in ULIMITS[:1]),
        ]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        stack.callback(end, process)
        wait_until(lambda: answers(path), process, log)
        yield Daemon("docker", {"DOCKER_HOST": f"unix://{path}"}, process, path)


@contextlib.contextmanager
def podman() -> Iterator[Daemon]:
    """podman with storage of its own; plain ``podman run`` works with these variables."""
    require("podman", "runc", "conmon")
    with private_folder("podman") as folder:
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        )
        ulimits = ", ".join(f'"{limit}"' for limit in ULIMITS)
        (folder / "containers.conf").write_text(
            f"[containers]\ndefault_ulimits = [{ulimits}]\n"
            f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'tmp_dir = "{folder}/tmp"\nstatic_dir = "{folder}/root/libpod"\n'
        )
        environment = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
        try:
            yield Daemon("podman", environment)
        finally:
            subprocess.run(
                ["podman", "rm", "--all", "--force"],
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                check=False,
            )


@contextlib.contextmanager
def podman_service(daemon: Daemon, folder: Path) -> Iterator[Path]:
    """The socket of a podman that serves its API, with the storage of ``daemon``."""
    path, log = folder / "podman.sock", folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{path}"],
            env={**os.environ, **daemon.environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_until(lambda: answers(path), process, log)
        yield path
    finally:
        end(process)


@contextlib.contextmanager
def registry(passwords: str | None = None, certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """A registry on loopback (distribution 2.8); yields ``127.0.0.1:PORT``.

    ``passwords`` are lines of an htpasswd file (bcrypt), ``certificate`` the files of a certificate and its key.
    """
    require("docker-registry", root=False)
    with private_folder("registry") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config, log = folder / "config.yml", folder / "log"
        tls = f", tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}" if certificate else ""
        auth = f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n" if passwords else ""
        (folder / "htpasswd").write_text(passwords or "")
        config.write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}'{tls}}}\n{auth}"
        )
        with log.open("wb") as stream:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        try:
            wait_until(lambda: _connects(port), process, log)
            yield f"127.0.0.1:{port}"
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL after ten seconds."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > limit:
            lines = log.read_text(errors="replace").strip().splitlines()[-8:]
            raise Unavailable(f"{process.args!r} does not start:\n" + "\n".join(lines))
        time.sleep(0.05)


def answers(path: Path) -> bool:
    """Whether something accepts connections on a socket and answers ``/_ping`` of the Docker API."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
        except OSError:
            return False


def _connects(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
