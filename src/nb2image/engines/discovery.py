"""Where Docker and podman listen, found the way their own clients find it. Pure: nothing is connected to here.

Docker: ``DOCKER_HOST``, then ``DOCKER_CONTEXT``, then ``currentContext`` of its configuration, then the
well-known sockets. podman: ``CONTAINER_HOST``, the user's and the system's socket, the virtual machine's socket on
macOS, and last the program itself, which can serve its API for as long as it is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Address", "Kind", "addresses", "docker_addresses", "podman_addresses"]

Kind = Literal["docker", "podman"]


@dataclass(frozen=True)
class Address:
    """A place where an engine may listen.

    ``url`` as clients take it (``unix:///run/docker.sock``, ``tcp://host:2376``, ``ssh://host``); empty when
    ``program`` has to be started to serve the API. ``source`` says where the address comes from. ``chosen``: an
    environment variable names it, so a failure there must not lead to another engine. ``certificates``: folder with
    ``ca.pem``, ``cert.pem`` and ``key.pem``; ``verify``: whether the server's certificate is checked. ``broken``: why
    the configuration that names the address cannot be used.
    """

    kind: Kind
    url: str
    source: str
    chosen: bool = False
    certificates: Path | None = None
    verify: bool = True
    program: str | None = None
    broken: str | None = None

    def __str__(self) -> str:
        place = self.url or (self.program or "?")
        return f"{place} ({self.source})"


def addresses(environ: Mapping[str, str] | None = None, home: Path | None = None) -> tuple[Address, ...]:
    """Every address to try, best first: what the user configured, then Docker's sockets, then podman's."""
    environ = os.environ if environ is None else environ
    home = Path.home() if home is None else home
    found = (*docker_addresses(environ, home), *podman_addresses(environ, home))
    return tuple(sorted(found, key=lambda address: not address.chosen))


def docker_addresses(environ: Mapping[str, str], home: Path) -> tuple[Address, ...]:
    """Where Docker would listen: the one configured address, else the sockets that exist."""
    if host := environ.get("DOCKER_HOST", "").strip():
        folder = environ.get("DOCKER_CERT_PATH")
        # Docker's client checks certificates when the variable is set to anything but the empty string.
        verify = bool(environ.get("DOCKER_TLS_VERIFY"))
        secure = Path(folder) if folder else home / ".docker" if verify else None
        return (Address("docker", host, "DOCKER_HOST", True, secure, verify),)
    settings = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    if name := environ.get("DOCKER_CONTEXT", ""):
        if name != "default":
            return (_context(settings, name, "DOCKER_CONTEXT", chosen=True),)
    elif (name := _current_context(settings)) not in ("", "default"):
        # Docker Desktop and its like set this by themselves, so it does not exclude another engine.
        return (_context(settings, name, f"current context of {settings / 'config.json'}", chosen=False),)
    return tuple(
        Address("docker", f"unix://{path}", "socket") for path in _docker_sockets(environ, home) if _is_socket(path)
    )


def _docker_sockets(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    yield Path("/var/run/docker.sock")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "docker.sock")
    yield home / ".docker/run/docker.sock"
    yield home / ".docker/desktop/docker.sock"


def _current_context(settings: Path) -> str:
    try:
        document = json.loads((settings / "config.json").read_bytes())
    except (OSError, ValueError):
        # Docker's client goes on with its default context, too.
        return ""
    name = document.get("currentContext", "") if isinstance(document, dict) else ""
    return name if isinstance(name, str) else ""


def _context(settings: Path, name: str, source: str, *, chosen: bool) -> Address:
    """The address that a context's metadata names (docker/cli, ``cli/context/store``)."""
    key = hashlib.sha256(name.encode()).hexdigest()
    file = settings / "contexts/meta" / key / "meta.json"
    label = f"context {name!r}, {source}"
    try:
        document: Any = json.loads(file.read_bytes())
        endpoint = document["Endpoints"]["docker"]
        host = str(endpoint["Host"])
    except OSError:
        return Address("docker", "", label, chosen, broken=f"the context {name!r} does not exist")
    except (ValueError, KeyError, TypeError):
        return Address("docker", "", label, chosen, broken=f"{file} is damaged")
    folder = settings / "contexts/tls" / key / "docker"
    verify = not endpoint.get("SkipTLSVerify", False)
    return Address("docker", host, label, chosen, folder if folder.is_dir() else None, verify)


def podman_addresses(environ: Mapping[str, str], home: Path) -> tuple[Address, ...]:
    """Where podman would listen; its program comes last, as what can be started when nothing listens."""
    if host := environ.get("CONTAINER_HOST", "").strip():
        broken = None
        if host.startswith("ssh:"):
            broken = "podman over ssh is not supported; forward its socket (ssh -L) and name that"
        return (Address("podman", host, "CONTAINER_HOST", True, broken=broken),)
    found = [
        Address("podman", f"unix://{path}", "socket") for path in _podman_sockets(environ, home) if _is_socket(path)
    ]
    program = shutil.which("podman", path=environ.get("PATH"))
    if program and sys.platform != "linux":
        # There podman is a remote client of a virtual machine and cannot serve the API itself.
        if machine := _machine_socket(program):
            found.append(Address("podman", f"unix://{machine}", "podman machine"))
    elif program:
        found.append(Address("podman", "", "program", program=program))
    return tuple(found)


def _podman_sockets(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "podman/podman.sock")
    yield Path("/run/podman/podman.sock")
    yield home / ".local/share/containers/podman/machine/podman.sock"


def _machine_socket(program: str) -> Path | None:
    command = [program, "machine", "inspect", "--format", "{{.ConnectionInfo.PodmanSocket.Path}}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.split()
    return Path(lines[0]) if lines and _is_socket(Path(lines[0])) else None


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except PermissionError:
        # Root's podman socket stands in a folder that others may not enter.
        return False
