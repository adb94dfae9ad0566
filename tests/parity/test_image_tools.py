"""Tools that others wrote read what is written here, and what they write is read here.

Needs Debian's skopeo, umoci, podman, docker.io and mmdebstrap; the tests of Debian's Python also need a mirror.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from isal import igzip
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from nb2image.bases.facts import read_target
from nb2image.bases.layout import LayoutProvider
from nb2image.cache import Store
from nb2image.image.archive import archive_stream, write_archive
from nb2image.image.filesystem import read_filesystem
from nb2image.image.layout import write_layout
from nb2image.image.model import LAYER_GZIP, Config, Descriptor, Image
from nb2image.image.read import open_image, read_layout
from nb2image.image.validate import validate
from nb2image.layers.cached import cached_layer
from nb2image.layers.entry import BytesContent, Entry, HardLink, Link
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.engines.daemons import Daemon, private_folder, require
from tests.engines.plugin import available_value

SCHEMAS = Path(__file__).parent / "schemas"
AMD64 = Platform("linux", "amd64")

FILES = {
    "usr/share/doc/ünïcödé name.txt": b"text",
    "usr/lib/" + "deep/" * 30 + "long.py": b"pass\n",
    "work/notebook.ipynb": b"{}" * 5000,
}


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Standard output of a program that must succeed; what it says otherwise is the failure."""
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def need(*programs: str, root: bool = False) -> None:
    available_value(lambda: require(*programs, root=root))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Two layers with every kind of entry, and a config with every member that builds set."""
    store = Store(tmp_path_factory.mktemp("cache"))
    upper = [Entry(path, 0o644, BytesContent(data)) for path, data in FILES.items()]
    lower = [
        Entry("usr/bin/tool", 0o755, BytesContent(b"#!/bin/sh\n")),
        Entry("usr/bin/hard", 0o755, HardLink("usr/bin/tool")),
        Entry("bin", 0o777, Link("usr/bin")),
        Entry("work", 0o775, None, 1001, 0),
    ]
    config = (
        Config.new(AMD64)
        .with_execution(User="1001:0", Entrypoint=["/bin/tool"], WorkingDir="/work", ExposedPorts={"8888/tcp": {}})
        .with_env({"PATH": "/usr/bin:/bin"})
        .with_labels({"example.key": "value"})
        .with_created("2026-01-02T03:04:05Z")
    )
    layers = [
        cached_layer(store, "01" * 32, "tools", lambda: lower),
        cached_layer(store, "02" * 32, "files", lambda: upper),
    ]
    made = Image(config).with_layers(layers).annotated({"org.opencontainers.image.title": "notebook"})
    validate(made)
    return made


@pytest.fixture
def layout(image: Image, tmp_path: Path) -> Path:
    for tag in ("ds108", "registry.example:5000/team/ds108:v1"):
        write_layout(image, [tag], tmp_path / "layout", Silent())
    return tmp_path / "layout"


@pytest.fixture
def archive(image: Image, tmp_path: Path) -> Path:
    write_archive(image, ["ds108"], tmp_path / "image.tar", Silent())
    return tmp_path / "image.tar"


@pytest.fixture
def podman() -> Iterator[Callable[..., str]]:
    """podman with storage of its own; its paths may have 50 characters at most."""
    need("podman", root=True)
    with private_folder("pm") as folder:
        own = ("--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs")
        yield lambda *arguments: run("podman", *own, *arguments)


# -- the specification ----------------------------------------------------------------------------------


def validator(name: str) -> Draft202012Validator:
    documents = [json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")]
    registry: Registry[Any] = Registry().with_resources((d["$id"], Resource.from_contents(d)) for d in documents)
    registry = registry.with_resources((d["$id"].partition(":")[2], Resource.from_contents(d)) for d in documents)
    schema = next(d for d in documents if d["$id"] == f"nb2image:{name}")
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, registry=registry)


def test_every_document_follows_the_specification(layout: Path, image: Image) -> None:
    validator("layout.json").validate(json.loads((layout / "oci-layout").read_bytes()))
    index = json.loads((layout / "index.json").read_bytes())
    validator("index.json").validate(index)
    assert len(index["manifests"]) == 2
    validator("manifest.json").validate(json.loads(image.manifest_bytes))
    validator("config.json").validate(json.loads(image.config_bytes))


def test_the_schemas_refuse_what_the_specification_forbids(image: Image) -> None:
    manifest = json.loads(image.manifest_bytes)
    config = json.loads(image.config_bytes)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("manifest.json", {**manifest, "schemaVersion": 1}),
        ("manifest.json", {**manifest, "config": {**manifest["config"], "digest": "sha256:00"}}),
        ("manifest.json", {**manifest, "layers": [{**manifest["layers"][0], "size": "12"}]}),
        ("manifest.json", {**manifest, "annotations": {"a": 1}}),
        ("config.json", {**config, "rootfs": {"type": "layers"}}),
        ("config.json", {**config, "created": "yesterday"}),
        ("config.json", {**config, "config": {"Env": "PATH=/bin"}}),
        ("layout.json", {"imageLayoutVersion": "2"}),
        ("index.json", {"schemaVersion": 2, "manifests": [{"platform": {"os": "linux"}}]}),
    ]
    for name, document in wrong:
        with pytest.raises(ValidationError):
            validator(name).validate(document)


# -- skopeo and umoci ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ds108:latest", "registry.example:5000/team/ds108:v1"])
def test_skopeo_finds_each_image_of_a_layout_by_its_whole_name(layout: Path, image: Image, name: str) -> None:
    need("skopeo")
    found = json.loads(run("skopeo", "inspect", f"oci:{layout}:{name}"))
    assert found["Digest"] == image.digest
    assert found["Layers"] == [layer.descriptor.digest for layer in image.layers]
    assert found["Labels"] == {"example.key": "value"}


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_skopeo_reads_an_archive_as_either_kind(archive: Path, image: Image, transport: str) -> None:
    need("skopeo")
    config = json.loads(run("skopeo", "inspect", "--config", f"{transport}:{archive}:ds108:latest"))
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
def test_what_skopeo_copies_is_read_back(layout: Path, tmp_path: Path, image: Image, kind: str) -> None:
    need("skopeo")
    copy = tmp_path / "copy"
    run("skopeo", "copy", f"oci:{layout}:ds108:latest", f"{kind}:{copy}:registry.example/copied:v2")
    found = open_image(f"{copy}:registry.example/copied:v2", AMD64)
    assert [layer.diff_id for layer in found.layers] == [layer.diff_id for layer in image.layers]
    assert found.config.execution == image.config.execution
    assert kind == "docker-archive" or found.digest == image.digest
    validate(found)


def test_a_layer_that_skopeo_compresses_with_zstd_is_read_back(layout: Path, tmp_path: Path, image: Image) -> None:
    need("skopeo")
    run(
        "skopeo", "copy", "--dest-compress-format", "zstd", "--dest-compress",
        f"oci:{layout}:ds108:latest", f"dir:{tmp_path / 'dir'}",
    )  # fmt: skip
    run("skopeo", "copy", f"dir:{tmp_path / 'dir'}", f"oci:{tmp_path / 'zstd'}:x")
    found = open_image(tmp_path / "zstd", AMD64)
    assert {layer.descriptor.media_type.rpartition("+")[2] for layer in found.layers} == {"zstd"}
    assert [layer.diff_id for layer in found.layers] == [layer.diff_id for layer in image.layers]
    validate(found)


def test_skopeo_adds_an_image_to_our_layout_and_we_to_its(layout: Path, image: Image) -> None:
    need("skopeo")
    run("skopeo", "copy", f"oci:{layout}:ds108:latest", f"oci:{layout}:theirs:v1")
    write_layout(image.annotated({"example.more": "1"}), ["ours"], layout, Silent())
    for name in ("ds108", "theirs:v1", "ours"):
        validate(read_layout(layout, name, AMD64))


def test_umoci_unpacks_every_file_as_it_was_put_in(layout: Path, tmp_path: Path) -> None:
    need("umoci")
    bundle = tmp_path / "bundle"
    run("umoci", "unpack", "--rootless", "--image", f"{layout}:registry.example:5000/team/ds108:v1", bundle)
    root = bundle / "rootfs"
    for path, data in FILES.items():
        assert (root / path).read_bytes() == data
    assert (root / "usr/bin/hard").samefile(root / "usr/bin/tool")
    assert (root / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "bin").readlink() == Path("usr/bin")


def test_what_umoci_repacks_is_read_back(layout: Path, tmp_path: Path) -> None:
    need("umoci")
    bundle = tmp_path / "bundle"
    run("umoci", "unpack", "--rootless", "--image", f"{layout}:ds108:latest", bundle)
    (bundle / "rootfs" / "work" / "notebook.ipynb").unlink()
    (bundle / "rootfs" / "new").write_text("new")
    run("umoci", "repack", "--image", f"{layout}:repacked", bundle)
    found = open_image(f"{layout}:repacked", AMD64)
    assert len(found.layers) == 3
    files = read_filesystem(found)
    assert files.read("new") == b"new"
    assert files.read("work/notebook.ipynb") is None
    assert files.read("bin/tool") == b"#!/bin/sh\n"


# -- engines ------------------------------------------------------------------------------------------------


def test_podman_pulls_from_a_layout(podman: Callable[..., str], layout: Path, image: Image) -> None:
    identity = podman("pull", "--quiet", f"oci:{layout}:ds108:latest").strip()
    assert f"sha256:{identity}" == image.config_descriptor.digest


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        (["ds108"], ["docker.io/library/ds108:latest"]),
        (["ds108", "registry.example/team/x:v1"], ["localhost/ds108:latest", "registry.example/team/x:v1"]),
        ([], []),
    ],
)
def test_podman_loads_an_archive_under_its_names(
    podman: Callable[..., str], tmp_path: Path, image: Image, tags: list[str], names: list[str]
) -> None:
    write_archive(image, tags, tmp_path / "image.tar", Silent())
    podman("load", "--input", tmp_path / "image.tar")
    found = json.loads(podman("images", "--format", "json"))
    assert {f"sha256:{row['Id']}" for row in found} == {image.config_descriptor.digest}
    assert sorted({name for row in found for name in row.get("Names") or ()}) == names
    for tag in tags:
        podman("image", "exists", tag)


def docker(daemon: Daemon, *arguments: str) -> str:
    return run("docker", *arguments, env={**os.environ, **daemon.environment})


def test_docker_loads_an_archive_under_its_names(docker_daemon: Daemon, tmp_path: Path, image: Image) -> None:
    need("docker")
    write_archive(image, ["ds108", "registry.example/team/x:v1"], tmp_path / "image.tar", Silent())
    docker(docker_daemon, "load", "--input", str(tmp_path / "image.tar"))
    for name in ("ds108", "registry.example/team/x:v1"):
        (found,) = json.loads(docker(docker_daemon, "image", "inspect", name))
        assert found["Id"] == image.config_descriptor.digest
        assert found["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]


def test_docker_loads_a_stream_without_the_layers_that_it_has(
    docker_daemon: Daemon, tmp_path: Path, image: Image
) -> None:
    need("docker")
    write_archive(image, ["below"], tmp_path / "image.tar", Silent())
    docker(docker_daemon, "load", "--input", str(tmp_path / "image.tar"))
    store = Store(tmp_path / "cache")
    top = cached_layer(store, "03" * 32, "top", lambda: [Entry("top", 0o644, BytesContent(b"top"))])
    above = image.with_layers([top])
    stream = b"".join(archive_stream(above, ["above"], {layer.diff_id for layer in image.layers}))
    assert image.layers[1].descriptor.digest[7:].encode() in stream  # still listed
    client = ["docker", "load"]
    environment = {**os.environ, **docker_daemon.environment}
    done = subprocess.run(client, input=stream, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(docker(docker_daemon, "image", "inspect", "above"))
    assert found["Id"] == above.config_descriptor.digest


@pytest.mark.parametrize("packed", [False, True])
def test_what_docker_saves_is_read_back(docker_daemon: Daemon, tmp_path: Path, image: Image, packed: bool) -> None:
    need("docker")
    write_archive(image, ["saved"], tmp_path / "image.tar", Silent())
    docker(docker_daemon, "load", "--input", str(tmp_path / "image.tar"))
    saved = tmp_path / "saved.tar"
    docker(docker_daemon, "save", "--output", str(saved), "saved")
    if packed:
        saved.write_bytes(igzip.compress(saved.read_bytes()))
    found = open_image(f"{saved}:saved", AMD64)
    assert [layer.diff_id for layer in found.layers] == [layer.diff_id for layer in image.layers]
    assert found.config.env == image.config.env
    validate(found)


# -- Debian's Python ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RootFileSystem:
    """A tar of a root file system as a layer."""

    blob: Path
    descriptor: Descriptor
    diff_id: str
    comment: str = field(default="Debian")

    def open(self) -> BinaryIO:
        return self.blob.open("rb")

    def file(self) -> Path:
        return self.blob


@pytest.fixture(scope="module")
def bookworm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An OCI layout of Debian 12 with its Python, made by mmdebstrap."""
    # A plain user needs subordinate user IDs for it (`subuid(5)`).
    need("mmdebstrap", root=f"{getpass.getuser()}:" not in Path("/etc/subuid").read_text())
    folder = tmp_path_factory.mktemp("bookworm")
    raw = folder / "root.tar"
    run("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", "bookworm", raw)
    data = raw.read_bytes()
    blob = folder / "root.tar.gz"
    blob.write_bytes(igzip.compress(data, 1))
    diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
    layer = RootFileSystem(blob, Descriptor.of(LAYER_GZIP, blob.read_bytes()), diff_id)
    write_layout(Image(Config.new(AMD64)).with_layers([layer]), ["bookworm"], folder / "layout", Silent())
    yield folder / "layout"
    blob.unlink()
    raw.unlink()


