from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from nb2image.errors import NotAnImage
from nb2image.image.archive import archive_stream, write_archive
from nb2image.image.layout import REF_NAME, write_layout
from nb2image.image.model import CONFIG_TYPE, INDEX_TYPE, LAYER_GZIP, MANIFEST_TYPE, Image, canonical_json
from nb2image.image.read import open_image, read_archive, read_layout, split_base, stored_images
from nb2image.image.validate import validate
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.unit.image.making import (
    LAYER_TAR,
    LAYER_ZSTD,
    MemoryLayer,
    files_of,
    image_of,
    put_blob,
    put_document,
    put_index,
    sha256,
    small_image,
)

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
DOCKER = "application/vnd.docker."


def put_image(
    layout: Path,
    layers: list[MemoryLayer],
    *,
    manifest_type: str = MANIFEST_TYPE,
    config_type: str = CONFIG_TYPE,
    layer_type: str | None = None,
    architecture: str = "amd64",
    config: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """An image written member by member; ``config`` and ``manifest`` override members of the documents."""
    rows = []
    for layer in layers:
        put_blob(layout, layer.data)
        row = layer.descriptor.document()
        rows.append({**row, "mediaType": layer_type} if layer_type else row)
    whole_config = {
        "architecture": architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        **(config or {}),
    }
    whole_manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": put_document(layout, config_type, whole_config),
        "layers": rows,
        **(manifest or {}),
    }
    return put_document(layout, manifest_type, whole_manifest)


@pytest.fixture
def layer() -> MemoryLayer:
    return files_of({"etc/motd": b"hello"})


# -- which image --------------------------------------------------------------------------------------


def test_an_image_is_found_by_its_name_in_any_spelling(tmp_path: Path) -> None:
    first, second = small_image("1"), small_image("2")
    write_layout(first, ["ds108:v1"], tmp_path / "l", Silent())
    write_layout(second, ["registry.example/x:v2"], tmp_path / "l", Silent())
    for ref in ("ds108:v1", "docker.io/library/ds108:v1", "v1"):
        assert read_layout(tmp_path / "l", ref).digest == first.digest
    assert read_layout(tmp_path / "l", "v2").digest == second.digest


def test_several_images_need_a_name_and_the_names_are_told(tmp_path: Path) -> None:
    for tag in ("a", "b"):
        write_layout(small_image(tag), [tag], tmp_path / "l", Silent())
    with pytest.raises(NotAnImage, match="holds 2 images") as caught:
        read_layout(tmp_path / "l")
    assert "a:latest" in caught.value.details
    with pytest.raises(NotAnImage, match="2 images called 'latest'"):
        read_layout(tmp_path / "l", "latest")
    with pytest.raises(NotAnImage, match="no image called 'c'") as caught:
        read_layout(tmp_path / "l", "c")
    assert "b:latest" in caught.value.details


def test_one_image_with_several_names_needs_none(tmp_path: Path) -> None:
    image = small_image()
    write_layout(image, ["a", "b"], tmp_path / "l", Silent())
    assert read_layout(tmp_path / "l").digest == image.digest
    (stored,) = stored_images(tmp_path / "l")
    assert "a:latest" in stored.names
    assert "b:latest" in stored.names


def test_an_index_gives_the_image_for_the_platform_and_passes_over_attestations(
    tmp_path: Path, layer: MemoryLayer
) -> None:
    rows = []
    for architecture in ("amd64", "arm64", "unknown"):
        row = put_image(tmp_path, [layer], architecture=architecture)
        os_name = "unknown" if architecture == "unknown" else "linux"
        rows.append({**row, "platform": {"os": os_name, "architecture": architecture}})
    nested = put_document(tmp_path, INDEX_TYPE, {"schemaVersion": 2, "manifests": rows})
    put_index(tmp_path, [{**nested, "annotations": {REF_NAME: "multi"}}])
    for platform in (AMD64, ARM64):
        assert open_image(tmp_path, platform).platform == platform
        assert read_layout(tmp_path, "multi", platform).platform == platform
    with pytest.raises(NotAnImage, match="holds 2 images"):
        open_image(tmp_path)
    with pytest.raises(NotAnImage, match="no image for linux/s390x"):
        open_image(tmp_path, Platform("linux", "s390x"))


