from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from nb2image.cache import Store
from nb2image.errors import (
    NoSuchImage,
    NotAnImage,
    NotCached,
    RegistryAnswered,
    RegistryFailure,
    RegistryRefused,
    RegistryUnreachable,
)
from nb2image.image.model import INDEX_TYPE, MANIFEST_TYPE, Descriptor, Image, Manifest
from nb2image.image.whole import Whole
from nb2image.outputs import RegistryPush
from nb2image.progress import Silent
from nb2image.registry.client import Registry
from nb2image.registry.pull import fetch_layers, open_remote
from nb2image.registry.push import push
from nb2image.registry.reference import Reference, parse_reference
from nb2image.registry.referrers import find_referrers
from nb2image.registry.tokens import read_challenge
from nb2image.registry.upload import send_blob
from nb2image.target.model import Platform
from tests.unit.image.making import files_of, image_of
from tests.unit.registry.server import Asked, MemoryRegistry, memory_registry, sha256

DATA = bytes(range(256)) * 4000
BLOB = Descriptor("application/octet-stream", sha256(DATA), len(DATA))


def an_image() -> Image:
    return image_of(files_of({"etc/a": b"a" * 5000}), files_of({"etc/b": b"b" * 5000}))


def reference(server: MemoryRegistry, text: str = "team/x:1") -> Reference:
    return parse_reference(f"{server.domain}/{text}")


def fetched(client: Registry, blob: Descriptor = BLOB) -> bytes:
    found = bytearray()
    client.blob("x", blob, found.clear, found.extend)
    return bytes(found)


def test_what_was_pushed_is_pulled_with_its_digest(server: MemoryRegistry, client: Registry, tmp_path: Path) -> None:
    image = an_image()
    pushed = push(image, reference(server), client, Silent())
    assert (pushed.digest, len(pushed.sent)) == (image.digest, 3)
    pulled = open_remote(client, reference(server), Platform(), Store(tmp_path), Silent())
    assert not server.requests("GET", "/blobs/" + image.layers[0].descriptor.digest)
    again = pulled.read(exact=True)
    assert again.digest == image.digest
    fetch_layers(again.layers, client)
    for old, new in zip(image.layers, again.layers, strict=True):
        with old.open() as one, new.open() as other:
            assert one.read() == other.read()


def test_a_second_push_sends_nothing(server: MemoryRegistry, client: Registry) -> None:
    push(an_image(), reference(server), client, Silent())
    before = len(server.asked)
    pushed = push(an_image(), reference(server, "team/x:2"), client, Silent())
    assert (pushed.sent, pushed.size) == ((), 0)
    assert [each.method for each in server.asked[before:]] == ["HEAD", "PUT"]


def test_layers_that_the_registry_has_are_not_opened(server: MemoryRegistry, client: Registry) -> None:
    image = an_image()
    push(image, reference(server), client, Silent())

    class Unopened:
        def __init__(self, layer: Any) -> None:
            self.descriptor, self.diff_id, self.comment = layer.descriptor, layer.diff_id, layer.comment

        def open(self) -> Any:
            raise AssertionError("a layer that the registry has was opened")

        file = open

    changed = Image(image.config.with_labels({"a": "b"}), tuple(Unopened(layer) for layer in image.layers))
    pushed = push(changed, reference(server), client, Silent())
    assert pushed.sent == (changed.config_descriptor.digest,)


def test_blobs_of_a_stale_manifest_are_sent_after_all(server: MemoryRegistry, client: Registry) -> None:
    image = an_image()
    push(image, reference(server), client, Silent())
    server.blobs.clear()
    changed = image.with_config(image.config.with_labels({"a": "b"}))
    server.once("PUT", "/manifests/", lambda asked: (asked.handler.body(), asked.handler.answer(404))[1])
    pushed = push(changed, reference(server), client, Silent())
    assert set(pushed.sent) == {changed.config_descriptor.digest, *(x.descriptor.digest for x in image.layers)}
    assert set(server.blobs) == set(pushed.sent)


