from __future__ import annotations

import pytest

from nb2image.errors import OutputError
from nb2image.registry.reference import api_host, is_loopback, names_a_registry, parse_reference, parse_target

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "target"),
    [
        ("debian", "docker.io/library/debian:latest", "latest"),
        ("team/x:1.4", "docker.io/team/x:1.4", "1.4"),
        ("registry.example/team/x", "registry.example/team/x:latest", "latest"),
        ("registry.example:5000/x:1", "registry.example:5000/x:1", "1"),
        (f"registry.example/x@{DIGEST}", f"registry.example/x@{DIGEST}", DIGEST),
        (f"registry.example/x:1@{DIGEST}", f"registry.example/x:1@{DIGEST}", DIGEST),
        (f"localhost/x@{DIGEST}", f"localhost/x@{DIGEST}", DIGEST),
        ("index.docker.io/library/debian:12", "docker.io/library/debian:12", "12"),
    ],
)
def test_a_reference_is_read_with_its_defaults(text: str, canonical: str, target: str) -> None:
    reference = parse_reference(text)
    assert (str(reference), reference.target) == (canonical, target)
    assert parse_reference(canonical) == reference


@pytest.mark.parametrize(
    "text", ["", "Team/X", "x:", "x@sha256:12", "https://registry.example/x", "x@", "a//b", "../x"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(OutputError):
        parse_reference(text)


@pytest.mark.parametrize("text", ["user:secret@registry.example/x", "https://user:secret@registry.example/x:1"])
def test_a_password_in_a_reference_is_not_shown(text: str) -> None:
    with pytest.raises(OutputError) as caught:
        parse_reference(text)
    assert "secret" not in str(caught.value)
    assert "docker login" in caught.value.hint


def test_nothing_is_pushed_to_a_digest() -> None:
    with pytest.raises(OutputError, match="has a digest"):
        parse_target(f"registry.example/x@{DIGEST}")


def test_short_names_state_no_registry() -> None:
    assert not any(map(names_a_registry, ("x:1", "team/x", "./x", "../x/y")))
    assert all(map(names_a_registry, ("localhost/x", "host:5/x", "registry.example/x")))


def test_docker_io_is_served_by_another_host() -> None:
    assert (api_host("docker.io"), api_host("registry.example")) == ("registry-1.docker.io", "registry.example")


def test_loopback_is_this_machine_alone() -> None:
    here = ("localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000", "x.localhost")
    assert all(map(is_loopback, here))
    assert not any(map(is_loopback, ("registry.example", "10.0.0.1:5000", "127.0.0.1.example", "localhost.example:1")))
