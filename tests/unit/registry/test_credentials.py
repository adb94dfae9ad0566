from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nb2image.registry.credentials import Login, find_login

LOGIN = base64.b64encode(b"me:pass:word").decode()


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def find(domain: str = "registry.example", path: str = "team/x") -> tuple[Login | None, list[str]]:
    problems: list[str] = []
    return find_login(domain, path, problems), problems


def helper(folder: Path, name: str, answer: str, code: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\ncat >{folder}/asked\necho '{answer}'\nexit {code}\n")
    program.chmod(0o755)


def test_dockers_file_is_read(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"registry.example": {"auth": LOGIN}}})
    login, _ = find()
    assert login is not None
    assert (login.user, login.password) == ("me", "pass:word")
    assert "pass" not in repr(login)
    assert find("other.example")[0] is None


def test_podmans_closest_entry_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = {"username": "near", "password": "1"}
    entries = {"registry.example/team": near, "registry.example": {"auth": LOGIN}}
    write(home / "run/containers/auth.json", {"auths": entries})
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    assert [login.user for path in ("team/x", "teamwork", "other/x") if (login := find(path=path)[0])] == [
        "near",
        "me",
        "me",
    ]


def test_what_podman_keeps_by_the_users_number_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nb2image.registry.credentials._RUN", tmp_path)
    folder = tmp_path / str(os.getuid())
    folder.mkdir()
    (folder / "auth.json").write_text(json.dumps({"auths": {"registry.example": {"username": "a", "password": "b"}}}))
    found = find_login("registry.example", "team/x", [])
    assert found is not None
    assert found.source == str(folder / "auth.json")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "other"))
    assert find_login("registry.example", "team/x", []) is None


def test_a_named_file_comes_before_the_usual_ones(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".config/containers/auth.json", {"auths": {"registry.example": {"auth": LOGIN}}})
    write(home / "mine.json", {"auths": {"registry.example": {"username": "mine", "password": "x"}}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "mine.json"))
    login, _ = find()
    assert login is not None
    assert login.user == "mine"
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    login, _ = find()
    assert login is not None
    assert login.user == "me"


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_io_is_found_under_each_of_its_names(home: Path, key: str) -> None:
    write(home / ".docker/config.json", {"auths": {key: {"auth": LOGIN}}})
    assert find("docker.io", "library/debian")[0] is not None


def test_a_helper_is_asked_for_the_host(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home / "bin", "vault", '{"Username": "me", "Secret": "s3cret"}')
    monkeypatch.setenv("PATH", f"{home / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "dock"))
    write(home / "dock/config.json", {"credHelpers": {"registry.example": "vault"}})
    login, _ = find()
    assert login is not None
    assert (login.user, login.password) == ("me", "s3cret")
    assert (home / "bin/asked").read_text() == "registry.example"


def test_a_helper_may_have_an_identity_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home / "bin", "vault", '{"Username": "<token>", "Secret": "refresh"}')
    monkeypatch.setenv("PATH", f"{home / 'bin'}:/usr/bin:/bin")
    write(home / ".docker/config.json", {"credsStore": "vault"})
    login, _ = find()
    assert login is not None
    assert (login.identity, login.user) == ("refresh", "")


@pytest.mark.parametrize(("name", "code"), [("vault", 1), ("absent", 0), ("../../bin/evil", 0), ("odd", 0)])
def test_a_helper_that_fails_is_named_and_not_quoted(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    for each in ("vault", "odd"):
        helper(home / "bin", each, "my secret", code)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:/usr/bin:/bin")
    write(home / ".docker/config.json", {"credsStore": name})
    login, problems = find()
    assert login is None
    assert len(problems) == 1
    assert "secret" not in problems[0]


@pytest.mark.skipif(os.getuid() == 0, reason="root may look everywhere")
def test_a_folder_of_roots_podman_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    (tmp_path / "run").mkdir(mode=0)
    monkeypatch.setattr("nb2image.registry.credentials._RUN", tmp_path / "run")
    assert find() == (None, [])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"auths": []}', '{"auths": {"registry.example": {"auth": "%"}}}'])
def test_a_file_that_is_broken_holds_no_login(home: Path, text: str) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(text)
    assert find()[0] is None
