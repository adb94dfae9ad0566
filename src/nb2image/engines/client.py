"""`Engine`: a Docker or podman that answers.

Everything goes through the Docker Engine API, which podman serves, too. Where podman is installed as a program
only (the usual case on Linux), the program is started to serve the API on a private socket.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nb2image.engines.discovery import Address, Kind, addresses
from nb2image.errors import EngineAbsent, EngineRefused

if TYPE_CHECKING:
    from types import TracebackType

    import docker

__all__ = ["Engine", "Probe", "choose", "find_engines", "probe"]

_PROBE_SECONDS = 5
_SERVICE_IDLE_SECONDS = 60
"""How long a podman that we started goes on without requests: it must end should this process be killed."""
_TITLES: dict[Kind, str] = {"docker": "Docker", "podman": "podman"}


class Engine:
    """A container engine that has answered. Use as a context manager, or `close`.

    ``name`` is what answered, not what was asked for: ``DOCKER_HOST`` may well lead to podman.
    """

    def __init__(self, address: Address, api: docker.APIClient, server: str, service: _Service | None = None) -> None:
        """``server``: how the engine names itself in the header of that name, ``Docker/20.10.24 (linux)``."""
        self.address = address
        self._api = api
        self._service = service
        product, _, version = server.partition(" ")[0].partition("/")
        self.name: Kind = "podman" if product == "Libpod" else "docker"
        self.version = version.partition("+")[0]

    @property
    def title(self) -> str:
        """The name as sentences spell it."""
        return _TITLES[self.name]

    @property
    def api(self) -> docker.APIClient:
        """The API client, without a time limit for answers; a private podman that has ended is started again."""
        if self._service is not None and self._service.ended:
            self._api.close()
            self._service.start()
            self._api, _ = _connect(self._service.url, self.address)
        return self._api

    @cached_property
    def _info(self) -> dict[str, Any]:
        with self.asked("its settings"):
            return dict(self.api.info())

    @property
    def rootless(self) -> bool:
        """Whether the engine runs as an ordinary user, so that root in a container is that user outside."""
        # The first is podman's, the second Docker's.
        options = self._info.get("SecurityOptions") or ()
        return bool(self._info.get("Rootless")) or any("rootless" in str(option) for option in options)

    @property
    def one_user_only(self) -> bool:
        """Whether a rootless podman can give files to no user but root, because its own has no ranges of IDs
        (subuid(5)): it cannot unpack an image with files of others, and says through its API that it did."""
        if self.name != "podman" or not self.rootless:
            return False
        with self.asked("its settings"):
            answer = self.api.get(f"{self.api.base_url}/v4.0.0/libpod/info")
            answer.raise_for_status()
            mapped = answer.json()["host"]["idMappings"]["uidmap"] or ()
        return sum(int(row["size"]) for row in mapped) == 1

    @property
    def architecture(self) -> str:
        """Of the machine that runs containers, as ``uname -m`` or as OCI platforms spell it."""
        return str(self._info.get("Architecture") or "")

    @property
    def limits_memory(self) -> bool:
        """Whether containers can be given a limit of memory."""
        return bool(self._info.get("MemoryLimit"))

    @property
    def limits_processes(self) -> bool:
        """Whether containers can be given a limit of processes."""
        return bool(self._info.get("PidsLimit"))

    @property
    def takes_partial_archives(self) -> bool:
        """Whether an archive may lack layers that the engine has. Docker's containerd image store needs them all."""
        if self.name == "podman":
            return True
        status = dict(pair for pair in self._info.get("DriverStatus") or () if len(pair) == 2)
        return not str(status.get("driver-type", "")).startswith("io.containerd.")

    def image_id(self, reference: str) -> str | None:
        """The ID (``sha256:<hex>``) of an image in the engine, or None."""
        found = self.inspect(reference)
        return None if found is None else _digest(str(found["Id"]))

    def inspect(self, reference: str) -> dict[str, Any] | None:
        """What the engine says of an image (its ``/images/{name}/json`` document), or None."""
        from docker.errors import ImageNotFound, NotFound

        with self.asked(f"the image {reference}"):
            try:
                return dict(self.api.inspect_image(reference))  # type: ignore[no-untyped-call]
            except (ImageNotFound, NotFound):
                return None

    @contextlib.contextmanager
    def asked(self, what: str) -> Iterator[None]:
        """Turn whatever the client library raises inside into an `EngineRefused` about ``what``."""
        import docker.errors
        import requests.exceptions
        import urllib3.exceptions

        try:
            yield
        except docker.errors.APIError as error:
            raise refusal(self, what, explain(error)) from error
        except (docker.errors.DockerException, ValueError) as error:
            raise refusal(self, what, explain(error)) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise EngineRefused(
                f"{self.title} stopped answering while it was asked for {what}: {explain(error)}.",
                hint=f"See whether {self.title} still runs ({self.address}) and what its log says, then try again.",
            ) from error

    def close(self) -> None:
        self._api.close()
        if self._service is not None:
            self._service.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Engine {self.name} {self.version} at {self.address}>"


@dataclass(frozen=True)
class Probe:
    """What came of trying an address: an engine, or the reason why there is none (one line)."""

    address: Address
    engine: Engine | None
    reason: str = ""


def probe(address: Address) -> Probe:
    """Connect to an address; the caller closes the engine."""
    import docker.errors
    import requests.exceptions

    if address.broken:
        return Probe(address, None, address.broken)
    service = None
    try:
        if address.program:
            service = _Service(address.program)
            service.start()
        api, server = _connect(service.url if service else address.url, address)
        return Probe(address, Engine(address, api, server, service))
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
        reason = explain(error)
    if service is not None:
        service.close()
    return Probe(address, None, reason)