# -- what passes ------------------------------------------------------------------------------------------


def status(code: int, **headers: str) -> Any:
    def fault(asked: Asked) -> None:
        asked.handler.body()
        asked.handler.answer(code, b"", **headers)

    return fault


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_passing_status_is_asked_again(
    server: MemoryRegistry, client: Registry, slept: list[float], code: int
) -> None:
    server.blobs[BLOB.digest] = DATA
    server.once("GET", "/blobs/", status(code, Retry_After="7"))
    assert fetched(client) == DATA
    assert slept == [7.0]


def test_a_transfer_that_breaks_is_taken_up_where_it_stood(server: MemoryRegistry, client: Registry) -> None:
    server.blobs[BLOB.digest] = DATA

    def half(asked: Asked) -> None:
        asked.handler.send_response(200)
        asked.handler.send_header("Content-Length", str(len(DATA)))
        asked.handler.end_headers()
        asked.handler.wfile.write(DATA[:600_000])
        asked.handler.wfile.flush()
        asked.handler.close_connection = True
        asked.handler.connection.shutdown(2)

    server.once("GET", "/blobs/", half)
    assert fetched(client) == DATA
    assert server.asked[-1].headers["range"] == "bytes=600000-"


def test_other_bytes_than_the_digest_says_are_refused(server: MemoryRegistry, client: Registry) -> None:
    for wrong in (DATA[:-1] + b"x", DATA + b"x"):
        server.blobs[BLOB.digest] = wrong
        with pytest.raises(RegistryAnswered, match=r"answered with .* was asked for"):
            fetched(client)


def test_a_manifest_of_another_digest_is_refused(server: MemoryRegistry, client: Registry) -> None:
    server.manifests[f"x@{sha256(b'{}')}"] = (MANIFEST_TYPE, b"{ }")
    with pytest.raises(RegistryAnswered, match="was asked for"):
        client.manifest(parse_reference(f"{server.domain}/x@{sha256(b'{}')}"))


def test_a_host_that_stays_away_is_given_up(server: MemoryRegistry, client: Registry, slept: list[float]) -> None:
    client.ping()
    server.once("GET", "/manifests/", lambda asked: asked.handler.reset(), times=99)
    with pytest.raises(RegistryUnreachable):
        client.manifest(reference(server))
    assert len(slept) == 5


def test_an_upload_in_parts_is_taken_up_where_it_stood(server: MemoryRegistry, client: Registry) -> None:
    counted: list[int] = []

    def half(asked: Asked) -> None:
        # The registry has kept a part of the part when the connection breaks.
        server.uploads[asked.path.partition("?")[0]] += asked.handler.rfile.read(1000)
        asked.handler.reset()

    client.ping()
    server.once("PATCH", "state=2", half)
    server.once("PATCH", "state=2", status(503))
    how = send_blob(client, "x", BLOB, lambda: io.BytesIO(DATA), counted.append, part=300_000)
    assert (how, server.blobs[BLOB.digest]) == ("sent", DATA)
    assert sum(counted) == len(DATA)
    assert len(server.requests("POST")) == 1
    starts = [each.headers["content-range"].partition("-")[0] for each in server.requests("PATCH")]
    assert starts == ["0", "300000", "301000", "301000", "601000", "901000"]


def test_an_upload_that_is_lost_begins_anew(server: MemoryRegistry, client: Registry) -> None:
    counted: list[int] = []
    server.once("PUT", "/blobs/uploads/", status(404))
    how = send_blob(client, "x", BLOB, lambda: io.BytesIO(DATA), counted.append)
    assert (how, server.blobs[BLOB.digest], sum(counted)) == ("sent", DATA, len(DATA))
    assert len(server.requests("POST")) == 2


def test_a_reset_in_mid_upload_is_repeated(server: MemoryRegistry, client: Registry) -> None:
    def half(asked: Asked) -> None:
        asked.handler.rfile.read(1000)
        asked.handler.reset()

    client.ping()
    server.once("PUT", "/blobs/uploads/", half)
    send_blob(client, "x", BLOB, lambda: io.BytesIO(DATA), lambda _: None)
    assert server.blobs[BLOB.digest] == DATA


