"""Faults of a Debian mirror: what passes is overcome, what stays is one clear error, and the cache stays clean."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nb2image.bases.debian import download
from nb2image.bases.debian.download import Archives, NotThere
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.cache import Store
from nb2image.errors import HashMismatch, IndexAnswered, IndexUnreachable
from tests.hostile.test_index_faults import left
from tests.unit.index.plugin import machine, other_server, server, store
from tests.unit.index.server import IndexServer, Reply, Request, basic, body, cut, redirect, sha256, stalled, status
from tests.unit.world import World, wheel, world

__all__ = ["machine", "other_server", "server", "store", "world"]

DATA = random.Random(8).randbytes(3_000_000)
Fetch = Callable[..., bytes]


@pytest.fixture
def fetch(store: Store, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    monkeypatch.setattr(download, "_PAUSE", 0.01)

    def fetch_one(url: str, data: bytes = DATA) -> bytes:
        with Archives(Mirrors()) as archives:
            path = archives.blob(store, url, f"sha256:{sha256(data)}", len(data))
        assert left(store) == [path]
        return path.read_bytes()

    return fetch_one


def ranges(server: IndexServer) -> list[str | None]:
    return [request.headers.get("Range") for request in server.requests]


def test_errors_that_pass_are_overcome(server: IndexServer, fetch: Fetch) -> None:
    assert fetch(server.on("/f", status(500), status(429, Retry_After="0"), body(DATA))) == DATA
    assert fetch(server.on("/f", status(502), status(503, Retry_After="soon"), body(DATA))) == DATA


def test_a_mirror_that_asks_to_wait_is_given_the_time(server: IndexServer, fetch: Fetch) -> None:
    begin = time.monotonic()
    assert fetch(server.on("/f", status(429, Retry_After="1"), body(DATA))) == DATA
    assert time.monotonic() - begin >= 1


@pytest.mark.parametrize(("code", "requests"), [(500, 3), (429, 3), (403, 1), (404, 1)])
def test_a_status_that_stays_is_named(
    code: int, requests: int, server: IndexServer, store: Store, fetch: Fetch
) -> None:
    with pytest.raises(NotThere if code == 404 else IndexAnswered, match=f"answered with status {code}"):
        fetch(server.on("/f", status(code)))
    assert len(server.requests) == requests
    assert left(store) == []


@pytest.mark.parametrize("reset", [True, False])
def test_a_transfer_that_breaks_is_resumed_where_it_broke(reset: bool, server: IndexServer, fetch: Fetch) -> None:
    assert fetch(server.on("/f", cut(DATA, 2_000_000, reset=reset), body(DATA))) == DATA
    first, second = ranges(server)
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").removesuffix("-")) > 0


def test_bytes_that_are_there_are_not_sent_again(server: IndexServer, fetch: Fetch) -> None:
    starts: list[int] = []

    def a_piece(request: Request) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        starts.append(start)
        handler = request.handler
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        handler.send_header("Content-Length", str(len(DATA) - start))
        handler.end_headers()
        handler.wfile.write(DATA[start : start + 500_000])
        handler.close_connection = True

    assert fetch(server.on("/f", a_piece)) == DATA
    assert starts == list(range(0, len(DATA), 500_000))


def test_two_halves_of_different_files_are_fetched_once_more_in_one_piece(server: IndexServer, fetch: Fetch) -> None:
    assert fetch(server.on("/f", cut(DATA[::-1], 1_000_000), body(DATA))) == DATA
    assert [r is None for r in ranges(server)] == [True, False, True]


def test_a_mirror_without_ranges_sends_the_whole_again(server: IndexServer, fetch: Fetch) -> None:
    def whole(request: Request) -> None:
        body(DATA)(Request(request.path, {}, request.handler))

    assert fetch(server.on("/f", cut(DATA, 1_000_000), whole)) == DATA


def test_a_transfer_that_always_breaks_says_so_and_spares_the_host(server: IndexServer, store: Store) -> None:
    url = server.on("/f", cut(DATA, 1000))
    other = server.on("/other", body(DATA))
    with Archives(Mirrors()) as archives:
        with pytest.raises(IndexUnreachable, match=r"^127\.0\.0\.1:\d+ did not deliver http.*/f: "):
            archives.blob(store, url, f"sha256:{sha256(DATA)}", len(DATA))
        assert left(store) == []
        assert archives.blob(store, other, f"sha256:{sha256(DATA)}", len(DATA)).read_bytes() == DATA


@pytest.mark.parametrize(
    "reply",
    [
        stalled(DATA, 1000, 1.5),
        pytest.param(lambda _: time.sleep(1.5), id="no answer"),
    ],
)
def test_a_slow_answer_is_given_up_and_repeated(
    reply: Reply, server: IndexServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", 0.3)
    assert fetch(server.on("/f", reply, body(DATA))) == DATA


def test_a_drip_is_given_up(server: IndexServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("Content-Length", str(len(DATA)))
        request.handler.end_headers()
        for n in range(200):
            request.handler.wfile.write(DATA[n : n + 1])
            time.sleep(0.05)

    monkeypatch.setattr(download, "_TIMEOUT", 0.2)
    with pytest.raises(IndexUnreachable, match=r"did not deliver .*: it sent \d+ bytes"):
        fetch(server.on("/f", drip))


@pytest.mark.parametrize(
    "reply",
    [
        body(DATA[:-1] + b"x"),
        body(DATA[:1000]),
        body(DATA + b"x"),
        body(b"<html>Please log in.</html>", Content_Type="text/html"),
        body(gzip.compress(DATA), Content_Encoding="gzip"),
    ],
    ids=["another", "short", "long", "page", "packed"],
)
def test_wrong_content_is_refused_and_not_kept(reply: Reply, server: IndexServer, store: Store, fetch: Fetch) -> None:
    with pytest.raises(HashMismatch):
        fetch(server.on("/f", reply))
    assert left(store) == []


def test_a_redirect_loop_is_named(server: IndexServer, fetch: Fetch) -> None:
    with pytest.raises(IndexAnswered, match="redirects in a circle"):
        fetch(server.on("/f", redirect("/f")))


def test_a_redirect_to_another_host_does_not_see_the_password(
    server: IndexServer, other_server: IndexServer, fetch: Fetch
) -> None:
    server.on("/f", redirect(other_server.on("/f", body(DATA))))
    assert fetch(server.with_login("me:s3cret", "/f")) == DATA
    assert server.authorizations() == [basic("me:s3cret")]
    assert other_server.authorizations() == [None]


# -- the real command, with apt configured for a mirror on loopback ------------------------------------


def apt(folder: Path, url: str) -> str:
    """A configuration of apt with one mirror, in which nothing outside of this machine can be reached."""
    sources = folder / "sources.list"
    sources.write_text(f"deb {url}/debian bookworm main\ndeb {url}/debian bookworm-security main\n")
    file = folder / "apt.conf"
    file.write_text(
        f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "{folder}/none";\n'
        'Acquire::https::Proxy "http://127.0.0.1:9";\nAcquire::http::Proxy "DIRECT";\n'
    )
    return str(file)


@pytest.mark.parametrize(
    ("reply", "code", "says"),
    [
        (status(503), 21, "answered with status 503"),
        (body(b"<html>Please log in.</html>"), 23, "has the hash sha256:"),
        (redirect("/again"), 21, "redirects"),
    ],
)
def test_a_build_whose_mirror_fails_says_what_it_did(world: World, reply: Reply, code: int, says: str) -> None:
    world.server.on("/again", redirect("/again"))
    world.server.otherwise = reply
    source = world.locked(wheel("alpha"))
    done = world.run(
        "build", source, "--base", "bookworm", APT_CONFIG=apt(world.folder, world.server.url), PATH="/usr/bin:/bin"
    )
    assert done.returncode == code, done.stderr
    assert f"{says}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpectedly" not in done.stderr
    assert world.unfinished() == []
    assert not (world.cache / "v1" / "bases").exists()