def find_engines() -> list[Engine]:
    """Every engine that answers here, best first; the caller closes them."""
    return [found.engine for found in map(probe, addresses()) if found.engine is not None]


def choose(preferred: str | None = None) -> Engine:
    """The engine to use: ``preferred`` (``docker`` or ``podman``), else the first that answers.

    An address that a variable names (``DOCKER_HOST``, ``DOCKER_CONTEXT``, ``CONTAINER_HOST``) is binding: when it does
    not answer, no other engine is tried. Raises `EngineAbsent`, which says what was looked for.
    """
    tried: list[Probe] = []
    for address in addresses():
        # An address of the other kind is still tried where it was configured: DOCKER_HOST may lead to podman.
        if preferred is not None and address.kind != preferred and not (address.chosen and preferred == "podman"):
            continue
        found = probe(address)
        if found.engine is not None:
            if preferred is None or found.engine.name == preferred:
                return found.engine
            found.engine.close()
            found = Probe(address, None, f"{found.engine.title} answers there")
        tried.append(found)
        if address.chosen and preferred is None:
            break
    wanted = {"docker": "Docker", "podman": "podman"}.get(preferred or "", "Docker or podman")
    raise EngineAbsent(
        f"No {wanted} answers: {_looked_for(tried, preferred)}.",
        hint=_absent_hint(tried, wanted),
        details=tuple(f"{found.address.kind} at {found.address}: {found.reason}" for found in tried),
    )


def _looked_for(tried: Sequence[Probe], preferred: str | None) -> str:
    if tried:
        return "; ".join(f"{found.address}: {found.reason}" for found in tried)
    places = {
        "docker": "DOCKER_HOST, Docker's contexts and its sockets",
        "podman": "CONTAINER_HOST, podman's sockets and the program podman on PATH",
    }
    return "looked for " + (places[preferred] if preferred in places else "; ".join(places.values()))


def _absent_hint(tried: Sequence[Probe], wanted: str) -> str:
    if any("ermission denied" in found.reason for found in tried):
        first = "Ask to be allowed to use the engine's socket (for Docker: membership of the group docker)."
    else:
        first = f"Start or install {wanted}."
    return f"{first} Writing the image to a file needs no engine: -o image.tar"


class _Service:
    """``podman system service`` on a private socket."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder: Path | None = None
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        assert self._folder is not None
        return f"unix://{self._folder / 'podman.sock'}"

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start podman and wait for its socket. Raises OSError with podman's own words when it ends instead."""
        self.close()
        atexit.register(self.close)
        # In /tmp, as the path of a socket is limited to 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="nb2image-"))
        path, log = self._folder / "podman.sock", self._folder / "log"
        command = [self._program, "system", "service", f"--time={_SERVICE_IDLE_SECONDS}", f"unix://{path}"]
        with log.open("w") as stream:
            # Its own session: Ctrl-C is for us, and podman is still needed to stop a container then.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, text=True, start_new_session=True
            )
        limit = time.monotonic() + 30
        while not path.exists():
            if self.ended or time.monotonic() > limit:
                words = log.read_text(errors="replace").strip().splitlines()
                self.close()
                raise OSError(f"podman system service did not start: {words[-1] if words else 'no message'}")
            time.sleep(0.01)

    def close(self) -> None:
        atexit.unregister(self.close)
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _connect(url: str, address: Address) -> tuple[docker.APIClient, str]:
    """A client that speaks the engine's version of the API, and how the engine names itself.

    Raises DockerException, RequestException, OSError or ValueError when nothing of that kind answers.
    """
    import docker
    import docker.constants
    import docker.tls

    if url.startswith("unix://"):
        # The library leaks its socket, and wraps the reason in three others, when nobody listens.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(url.removeprefix("unix://"))
    tls: docker.tls.TLSConfig | bool = False
    if address.certificates is not None:
        folder = address.certificates
        authority = folder / "ca.pem"
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        tls = docker.tls.TLSConfig(
            client_cert=pair if Path(pair[0]).exists() else None,
            ca_cert=str(authority) if authority.exists() else None,
            verify=address.verify,
        )

    def client(version: str) -> docker.APIClient:
        return docker.APIClient(
            base_url=url, version=version, timeout=_PROBE_SECONDS, tls=tls, use_ssh_client=url.startswith("ssh://")
        )

    # Not version="auto", which asks for a document that podman starts three programs for.
    first = client(docker.constants.DEFAULT_DOCKER_API_VERSION)
    try:
        headers = first.get(f"{first.base_url}/_ping", timeout=_PROBE_SECONDS).headers
    finally:
        first.close()
    if "Api-Version" not in headers:
        raise ValueError("what answers is neither Docker nor podman")
    api = client(headers["Api-Version"])
    # Loading a large image takes as long as it takes; podman is silent meanwhile.
    api.timeout = None  # type: ignore[assignment]
    return api, headers.get("Server", "")


def explain(error: BaseException) -> str:
    """An error's own words on one line, without the layers that libraries wrap around them."""
    import docker.errors

    if isinstance(error, docker.errors.APIError):
        text = str(error.explanation or error)
    else:
        text = str(error)
        seen: set[int] = set()
        cause: BaseException | None = error
        while cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            if isinstance(cause, OSError) and cause.strerror:
                text = cause.strerror
            cause = cause.__cause__ or cause.__context__
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def refusal(engine: Engine, what: str, words: str) -> EngineRefused:
    """The error for an engine that answered ``words`` when asked for ``what``."""
    return EngineRefused(
        f"{engine.title} {engine.version} refused {what}: {' '.join(words.split()).rstrip('.')}.",
        hint=f"The words after the colon are {engine.title}'s own; its log may say more.",
    )


def _digest(identity: str) -> str:
    return identity if ":" in identity else f"sha256:{identity}"
