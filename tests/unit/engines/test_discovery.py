"""Engines are looked for where their own clients look."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.engines.discovery import Address, addresses, docker_addresses, podman_addresses


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="nb") as folder:
        yield Path(folder)


def listen(path: Path) -> None:
    """Leave a socket at ``path``, as a server does; nobody has to answer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def write_context(settings: Path, name: str, endpoint: dict[str, object]) -> str:
    key = hashlib.sha256(name.encode()).hexdigest()
    file = settings / "contexts/meta" / key / "meta.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    return key


def own(found: tuple[Address, ...], home: Path) -> list[str]:
    """URLs below ``home``: this machine may have engines of its own."""
    return [address.url for address in found if str(home) in address.url]


def test_docker_host_excludes_every_other_docker(home: Path) -> None:
    listen(home / ".docker/run/docker.sock")
    found = docker_addresses({"DOCKER_HOST": "tcp://engine.example:2375", "DOCKER_CONTEXT": "other"}, home)
    assert found == (Address("docker", "tcp://engine.example:2375", "DOCKER_HOST", chosen=True, verify=False),)


@pytest.mark.parametrize(
    ("variables", "folder", "verify"),
    [
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certificates"}, Path("/certificates"), True),
        ({"DOCKER_CERT_PATH": "/certificates"}, Path("/certificates"), False),
        ({"DOCKER_TLS_VERIFY": ""}, None, False),
    ],
)
def test_docker_host_takes_its_certificates_from_the_variables(
    home: Path, variables: dict[str, str], folder: Path | None, verify: bool
) -> None:
    (found,) = docker_addresses({"DOCKER_HOST": "tcp://engine.example:2376", **variables}, home)
    assert (found.certificates, found.verify) == (folder, verify)


def test_docker_tls_verify_alone_means_the_certificates_in_the_configuration_folder(home: Path) -> None:
    (found,) = docker_addresses({"DOCKER_HOST": "tcp://engine.example:2376", "DOCKER_TLS_VERIFY": "1"}, home)
    assert found.certificates == home / ".docker"


def test_the_current_context_is_followed_and_leaves_other_engines_possible(home: Path) -> None:
    settings = home / ".docker"
    key = write_context(settings, "remote", {"Host": "tcp://engine.example:2376", "SkipTLSVerify": False})
    (settings / "contexts/tls" / key / "docker").mkdir(parents=True)
    (settings / "config.json").write_text('{"currentContext": "remote"}')
    (found,) = docker_addresses({}, home)
    assert found.url == "tcp://engine.example:2376"
    assert not found.chosen
    assert found.certificates == settings / "contexts/tls" / key / "docker"
    assert found.verify


def test_docker_context_wins_over_the_current_context_and_is_binding(home: Path) -> None:
    settings = home / "elsewhere"
    write_context(settings, "one", {"Host": "unix:///one.sock"})
    write_context(settings, "two", {"Host": "unix:///two.sock"})
    (settings / "config.json").write_text('{"currentContext": "one"}')
    (found,) = docker_addresses({"DOCKER_CONFIG": str(settings), "DOCKER_CONTEXT": "two"}, home)
    assert (found.url, found.chosen) == ("unix:///two.sock", True)


def test_docker_context_default_overrides_the_current_context(home: Path) -> None:
    settings = home / ".docker"
    write_context(settings, "one", {"Host": "unix:///one.sock"})
    (settings / "config.json").write_text('{"currentContext": "one"}')
    assert "unix:///one.sock" not in [a.url for a in docker_addresses({"DOCKER_CONTEXT": "default"}, home)]


def test_a_context_that_does_not_exist_is_named(home: Path) -> None:
    (found,) = docker_addresses({"DOCKER_CONTEXT": "nowhere"}, home)
    assert found.broken == "the context 'nowhere' does not exist"