# -- who may see what ----------------------------------------------------------------------------------------


def log_in(home: Path, server: MemoryRegistry, **entry: str) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps({"auths": {server.domain: entry}}))


def tokens(server: MemoryRegistry, answer: bytes = b'{"token": "good"}') -> None:
    """Want a token that this server itself gives out."""
    server.token = "Bearer good"
    server.challenge = f'Bearer realm="{server.url}/token",service="the registry",scope="registry:catalog:*"'

    def give(asked: Asked) -> bool:
        if not asked.path.startswith("/token"):
            return False
        asked.headers["body"] = asked.handler.body().decode()
        asked.handler.answer(200, answer)
        return True

    server.faults.append(give)


def test_a_token_is_asked_for_once_for_many_blobs(server: MemoryRegistry, client: Registry, home: Path) -> None:
    tokens(server)
    log_in(home, server, auth=base64.b64encode(b"me:pw").decode())
    push(an_image(), reference(server), client, Silent())
    (asked,) = [each for each in server.asked if each.path.startswith("/token")]
    query = parse_qs(urlsplit(asked.path).query)
    assert query == {"service": ["the registry"], "scope": ["repository:team/x:pull,push"]}
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"me:pw").decode()


def test_an_identity_token_is_exchanged(server: MemoryRegistry, client: Registry, home: Path) -> None:
    tokens(server, b'{"access_token": "good"}')
    log_in(home, server, identitytoken="refresh-me")
    push(an_image(), reference(server), client, Silent())
    (asked,) = [each for each in server.asked if each.path.startswith("/token")]
    form = parse_qs(asked.headers["body"])
    assert (asked.method, form["grant_type"], form["refresh_token"]) == ("POST", ["refresh_token"], ["refresh-me"])


def test_an_expired_token_is_renewed(server: MemoryRegistry, client: Registry) -> None:
    tokens(server)
    push(an_image(), reference(server), client, Silent())
    server.token = "Bearer better"
    server.faults.clear()
    tokens(server, b'{"token": "better"}')
    server.token = "Bearer better"
    assert client.manifest(reference(server))


def test_a_login_that_is_refused_is_named_and_not_shown(server: MemoryRegistry, client: Registry, home: Path) -> None:
    server.token, server.challenge = "Basic other", 'Basic realm="x"'
    log_in(home, server, username="me", password="hunter2")
    with pytest.raises(RegistryRefused, match="refuses the login") as caught:
        client.manifest(reference(server))
    assert "hunter2" not in f"{caught.value}{caught.value.hint}{caught.value.details}"
    assert str(home) in str(caught.value)


def test_without_a_login_the_user_is_told_to_log_in(server: MemoryRegistry, client: Registry) -> None:
    server.token, server.challenge = "Basic other", 'Basic realm="x"'
    with pytest.raises(RegistryRefused, match="none is stored") as caught:
        client.manifest(reference(server))
    assert f"docker login {server.domain}" in caught.value.hint


@pytest.mark.parametrize("realm", ["http://tokens.example/token", "ftp://tokens.example", "no URL", "//x/y"])
def test_a_realm_without_https_elsewhere_is_not_asked(server: MemoryRegistry, client: Registry, realm: str) -> None:
    server.token, server.challenge = "Bearer x", f'Bearer realm="{realm}"'
    with pytest.raises(RegistryAnswered, match="not asked by https"):
        client.manifest(reference(server))


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token": "' + b"x" * 70_000 + b'"}']
)
def test_what_is_no_token_is_refused(server: MemoryRegistry, client: Registry, answer: bytes) -> None:
    tokens(server, answer)
    with pytest.raises(RegistryAnswered, match="no token"):
        client.manifest(reference(server))


