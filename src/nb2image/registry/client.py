"""`Registry`: the endpoints of a registry, as the OCI distribution specification 1.1 has them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from nb2image.errors import NoSuchImage, RegistryAnswered, RegistryFailure
from nb2image.image.model import INDEX_TYPE, MANIFEST_TYPE, Descriptor, Manifest
from nb2image.pace import Pace
from nb2image.registry.reference import Reference
from nb2image.registry.transport import LARGEST_DOCUMENT, Answer, Connection
from nb2image.retries import Retry

__all__ = ["Registry", "pull_scope", "push_scope"]

_TAGS = 20
_ACCEPT = ", ".join(
    (
        MANIFEST_TYPE,
        INDEX_TYPE,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)


def pull_scope(path: str) -> str:
    return f"repository:{path}:pull"


def push_scope(path: str) -> str:
    return f"repository:{path}:pull,push"


class Registry(Connection):
    """A client for the registry of one domain, as references name it."""

    def manifest(self, reference: Reference) -> Manifest:
        """The manifest or index of a reference. Raises `NoSuchImage` and other `RegistryFailure`."""
        found = self.find_manifest(reference)
        if found is None:
            tags = self._tags(reference.path)
            raise NoSuchImage(
                f"{self.domain} has no image {reference}.",
                hint="It may have been deleted; its repository has these tags:"
                if tags
                else "Check its name and tag; it may have been deleted, or need a login.",
                details=tags,
            )
        return found

    def _tags(self, path: str) -> tuple[str, ...]:
        """Some tags of a repository, for a message; none where the registry does not tell."""
        try:
            answer = self.attempt("GET", self.url(f"{path}/tags/list?n=1000"), [pull_scope(path)])
            found = json.loads(answer.body)["tags"] if answer.status == 200 else []
            tags = sorted(tag for tag in found if isinstance(tag, str) and tag.isprintable())
            return (*tags[:_TAGS], *(["…"] if len(tags) > _TAGS else []))
        except (RegistryFailure, Retry, ValueError, KeyError, TypeError, RecursionError):
            return ()

    def find_manifest(self, reference: Reference, *, push: bool = False) -> Manifest | None:
        """The same; None where the registry does not know it. ``push``: with the token that pushing needs anyway."""
        url = self.url(f"{reference.path}/manifests/{reference.target}")
        scopes = [push_scope(reference.path) if push else pull_scope(reference.path)]
        answer = self.ask("GET", url, scopes, {"Accept": _ACCEPT}, largest=LARGEST_DOCUMENT)
        if answer.status == 404:
            return None
        self.expect(answer, {200})
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        stated = reference.digest or answer.headers.get("docker-content-digest", digest)
        if stated.startswith("sha256:") and stated != digest:
            raise self._changed(digest, f"{reference} ({stated})")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Manifest(Descriptor(_media_type(answer.body) or kind, digest, len(answer.body)), answer.body)

    def has_manifest(self, path: str, digest: str) -> bool:
        """Whether a repository has a manifest."""
        url = self.url(f"{path}/manifests/{digest}")
        return self.ask("HEAD", url, [push_scope(path)], {"Accept": _ACCEPT}).status == 200

    def has_blob(self, path: str, digest: str, scope: str) -> bool:
        """Whether a repository has a blob."""
        return self.ask("HEAD", self.url(f"{path}/blobs/{digest}"), [scope]).status == 200

    def put_manifest(self, path: str, target: str, media_type: str, data: bytes) -> Answer:
        """Store a manifest under a tag or its digest. Raises `RegistryFailure`."""
        url = self.url(f"{path}/manifests/{target}")
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        answer = self.ask("PUT", url, [push_scope(path)], headers, lambda: [data])
        self.expect(answer, {200, 201, 202})
        return answer

    def document(self, path: str, digest: str) -> bytes:
        """A blob that is a document: of a size that is not known, and small. Raises `RegistryFailure`."""
        url = self.url(f"{path}/blobs/{digest}")
        answer = self.ask("GET", url, [pull_scope(path)], largest=LARGEST_DOCUMENT)
        if answer.status == 404:
            raise self._incomplete(path, digest)
        self.expect(answer, {200})
        if (found := "sha256:" + hashlib.sha256(answer.body).hexdigest()) != digest:
            raise self._changed(found, digest)
        return answer.body

    def _incomplete(self, path: str, digest: str) -> NoSuchImage:
        return NoSuchImage(
            f"{self.domain}/{path} has no {digest}.",
            hint="The image there is incomplete; push it again, or use another one.",
        )

    def _changed(self, found: str, wanted: object) -> RegistryAnswered:
        return RegistryAnswered(
            f"{self.domain} answered with {found} where {wanted} was asked for.",
            hint="The registry, or something between it and this machine, changes what it delivers.",
        )

    def blob(
        self, path: str, descriptor: Descriptor, start: Callable[[], None], write: Callable[[bytes], None]
    ) -> None:
        """Download a blob into ``write``; ``start`` is called whenever it comes from its beginning. A transfer that
        breaks off is taken up where it stood. Raises `RegistryFailure`, also for other bytes than the digest's.
        """
        url = self.url(f"{path}/blobs/{descriptor.digest}")
        done, value = 0, hashlib.sha256()

        def attempt() -> None:
            nonlocal done, value
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
            with self._attempt("GET", url, [pull_scope(path)], headers) as response:
                if response.status_code == 404:
                    raise self._incomplete(path, descriptor.digest)
                resumed = response.status_code == 206 and _begins(response.headers.get("Content-Range", ""), done)
                if not resumed:
                    if response.status_code not in {200, 206} or (response.status_code == 206 and done == 0):
                        self.refuse(url, response.status_code)
                    if response.status_code == 206:
                        done = 0
                        raise Retry("it continues a transfer in another place", answered=True)
                    done, value = 0, hashlib.sha256()
                    start()
                pace = Pace(self._timeout)
                for piece in pace.blocks(response.iter_raw()):
                    self.check_stopped()
                    done += len(piece)
                    if done > descriptor.size:
                        raise self._changed(f"more than {descriptor.size:,} bytes", descriptor.digest)
                    value.update(piece)
                    write(piece)
                if done < descriptor.size:
                    raise Retry("it closed the connection in mid-answer", answered=True)

        self.retrying(url, attempt)
        if (found := "sha256:" + value.hexdigest()) != descriptor.digest:
            raise self._changed(found, descriptor.digest)


def _media_type(body: bytes) -> str | None:
    """What a manifest says that it is, which counts more than what a server makes of it."""
    try:
        stated = json.loads(body).get("mediaType")
    except (ValueError, AttributeError, RecursionError):
        return None
    return stated if isinstance(stated, str) else None


def _begins(content_range: str, at: int) -> bool:
    """``Content-Range: bytes 5-9/10`` (RFC 9110, 14.4)."""
    return content_range.replace("=", " ").startswith(f"bytes {at}-") and at > 0
