from __future__ import annotations

import pytest

from nb2image.errors import OutputError
from nb2image.image.names import parse_name


@pytest.mark.parametrize(
    ("text", "familiar", "canonical"),
    [
        ("ds108", "ds108:latest", "docker.io/library/ds108:latest"),
        ("ds108:v1", "ds108:v1", "docker.io/library/ds108:v1"),
        ("team/ds108", "team/ds108:latest", "docker.io/team/ds108:latest"),
        ("docker.io/library/ds108:v1", "ds108:v1", "docker.io/library/ds108:v1"),
        ("docker.io/ds108", "ds108:latest", "docker.io/library/ds108:latest"),
        ("localhost/ds108", "localhost/ds108:latest", "localhost/ds108:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("registry.example/a__b/c-d:1.0", "registry.example/a__b/c-d:1.0", "registry.example/a__b/c-d:1.0"),
    ],
)
def test_a_name_has_a_familiar_and_a_canonical_spelling(text: str, familiar: str, canonical: str) -> None:
    name = parse_name(text)
    assert (name.familiar, name.canonical) == (familiar, canonical)
    assert parse_name(name.familiar) == parse_name(name.canonical) == name


@pytest.mark.parametrize(
    "text",
    ["", "Upper", "a b", "a:", "a:b:c", "a/", "/a", "a//b", "a:-x", "../a", "a@sha256:00", "a" * 256, "a:" + "b" * 129],
)
def test_a_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(OutputError, match="is no image name"):
        parse_name(text)