@pytest.mark.parametrize("text", ["{", "[]", '{"Endpoints": {}}', '{"Endpoints": {"docker": []}}'])
def test_a_damaged_context_is_named_with_its_file(home: Path, text: str) -> None:
    key = write_context(home / ".docker", "bad", {})
    file = home / ".docker/contexts/meta" / key / "meta.json"
    file.write_text(text)
    (found,) = docker_addresses({"DOCKER_CONTEXT": "bad"}, home)
    assert found.broken == f"{file} is damaged"


@pytest.mark.parametrize("text", ["{", "[]", '{"currentContext": 3}', '{"currentContext": "default"}'])
def test_a_configuration_without_a_usable_context_means_the_sockets(home: Path, text: str) -> None:
    listen(home / ".docker/run/docker.sock")
    (home / ".docker/config.json").write_text(text)
    assert own(docker_addresses({}, home), home) == [f"unix://{home}/.docker/run/docker.sock"]


def test_rootless_docker_comes_before_docker_desktop(home: Path) -> None:
    listen(home / "runtime/docker.sock")
    listen(home / ".docker/desktop/docker.sock")
    assert own(docker_addresses({"XDG_RUNTIME_DIR": str(home / "runtime")}, home), home) == [
        f"unix://{home}/runtime/docker.sock",
        f"unix://{home}/.docker/desktop/docker.sock",
    ]


def test_a_file_that_is_no_socket_is_no_engine(home: Path) -> None:
    (home / ".docker/run").mkdir(parents=True)
    (home / ".docker/run/docker.sock").write_text("")
    assert own(docker_addresses({}, home), home) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_may_not_be_entered_holds_no_engine(home: Path) -> None:
    listen(home / "runtime/podman/podman.sock")
    (home / "runtime").chmod(0o000)
    try:
        assert own(podman_addresses({"XDG_RUNTIME_DIR": str(home / "runtime")}, home), home) == []
    finally:
        (home / "runtime").chmod(0o700)


def test_container_host_excludes_every_other_podman(home: Path) -> None:
    listen(home / "runtime/podman/podman.sock")
    environ = {"CONTAINER_HOST": "unix:///podman.sock", "XDG_RUNTIME_DIR": str(home / "runtime")}
    assert podman_addresses(environ, home) == (Address("podman", "unix:///podman.sock", "CONTAINER_HOST", chosen=True),)


def test_podman_over_ssh_says_what_to_do_instead(home: Path) -> None:
    (found,) = podman_addresses({"CONTAINER_HOST": "ssh://user@host.example/run/podman/podman.sock"}, home)
    assert found.broken is not None
    assert "ssh -L" in found.broken


def program(folder: Path, name: str, text: str = "#!/bin/sh\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_podmans_program_comes_after_its_socket(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    path = program(home / "bin", "podman")
    listen(home / "runtime/podman/podman.sock")
    found = podman_addresses({"PATH": str(path.parent), "XDG_RUNTIME_DIR": str(home / "runtime")}, home)
    assert found[0].url == f"unix://{home}/runtime/podman/podman.sock"
    assert (found[-1].program, found[-1].url) == (str(path), "")


def test_outside_linux_podman_is_asked_for_its_machines_socket(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    listen(home / "machine.sock")
    path = program(home / "bin", "podman", f'#!/bin/sh\n[ "$1 $2" = "machine inspect" ] && echo {home}/machine.sock\n')
    found = podman_addresses({"PATH": str(path.parent)}, home)
    assert own(found, home) == [f"unix://{home}/machine.sock"]
    assert all(address.program is None for address in found)


def test_outside_linux_a_podman_without_a_machine_is_no_engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    path = program(home / "bin", "podman", "#!/bin/sh\nexit 125\n")
    assert own(podman_addresses({"PATH": str(path.parent)}, home), home) == []


def test_what_a_variable_names_comes_first(home: Path) -> None:
    listen(home / "runtime/docker.sock")
    found = addresses({"CONTAINER_HOST": "unix:///podman.sock", "XDG_RUNTIME_DIR": str(home / "runtime")}, home)
    assert found[0].source == "CONTAINER_HOST"
    assert found[-1].url == f"unix://{home}/runtime/docker.sock"
