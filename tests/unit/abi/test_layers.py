"""The shared objects of layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nb2image.abi.elf import WHOLE
from nb2image.abi.layers import objects_in_layers
from nb2image.cache import Store
from nb2image.errors import NotAnImage
from tests.unit.abi.making import shared_object
from tests.unit.image.making import files_of


def test_objects_are_found_by_path_small_and_giant(tmp_path: Path) -> None:
    files = {
        "opt/a.so": shared_object("liba.so.1"),
        "opt/giant.so.2": shared_object("libgiant.so.1", gap=WHOLE),
        "opt/text.so": b"no ELF",
        "opt/broken.so": b"\x7fELF and nothing",
        "opt/readme": shared_object("libhidden.so.1"),
    }
    layer = files_of(files)
    store = Store(tmp_path)
    found = objects_in_layers([layer], store)[layer.diff_id]
    assert {path: each.needed for path, each in found.items()} == {
        "opt/a.so": ("liba.so.1",),
        "opt/giant.so.2": ("libgiant.so.1",),
    }
    assert not list((tmp_path / "v1" / "tmp").iterdir())


def test_a_layer_that_was_read_before_is_not_read_again(tmp_path: Path) -> None:
    layer = files_of({"opt/a.so": shared_object("liba.so.1")})
    first = objects_in_layers([layer], Store(tmp_path))
    gone = replace(layer, descriptor=replace(layer.descriptor, digest="sha256:" + "0" * 64))
    assert objects_in_layers([gone], Store(tmp_path)) == first


def test_a_damaged_layer_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    layer = files_of({"opt/a.so": shared_object("liba.so.1")})
    damaged = replace(layer, diff_id="sha256:" + "0" * 64)
    with pytest.raises(NotAnImage):
        objects_in_layers([damaged], Store(tmp_path))
    assert not list((tmp_path / "v1" / "tmp").iterdir())