def test_another_host_sees_no_token(server: MemoryRegistry, client: Registry) -> None:
    tokens(server)
    with memory_registry() as other:
        other.blobs[BLOB.digest] = DATA
        server.faults.append(
            lambda asked: (
                "/blobs/" in asked.path
                and asked.headers.get("authorization") == "Bearer good"
                and asked.handler.answer(307, Location=f"{other.url}/v2/y/blobs/{BLOB.digest}?signed=1")
            )
        )
        assert fetched(client) == DATA
        assert [each.headers.get("authorization") for each in other.asked] == [None]


def test_redirects_in_a_circle_end(server: MemoryRegistry, client: Registry) -> None:
    client.ping()
    server.faults.append(lambda asked: asked.handler.answer(302, Location=asked.path))
    with pytest.raises(RegistryAnswered, match="circle"):
        client.manifest(reference(server))


@pytest.mark.parametrize(
    ("fields", "scheme", "realm"),
    [
        (['Bearer realm="https://t.example/token",service="a, b"'], "bearer", "https://t.example/token"),
        (['Basic realm="x"', 'Bearer realm="https://t.example"'], "bearer", "https://t.example"),
        (['Basic realm="say \\"x\\"", Bearer realm="y"'], "bearer", "y"),
        (["basic realm=plain"], "basic", "plain"),
    ],
)
def test_challenges_are_read(fields: list[str], scheme: str, realm: str) -> None:
    challenge = read_challenge(fields)
    assert challenge is not None
    assert (challenge.scheme, challenge.parameters["realm"]) == (scheme, realm)


@pytest.mark.parametrize("fields", [[], ["Negotiate"], ["Bearer"], [""]])
def test_other_challenges_are_none(fields: list[str]) -> None:
    assert read_challenge(fields) is None


# -- what is not there ------------------------------------------------------------------------------------------


def test_an_unknown_tag_is_named(server: MemoryRegistry, client: Registry) -> None:
    with pytest.raises(NoSuchImage, match="team/x:1"):
        client.manifest(reference(server))


@pytest.mark.parametrize(("code", "kind"), [(200, "text/html"), (404, "text/plain"), (401, "text/plain")])
def test_a_web_server_is_no_registry(server: MemoryRegistry, client: Registry, code: int, kind: str) -> None:
    server.faults.append(lambda asked: asked.handler.answer(code, b"<html>", Content_Type=kind))
    with pytest.raises(RegistryAnswered, match="is no registry"):
        client.ping()


def test_nothing_behind_the_port_is_said(slept: list[float]) -> None:
    with (
        Registry("127.0.0.1:1", sleep=slept.append) as client,
        pytest.raises(RegistryUnreachable, match="cannot be reached"),
    ):
        client.ping()


