"""Whole images of fixed inputs have the digests in ``images.json``. README.md says when these may change, and how."""

from __future__ import annotations

import json

import pytest

from tests.golden.inputs import INPUTS
from tests.golden.place import GOLDEN, Place


@pytest.mark.parametrize("name", INPUTS)
def test_the_image_of_a_fixed_input(place: Place, name: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    assert place.images[name] == golden, "tests/golden/README.md says what to do"
