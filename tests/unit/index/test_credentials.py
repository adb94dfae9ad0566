from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from nb2image.index.credentials import Credentials, Login, bare, expand, redact, storable


def test_variables_are_expanded_by_pips_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER_1", "me")
    monkeypatch.setenv("lower", "x")
    text = "https://${USER_1}:${NOT_SET}@index.example/${lower}/$USER_1"
    assert expand(text) == "https://me:${NOT_SET}@index.example/${lower}/$USER_1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@index.example:8443/simple", "https://****@index.example:8443/simple"),
        ("https://token@index.example/simple", "https://****@index.example/simple"),
        ("https://a:b@c@index.example/x", "https://****@index.example/x"),
        ("https://index.example/f?sig=secret#sha256=ab", "https://index.example/f?****"),
        ("https://index.example/simple", "https://index.example/simple"),
        ("file:///srv/simple", "file:///srv/simple"),
        ("http://secret@[bad/x", "****"),
    ],
)
def test_shown_urls_hide_what_may_be_secret(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_token_from_the_environment_is_hidden_in_the_path_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "tok-91f3")
    url = expand("https://index.example/${INDEX_TOKEN}/simple")
    assert url == "https://index.example/tok-91f3/simple"
    assert redact(url) == "https://index.example/****/simple"
    assert storable("https://index.example/tok-91f3/files/x.whl") is None


def test_a_url_is_stored_without_its_login() -> None:
    assert storable("https://me:secret@index.example/x.whl") == "https://index.example/x.whl"
    assert bare("https://me:secret@index.example/x?y") == "https://index.example/x?y"
    assert storable("https://index.example/x.whl?signature=1") is None


def test_a_login_in_an_index_url_serves_its_origin_only() -> None:
    logins = Credentials(["https://me:p%40ss@index.example/simple"])
    assert logins.login("https://index.example/files/x.whl") == Login("me", "p@ss")
    assert logins.login("https://index.example:443/x") == Login("me", "p@ss")
    assert logins.login("https://index.example:8443/x") is None
    assert logins.login("http://index.example/x") is None
    assert logins.login("https://files.example/x") is None


def test_plain_http_may_be_upgraded_but_not_the_other_way() -> None:
    assert Credentials(["http://me:x@index.example/s"]).login("https://index.example/y") == Login("me", "x")


def test_of_two_indexes_on_one_host_the_nearer_gives_the_login() -> None:
    logins = Credentials(["https://a:1@index.example/team-a/simple", "https://b:2@index.example/team-b/simple"])
    assert logins.login("https://index.example/team-b/simple/demo/") == Login("b", "2")


def test_the_urls_own_login_wins_over_all() -> None:
    logins = Credentials(["https://a:1@index.example/simple"])
    assert logins.login("https://c:3@index.example/simple") == Login("c", "3")


def test_netrc_is_read_and_a_broken_one_passed_over(machine: Path) -> None:
    file = machine / ".netrc"
    file.write_text("machine index.example login me password pw\n")
    file.chmod(0o600)
    assert Credentials().login("https://index.example/simple") == Login("me", "pw")
    file.write_text("machine\n")
    assert Credentials().login("https://index.example/simple") is None


def test_logins_in_links_are_learned_and_taken_out() -> None:
    logins = Credentials()
    assert logins.learn("https://me:x@files.example/a.whl") == "https://files.example/a.whl"
    assert logins.login("https://files.example/b.whl") == Login("me", "x")


class _Found(NamedTuple):
    username: str
    password: str


def test_keyring_is_asked_once_and_only_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def get_credential(service: str, user: str | None) -> _Found | None:
        asked.append((service, user))
        return _Found("me", "ring") if service == "index.example" else None

    module = ModuleType("keyring")
    module.get_credential = get_credential  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    logins = Credentials(["https://me@index.example/simple"])
    assert logins.login("https://index.example/x") == Login("me", "")
    assert asked == []
    assert logins.login_after_refusal("https://index.example/x") == Login("me", "ring")
    assert logins.login_after_refusal("https://index.example/y") == Login("me", "ring")
    assert asked == [("https://index.example/simple", "me"), ("index.example", "me")]
    assert logins.login("https://index.example/z") == Login("me", "ring")


def test_a_keyring_that_fails_holds_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_credential(*_: object) -> None:
        raise RuntimeError("no backend")

    module = ModuleType("keyring")
    module.get_credential = get_credential  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    assert Credentials().login_after_refusal("https://index.example/x") is None


def test_the_keyring_program_is_used_where_the_module_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    program = tmp_path / "keyring"
    program.write_text("""#!/bin/sh
[ "$4" = index.example ] && echo '{"username": "me", "password": "prog"}'
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert Credentials().login_after_refusal("https://index.example/x") == Login("me", "prog")
    assert Credentials().login_after_refusal("https://other.example/x") is None
