"""Image names as Docker's reference grammar has them, and how an output spells them.

One name has two spellings: the *familiar* one that a user types (``ds108:latest``, ``ghcr.io/a/b:1``) and the
*canonical* one with every default written out (``docker.io/library/ds108:latest``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nb2image.errors import OutputError

__all__ = ["Name", "parse_name"]

# The grammar of github.com/distribution/reference, without digests: an output gives names to images.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DEFAULT_DOMAIN = "docker.io"
_LONGEST = 255


@dataclass(frozen=True)
class Name:
    """A repository on a registry, and a tag."""

    domain: str
    path: str
    tag: str

    @property
    def canonical(self) -> str:
        """Every part written out."""
        return f"{self.domain}/{self.path}:{self.tag}"

    @property
    def familiar(self) -> str:
        """Without Docker's default registry and its ``library/``, unless what is left would mean another registry; the
        tag is always there."""
        short = f"{self.path.removeprefix('library/')}:{self.tag}"
        return short if self.domain == _DEFAULT_DOMAIN and parse_name(short) == self else self.canonical


def parse_name(text: str) -> Name:
    """Read ``[DOMAIN/]PATH[:TAG]``; the tag defaults to ``latest``.

    Raises `OutputError` when the text is no such name.
    """
    head, slash, rest = text.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
        domain = head
    else:
        domain, rest = _DEFAULT_DOMAIN, text
    if domain == "index.docker.io":
        domain = _DEFAULT_DOMAIN
    path, _, tag = rest.partition(":")
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    name = Name(domain, path, tag if ":" in rest else "latest")
    if (
        not _DOMAIN.fullmatch(name.domain)
        or not _PATH.fullmatch(name.path)
        or not _TAG.fullmatch(name.tag)
        or len(name.domain) + 1 + len(name.path) > _LONGEST
    ):
        raise OutputError(
            f"{text!r} is no image name.",
            hint="A name is [REGISTRY/]REPOSITORY[:TAG] with a lower-case repository, such as ds108:latest.",
        )
    return name
