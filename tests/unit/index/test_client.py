from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from nb2image.errors import IndexAnswered, IndexUnreachable
from nb2image.index.client import IndexClient
from tests.unit.index.server import (
    IndexServer,
    basic,
    body,
    guarded,
    gzipped,
    html_page,
    json_page,
    redirect,
    status,
)

Make = Callable[..., IndexClient]
LINK = '<a href="../../files/demo-1.tar.gz#sha256=ab">demo-1.tar.gz</a>'


def names(files: object) -> list[str]:
    assert isinstance(files, tuple)
    return [file.filename for file in files]


def test_json_is_preferred_and_html_accepted(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", json_page([{"filename": "demo-1.tar.gz", "url": "x", "hashes": {}}]))
    server.on("/simple/page/", html_page(LINK))
    client = make_client()
    assert names(client.project(server.simple, "Demo")) == ["demo-1.tar.gz"]
    assert names(client.project(server.simple + "/", "page")) == ["demo-1.tar.gz"]
    accept = server.requests[0].headers["Accept"]
    assert accept.index("+json") < accept.index("+html") < accept.index("text/html")


def test_a_compressed_page_is_read(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", gzipped(LINK))
    assert names(make_client().project(server.simple, "demo")) == ["demo-1.tar.gz"]


def test_a_project_that_the_index_does_not_know_is_none(server: IndexServer, make_client: Make) -> None:
    assert make_client().project(server.simple, "absent") is None
    assert len(server.requests) == 1


def test_links_are_relative_to_where_a_redirect_led(
    server: IndexServer, other_server: IndexServer, make_client: Make
) -> None:
    server.on("/simple/demo/", redirect(f"{other_server.url}/mirror/simple/demo/"))
    other_server.on("/mirror/simple/demo/", html_page(LINK))
    files = make_client().project(server.simple, "demo")
    assert files is not None
    assert files[0].url == f"{other_server.url}/mirror/files/demo-1.tar.gz"


def test_credentials_are_offered_to_their_index_and_kept_on_its_own_redirects(
    server: IndexServer, make_client: Make
) -> None:
    server.on("/simple/demo/", guarded("me:s3cret", redirect("/other/")))
    server.on("/other/", guarded("me:s3cret", html_page(LINK)))
    assert make_client().project(server.with_login("me:s3cret"), "demo")
    assert server.authorizations() == [basic("me:s3cret")] * 2


def test_credentials_never_follow_a_redirect_to_another_host(
    server: IndexServer, other_server: IndexServer, make_client: Make
) -> None:
    server.on("/simple/demo/", redirect(f"{other_server.url}/simple/demo/"))
    other_server.on("/simple/demo/", html_page(LINK))
    assert make_client().project(server.with_login("me:s3cret"), "demo")
    assert server.authorizations() == [basic("me:s3cret")]
    assert other_server.authorizations() == [None]


def test_a_login_from_the_lock_or_netrc_opens_a_guarded_index(
    server: IndexServer, machine: Path, make_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("/simple/demo/", guarded("me:s3cret", html_page(LINK)))
    monkeypatch.setenv("MY_PASSWORD", "s3cret")
    assert make_client(server.with_login("me:${MY_PASSWORD}")).project(server.simple, "demo")
    netrc = machine / ".netrc"
    netrc.write_text(f"machine {server.host} login me password s3cret\n")
    netrc.chmod(0o600)
    assert make_client().project(server.simple, "demo")


def test_a_refused_login_is_an_error_that_does_not_show_it(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", status(401))
    with pytest.raises(IndexAnswered, match="answered 401") as caught:
        make_client().project(server.with_login("me:s3cret"), "demo")
    assert "s3cret" not in caught.value.message + caught.value.hint
    assert "netrc" in caught.value.hint


def test_keyring_is_tried_after_a_refusal(
    server: IndexServer, make_client: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    program = tmp_path / "keyring"
    program.write_text("""#!/bin/sh
echo '{"username": "me", "password": "ring"}'
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    server.on("/simple/demo/", guarded("me:ring", html_page(LINK)))
    assert make_client().project(server.simple, "demo")
    assert server.authorizations() == [None, basic("me:ring")]


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_repeated_with_growing_pauses(
    code: int, server: IndexServer, make_client: Make, slept: list[float]
) -> None:
    server.on("/simple/demo/", status(code), status(code), html_page(LINK))
    assert make_client().project(server.simple, "demo")
    assert len(slept) == 2
    assert 0.1 <= slept[0] <= 0.25 <= slept[1] <= 0.5


def test_retry_after_is_honoured_and_capped(server: IndexServer, make_client: Make, slept: list[float]) -> None:
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=10), usegmt=True)
    server.on(
        "/simple/demo/",
        status(429, Retry_After="7"),
        status(503, Retry_After="86400"),
        status(503, Retry_After=soon),
        html_page(LINK),
    )
    assert make_client().project(server.simple, "demo")
    assert slept[:2] == [7.0, 30.0]
    assert 8 <= slept[2] <= 10


@pytest.mark.parametrize("value", ["²", "soon", ""])
def test_retry_after_that_means_nothing_is_passed_over(server: IndexServer, make_client: Make, value: str) -> None:
    server.on("/simple/demo/", status(503, Retry_After=value), html_page(LINK))
    assert make_client().project(server.simple, "demo")


def test_a_fault_that_stays_is_an_error_with_the_status(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", status(500))
    with pytest.raises(IndexAnswered, match="answered 500 Internal Server Error for") as caught:
        make_client(retries=2).project(server.with_login("me:s3cret"), "demo")
    assert "s3cret" not in str(caught.value)
    assert len(server.requests) == 3


def test_a_status_that_will_not_pass_is_not_repeated(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", status(403))
    with pytest.raises(IndexAnswered, match="403"):
        make_client().project(server.simple, "demo")
    assert len(server.requests) == 1


def test_a_host_that_refuses_connections_is_named_and_not_asked_again(make_client: Make, slept: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    client = make_client(retries=2)
    with pytest.raises(IndexUnreachable, match=f"^127.0.0.1:{port} cannot be reached: connection refused"):
        client.project(f"http://me:s3cret@127.0.0.1:{port}/simple", "demo")
    assert len(slept) == 2
    with pytest.raises(IndexUnreachable):
        client.project(f"http://127.0.0.1:{port}/simple", "other")
    assert len(slept) == 2


@pytest.mark.parametrize(
    "url", ["ftp://index.example/simple", "http://[bad/simple", "index.example/simple", "https:///x"]
)
def test_what_is_no_url_of_an_index_is_refused(url: str, make_client: Make) -> None:
    with pytest.raises((IndexAnswered, IndexUnreachable)):
        make_client(retries=0).project(url, "demo")


def test_a_page_that_is_no_index_is_refused(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", body(b"x", Content_Type="image/png"))
    with pytest.raises(IndexAnswered, match="no index page: it answered with the content type 'image/png'") as caught:
        make_client().project(server.simple, "demo")
    assert "/simple" in caught.value.hint


def test_a_remote_page_has_no_say_over_local_files(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", html_page('<a href="file:///etc/demo-1.tar.gz">x</a>' + LINK))
    files = make_client().project(server.simple, "demo")
    assert files is not None
    assert [file.url for file in files] == [f"{server.url}/files/demo-1.tar.gz"]


def test_a_folder_can_be_an_index(tmp_path: Path, make_client: Make) -> None:
    page = tmp_path / "with space" / "simple" / "demo" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(LINK)
    index = (tmp_path / "with space" / "simple").as_uri()
    files = make_client().project(index, "demo")
    assert files is not None
    assert files[0].url == (tmp_path / "with space" / "files" / "demo-1.tar.gz").as_uri()
    assert make_client().project(index, "absent") is None


def test_logins_inside_links_are_taken_out_and_used(server: IndexServer, make_client: Make) -> None:
    link = server.with_login("me:s3cret", "/files/demo-1.tar.gz")
    server.on("/simple/demo/", html_page(f'<a href="{link}">x</a>'))
    client = make_client()
    files = client.project(server.simple, "demo")
    assert files is not None
    assert files[0].url == f"{server.url}/files/demo-1.tar.gz"
    client.project(server.simple, "demo")
    assert server.authorizations() == [None, basic("me:s3cret")]