def test_an_image_whose_config_is_for_another_platform_is_refused(tmp_path: Path, layer: MemoryLayer) -> None:
    put_index(tmp_path, [put_image(tmp_path, [layer], architecture="arm64")])
    with pytest.raises(NotAnImage, match="for linux/arm64, not for linux/amd64"):
        open_image(tmp_path, AMD64)


def test_a_name_after_the_path_is_told_from_a_colon_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert split_base(tmp_path / "a:b") == (tmp_path / "a:b", None)
    assert split_base(f"{tmp_path}/a:b:reg.example:5000/x:1") == (tmp_path / "a:b", "reg.example:5000/x:1")
    assert split_base(f"{tmp_path}/none:x") == (tmp_path / "none:x", None)
    with pytest.raises(NotAnImage, match="There is nothing at"):
        open_image(tmp_path / "none")


# -- foreign documents ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        (LAYER_GZIP, DOCKER + "image.rootfs.diff.tar.gzip"),
        (LAYER_TAR, DOCKER + "image.rootfs.diff.tar"),
        (LAYER_GZIP, DOCKER + "image.rootfs.foreign.diff.tar.gzip"),
    ],
)
def test_docker_media_types_become_oci_ones(tmp_path: Path, kind: str, stated: str) -> None:
    docker = put_image(
        tmp_path,
        [files_of({"etc/motd": b"hello"}, kind)],
        manifest_type=DOCKER + "distribution.manifest.v2+json",
        config_type=DOCKER + "container.image.v1+json",
        layer_type=stated,
    )
    image = open_image(put_index(tmp_path, [docker]), AMD64)
    assert image.layers[0].descriptor.media_type == kind
    assert json.loads(image.manifest_bytes)["mediaType"] == MANIFEST_TYPE
    validate(image)


@pytest.mark.parametrize("kind", [LAYER_GZIP, LAYER_ZSTD, LAYER_TAR])
def test_layers_of_every_compression_are_read(tmp_path: Path, kind: str) -> None:
    put_index(tmp_path, [put_image(tmp_path, [files_of({"etc/motd": b"hello"}, kind)])])
    validate(open_image(tmp_path, AMD64))


def test_a_foreign_image_keeps_its_digest_until_it_is_changed(tmp_path: Path, layer: MemoryLayer) -> None:
    row = put_image(tmp_path, [layer], config={"author": "somebody"}, manifest={"annotations": {"a.b": "c"}})
    image = open_image(put_index(tmp_path, [row]), AMD64)
    assert image.digest == row["digest"]
    changed = image.with_layers([files_of({"more": b"1"})])
    assert changed.digest != image.digest
    validate(changed)
    assert json.loads(changed.config_bytes)["author"] == "somebody"
    assert changed.annotations == {"a.b": "c"}


@pytest.mark.parametrize(
    "history", [None, [], [{"created_by": "one"}], [{"created_by": "one"}, {"empty_layer": True}, {"comment": "two"}]]
)
def test_history_covers_the_layers_of_the_base_whatever_it_brought(tmp_path: Path, history: Any) -> None:
    layers = [files_of({"a": b"1"}), files_of({"b": b"2"})]
    put_index(tmp_path, [put_image(tmp_path, layers, config={"history": history})])
    image = open_image(tmp_path, AMD64).with_layers([files_of({"c": b"3"})])
    rows = json.loads(image.config_bytes)["history"]
    assert sum(1 for row in rows if not row.get("empty_layer")) == 3
    assert rows[-1]["comment"] == "made by a test"


def test_an_image_without_layers_may_say_null(tmp_path: Path) -> None:
    put_index(tmp_path, [put_image(tmp_path, [], config={"rootfs": {"type": "layers", "diff_ids": None}})])
    assert open_image(tmp_path, AMD64).layers == ()


# -- archives ---------------------------------------------------------------------------------------------


