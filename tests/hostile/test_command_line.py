"""Bad input at the command line: each has its own exit code, one sentence and a hint, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from tests.unit.image.making import put_index
from tests.unit.index.plugin import machine, server
from tests.unit.index.server import basic, body, guarded, html_page, stalled, status
from tests.unit.world import Made, World, notebook, pipfile_lock, pylock, wheel, world

__all__ = ["machine", "server", "world"]

ALPHA = wheel("alpha")


def refused(
    world: World,
    code: int,
    *arguments: str | Path,
    says: tuple[str, ...] = (),
    hint: bool = True,
    base: bool = True,
    warned: bool = False,
    **variables: str,
) -> str:
    """Run the command, check everything that holds for each refusal, and give what stands on standard error."""
    before = world.files()
    given = ["--base", str(world.base)] if base else []
    done = world.run(*arguments, *given, **variables)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert errors[0].endswith("."), errors[0]
    hints = [line for line in lines[lines.index(errors[0]) :] if line.startswith("hint: ")]
    assert len(hints) == hint, done.stderr
    assert bool([line for line in lines if line.startswith("warning: ")]) == warned, done.stderr
    for text in says:
        assert text in done.stderr
    assert world.files() == before
    assert world.unfinished() == []
    return done.stderr


@pytest.fixture(params=["plan", "build"])
def verb(request: pytest.FixtureRequest) -> str:
    """Both commands read the same input."""
    word: str = request.param
    return word


# -- the notebook ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("missing.ipynb", None, "missing.ipynb"),
        ("empty.ipynb", b"", "empty.ipynb"),
        ("text.ipynb", b"Dear diary,", "text.ipynb"),
        ("list.ipynb", b"[]", "list.ipynb"),
        ("number.ipynb", b'{"nbformat": "four", "cells": []}', "number.ipynb"),
        ("future.ipynb", b'{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}', "future.ipynb"),
        ("binary.ipynb", bytes(range(256)) * 9, "binary.ipynb"),
        ("deep.ipynb", b"[" * 100_000, "deep.ipynb"),
        ("plain.py", b"print(1)\n", "plain.py"),
        ("data.csv", b"1,2\n", "data.csv"),
    ],
)
def test_what_is_no_notebook(world: World, verb: str, name: str, data: bytes | None, says: str) -> None:
    if data is not None:
        (world.work / name).write_bytes(data)
    refused(world, 10, verb, name, says=(says,))


def test_a_notebook_that_may_not_be_read(world: World) -> None:
    (world.work / "folder.ipynb").symlink_to("/nowhere/at/all")
    refused(world, 10, "plan", "folder.ipynb")


@pytest.mark.parametrize("language", ["R", "julia"])
def test_a_notebook_of_another_language(world: World, verb: str, language: str) -> None:
    source = notebook(world.work, None, kernelspec={"name": "ir", "display_name": "X", "language": language})
    refused(world, 11, verb, source, says=(language,))


def test_a_directory_without_a_notebook_and_one_with_two(world: World, verb: str) -> None:
    refused(world, 17, verb, ".")
    notebook(world.work, None, "a.ipynb")
    notebook(world.work, None, "b.ipynb")
    refused(world, 17, verb, ".", says=("a.ipynb", "b.ipynb", "--notebook"))


# -- the lock --------------------------------------------------------------------------------------


def test_no_lock(world: World, verb: str) -> None:
    refused(world, 12, verb, notebook(world.work, None), says=("analysis.ipynb has no lock",))


def test_an_empty_lock(world: World, verb: str) -> None:
    refused(world, 13, verb, notebook(world.work, pylock(url="")), says=("lists no package",))


@pytest.mark.parametrize(
    "metadata",
    [
        {"requirements_lock": "{"},
        {"requirements_lock": "not json"},
        {"requirements_lock": "[]"},
        {"requirements_lock": 7},
        {"requirements_lock": '{"default": []}'},
        {"requirements_lock": '{"default": {"alpha": "1.0"}, "_meta": {}}'},
        {"requirements_lock": "[" * 50_000},
        {"pylock.toml": "= broken"},
        {"pylock.toml": 'lock-version = "99.0"\ncreated-by = "x"\npackages = []\n'},
        {"uv.lock": "version = []"},
    ],
    ids=lambda metadata: str(metadata)[:40],
)
def test_a_lock_that_cannot_be_read(world: World, metadata: dict[str, Any]) -> None:
    refused(world, 14, "plan", notebook(world.work, None, **metadata), says=(next(iter(metadata)),))


def test_a_package_without_hashes(world: World, verb: str) -> None:
    lock = pipfile_lock(ALPHA, index=world.server.simple).replace(f'"sha256:{ALPHA.sha256}"', "")
    refused(world, 15, verb, notebook(world.work, None, requirements_lock=lock), says=("alpha",))


def test_a_package_with_weak_hashes_only(world: World, verb: str) -> None:
    lock = pylock(ALPHA, url="http://index.example").replace(f'sha256 = "{ALPHA.sha256}"', f'md5 = "{"0" * 32}"')
    refused(world, 15, verb, notebook(world.work, lock), says=("alpha",))


@pytest.mark.parametrize(
    "entry",
    [
        {"git": "https://git.example/alpha.git", "ref": "0" * 40},
        {"path": "./alpha", "editable": True},
    ],
    ids=["git", "folder"],
)
def test_a_package_from_version_control_or_a_folder(world: World, verb: str, entry: dict[str, Any]) -> None:
    lock = json.loads(pipfile_lock(ALPHA, index=world.server.simple))
    lock["default"]["alpha"] = entry
    source = notebook(world.work, None, requirements_lock=json.dumps(lock))
    refused(world, 18, verb, source, says=("alpha",))


def stale(world: World) -> Path:
    """A notebook whose requirements were changed after it was locked."""
    wanted = {"packages": {"alpha": "*", "gamma": "*"}, "requires": {"python_version": "3.11"}, "source": []}
    world.offer(ALPHA)
    return notebook(
        world.work,
        None,
        requirements=json.dumps(wanted),
        requirements_lock=pipfile_lock(ALPHA, index=world.server.simple),
    )


def test_a_stale_lock_is_an_error_with_strict(world: World, verb: str) -> None:
    refused(world, 16, verb, stale(world), "--strict", says=("is stale",))


def test_a_stale_lock_is_a_warning_without_strict(world: World) -> None:
    done = world.run("build", stale(world), "--base", world.base)
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "is stale" in done.stderr


# -- the index -------------------------------------------------------------------------------------


def hashed_only(world: World) -> Path:
    """A notebook that needs the index to learn what its files are."""
    return notebook(world.work, None, requirements_lock=pipfile_lock(ALPHA, index=world.server.simple))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_index_that_cannot_be_reached(world: World) -> None:
    address = f"127.0.0.1:{closed_port()}"
    source = hashed_only(world)
    said = refused(world, 20, "plan", source, "--index-url", f"http://joe:hunter2@{address}/simple", says=(address,))
    assert "hunter2" not in said


@pytest.mark.parametrize(("answer", "code"), [(404, 22), (403, 21), (500, 21)])
def test_an_index_that_answers_with_an_error(world: World, answer: int, code: int) -> None:
    world.server.on("/simple/alpha/", status(answer))
    refused(world, code, "plan", hashed_only(world), says=("alpha",) if code == 22 else (str(answer),))


def test_an_index_whose_page_is_no_index(world: World) -> None:
    world.server.on("/simple/alpha/", body(b"{", Content_Type="application/vnd.pypi.simple.v1+json"))
    refused(world, 21, "plan", hashed_only(world))


def test_an_index_that_wants_another_password_keeps_it_secret(world: World) -> None:
    world.server.on("/simple/alpha/", guarded("joe:right", html_page("")))
    url = world.server.with_login("joe:hunter2")
    said = refused(world, 21, "plan", hashed_only(world), "--index-url", url)
    assert basic("joe:hunter2") in world.server.authorizations()
    assert "hunter2" not in said


def test_a_package_that_is_gone_from_the_index(world: World, verb: str) -> None:
    other = wheel("alpha", files={"other.py": b""})
    world.offer(other)
    refused(world, 22, verb, hashed_only(world), says=("alpha 1.0", world.server.simple))


def test_a_download_with_another_hash(world: World) -> None:
    source = world.locked(ALPHA)
    world.server.on(f"/files/{ALPHA.filename}", body(bytes(len(ALPHA.data))))
    refused(world, 23, "build", source, says=(ALPHA.filename, ALPHA.sha256, "expected:", "got:"))
    assert list(world.cache.rglob(ALPHA.sha256)) == []


@pytest.mark.parametrize(("answer", "code"), [(404, 21), (500, 21)])
def test_a_download_that_is_answered_with_an_error(world: World, answer: int, code: int) -> None:
    source = world.locked(ALPHA)
    world.server.on("/simple/alpha/", status(answer))
    world.server.on(f"/files/{ALPHA.filename}", status(answer))
    refused(world, code, "build", source, says=(str(answer), ALPHA.filename))


def test_offline_without_the_file(world: World, verb: str) -> None:
    refused(world, 24, verb, hashed_only(world), "--offline", says=("alpha 1.0",))
    assert world.server.requests == []


def test_an_index_url_that_is_none(world: World) -> None:
    refused(world, 21, "plan", hashed_only(world), "--index-url", "not a url", says=("not a url",))


# -- the target ------------------------------------------------------------------------------------


def test_no_file_for_the_target(world: World, verb: str) -> None:
    name = "alpha-1.0-cp39-cp39-manylinux_2_17_x86_64.whl"
    lock = pylock(ALPHA, url="http://index.example").replace(ALPHA.filename, name)
    refused(world, 30, verb, notebook(world.work, lock), says=("alpha 1.0", "the target accepts"))


def test_another_python_than_the_base_has(world: World, verb: str) -> None:
    refused(world, 31, verb, world.locked(ALPHA), "--python", "3.12", says=("3.12",))


def test_a_kernel_that_cannot_work_with_the_lock(world: World, verb: str) -> None:
    refused(world, 32, verb, world.locked(ALPHA, wheel("comm", "0.0.1")), says=("comm",))


# -- the base --------------------------------------------------------------------------------------


def test_an_unknown_base(world: World, verb: str) -> None:
    said = refused(world, 31, verb, world.locked(ALPHA), "--base", "bookwrom", base=False, says=("'bookwrom'",))
    assert "Choose one of bookworm, bullseye, trixie, the path of" in said


def test_a_base_that_is_not_there(world: World) -> None:
    refused(world, 50, "plan", world.locked(ALPHA), "--base", "./no.tar", base=False, says=("no.tar",))


@pytest.mark.parametrize("kind", ["text", "folder", "index", "blob"])
def test_a_base_that_is_no_image(world: World, kind: str) -> None:
    path = world.folder / "wrong"
    if kind == "text":
        path.write_text("hello")
    elif kind == "folder":
        path.mkdir()
    elif kind == "index":
        put_index(path, [])
    else:
        path = world.base
        for blob in (path / "blobs" / "sha256").iterdir():
            blob.chmod(0o644)
            blob.write_bytes(b"damaged")
    refused(world, 50, "plan", world.locked(ALPHA), "--base", path, base=False, says=(str(path),))


# -- wheels ----------------------------------------------------------------------------------------


def test_a_wheel_that_is_no_zip(world: World) -> None:
    refused(world, 40, "build", world.locked(Made("alpha", "1.0", b"no zip" * 99)), says=(ALPHA.filename,))


def test_a_wheel_that_leads_out_of_its_environment(world: World) -> None:
    made = wheel("alpha", files={"../../../../../../etc/passwd": b"root::0:0::/:/bin/sh"})
    refused(world, 40, "build", world.locked(made), says=("etc/passwd", ALPHA.filename))


def test_a_wheel_of_another_package(world: World) -> None:
    made = Made("alpha", "1.0", wheel("beta").data)
    refused(world, 40, "build", world.locked(made), says=(ALPHA.filename,))


# -- outputs ---------------------------------------------------------------------------------------


def test_bytecode_of_another_python_is_an_error_with_strict(world: World) -> None:
    # The world's base has a Python of a few made-up bytes, so that of this machine stands in for it.
    program = Path(world.environ["PATH"], "python3.11")
    program.write_text("#!/bin/sh\necho 3.11.9\n")
    program.chmod(0o755)
    source = world.locked(ALPHA)
    said = refused(world, 33, "build", source, "--bytecode", "--strict", says=("its own does not start here",))
    assert "--no-bytecode" in said


def test_an_output_that_cannot_be_written(world: World) -> None:
    source = world.locked(ALPHA)
    (world.work / "file").write_text("")
    (world.work / "folder.tar").mkdir()
    for output in ("nowhere/image.tar", "file/image.tar", "file", "folder.tar", "image.zip", "/proc/image.tar"):
        refused(world, 60, "build", source, "-o", output, says=(output.rpartition("/")[0] or output,))
    assert world.server.requests == []


def test_a_default_archive_that_cannot_be_written_shows_before_a_package_is_downloaded(world: World) -> None:
    source = world.locked(ALPHA)
    (world.work / "analysis.tar").mkdir()
    refused(world, 60, "build", source, says=("analysis.tar is a directory",))
    assert not [path for path in world.server.paths() if path.startswith("/files/")]


def test_an_output_folder_without_permission(world: World, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        folder = Path("/proc/1/task")  # which even root cannot write
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    refused(world, 60, "build", world.locked(ALPHA), "-o", folder / "image.tar", says=(str(folder),))
    refused(world, 60, "build", world.locked(ALPHA), "-o", folder / "layout", says=(str(folder),))


def test_a_disk_that_is_full_when_the_archive_is_written(world: World) -> None:
    source = world.locked(wheel("alpha", files={"alpha.bin": os.urandom(1 << 20)}))
    assert world.run("build", source, "--base", world.base, "-o", "first.tar").returncode == 0
    (world.work / "first.tar").unlink()
    command = world.command("build", source, "--base", world.base, "-o", "image.tar")
    # A limit of the size of files is the cheapest full disk: what is in the cache already is not written again.
    limit = (
        "import resource, os, sys; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000,) * 2); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    before = world.files()
    done = subprocess.run(
        [command[0], "-c", limit, *command],
        cwd=world.work,
        env=world.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 60, done.stderr
    assert "image.tar" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert world.files() == before


def test_an_archive_that_was_there_survives_a_failed_build(world: World) -> None:
    source = world.locked(ALPHA)
    world.server.on(f"/files/{ALPHA.filename}", body(bytes(len(ALPHA.data))))
    (world.work / "image.tar").write_text("precious")
    refused(world, 23, "build", source, "-o", "image.tar")
    assert (world.work / "image.tar").read_text() == "precious"


def test_a_cache_that_cannot_be_written(world: World, verb: str) -> None:
    (world.folder / "file").write_text("")
    place = str(world.folder / "file" / "cache")
    refused(world, 60, verb, world.locked(ALPHA), NB2IMAGE_CACHE_DIR=place, says=(place, "NB2IMAGE_CACHE_DIR"))


# -- engines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DOCKER_HOST", "CONTAINER_HOST"])
def test_an_engine_that_is_absent(world: World, name: str) -> None:
    world.environ.pop("DOCKER_HOST")
    world.environ[name] = place = f"unix://{world.folder}/nowhere.sock"
    refused(world, 61, "build", world.locked(ALPHA), "--load", says=(place, name))
    assert world.server.requests == []  # Nothing was built before it showed.


def test_running_without_an_engine(world: World) -> None:
    refused(world, 61, "run", world.locked(ALPHA), base=False, says=("no-engine.sock",))


class _Refusing(BaseHTTPRequestHandler):
    """The Docker Engine API as a daemon speaks it whose disk is full (tests/engines has real ones that refuse)."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Docker/24.0.0", "(linux)"

    def _send(self, code: int, document: Any) -> None:
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("API-Version", "1.43")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path.endswith("/version"):
            self._send(200, {"Version": "24.0.0", "ApiVersion": "1.43", "MinAPIVersion": "1.24", "Components": []})
        elif self.path.endswith("/_ping"):
            self._send(200, "OK")
        elif self.path.endswith("/info"):
            self._send(200, {"ServerVersion": "24.0.0", "OSType": "linux", "Architecture": "x86_64"})
        elif "/images/json" in self.path:
            self._send(200, [])
        else:
            self._send(404, {"message": "no such image"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()
        self._send(500, {"message": "write /var/lib/docker/tmp/x: no space left on device"})

    def log_message(self, *_: object) -> None:
        """Tests look at what the client says."""

    def address_string(self) -> str:
        return "client"


@pytest.fixture
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("e") / "s"
    with ThreadingUnixStreamServer(str(path), _Refusing) as engine:
        engine.daemon_threads = True
        thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"unix://{path}"
        engine.shutdown()
        thread.join()


def test_an_engine_that_refuses(world: World, refusing: str) -> None:
    refused(world, 62, "build", world.locked(ALPHA), "--load", says=("no space left on device",), DOCKER_HOST=refusing)


# -- the command line itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--python", "three"],
        ["--python", "2.7"],
        ["--platform", "windows/amd64"],
        ["--mode", "lab"],
        ["--label", "nothing"],
        ["--env", "=x"],
        ["--env", "name=\udcff"],
        ["--label", "name=\udcff"],
        ["-t", "Not A Name"],
        ["-t", "name:bad tag"],
        ["--progress", "loud"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_a_bad_value_of_an_option(world: World, arguments: list[str]) -> None:
    done = world.run("build", world.locked(ALPHA), "--base", world.base, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: nb2image build" in done.stderr
    assert arguments[0].split("=")[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert world.server.requests == []


@pytest.mark.parametrize("value", ["yesterday", "-1", "1.5", "9" * 30, "²"])
def test_a_source_date_epoch_that_is_no_time(world: World, verb: str, value: str) -> None:
    done = world.run(verb, world.locked(ALPHA), "--base", world.base, SOURCE_DATE_EPOCH=value)
    assert done.returncode == 2
    assert f"SOURCE_DATE_EPOCH is {value!r}" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_of_commands(world: World) -> None:
    for arguments in ([], ["build"], ["bild"], ["cache", "prune"], ["cache", "prune", "--max-size", "much"]):
        done = world.run(*arguments)
        assert done.returncode == 2, arguments
        assert "Usage: nb2image" in done.stderr
        assert "Traceback" not in done.stderr


# -- interruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_nothing(world: World, number: signal.Signals) -> None:
    # Large enough for worker processes, which Ctrl-C reaches as well.
    big = wheel("big", files={"big.bin": os.urandom(9 << 20)})
    source = world.locked(ALPHA, big)
    world.server.on(f"/files/{ALPHA.filename}", stalled(ALPHA.data, 100, 5))
    before = world.files()
    with subprocess.Popen(
        world.command("build", source, "--base", world.base, "-o", "image.tar"),
        cwd=world.work,
        env=world.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while f"/files/{ALPHA.filename}" not in world.server.paths():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while not list((world.cache / "v1" / "layers").rglob("?" * 64)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        out, said = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], said
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert out == ""
    assert world.files() == before
    assert world.unfinished() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_a_class_is_made_is_an_interrupt(world: World, number: signal.Signals, code: int) -> None:
    """Imports make classes; Python 3.11 raises `RuntimeError` for whatever comes in ``__set_name__``."""
    start = (
        "import os, signal, nb2image.cli, nb2image.plan\n"
        "class Slow:\n"
        f"    def __set_name__(self, *_): os.kill(os.getpid(), {number.value}); [None for _ in range(1000)]\n"
        "def make_plan(*_): type('Made', (), {'slow': Slow()})\n"
        "nb2image.plan.make_plan = make_plan\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "nb2image.cli.main()"
    )
    command = [sys.executable, "-c", start, "plan", str(world.locked(ALPHA))]
    done = subprocess.run(command, cwd=world.work, env=world.environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (code, "interrupted")


def test_a_reader_that_leaves_early_is_no_error(world: World) -> None:
    source = world.locked(*(wheel(f"package-{n}") for n in range(20)))
    command = world.command("plan", source, "--base", world.base, "--json", "-q")
    with subprocess.Popen(
        command, cwd=world.work, env=world.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_an_unexpected_failure_is_one_sentence_and_a_traceback_on_request(world: World) -> None:
    (world.runners / "support-3.11.json").write_text("{}")  # A damaged installation.
    source = world.locked(ALPHA)
    said = refused(world, 1, "plan", source, says=("failed unexpectedly: KeyError: 'ipykernel' (support.py, line",))
    assert "NB2IMAGE_DEBUG=1" in said
    done = world.run("plan", source, "--base", world.base, NB2IMAGE_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


def test_a_notebook_to_run_that_is_not_there_is_no_image(world: World) -> None:
    refused(world, 10, "run", "typo.ipynb", says=("There is no notebook typo.ipynb",))
