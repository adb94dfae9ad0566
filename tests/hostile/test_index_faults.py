"""Faults of an index and of the network between: what passes is overcome, what stays is one clear error, and nothing
unfinished or wrong is left in the cache."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.errors import HashMismatch, IndexAnswered, IndexUnreachable, Unwritable
from nb2image.index.client import IndexClient
from nb2image.index.download import LockedFile, download
from nb2image.index.settings import IndexSettings
from nb2image.progress import Advanced
from tests.unit.index.plugin import Recorder, heard, machine, make_client, other_server, server, slept, store
from tests.unit.index.server import (
    IndexServer,
    Reply,
    Request,
    body,
    cut,
    html_page,
    redirect,
    serving,
    sha256,
    stalled,
    status,
)

__all__ = ["heard", "machine", "make_client", "other_server", "server", "slept", "store"]

Make = Callable[..., IndexClient]
DATA = random.Random(7).randbytes(3_000_000)
NAME = "demo-1.0-py3-none-any.whl"


def wanted(url: str, data: bytes = DATA) -> LockedFile:
    return LockedFile("demo", "1.0", NAME, url, len(data), frozenset({f"sha256:{sha256(data)}"}))


def left(store: Store) -> list[Path]:
    """Files in the store that are no record."""
    return [f for f in (store.root / "v1").rglob("*") if f.is_file() and "records" not in f.parts]


def ranges(server: IndexServer) -> list[str | None]:
    return [request.headers.get("Range") for request in server.requests]


@pytest.fixture
def fetch(store: Store, heard: Recorder, make_client: Make) -> Callable[..., bytes]:
    def fetch_one(url: str, data: bytes = DATA, **options: float) -> bytes:
        file, client = wanted(url, data), make_client(**options)
        (path,) = download([file], IndexSettings(), store, heard, client=client).values()
        assert left(store) == [path]
        done = sum(e.amount for e in heard.events if isinstance(e, Advanced))
        assert done == len(data)
        return path.read_bytes()

    return fetch_one


Fetch = Callable[..., bytes]


@pytest.mark.parametrize("reset", [True, False])
def test_a_transfer_that_breaks_is_resumed_where_it_broke(reset: bool, server: IndexServer, fetch: Fetch) -> None:
    url = server.on("/f", cut(DATA, 2_000_000, reset=reset), body(DATA))
    assert fetch(url) == DATA
    first, second = ranges(server)
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").removesuffix("-")) > 0
    assert server.requests[1].headers["If-Range"] == f'"{sha256(DATA)[:16]}"'


def test_a_transfer_that_breaks_again_and_again_goes_on_while_it_gains(server: IndexServer, fetch: Fetch) -> None:
    def a_piece(request: Request) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        part = DATA[start : start + 1_200_000]
        handler = request.handler
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", '"x"')
        handler.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        handler.send_header("Content-Length", str(len(DATA) - start))
        handler.end_headers()
        handler.wfile.write(part)
        handler.close_connection = True

    assert fetch(server.on("/f", a_piece), retries=1) == DATA
    assert len(server.requests) == 3


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(server: IndexServer, fetch: Fetch) -> None:
    url = server.on("/f", cut(DATA[::-1], 1_000_000, tag='"old"'), body(DATA))
    assert fetch(url) == DATA
    assert ranges(server)[1] is not None


def test_a_server_that_resumes_another_file_is_asked_once_more_in_one_piece(server: IndexServer, fetch: Fetch) -> None:
    mixed = body(DATA)

    def whatever_the_tag(request: Request) -> None:
        mixed(Request(request.path, {k: v for k, v in request.headers.items() if k != "If-Range"}, request.handler))

    url = server.on("/f", cut(DATA[::-1], 1_000_000), whatever_the_tag)
    assert fetch(url) == DATA
    assert [r is None for r in ranges(server)] == [True, False, True]


@pytest.mark.parametrize("place", ["bytes 5-9/10", "nonsense", ""])
def test_a_part_that_was_not_asked_for_is_not_appended(place: str, server: IndexServer, fetch: Fetch) -> None:
    url = server.on("/f", cut(DATA, 1_000_000), status(206, Content_Range=place), body(DATA))
    assert fetch(url) == DATA


def test_without_a_validator_the_transfer_starts_anew(server: IndexServer, fetch: Fetch) -> None:
    assert fetch(server.on("/f", cut(DATA, 1_000_000, tag=""), body(DATA))) == DATA
    assert ranges(server) == [None, None]


def test_an_answer_that_claims_to_be_whole_but_is_short_is_repeated(server: IndexServer, fetch: Fetch) -> None:
    assert fetch(server.on("/f", body(DATA[:1000]), body(DATA))) == DATA


def test_a_file_that_always_breaks_is_an_error_that_says_so(
    server: IndexServer, store: Store, fetch: Fetch, slept: list[float]
) -> None:
    url = server.on("/f", cut(DATA, 1000, tag=""))
    says = r"^127\.0\.0\.1:\d+ did not deliver http.*/f, asked 3 times: (connection reset|it closed)"
    with pytest.raises(IndexUnreachable, match=says) as caught:
        fetch(url, retries=2)
    (arrived,) = caught.value.details
    assert re.fullmatch(rf"\d+ of {len(DATA)} bytes of {NAME} arrived", arrived)
    assert len(slept) == 2
    assert left(store) == []


def test_a_server_error_that_passes_is_overcome(server: IndexServer, fetch: Fetch) -> None:
    assert fetch(server.on("/f", status(500), status(503), status(429, Retry_After="0"), body(DATA))) == DATA


@pytest.mark.parametrize(("code", "requests"), [(500, 3), (429, 3), (403, 1), (404, 1), (304, 1)])
def test_a_status_that_stays_is_named(
    code: int, requests: int, server: IndexServer, store: Store, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(IndexAnswered, match=f"answered {code}"):
        fetch(server.on("/f", status(code)), retries=2)
    assert len(server.requests) == requests
    assert left(store) == []


def test_a_slow_answer_is_given_up_and_repeated(server: IndexServer, fetch: Fetch) -> None:
    assert fetch(server.on("/f", stalled(DATA, 1000, 0.6), body(DATA)), timeout=0.2) == DATA


def test_an_answer_that_never_comes_is_an_error(server: IndexServer, fetch: Fetch) -> None:
    with pytest.raises(IndexUnreachable, match="cannot be reached: it did not answer in time"):
        fetch(server.on("/f", lambda _: time.sleep(0.5)), timeout=0.1, retries=1)


def test_an_answer_that_stalls_each_time_is_an_error(server: IndexServer, fetch: Fetch) -> None:
    with pytest.raises(IndexUnreachable, match=r"did not deliver .*: it stopped sending"):
        fetch(server.on("/f", stalled(DATA, 10, 0.5)), timeout=0.1, retries=1)


def test_an_answer_that_drips_is_given_up_and_repeated(server: IndexServer, fetch: Fetch) -> None:
    def drip(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("Content-Length", str(len(DATA)))
        request.handler.end_headers()
        for n in range(400):
            request.handler.wfile.write(DATA[n : n + 1])
            time.sleep(0.05)

    begin = time.monotonic()
    assert fetch(server.on("/f", drip, body(DATA)), timeout=0.2) == DATA
    assert time.monotonic() - begin < 5
    with pytest.raises(IndexUnreachable, match=r"did not deliver .*: it sent \d+ bytes in \d+ s"):
        fetch(server.on("/f", drip), DATA[::-1], timeout=0.2, retries=1)


@pytest.mark.parametrize("stated", [len(DATA) + 5, len(DATA) - 5])
def test_a_file_of_another_size_than_stated_is_refused_and_a_cached_one_stays(
    stated: int, server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    right = wanted(server.on("/f", body(DATA)))
    wrong = right._replace(size=stated)
    with pytest.raises(HashMismatch, match="has another size than is stated for it") as caught:
        download([wrong], IndexSettings(), store, heard, client=make_client(retries=0))
    assert caught.value.details[0] == f"expected: {stated} bytes"
    assert left(store) == []
    (path,) = download([right], IndexSettings(), store, heard, client=make_client()).values()
    asked = len(server.requests)
    assert download([wrong], IndexSettings(), store, heard, client=make_client()) == {NAME: path}
    assert path.read_bytes() == DATA
    assert len(server.requests) == asked


@pytest.mark.parametrize("known", [True, False])
def test_a_page_in_place_of_a_file_is_called_a_page(
    known: bool, server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    page = b"<html>Please log in.</html>"
    file = wanted(server.on("/f", body(page, Content_Type="text/html; charset=utf-8")))
    with pytest.raises(HashMismatch) as caught:
        download([file if known else file._replace(size=None)], IndexSettings(), store, heard, client=make_client())
    assert caught.value.details[-1] == "sent as:  text/html"
    assert "a page and no package" in caught.value.hint
    assert left(store) == []


def test_a_file_that_was_packed_on_the_way_says_so(server: IndexServer, store: Store, fetch: Fetch) -> None:
    packed = gzip.compress(DATA)
    url = server.on("/f", body(packed, Content_Encoding="gzip"))
    with pytest.raises(HashMismatch) as caught:
        fetch(url)
    assert caught.value.details[-1] == "sent as:  content encoding gzip"
    assert left(store) == []


def test_a_content_length_beyond_the_content_is_a_transfer_that_broke(server: IndexServer, fetch: Fetch) -> None:
    def longer(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("Content-Length", str(len(DATA) + 100))
        request.handler.end_headers()
        request.handler.wfile.write(DATA)
        request.handler.close_connection = True

    assert fetch(server.on("/f", longer, body(DATA))) == DATA
    with pytest.raises(IndexUnreachable, match=r"did not deliver .*: it closed the connection in mid-answer"):
        fetch(server.on("/g", longer), DATA + b"x", retries=1)


@pytest.mark.parametrize("places", [(300_000, 1_300_000, 2_999_999), (1, 2, 3)])
def test_bytes_that_are_there_are_not_sent_again(
    places: tuple[int, ...], server: IndexServer, fetch: Fetch, heard: Recorder
) -> None:
    sent: list[range] = []

    def until(end: int) -> Reply:
        def reply(request: Request) -> None:
            start = int(request.headers.get("Range", "bytes=0-")[6:-1])
            sent.append(range(start, end))
            handler = request.handler
            handler.send_response(206 if start else 200)
            handler.send_header("ETag", '"one"')
            if start:
                assert request.headers["If-Range"] == '"one"'
                handler.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
            handler.send_header("Content-Length", str(len(DATA) - start))
            handler.end_headers()
            handler.wfile.write(DATA[start:end])
            handler.close_connection = True

        return reply

    assert fetch(server.on("/f", *(until(place) for place in (*places, len(DATA))))) == DATA
    assert sent == [range(*pair) for pair in itertools.pairwise((0, *places, len(DATA)))]
    assert sum(e.amount for e in heard.events if isinstance(e, Advanced)) == len(DATA)
    assert not [e for e in heard.events if isinstance(e, Advanced) and e.amount < 0]


def test_wrong_content_is_refused_and_not_kept(server: IndexServer, store: Store, fetch: Fetch) -> None:
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(HashMismatch):
        fetch(server.on("/f", body(wrong)))
    assert left(store) == []


def test_an_endless_answer_is_cut_at_the_known_size(server: IndexServer, store: Store, fetch: Fetch) -> None:
    def endless(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("Connection", "close")
        request.handler.end_headers()
        while True:
            request.handler.wfile.write(b"x" * 65536)

    with pytest.raises(HashMismatch) as caught:
        fetch(server.on("/f", endless), b"x" * 1000)
    assert caught.value.details[0] == "expected: 1000 bytes"
    assert left(store) == []


def test_a_redirect_loop_is_named(server: IndexServer, make_client: Make, fetch: Fetch) -> None:
    server.on("/simple/demo/", redirect("/simple/demo/"))
    with pytest.raises(IndexAnswered, match="in a circle"):
        make_client().project(server.simple, "demo")
    with pytest.raises(IndexAnswered, match="in a circle"):
        fetch(server.on("/f", redirect("/f")))


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://index.example/x"])
def test_a_redirect_out_of_http_is_refused(place: str, server: IndexServer, fetch: Fetch) -> None:
    with pytest.raises(IndexAnswered, match=r"can be fetched"):
        fetch(server.on("/f", redirect(place)))


def test_a_redirect_to_a_dead_host_names_that_host_and_spares_the_index(server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", redirect("http://me:s3cret@127.0.0.1:9/x"))
    server.on("/simple/other/", html_page('<a href="demo-1.tar.gz">x</a>'))
    client = make_client(retries=1)
    with pytest.raises(IndexUnreachable, match=r"^127\.0\.0\.1:9 cannot be reached: connection refused") as caught:
        client.project(server.simple, "demo")
    assert "s3cret" not in str(caught.value)
    assert client.project(server.simple, "other")


@pytest.mark.parametrize(
    "reply",
    [
        cut(b"<html>" + b" " * 1000, 500),
        body(b"no gzip", Content_Type="text/html", Content_Encoding="gzip"),
        stalled(b"<html>" * 100, 6, 0.4),
    ],
)
def test_a_damaged_page_is_asked_for_again(reply: Reply, server: IndexServer, make_client: Make) -> None:
    server.on("/simple/demo/", reply, html_page('<a href="demo-1.tar.gz">x</a>'))
    files = make_client(timeout=0.2).project(server.simple, "demo")
    assert files is not None
    assert len(files) == 1


def test_an_answer_that_is_not_http_is_an_error(make_client: Make) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(IndexUnreachable, match="cannot be reached"):
            make_client(retries=1).project(f"http://127.0.0.1:{listening.getsockname()[1]}/simple", "demo")
        thread.join()


def test_a_host_without_an_address_is_named(make_client: Make) -> None:
    with pytest.raises(IndexUnreachable, match=r"^index\.invalid cannot be reached: "):
        make_client(retries=0).project("https://index.invalid/simple", "demo")


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_the_host_is_trusted(
    tmp_path: Path,
) -> None:
    import ssl
    import threading
    from http.server import HTTPServer

    from nb2image.index.settings import Network
    from tests.unit.index.server import _Handler, _Server

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server: HTTPServer = _Server(("127.0.0.1", 0), _Handler)
    server.index = IndexServer("localhost", server.server_address[1])  # type: ignore[attr-defined]
    server.index.on("/simple/demo/", html_page('<a href="demo-1.tar.gz">x</a>'))  # type: ignore[attr-defined]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"https://localhost:{server.server_address[1]}/simple"
    try:
        with IndexClient(retries=3, network=Network()) as client, pytest.raises(IndexUnreachable) as caught:
            client.project(url, "demo")
        assert "certificate is not trusted (self" in caught.value.message
        assert "PIP_CERT" in caught.value.hint
        for accepting in (Network(trusted_hosts=("localhost",)), Network(cert=str(certificate))):
            with IndexClient(retries=0, network=accepting) as client:
                assert client.project(url, "demo")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_cache_that_cannot_be_written_is_named(server: IndexServer, tmp_path: Path, heard: Recorder) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the cache must be")
    url = server.on("/f", body(DATA))
    with pytest.raises(Unwritable, match="cannot be written"):
        download([wanted(url)], IndexSettings(), Store(blocked), heard)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_cache_without_room_is_named_and_left_clean(size: int, server: IndexServer, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from nb2image.cache import Store
        from nb2image.errors import Unwritable
        from nb2image.index.download import LockedFile, download
        from nb2image.index.settings import IndexSettings
        from nb2image.progress import Silent
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, resource.RLIM_INFINITY))
        file = LockedFile("demo", "1", "demo.whl", sys.argv[2], None, frozenset({"sha256:" + sys.argv[3]}))
        try:
            download([file], IndexSettings(), Store(Path(sys.argv[1])), Silent())
        except Unwritable as error:
            print(error)
        """
    )
    url = server.on("/f", body(DATA[:size]))
    command = [sys.executable, "-c", script, str(tmp_path / "cache"), url, sha256(DATA[:size])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"The cache at {tmp_path / 'cache'} cannot be written: File too large.\n"
    assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []


@pytest.mark.parametrize("phase", ["body", "headers"])
def test_an_interrupt_ends_the_download_at_once_and_leaves_nothing(phase: str, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from nb2image.cache import Store
        from nb2image.index.download import LockedFile, download
        from nb2image.index.settings import IndexSettings
        from nb2image.progress import Silent
        urls, root = sys.argv[2:], Path(sys.argv[1])
        hashes = frozenset({"sha256:" + "0" * 64})
        files = [LockedFile("demo", "1", f"{n}.whl", url, None, hashes) for n, url in enumerate(urls)]
        try:
            download(files, IndexSettings(), Store(root), Silent())
        except KeyboardInterrupt:
            sys.exit(130)
        """
    )
    with serving() as server:
        reply = stalled(DATA, 100_000, 20)
        if phase == "headers":

            def reply(_: Request) -> None:
                time.sleep(20)

        urls = [server.on(f"/{n}", reply) for n in range(12)]
        command = [sys.executable, "-c", script, str(tmp_path / "cache"), *urls]
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while len(server.requests) < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=15)
        assert process.returncode == 130
        assert text == ""
        assert time.monotonic() - begin < 4
        assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []
