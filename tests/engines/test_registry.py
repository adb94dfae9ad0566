"""Images pushed to and pulled from a real registry (distribution 2.8), and what others make of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.errors import NoSuchImage, RegistryAnswered, RegistryRefused, RegistryUnreachable
from nb2image.image.archive import write_archive
from nb2image.image.layout import write_layout
from nb2image.image.model import MANIFEST_TYPE, Config, Descriptor, Image, ImageIndex, Manifest, canonical_json
from nb2image.image.whole import MemoryBlob, Whole
from nb2image.progress import Silent
from nb2image.registry.client import Registry
from nb2image.registry.pull import fetch_layers, open_remote
from nb2image.registry.push import push
from nb2image.registry.reference import parse_reference
from nb2image.registry.referrers import find_referrers
from nb2image.target.model import Platform
from tests.engines import daemons
from tests.engines.daemons import ULIMITS, Daemon, require
from tests.engines.faulty import Handler, Proxy, proxy
from tests.engines.images import image, text_layer
from tests.engines.plugin import available, available_value
from tests.engines.skopeo import raw_manifest

PASSWORD = "s3cret-word"
PASSWORDS = "me:$2y$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: none of the machine's logins is found, and the cache is new."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("NB2IMAGE_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def made(store: Store) -> Image:
    return image(store, 'echo "hello $(cat /greeted)"', text_layer(store, "greeted", "world"))


@pytest.fixture
def faulty(registry: str) -> Iterator[Proxy]:
    with proxy(registry) as found:
        yield found


def nb2image(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nb2image", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def skopeo() -> None:
    available_value(lambda: require("skopeo", root=False))


def pushed(made: Image | ImageIndex, text: str) -> None:
    reference = parse_reference(text)
    with Registry(reference.domain, sleep=lambda _: None) as client:
        push(made, reference, client, Silent())


def pulled(text: str, folder: Path) -> Image:
    reference = parse_reference(text)
    with Registry(reference.domain, sleep=lambda _: None) as client:
        found = open_remote(client, reference, Platform(), Store(folder), Silent()).read(exact=True)
        fetch_layers(found.layers, client)
    return found


# -- what others make of it --------------------------------------------------------------------------------------


def test_what_was_pushed_is_pulled_and_run(registry: str, made: Image, engine: Daemon) -> None:
    name = f"{registry}/test/run-{engine.name}:1.4"
    pushed(made, name)
    insecure = ["--tls-verify=false"] if engine.name == "podman" else []
    subprocess.run([engine.name, "pull", "-q", *insecure, name], check=True, capture_output=True)
    limits = [f"--ulimit={limit}" for limit in ULIMITS]
    done = subprocess.run(
        [engine.name, "run", "--rm", *limits, name], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "hello world\n"


def test_skopeo_reads_what_was_pushed(registry: str, made: Image, tmp_path: Path) -> None:
    available_value(lambda: require("skopeo", root=False))
    name = f"{registry}/test/skopeo:1"
    pushed(made, name)
    shown = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"], check=True, capture_output=True, text=True
    )
    assert json.loads(shown.stdout)["Digest"] == made.digest
    copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path / 'lay'}:x"]
    subprocess.run(copy, check=True, capture_output=True)
    # And the way back: what skopeo wrote is copied with its digest.
    done = nb2image("copy", tmp_path / "lay", f"{registry}/test/skopeo:2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == made.digest


def test_an_image_of_docker_keeps_its_own_manifest(registry: str, made: Image, tmp_path: Path) -> None:
    available_value(lambda: require("skopeo", root=False))
    pushed(made, f"{registry}/test/oci:1")
    translate = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2"]
    names = [f"docker://{registry}/test/oci:1", f"docker://{registry}/test/docker:1"]
    subprocess.run([*translate, *names], check=True, capture_output=True)
    done = nb2image("pull", f"{registry}/test/docker:1", "-o", tmp_path / "lay", "--json")
    assert done.returncode == 0, done.stderr
    digest = json.loads(done.stdout)["digest"]
    assert digest != made.digest
    done = nb2image("push", tmp_path / "lay", f"{registry}/test/docker:2", "--json")
    assert json.loads(done.stdout)["digest"] == digest
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/test/docker:2"],
        check=True,
        capture_output=True,
    )
    assert json.loads(raw.stdout)["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_an_image_that_an_engine_has_is_pushed(registry: str, made: Image, engine: Daemon, tmp_path: Path) -> None:
    first, second = f"{registry}/test/eng-{engine.name}:1", f"{registry}/test/eng-{engine.name}:2"
    pushed(made, first)
    done = nb2image("pull", first, "--load", "--engine", engine.name)
    assert done.returncode == 0, done.stderr
    done = nb2image("push", first, second, "--engine", engine.name)
    assert done.returncode == 0, done.stderr
    assert [x.diff_id for x in pulled(second, tmp_path).layers] == [x.diff_id for x in made.layers]


@pytest.fixture
def index(made: Image) -> ImageIndex:
    """An index whose second image is for another processor by its word."""
    arm = made.with_config(Config({**made.config.document, "architecture": "arm64"}))
    return ImageIndex((made, arm))


@pytest.mark.parametrize("kind", ["lay", "both.tar"])
@pytest.mark.usefixtures("skopeo")
def test_an_index_stays_whole_wherever_it_goes(registry: str, index: ImageIndex, tmp_path: Path, kind: str) -> None:
    name = f"{registry}/{tmp_path.name}/index"
    first = tmp_path / f"first-{kind}"
    if kind == "lay":
        write_layout(index, ["both:1"], first, Silent())
    else:
        write_archive(index, ["both:1"], first, Silent())
    done = nb2image("push", first, f"{name}:1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    # The layers that both images share are sent once.
    assert (document["digest"], len(document["sent"])) == (index.digest, len(index.images[0].layers) + 2)
    assert raw_manifest(f"{name}:1") == index.index_bytes
    for each in index.images:
        assert raw_manifest(f"{name}@{each.digest}") == each.manifest_bytes
    assert nb2image("copy", f"{name}:1", f"{name}-copy:1").stdout.startswith(index.digest)
    assert raw_manifest(f"{name}-copy:1") == index.index_bytes
    for number, command in enumerate([("pull", f"{name}:1", "-o"), ("copy", f"{name}-copy:1"), ("copy", first)]):
        place = tmp_path / f"{number}-{kind}"
        done = nb2image(*command, place)
        assert done.returncode == 0, done.stderr
        again = nb2image("push", place, f"{name}:{number}", "--json")
        assert json.loads(again.stdout)["digest"] == index.digest
        assert json.loads(again.stdout)["sent"] == []


def test_one_image_of_an_index_is_taken_by_its_platform(registry: str, index: ImageIndex, tmp_path: Path) -> None:
    name = f"{registry}/{tmp_path.name}/index:1"
    pushed(index, name)
    arm = index.images[1]
    for command in (["pull", name, "-o", tmp_path / "pulled"], ["copy", name, tmp_path / "copied.tar"]):
        done = nb2image(*command, "--platform", "linux/arm64")
        assert done.stdout.startswith(arm.digest), done.stderr
    write_layout(index, ["both:1"], tmp_path / "both", Silent())
    done = nb2image("push", tmp_path / "both", f"{name}-arm", "--platform", "linux/arm64")
    assert done.stdout.startswith(arm.digest), done.stderr


def test_an_engine_is_given_one_image_of_an_index(registry: str, index: ImageIndex, engine: Daemon) -> None:
    name = f"{registry}/test/index-{engine.name}:1"
    pushed(index, name)
    done = nb2image("pull", name, "--load", "--engine", engine.name)
    assert done.returncode == 0, done.stderr
    limits = [f"--ulimit={limit}" for limit in ULIMITS]
    command = [engine.name, "run", "--rm", *limits, name]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "hello world\n"


def test_a_second_push_of_an_index_asks_for_its_manifests_only(faulty: Proxy, index: ImageIndex) -> None:
    name = f"{faulty.domain}/test/again"
    pushed(index, f"{name}:1")
    before = len(faulty.seen)
    pushed(index, f"{name}:2")
    assert faulty.methods("/test/again")[-4:] == ["HEAD", "HEAD", "HEAD", "PUT"]
    assert len(faulty.seen) - before == 4 + 1


# -- what refers to an image ---------------------------------------------------------------------------------


def referring(subject: Descriptor, text: str) -> Whole:
    """An artifact that refers to an image, as tools sign them or attach bills of materials."""
    blob, empty = MemoryBlob(Descriptor.of("application/json", text.encode()), text.encode()), b"{}"
    config = MemoryBlob(Descriptor.of("application/vnd.oci.empty.v1+json", empty), empty)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": "application/vnd.cyclonedx+json",
        "config": config.descriptor.document(),
        "layers": [blob.descriptor.document()],
        "subject": subject.document(),
        "annotations": {"made": text},
    }
    data = canonical_json(document)
    return Whole((Manifest(Descriptor.of(MANIFEST_TYPE, data), data),), (blob, config))


def put(whole: Whole, text: str) -> None:
    reference = parse_reference(text)
    with Registry(reference.domain, sleep=lambda _: None) as client:
        push(whole, reference.at(whole.digest), client, Silent())


@pytest.mark.usefixtures("skopeo")
def test_a_registry_without_a_list_of_referrers_is_kept_one(registry: str, made: Image, tmp_path: Path) -> None:
    name = f"{registry}/{tmp_path.name}/referred"
    pushed(made, f"{name}:1")
    first, second = (referring(made.descriptor, text) for text in ("first", "second"))
    for each in (first, second, first):
        put(each, name)
    kept = json.loads(raw_manifest(f"{name}:{made.digest.replace(':', '-')}"))
    assert [(row["digest"], row["artifactType"], row["annotations"]) for row in kept["manifests"]] == [
        (each.digest, "application/vnd.cyclonedx+json", {"made": text})
        for each, text in ((first, "first"), (second, "second"))
    ]
    with Registry(registry) as client:
        assert find_referrers(client, f"{tmp_path.name}/referred", made.digest) == [first.descriptor, second.descriptor]
        assert find_referrers(client, f"{tmp_path.name}/referred", first.digest) == []


@pytest.mark.usefixtures("skopeo")
def test_a_copy_takes_along_what_refers_to_an_image(registry: str, index: ImageIndex, tmp_path: Path) -> None:
    name = f"{registry}/{tmp_path.name}/referred"
    pushed(index, f"{name}:1")
    first = referring(index.images[1].descriptor, "of one image")
    second = referring(index.descriptor, "of the index")
    signature = referring(second.descriptor, "of the second")
    for each in (first, second, signature):
        put(each, name)
    done = nb2image("copy", f"{name}:1", f"{name}-copy:1", "--referrers", "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["referrers"]) == {first.digest, second.digest, signature.digest}
    for subject, each in ((index.images[1].digest, first), (index.digest, second), (second.digest, signature)):
        kept = json.loads(raw_manifest(f"{name}-copy:{subject.replace(':', '-')}"))
        assert [row["digest"] for row in kept["manifests"]] == [each.digest]
        assert raw_manifest(f"{name}-copy@{each.digest}") == each.manifests[-1].data
    assert nb2image("copy", f"{name}:1", tmp_path / "x.tar", "--referrers").returncode == 2


# -- who may -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    """A registry that wants a login."""
    with available(daemons.registry(PASSWORDS)) as address:
        yield address


def log_in(home: Path, domain: str, password: str) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    entry = {"username": "me", "password": password}
    (home / ".docker/config.json").write_text(json.dumps({"auths": {domain: entry}}))


def test_a_login_is_used_and_never_shown(locked: str, made: Image, home: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryRefused, match="none is stored"):
        pushed(made, f"{locked}/test/x:1")
    log_in(home, locked, "wrong-" + PASSWORD)
    with pytest.raises(RegistryRefused, match="refuses the login"):
        pushed(made, f"{locked}/test/x:1")
    log_in(home, locked, PASSWORD)
    pushed(made, f"{locked}/test/x:1")
    assert pulled(f"{locked}/test/x:1", tmp_path).digest == made.digest
    done = nb2image("copy", f"{locked}/test/x:1", f"{locked}/test/y:1", "--json", "--progress", "json", "-v")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert not [
        file for file in (tmp_path / "cache").rglob("*") if file.is_file() and PASSWORD.encode() in file.read_bytes()
    ]


def test_what_podman_logged_in_to_is_used(locked: str, made: Image, home: Path) -> None:
    available_value(lambda: require("podman", root=False))
    file = home / "auth.json"
    login = ["podman", "login", "--tls-verify=false", "--authfile", str(file), "-u", "me", "--password-stdin", locked]
    subprocess.run(login, input=PASSWORD, text=True, check=True, capture_output=True)
    os.environ["REGISTRY_AUTH_FILE"] = str(file)
    try:
        pushed(made, f"{locked}/test/podman:1")
    finally:
        del os.environ["REGISTRY_AUTH_FILE"]


def test_a_refusal_leaves_with_its_own_code(locked: str, tmp_path: Path) -> None:
    done = nb2image("pull", f"{locked}/test/x:1", "-o", tmp_path / "x.tar")
    assert done.returncode == RegistryRefused.exit_code
    assert f"docker login {locked}" in done.stderr
    assert not (tmp_path / "x.tar").exists()


def test_a_certificate_has_to_be_known(made: Image, home: Path, tmp_path: Path) -> None:
    available_value(lambda: require("openssl", root=False))
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*new, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with available(daemons.registry(certificate=(certificate, key))) as address:
        with pytest.raises(RegistryUnreachable, match="certificate is not known"):
            pushed(made, f"{address}/test/x:1")
        other = address.replace("127.0.0.1", "localhost")
        done = nb2image("pull", f"{other}/test/x:1", "-o", tmp_path / "x.tar", SSL_CERT_FILE=str(certificate))
        assert done.returncode == RegistryUnreachable.exit_code
        assert "its certificate is for another name" in done.stderr
        folder = home / ".config/containers/certs.d" / address
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(certificate.read_bytes())
        pushed(made, f"{address}/test/x:1")
        assert pulled(f"{address}/test/x:1", tmp_path / "store").digest == made.digest


# -- faults in between -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_push_outlives_a_passing_fault(faulty: Proxy, made: Image, tmp_path: Path, method: str, code: int) -> None:
    def fail(handler: Handler) -> None:
        handler.body()
        handler.answer(code, b"", Retry_After="1")

    faulty.once(method, "/test/", fail, times=2)
    name = f"{faulty.domain}/test/{method.lower()}-{code}:1"
    pushed(made, name)
    assert pulled(name, tmp_path).digest == made.digest


def test_a_pull_outlives_a_reset_in_mid_blob(faulty: Proxy, made: Image, tmp_path: Path) -> None:
    pushed(made, f"{faulty.domain}/test/reset:1")
    blob = max(made.layers, key=lambda layer: layer.descriptor.size).descriptor
    faulty.once("GET", blob.digest, lambda handler: handler.forward(reset_at=blob.size // 2), times=2)
    found = pulled(f"{faulty.domain}/test/reset:1", tmp_path)
    with next(layer for layer in found.layers if layer.descriptor == blob).open() as stream:
        assert len(stream.read()) == blob.size


def test_a_push_outlives_a_reset_in_mid_blob(faulty: Proxy, made: Image, tmp_path: Path) -> None:
    def half(handler: Handler) -> None:
        handler.rfile.read(min(1000, int(handler.headers["Content-Length"]) // 2))
        handler.reset()

    faulty.once("PUT", "/blobs/uploads/", half, times=2)
    pushed(made, f"{faulty.domain}/test/mid-push:1")
    assert pulled(f"{faulty.domain}/test/mid-push:1", tmp_path).digest == made.digest


def test_a_slow_registry_is_waited_for(faulty: Proxy, made: Image, tmp_path: Path) -> None:
    pushed(made, f"{faulty.domain}/test/slow:1")

    def slowly(handler: Handler) -> bool:
        handler.forward(pause=0.02)
        return True

    faulty.faults.append(slowly)
    assert pulled(f"{faulty.domain}/test/slow:1", tmp_path).digest == made.digest


def test_changed_bytes_are_refused_and_not_kept(faulty: Proxy, made: Image, tmp_path: Path) -> None:
    pushed(made, f"{faulty.domain}/test/changed:1")
    digest = made.layers[0].descriptor.digest
    faulty.once("GET", digest, lambda handler: handler.forward(lambda data: data[:-1] + b"?"))
    with pytest.raises(RegistryAnswered, match="was asked for"):
        pulled(f"{faulty.domain}/test/changed:1", tmp_path)
    assert Store(tmp_path).find("bases", digest) is None


def test_a_redirect_to_another_host_does_not_carry_the_login(
    locked: str, made: Image, home: Path, tmp_path: Path
) -> None:
    log_in(home, locked, PASSWORD)
    pushed(made, f"{locked}/test/redirect:1")
    with proxy(locked) as front, proxy(locked) as storage:
        log_in(home, front.domain, PASSWORD)

        def elsewhere(handler: Handler) -> bool:
            if handler.command != "GET" or "/blobs/" not in handler.path or not handler.headers.get("Authorization"):
                return False
            handler.answer(307, b"", Location=f"http://{storage.domain}{handler.path}?signed=yes")
            return True

        def signed(handler: Handler) -> bool:
            # The storage takes the signature for a login, as real ones do.
            if handler.headers.get("Authorization") is None:
                import base64

                handler.headers["Authorization"] = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
            handler.forward()
            return True

        front.faults.append(elsewhere)
        storage.faults.append(signed)
        assert pulled(f"{front.domain}/test/redirect:1", tmp_path).digest == made.digest
        assert len(storage.seen) == len(made.layers) + 1
        assert {authorization for _, _, authorization in storage.seen} == {None}


def test_an_unknown_tag_says_so(registry: str, tmp_path: Path) -> None:
    with pytest.raises(NoSuchImage, match="test/nothing:1"):
        pulled(f"{registry}/test/nothing:1", tmp_path)


def test_the_tags_that_are_there_are_told(registry: str, made: Image, tmp_path: Path) -> None:
    name = f"{registry}/{tmp_path.name}/tags"
    for tag in ("1.0", "1.1"):
        pushed(made, f"{name}:{tag}")
    with pytest.raises(NoSuchImage, match=r"tags:1\.2") as caught:
        pulled(f"{name}:1.2", tmp_path)
    assert caught.value.details == ("1.0", "1.1")


def test_a_deleted_image_is_not_found(registry: str, made: Image, tmp_path: Path) -> None:
    name = f"{registry}/{tmp_path.name}/deleted"
    pushed(made, f"{name}:1")
    delete = urllib.request.Request(
        f"http://{registry}/v2/{tmp_path.name}/deleted/manifests/{made.digest}", method="DELETE"
    )
    urllib.request.urlopen(delete).close()
    for text in (f"{name}:1", f"{name}@{made.digest}"):
        with pytest.raises(NoSuchImage, match="deleted"):
            pulled(text, tmp_path)


def test_a_name_without_a_host_is_no_registrys(registry: str, made: Image) -> None:
    pushed(made, f"{registry}/test/hosted:1")
    for command in (["copy", "team/x:1", f"{registry}/team/x:1"], ["copy", f"{registry}/test/hosted:1", "team/x:1"]):
        done = nb2image(*command)
        assert done.returncode
        assert "A registry's image states its host: registry.example/team/x:1." in done.stderr
