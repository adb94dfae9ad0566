"""References: an image on a registry, by tag, by digest, or by both."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from nb2image.errors import OutputError
from nb2image.image.names import parse_name

__all__ = ["Reference", "api_host", "is_loopback", "names_a_registry", "parse_reference", "parse_target"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """A repository, with a tag, a digest, or both; where both are there, the digest decides."""

    domain: str
    path: str
    tag: str | None
    digest: str | None = None

    @property
    def target(self) -> str:
        """What to ask the registry for."""
        return self.digest or self.tag or "latest"

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    def at(self, target: str) -> Reference:
        """The same repository at a digest."""
        return replace(self, tag=None, digest=target)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return self.repository + tag + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read ``[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]``; without tag and digest ``latest`` is meant, without host
    ``docker.io``.

    Raises `OutputError` when the text is no reference; nothing of it that may be a password is shown.
    """
    head, at, digest = text.partition("@")
    if "://" in text or (at and not _DIGEST.fullmatch(digest)):
        shown = text.rpartition("@")[2] if at else text
        raise OutputError(
            f"…{shown!r} is no reference." if at else f"{shown!r} is no reference.",
            hint="A reference is [HOST[:PORT]/]REPOSITORY[:TAG][@sha256:…], without https:// and without a login; "
            "credentials come from `docker login` or `podman login`.",
        )
    name = parse_name(head)
    tagged = ":" in head.rpartition("/")[2]
    return Reference(name.domain, name.path, name.tag if tagged or not at else None, digest or None)


def parse_target(text: str) -> Reference:
    """The same for where an image is going to be: it has no digest of the user's choice. Raises `OutputError`."""
    reference = parse_reference(text)
    if reference.digest is not None:
        raise OutputError(
            f"{reference} has a digest, and an image is pushed to a tag.",
            hint=f"Name it {reference.repository}:TAG; the digest follows from the image.",
        )
    return reference


def names_a_registry(text: str) -> bool:
    """Whether a reference states its host: the first component has a dot or a port, or is ``localhost``."""
    head, slash, _ = text.partition("/")
    return bool(slash) and head not in {".", ".."} and ("." in head[1:] or ":" in head or head == "localhost")


def api_host(domain: str) -> str:
    """The host, with its port, that serves a domain's API: Docker's own is another than its references say."""
    return "registry-1.docker.io" if domain == "docker.io" else domain


def is_loopback(domain: str) -> bool:
    """Whether the host of a domain is this machine."""
    host = domain.rpartition(":")[0] if re.search(r":\d+$", domain) else domain
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
