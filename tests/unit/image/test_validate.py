from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nb2image.cache import Store
from nb2image.errors import NotAnImage
from nb2image.image.model import Config, Descriptor, Image, canonical_json
from nb2image.image.validate import validate
from nb2image.layers.cached import cached_layer
from nb2image.layers.entry import BytesContent, Entry, HardLink, Link
from nb2image.target.model import Platform
from tests.unit.image.making import LAYER_TAR, LAYER_ZSTD, Members, files_of, image_of, layer_of, sha256, small_image


def findings(image: Image) -> tuple[str, ...]:
    with pytest.raises(NotAnImage) as caught:
        validate(image)
    return caught.value.details


def test_layers_as_they_are_written_here_are_valid(tmp_path: Path) -> None:
    entries = [
        Entry("opt/kernel/lib/a.py", 0o644, BytesContent(b"pass\n")),
        Entry("opt/kernel/lib/b.py", 0o644, HardLink("opt/kernel/lib/a.py")),
        Entry("opt/kernel/bin/python", 0o777, Link("/usr/bin/python3")),
    ]
    layer = cached_layer(Store(tmp_path), "ef" * 32, "x", lambda: entries)
    validate(Image(Config.new(Platform())).with_layers([layer, files_of({"x": b"1"}, LAYER_ZSTD)]))


@pytest.mark.parametrize(
    ("members", "finding"),
    [
        ([("a", b"1"), ("a", b"2")], "'a' is there twice"),
        ([("a", None), ("./a/", None)], "'a' is there twice"),
        ([("a/b", b"1"), ("a", None)], "'a/b' comes before its directory 'a'"),
        ([("a/b", b"1")], "'a/b' comes before its directory 'a'"),
        ([("a", b"1"), ("a/b", b"1")], "'a/b' comes before its directory 'a'"),
        ([("../a", b"1")], "'../a' leads out of the image"),
        ([("/a", b"1")], "'/a' leads out of the image"),
        ([("b", HardLink("a")), ("a", b"1")], "'b' is a hard link to 'a', which no file before it is"),
    ],
)
def test_a_wrong_tar_is_found(members: Members, finding: str) -> None:
    assert any(finding in found for found in findings(image_of(layer_of(members))))


def test_wrong_bytes_are_found() -> None:
    layer = files_of({"a": b"1"})
    assert "its digest is" in findings(image_of(replace(layer, data=layer.data + b"x")))[0]
    longer = replace(layer, descriptor=replace(layer.descriptor, size=7))
    assert "bytes instead of 7" in findings(image_of(longer))[0]
    assert "uncompressed tar has the digest" in findings(image_of(replace(layer, diff_id=sha256(b""))))[0]
    plain = files_of({"a": b"1"}, LAYER_TAR)
    stated = Descriptor.of(layer.descriptor.media_type, plain.data)
    assert "its bytes are not" in findings(image_of(replace(plain, descriptor=stated)))[0]


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"history": [{}]}, "another number of lines"),
        ({"rootfs": {"type": "layers", "diff_ids": []}}, "other diff IDs"),
        ({"os": ""}, "no platform"),
    ],
)
def test_a_config_that_does_not_fit_is_found(changes: dict[str, Any], finding: str) -> None:
    image = small_image()
    document = {**json.loads(image.config_bytes), **changes}
    image.__dict__["config_bytes"] = canonical_json(document)
    assert any(finding in found for found in findings(image))


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"schemaVersion": 1}, "schema version"),
        ({"layers": []}, "other layers"),
        ({"config": {"mediaType": "x", "digest": "y", "size": 1}}, "another digest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_found(changes: dict[str, Any], finding: str) -> None:
    image = small_image()
    image.__dict__["manifest_bytes"] = canonical_json({**json.loads(image.manifest_bytes), **changes})
    assert any(finding in found for found in findings(image))