def test_a_registry_without_https_is_told_apart_from_one_that_is_away(
    server: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    # As if the server were on another machine.
    monkeypatch.setattr("nb2image.registry.transport.is_loopback", lambda _: False)
    with Registry(server.domain, sleep=slept.append) as client:
        with pytest.raises(RegistryUnreachable, match="does not speak https") as caught:
            client.ping()
        assert "--plain-http" in caught.value.hint
    assert not slept
    with Registry(server.domain, plain_http=True) as client:
        client.ping()


def test_plain_http_is_for_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def pinged(_: Registry, base: str, **_options: Any) -> str:
        tried.append(base)
        raise RegistryUnreachable("no")

    monkeypatch.setattr(Registry, "_pinged", pinged)
    for domain, plain in (("registry.example", False), ("registry.example", True), ("localhost:5", False)):
        with Registry(domain, plain_http=plain) as client, pytest.raises(RegistryFailure):
            client.ping()
    assert tried == [
        "https://registry.example",
        "https://registry.example",
        "http://registry.example",
        "https://localhost:5",
        "http://localhost:5",
    ]


def test_a_platform_that_is_not_there_is_named(server: MemoryRegistry, client: Registry, tmp_path: Path) -> None:
    push(an_image(), reference(server), client, Silent())
    with pytest.raises(NotAnImage, match="linux/arm64"):
        open_remote(client, reference(server), Platform("linux", "arm64"), Store(tmp_path), Silent()).read(exact=True)


def test_offline_has_what_was_there_before(server: MemoryRegistry, client: Registry, tmp_path: Path) -> None:
    store = Store(tmp_path)
    image = an_image()
    push(image, reference(server), client, Silent())
    with pytest.raises(NotCached):
        open_remote(None, reference(server), Platform(), store, Silent())
    first = open_remote(client, reference(server), Platform(), store, Silent()).read(exact=True)
    again = open_remote(None, reference(server), Platform(), store, Silent()).read(exact=True)
    assert again.digest == image.digest
    with pytest.raises(NotCached):
        again.layers[0].open()
    fetch_layers(first.layers, client)
    again.layers[0].open().close()


# -- what refers to an image ------------------------------------------------------------------------------------


def listed(*digests: str) -> bytes:
    rows = [{"mediaType": MANIFEST_TYPE, "digest": digest, "size": 2} for digest in digests]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": rows}).encode()


ONE, OTHER = sha256(b"one"), sha256(b"other")


def test_a_registry_with_a_list_of_referrers_is_asked_page_by_page(server: MemoryRegistry, client: Registry) -> None:
    def pages(asked: Asked) -> bool:
        if "/referrers/" not in asked.path:
            return False
        if "page=2" in asked.path:
            return asked.handler.answer(200, listed(OTHER, ONE), Content_Type=INDEX_TYPE)
        link = f'<{asked.path}?page=2>; rel="next"'
        return asked.handler.answer(200, listed(ONE), Content_Type=INDEX_TYPE, Link=link)

    server.faults.append(pages)
    assert [row.digest for row in find_referrers(client, "team/x", sha256(b"x"))] == [ONE, OTHER]
    assert not server.requests("GET", "/manifests/")


@pytest.mark.parametrize("kind", ["text/html", ""])
def test_what_is_no_list_of_referrers_leads_to_the_tag(server: MemoryRegistry, client: Registry, kind: str) -> None:
    server.once("GET", "/referrers/", lambda asked: asked.handler.answer(200, b"", Content_Type=kind))
    server.manifests[f"team/x@{sha256(b'x').replace(':', '-')}"] = (INDEX_TYPE, listed(ONE))
    assert [row.digest for row in find_referrers(client, "team/x", sha256(b"x"))] == [ONE]


def test_a_registry_that_keeps_the_list_is_left_to_it(server: MemoryRegistry, client: Registry) -> None:
    subject = Descriptor(MANIFEST_TYPE, ONE, 2)
    data = json.dumps({"schemaVersion": 2, "subject": subject.document(), "config": None, "layers": []}).encode()
    whole = Whole((Manifest(Descriptor.of(MANIFEST_TYPE, data), data),), ())
    server.once("PUT", "/manifests/", status(201, OCI_Subject=ONE))
    push(whole, reference(server), client, Silent())
    assert not [each for each in server.asked if ONE[7:] in each.path]
    push(whole, reference(server), client, Silent())
    assert ONE.replace(":", "-") in server.asked[-1].path


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"manifests": [{"digest": "sha256:0"}]}', b'{"manifests": [1]}'])
def test_a_list_of_referrers_that_is_none_is_refused(server: MemoryRegistry, client: Registry, body: bytes) -> None:
    server.manifests[f"team/x@{ONE.replace(':', '-')}"] = (INDEX_TYPE, body)
    with pytest.raises(RegistryAnswered, match="no image index"):
        find_referrers(client, "team/x", ONE)


def test_a_tag_without_a_host_is_said_to_mean_docker_io(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise RegistryRefused("docker.io wants a login.", hint="Log in.")

    monkeypatch.setattr(Registry, "find_manifest", refused)
    for tag, told in (("analysis:1", True), ("registry.example/analysis:1", False)):
        with pytest.raises(RegistryRefused) as caught:
            RegistryPush([tag], Store(tmp_path)).check()
        assert (f"{tag} states no host, so it means docker.io/library/{tag}" in caught.value.hint) is told