def test_facts_of_a_debian_base_are_those_that_its_python_states(bookworm: Path, tmp_path: Path) -> None:
    need("umoci", root=True)
    target = read_target(open_image(bookworm, AMD64))
    run("umoci", "unpack", "--image", f"{bookworm}:bookworm:latest", tmp_path / "bundle")
    code = (
        "import json, os, platform, sys, sysconfig\n"
        "print(json.dumps([platform.python_version(), os.path.realpath(sys.executable),"
        " sysconfig.get_path('purelib'), os.confstr('CS_GNU_LIBC_VERSION')]))"
    )
    answer = run("chroot", tmp_path / "bundle" / "rootfs", "python3", "-c", code)
    stated = [target.python, target.interpreter, target.site_packages, f"glibc {target.glibc}"]
    assert json.loads(answer) == [str(item) for item in stated]


def test_a_debian_root_is_a_valid_layer(bookworm: Path) -> None:
    validate(open_image(bookworm, AMD64))


def test_a_debian_layout_is_a_base(bookworm: Path, tmp_path: Path) -> None:
    provider = LayoutProvider(bookworm, AMD64, Store(tmp_path))
    (candidate,) = provider.candidates()
    base = provider.deliver(candidate, Silent())
    assert base.target.minor == "3.11"
    assert base.reference == "docker.io/library/bookworm:latest"
