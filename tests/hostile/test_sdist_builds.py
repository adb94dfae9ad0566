"""Source distributions that attack, hang, or take all there is, in every sandbox there is: what they get, and what the
user is told. The same tests run as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nb2image.bases.debian import DebianProvider, Mirrors
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.engines.client import choose
from nb2image.errors import SdistFailed
from nb2image.index.settings import IndexSettings
from nb2image.lock.model import Lock, new_pylock
from nb2image.progress import Silent
from nb2image.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from nb2image.sandbox.container import Container
from nb2image.sandbox.model import Limits, Sandbox
from nb2image.sdists.build import Builder, BuiltWheel
from nb2image.target.model import Platform
from tests.engines.built import Notebooks
from tests.engines.daemons import Daemon, Unavailable
from tests.engines.plugin import available_value
from tests.unit.sdists.making import in_tree, stored

pytestmark = pytest.mark.network

HOST = Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()))

WHEEL = """
import base64, hashlib, zipfile
def wheel(folder, **files):
    files = {f"demo/{name}.json": data.encode() for name, data in files.items()}
    files["demo/__init__.py"] = b""
    files["demo-1.0.dist-info/METADATA"] = b"Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n"
    files["demo-1.0.dist-info/WHEEL"] = b"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    rows = []
    with zipfile.ZipFile(folder + "/demo-1.0-py3-none-any.whl", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            rows.append(f"{path},sha256={digest},{len(data)}\\n")
        archive.writestr("demo-1.0.dist-info/RECORD", "".join(rows) + "demo-1.0.dist-info/RECORD,,\\n")
    return "demo-1.0-py3-none-any.whl"
"""
"""For backends: writes a valid wheel."""

ATTACK = """
import ctypes, json, os, pathlib, signal, socket, stat

known = json.loads(%r)
libc = ctypes.CDLL(None, use_errno=True)


def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(3)
        connection.connect(address)
        return "connected"


def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        return connection.sendto(b"x", ("192.0.2.1", 53))


def mounted():
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    return "mounted"


def became_root():
    os.setuid(0)
    return os.getuid()


def devices():
    found = [p.name for p in pathlib.Path("/dev").iterdir() if stat.S_ISBLK(p.stat().st_mode)]
    if not found:
        raise OSError("none")
    return found


ATTEMPTS = {
    "a server of this machine": lambda: connect(socket.AF_INET, ("127.0.0.1", known["port"])),
    "a server at another address of this machine": lambda: connect(socket.AF_INET, (known["address"], known["port"])),
    "a machine elsewhere": lambda: connect(socket.AF_INET, ("192.0.2.1", 80)),
    "a datagram": datagram,
    "a name server": lambda: socket.getaddrinfo("index.example", 443),
    "a socket file": lambda: connect(socket.AF_UNIX, known["socket"]),
    "an abstract socket": lambda: connect(socket.AF_UNIX, "\\0" + known["abstract"]),
    "the user's file": lambda: open(known["secret"]).read(),
    "the user's folder": lambda: os.listdir(known["home"]),
    "the cache": lambda: os.listdir(known["cache"]),
    "a new file in the user's folder": lambda: open(known["home"] + "/left", "w"),
    "the user's file by way of a process": lambda: open("/proc/%%d/root%%s" %% (os.getppid(), known["secret"])).read(),
    "the system's folders": lambda: open("/usr/bin/left", "w"),
    "the system's configuration": lambda: open("/etc/left", "w"),
    "the user's process": lambda: os.kill(known["process"], 0) if known["process"] > 1000 else 1 / 0,
    "being root": became_root,
    "mounting": mounted,
    "disks": devices,
}


def build_wheel(folder, settings=None, metadata=None):
    report = {}
    for name, attempt in ATTEMPTS.items():
        try:
            report[name] = "GOT " + repr(attempt())[:200]
        except Exception as error:
            report[name] = "%%s: %%s" %% (type(error).__name__, error)
    facts = {
        "uid": os.getuid(),
        "environment": dict(os.environ),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "descriptors": [os.readlink("/proc/self/fd/" + fd) for fd in "012"]
        + [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and os.path.exists("/proc/self/fd/" + fd)],
        "commands": [
            pathlib.Path("/proc", pid, "cmdline").read_text() for pid in os.listdir("/proc") if pid.isdigit()
        ],
        "status": dict(line.split(":\\t", 1) for line in open("/proc/self/status").readlines() if ":\\t" in line),
    }
    return wheel(folder, attempts=json.dumps(report), facts=json.dumps(facts))
"""


@pytest.fixture(scope="module")
def store(notebooks: Notebooks) -> Store:
    return Store(notebooks.cache)


@pytest.fixture(scope="module")
def base(store: Store) -> Base:
    def deliver() -> Base:
        mirrors = Mirrors.of_this_machine()
        if not {"main", "security"} <= set(mirrors.bases):
            raise Unavailable("apt is configured for no mirror of Debian on this machine")
        provider = DebianProvider(store, platform=HOST, mirrors=mirrors)
        return provider.deliver(next(c for c in provider.candidates() if c.name == "bookworm"), Silent())

    return available_value(deliver)


everywhere = pytest.mark.parametrize("sandbox", ["bubblewrap", "docker", "podman"], indirect=True)
"""What an engine's own way of attaching and killing decides; all else is the worker's, and podman's as Docker's."""


@pytest.fixture(params=["bubblewrap", "docker"])
def sandbox(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Each sandbox in turn, as nb2image finds it."""
    if request.param == "bubblewrap":

        def find() -> Sandbox:
            found = find_bubblewrap()
            if found.program is None:
                raise Unavailable(found.reason)
            return Bubblewrap(found, store)

        yield available_value(find)
        return
    daemon: Daemon = request.getfixturevalue(f"{request.param}_daemon")
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in daemon.environment.items():
        monkeypatch.setenv(name, value)
    container = Container(choose(), Silent())
    yield container
    container.close()


def build(backend: str, sandbox: Sandbox, base: Base, store: Store, **limits: Any) -> BuiltWheel:
    """Build a source distribution with this backend; nothing of the build remains in the cache but the wheel."""
    # One of its own for each test: what was built once is not built again.
    source = stored(store, in_tree(f"# {secrets.token_hex(8)}\n{WHEEL}{backend}"))
    lock = Lock(new_pylock([source.package]), "a test")
    before = unfinished(store)
    builder = Builder(lock, base, IndexSettings(), store, Silent(), sandbox=sandbox, limits=Limits(**limits))
    try:
        return builder.build(source)
    finally:
        assert unfinished(store) == before


def refused(backend: str, sandbox: Sandbox, base: Base, store: Store, **limits: Any) -> SdistFailed:
    with pytest.raises(SdistFailed) as caught:
        build(backend, sandbox, base, store, **limits)
    assert len(caught.value.details) <= 20
    return caught.value


def unfinished(store: Store) -> set[str]:
    folder = store.root / "v1" / "tmp"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def contents(store: Store, built: BuiltWheel, name: str) -> Any:
    with zipfile.ZipFile(store.path("wheels", built.digest)) as archive:
        return json.loads(archive.read(f"demo/{name}.json"))


def processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_text():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def own_address() -> str:
    """Where this machine is reached from elsewhere, as far as it is; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"


@everywhere
def test_an_attacker_reaches_neither_the_network_nor_the_users_files(
    sandbox: Sandbox, base: Base, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secrets.token_hex(16)
    monkeypatch.setenv("NB2IMAGE_TEST_SECRET", secret)
    home = tmp_path / "home"
    home.mkdir()
    (home / "password").write_text(secret)
    for path in (home, *home.parents[:2]):
        path.chmod(0o777)
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.socket(kind)) for kind in (socket.AF_INET, *[socket.AF_UNIX] * 2)]
        addresses: list[Any] = [("0.0.0.0", 0), os.path.relpath(home / "s"), f"\0nb2image-{secret[:8]}"]
        for server, address in zip(servers, addresses, strict=True):
            server.bind(address)
            server.listen()
            server.settimeout(0)
        (home / "s").chmod(0o777)
        known = {
            "port": servers[0].getsockname()[1],
            "address": own_address(),
            "socket": str(home / "s"),
            "abstract": f"nb2image-{secret[:8]}",
            "secret": str(home / "password"),
            "home": str(home),
            "cache": str(store.root),
            "process": os.getpid(),
        }
        built = build(ATTACK % json.dumps(known), sandbox, base, store)
        for server in servers:
            with pytest.raises(BlockingIOError):
                server.accept()
    attempts, facts = (contents(store, built, name) for name in ("attempts", "facts"))
    assert {name: what for name, what in attempts.items() if what.startswith("GOT")} == {}
    assert len(attempts) == 18
    assert sorted(path.name for path in home.iterdir()) == ["password", "s"]
    assert secret not in json.dumps(facts)
    assert facts["uid"] == 65534
    assert facts["interfaces"] == ["lo"]
    assert facts["descriptors"][0] == "/dev/null"
    assert len(facts["descriptors"]) == 3
    assert set(facts["environment"]) <= {
        *("HOME", "LANG", "LC_ALL", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONNOUSERSITE"),
        *("SOURCE_DATE_EPOCH", "TERM", "TMPDIR", "TZ", "HOSTNAME", "container", "LC_CTYPE", "NB2IMAGE_LIFELINE"),
    }
    # The worker, and the process of this very hook.
    assert len([command for command in facts["commands"] if command]) == 2
    assert [facts["status"][key].strip() for key in ("CapEff", "NoNewPrivs")] == ["0" * 16, "1"]


@everywhere
def test_a_process_that_a_build_leaves_behind_is_ended(sandbox: Sandbox, base: Base, store: Store) -> None:
    mark = f"left-{secrets.token_hex(8)}"
    backend = f"""
import subprocess, sys
def build_wheel(folder, settings=None, metadata=None):
    code = "import os, time; os.fork() and os._exit(0); os.setsid(); print('here', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, {mark!r}], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\\n"
    return wheel(folder)
"""
    build(backend, sandbox, base, store)
    for _ in range(50):
        if not processes_with(mark):
            break
        time.sleep(0.1)
    assert processes_with(mark) == []


def test_a_link_in_place_of_the_wheel_is_not_followed(
    sandbox: Sandbox, base: Base, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "file.whl").write_bytes(b"PK")
    backend = f"""
import os
def build_wheel(folder, settings=None, metadata=None):
    os.symlink({str(tmp_path / "file.whl")!r}, folder + "/demo-1.0-py3-none-any.whl")
    os.mkdir("locked")
    open("locked/file", "w").close()
    os.chmod("locked", 0)
    return "demo-1.0-py3-none-any.whl"
"""
    error = refused(backend, sandbox, base, store)
    assert error.message == (
        "demo-1.0.tar.gz cannot be built: its build says that it wrote a wheel, and there is none."
    )


def test_a_pipe_in_place_of_the_answer_blocks_nobody(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
import atexit, os
def build_wheel(folder, settings=None, metadata=None):
    os.mkfifo(folder + "/result.json.new")
    os.rename(folder + "/result.json.new", folder + "/result.json")
    os._exit(0)
"""
    error = refused(backend, sandbox, base, store, seconds=60)
    assert error.message.startswith("demo-1.0.tar.gz cannot be built: ")


def test_a_wheel_of_another_package_is_refused(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
import os
def build_wheel(folder, settings=None, metadata=None):
    os.rename(folder + "/" + wheel(folder), folder + "/other-1.0-py3-none-any.whl")
    return "other-1.0-py3-none-any.whl"
"""
    error = refused(backend, sandbox, base, store)
    assert error.message == "demo-1.0.tar.gz cannot be built: its build gave other 1.0 instead of demo 1.0."


@everywhere
def test_a_build_that_hangs_is_ended(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
import signal, time
def build_wheel(folder, settings=None, metadata=None):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print("waiting for a password", flush=True)
    while True:
        time.sleep(1)
"""
    begin = time.monotonic()
    error = refused(backend, sandbox, base, store, seconds=3)
    assert time.monotonic() - begin < 30
    assert error.message == "demo-1.0.tar.gz cannot be built: its build did not end within 3 seconds."
    assert "waiting for a password" in error.details


def test_a_build_that_floods_its_log_is_told_by_its_last_lines(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
import sys
def build_wheel(folder, settings=None, metadata=None):
    line = "compiling " + "x" * 2000 + "\\n"
    for _ in range(10_000):
        sys.stdout.write(line)
    sys.stdout.write("gcc" * 100_000 + "\\n")
    sys.exit("the last word\\033[31m")
"""
    error = refused(backend, sandbox, base, store)
    assert error.message == "demo-1.0.tar.gz cannot be built: its build backend says 'the last word[31m'."
    assert max(map(len, error.details)) <= 500


def test_a_build_that_fills_the_disk_is_ended(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
import itertools
def build_wheel(folder, settings=None, metadata=None):
    for number in itertools.count():
        with open("%s/%d" % (folder, number), "wb") as stream:
            stream.write(bytes(1 << 20) * 4)
"""
    error = refused(backend, sandbox, base, store, disk=64 << 20, seconds=120)
    assert error.message == "demo-1.0.tar.gz cannot be built: its build wrote more than 64.0 MiB."


def test_a_build_that_fills_the_temporary_folder_is_told(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
def build_wheel(folder, settings=None, metadata=None):
    with open("/tmp/file", "wb") as stream:
        while True:
            stream.write(bytes(1 << 20))
"""
    error = refused(backend, sandbox, base, store, temporary=32 << 20)
    assert error.message == "demo-1.0.tar.gz cannot be built: its disk space did not suffice."


def test_a_build_that_takes_all_memory_is_told(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
def build_wheel(folder, settings=None, metadata=None):
    held = []
    while True:
        held.append(b"x" * (16 << 20))
"""
    error = refused(backend, sandbox, base, store, memory=512 << 20)
    assert error.message == "demo-1.0.tar.gz cannot be built: its memory did not suffice."


def test_a_build_cannot_start_processes_without_end(sandbox: Sandbox, base: Base, store: Store) -> None:
    backend = """
import json, os, time
def build_wheel(folder, settings=None, metadata=None):
    count = 0
    try:
        while count < 2000:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            count += 1
    except OSError:
        pass
    return wheel(folder, count=json.dumps(count))
"""
    built = build(backend, sandbox, base, store, processes=300)
    assert contents(store, built, "count") < 300