def tar_file(path: Path, members: dict[str, bytes | str]) -> Path:
    """A tar of files; a text is a symbolic link."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def docker_save(path: Path, image: Image, raw: list[bytes], **changes: Any) -> Path:
    """As Docker before version 25 writes it: a folder per layer, no index."""
    name = image.config_descriptor.digest[7:] + ".json"
    layers = [f"{number:064x}/layer.tar" for number in range(len(raw))]
    manifest = [{"Config": name, "RepoTags": ["saved:v1"], "Layers": layers, **changes}]
    members: dict[str, bytes | str] = {name: image.config_bytes, "manifest.json": canonical_json(manifest)}
    return tar_file(path, {**members, **dict(zip(layers, raw, strict=True))})


@pytest.mark.parametrize("kind", [LAYER_TAR, LAYER_GZIP, LAYER_ZSTD])
def test_what_docker_saves_is_read_whether_or_not_its_layers_are_compressed(tmp_path: Path, kind: str) -> None:
    layer = files_of({"etc/motd": b"hello"}, kind)
    image = image_of(layer)
    found = read_archive(docker_save(tmp_path / "saved.tar", image, [layer.data]), "saved:v1", AMD64)
    assert found.layers[0].descriptor == layer.descriptor
    assert found.layers[0].diff_id == layer.diff_id
    validate(found)


def test_a_layer_that_docker_saved_as_a_link_is_followed(tmp_path: Path) -> None:
    layer = files_of({"etc/motd": b"hello"}, LAYER_TAR)
    image = image_of(layer, layer)
    name = image.config_descriptor.digest[7:] + ".json"
    manifest = canonical_json([{"Config": name, "RepoTags": None, "Layers": ["one/layer.tar", "two/layer.tar"]}])
    members: dict[str, bytes | str] = {
        name: image.config_bytes,
        "manifest.json": manifest,
        "one/layer.tar": layer.data,
        "two/layer.tar": "../one/layer.tar",
    }
    validate(read_archive(tar_file(tmp_path / "saved.tar", members)))
    for target in ("layer.tar", "../../../../etc/passwd", "/etc/passwd"):
        wrong = {**members, "two/layer.tar": target}
        with pytest.raises(NotAnImage, match="link to nothing"):
            validate(read_archive(tar_file(tmp_path / "wrong.tar", wrong)))


@pytest.mark.parametrize("pack", [lambda d: gzip.compress(d), lambda d: zstandard.ZstdCompressor().compress(d)])
def test_a_compressed_archive_is_read(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    image = small_image()
    (tmp_path / "image.tar.gz").write_bytes(pack(b"".join(archive_stream(image, ["a"]))))
    found = open_image(tmp_path / "image.tar.gz", AMD64)
    assert found.digest == image.digest
    validate(found)


def test_an_archive_stays_readable_when_its_file_is_replaced(tmp_path: Path) -> None:
    write_archive(small_image("old"), ["a"], tmp_path / "image.tar", Silent())
    found = open_image(tmp_path / "image.tar")
    write_archive(small_image("new"), ["a"], tmp_path / "image.tar", Silent())
    validate(found)


def test_member_names_may_start_with_a_dot(tmp_path: Path) -> None:
    write_layout(small_image(), ["a"], tmp_path / "l", Silent())
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        tar.add(tmp_path / "l", ".")
    validate(read_archive(tmp_path / "image.tar", "a"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"Config": 1}, "entry without Config"),
        ({"Config": "../../etc/passwd"}, "is missing"),
        ({"Layers": ["gone"]}, "gone is missing"),
        ({"Layers": []}, "lists 0 layers"),
        ({"Layers": [1]}, "entry without Config"),
        ({"RepoTags": "x"}, "entry without Config"),
    ],
)
def test_a_wrong_docker_manifest_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    layer = files_of({"a": b"1"}, LAYER_TAR)
    with pytest.raises(NotAnImage, match=complaint):
        read_archive(docker_save(tmp_path / "saved.tar", image_of(layer), [layer.data], **changes))


def test_a_docker_config_with_other_bytes_than_its_name_is_refused(tmp_path: Path) -> None:
    image = image_of()
    members: dict[str, bytes | str] = {
        "0" * 64 + ".json": image.config_bytes,
        "manifest.json": canonical_json([{"Config": "0" * 64 + ".json", "RepoTags": None, "Layers": []}]),
    }
    with pytest.raises(NotAnImage, match="other bytes than its name"):
        read_archive(tar_file(tmp_path / "saved.tar", members))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tar at all" * 100,
        gzip.compress(b"no tar"),
        gzip.compress(os.urandom(5000))[:3000],
        b"\x1f\x8b\x08\xff" * 9,
    ],
)
def test_a_file_that_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.tar").write_bytes(content)
    with pytest.raises(NotAnImage, match=r"image\.tar"):
        open_image(tmp_path / "image.tar", AMD64)


def test_a_root_file_system_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage, match="it has neither index"):
        open_image(tar_file(tmp_path / "rootfs.tar", {"etc/motd": b"hello"}))


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    data = b"".join(archive_stream(small_image(), ["a"]))
    # Behind that only padding and what another of the two formats does without are lost.
    for size in range(100, data.rindex(b"manifest.json"), 700):
        (tmp_path / "image.tar").write_bytes(data[:size])
        with pytest.raises(NotAnImage):
            validate(open_image(tmp_path / "image.tar", AMD64))


def test_an_extension_header_of_any_size_does_not_fill_the_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "image.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(20480))
    with pytest.raises(NotAnImage, match="extension header of more than 1 MiB"):
        open_image(tmp_path / "image.tar")


# -- damaged and hostile layouts ---------------------------------------------------------------------------


def test_a_folder_that_is_no_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage, match="no file oci-layout"):
        open_image(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("oci-layout", "{", "oci-layout is no JSON"),
        ("oci-layout", "[]", "oci-layout is no JSON object"),
        ("oci-layout", '{"imageLayoutVersion": "9"}', "layout version is '9'"),
        ("index.json", None, "index.json is missing"),
        ("index.json", "\xff", "index.json is no JSON"),
        ("index.json", "[" * 200_000, "index.json is no JSON"),
        ("index.json", "1" * 5_000, "index.json is no JSON"),
        ("index.json", '{"annotations": NaN}', "index.json is no JSON"),
        ("index.json", r'{"annotations": "\ud800"}', "index.json is no JSON"),
        ("index.json", " " * (5 << 20), "too many for a document"),
        ("index.json", '{"manifests": {}}', "a list of objects is needed"),
        ("index.json", '{"manifests": [1]}', "a list of objects is needed"),
        ("index.json", "{}", "holds no image"),
        ("index.json", '{"manifests": [{}]}', "has no media type"),
    ],
)
def test_a_damaged_document_is_refused_by_its_name(
    tmp_path: Path, name: str, content: str | None, complaint: str
) -> None:
    write_layout(small_image(), ["a"], tmp_path / "l", Silent())
    (tmp_path / "l" / name).unlink()
    if content is not None:
        (tmp_path / "l" / name).write_text(content, encoding="latin-1")
    with pytest.raises(NotAnImage, match=complaint):
        open_image(tmp_path / "l", AMD64)


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../etc/passwd",
        "sha256:",
        "sha512:" + "0" * 128,
        "sha256:" + "A" * 64,
        "",
        None,
        1,
        ["sha256:"],
        "sha256:" + "0" * 64 + "\n",
    ],
)
def test_a_digest_that_is_none_is_refused_before_any_file_is_opened(tmp_path: Path, digest: Any) -> None:
    put_index(tmp_path, [{"mediaType": MANIFEST_TYPE, "digest": digest, "size": 2}])
    with pytest.raises(NotAnImage, match="no sha256 digest"):
        open_image(tmp_path, AMD64)


@pytest.mark.parametrize("size", [-1, True, "12", None, 1.5])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: Any) -> None:
    put_index(tmp_path, [{"mediaType": MANIFEST_TYPE, "digest": put_blob(tmp_path, b"{}"), "size": size}])
    with pytest.raises(NotAnImage, match="has the size"):
        open_image(tmp_path, AMD64)


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        ({"config": None}, "a descriptor is missing"),
        ({"config": []}, "a descriptor is missing"),
        ({"layers": {}}, "a list of objects"),
        ({"layers": []}, "lists 0 layers and the config 1"),
        ({"annotations": {"a": 1}}, "no map of strings"),
        ({"annotations": [1]}, "no map of strings"),
    ],
)
def test_a_wrong_manifest_is_refused(
    tmp_path: Path, layer: MemoryLayer, manifest: dict[str, Any], complaint: str
) -> None:
    put_index(tmp_path, [put_image(tmp_path, [layer], manifest=manifest)])
    with pytest.raises(NotAnImage, match=complaint):
        open_image(tmp_path, AMD64)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"os": ""}, "does not state 'os'"),
        ({"architecture": 7}, "does not state 'architecture'"),
        ({"config": []}, None),
        ({"config": "x"}, "is no object"),
        ({"config": {"Env": "PATH=/bin"}}, "wrong type"),
        ({"config": {"Env": [1]}}, "wrong type"),
        ({"config": {"Labels": ["a"]}}, "wrong type"),
        ({"rootfs": None}, "no list of sha256 diff IDs"),
        ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, "no list of sha256 diff IDs"),
        ({"rootfs": {"type": "layers", "diff_ids": "x"}}, "no list of sha256 diff IDs"),
        ({"history": {}}, "history: a list of objects"),
    ],
)
def test_a_wrong_config_is_refused(
    tmp_path: Path, layer: MemoryLayer, config: dict[str, Any], complaint: str | None
) -> None:
    put_index(tmp_path, [put_image(tmp_path, [layer], config=config)])
    if complaint is None:
        assert open_image(tmp_path, AMD64).config.execution == {}
        return
    with pytest.raises(NotAnImage, match=complaint):
        open_image(tmp_path, AMD64)


def test_an_artifact_that_is_no_image_is_refused(tmp_path: Path, layer: MemoryLayer) -> None:
    put_index(tmp_path, [put_image(tmp_path, [layer], config_type="application/vnd.cncf.helm.config.v1+json")])
    with pytest.raises(NotAnImage, match="is no container image but"):
        open_image(tmp_path, AMD64)


def test_a_layer_of_an_unknown_kind_is_refused(tmp_path: Path, layer: MemoryLayer) -> None:
    put_index(tmp_path, [put_image(tmp_path, [layer], layer_type="application/vnd.oci.image.layer.v1.tar+lz9")])
    with pytest.raises(NotAnImage, match=r"tar\+lz9"):
        open_image(tmp_path, AMD64)


def blob_of(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest[7:]


def read_through(layout: Path) -> None:
    for layer in open_image(layout, AMD64).layers:
        with layer.open() as stream:
            stream.read()


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize("damage", ["gone", "cut", "longer", "flipped", "directory", "fifo"])
def test_a_damaged_blob_is_refused_when_it_is_read(tmp_path: Path, which: str, damage: str) -> None:
    image = small_image()
    write_layout(image, ["a"], tmp_path, Silent())
    digests = {
        "manifest": image.digest,
        "config": image.config_descriptor.digest,
        "layer": image.layers[0].descriptor.digest,
    }
    blob = blob_of(tmp_path, digests[which])
    data = blob.read_bytes()
    blob.unlink()
    if damage == "directory":
        blob.mkdir()
    elif damage == "fifo":
        os.mkfifo(blob)
    elif damage != "gone":
        blob.write_bytes(
            {"cut": data[:-1], "longer": data + b" ", "flipped": data[:-1] + bytes([data[-1] ^ 1])}[damage]
        )
    with pytest.raises(NotAnImage, match=digests[which][7:]):
        read_through(tmp_path)


def test_a_wrong_diff_id_is_found_when_the_layer_is_read(tmp_path: Path, layer: MemoryLayer) -> None:
    wrong = {"rootfs": {"type": "layers", "diff_ids": [sha256(b"another")]}}
    put_index(tmp_path, [put_image(tmp_path, [layer], config=wrong)])
    with pytest.raises(NotAnImage) as caught:
        validate(open_image(tmp_path, AMD64))
    assert "uncompressed tar has the digest" in caught.value.details[0]


def test_indexes_nested_without_end_are_refused(tmp_path: Path, layer: MemoryLayer) -> None:
    row = put_image(tmp_path, [layer])
    for _ in range(8):
        row = put_document(tmp_path, INDEX_TYPE, {"schemaVersion": 2, "manifests": [row]})
    put_index(tmp_path, [row])
    with pytest.raises(NotAnImage, match="nested more than"):
        open_image(tmp_path, AMD64)


def test_indexes_that_unfold_to_any_number_of_images_are_refused(tmp_path: Path, layer: MemoryLayer) -> None:
    row = put_image(tmp_path, [layer])
    for _ in range(3):
        row = put_document(tmp_path, INDEX_TYPE, {"schemaVersion": 2, "manifests": [row] * 100})
    put_index(tmp_path, [row])
    with pytest.raises(NotAnImage, match="more than 4,096"):
        open_image(tmp_path, AMD64)


def test_a_layer_that_inflates_to_something_else_is_refused(tmp_path: Path) -> None:
    layer = files_of({"a": b"1" * 10_000})
    broken = MemoryLayer(layer.descriptor, layer.diff_id, layer.data)
    for data in (layer.data[:-9], layer.data[:40] + b"\0" * 40 + layer.data[80:], b"\x1f\x8bnothing"):
        put_blob(tmp_path, data)
        wrong = MemoryLayer(broken.descriptor.of(LAYER_GZIP, data), layer.diff_id, data)
        put_index(tmp_path, [put_image(tmp_path, [wrong])])
        with pytest.raises(NotAnImage):
            validate(open_image(tmp_path, AMD64))
