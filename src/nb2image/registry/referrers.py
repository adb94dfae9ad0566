"""What refers to an image: signatures, bills of materials and the like, manifests that name it as their ``subject``.

Distribution specification 1.1, "Listing Referrers" and "Pushing Manifests with Subject": a registry keeps the list
itself, and says so with ``OCI-Subject``; for one that does not, clients keep it as an index under a tag that is made of
the subject's digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from nb2image.errors import RegistryAnswered
from nb2image.image.model import INDEX_TYPE, Descriptor, Manifest, canonical_json
from nb2image.registry.client import Registry, pull_scope
from nb2image.registry.reference import Reference
from nb2image.registry.transport import LARGEST_DOCUMENT, Answer

__all__ = ["find_referrers", "keep_referrer"]

_MOST = 1000
_MOST_PAGES = 100
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next\b')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def find_referrers(registry: Registry, path: str, digest: str) -> list[Descriptor]:
    """The manifests of a repository that refer to the one with this digest. Raises `RegistryFailure`."""
    rows = _asked(registry, path, digest)
    if rows is None:
        rows = _read(registry, _tagged(registry, path, digest))
    return list(dict.fromkeys(rows))


def _asked(registry: Registry, path: str, digest: str) -> list[Descriptor] | None:
    """What the registry itself says; None where it keeps no list."""
    url, found = registry.url(f"{path}/referrers/{digest}"), list[Descriptor]()
    for _ in range(_MOST_PAGES):
        answer = registry.ask("GET", url, [pull_scope(path)], {"Accept": INDEX_TYPE}, largest=LARGEST_DOCUMENT)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        if answer.status != 200 or kind != INDEX_TYPE:
            return None
        found += _read(registry, answer.body)
        following = _NEXT.search(answer.headers.get("link", ""))
        if following is None:
            break
        url = urljoin(answer.url, following[1])
    return found


def _tagged(registry: Registry, path: str, digest: str) -> bytes:
    """The index under the subject's tag, which a client keeps; an empty one where there is none."""
    found = registry.find_manifest(Reference(registry.domain, path, _tag(digest)))
    return found.data if found is not None else b'{"manifests":[]}'


def _tag(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{algorithm[:32]}-{value[:64]}")


def _read(registry: Registry, data: bytes) -> list[Descriptor]:
    try:
        rows = json.loads(data)["manifests"] or []
        found = [Descriptor(str(row["mediaType"]), str(row["digest"]), int(row["size"])) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError):
        found, rows = [], None
    if rows is None or len(found) > _MOST or not all(_DIGEST.fullmatch(row.digest) for row in found):
        raise RegistryAnswered(
            f"{registry.domain} lists what refers to an image in a document that is no image index.",
            hint="Copy without --referrers, or ask the registry's administrator.",
        )
    return found


def keep_referrer(registry: Registry, path: str, manifest: Manifest, answer: Answer) -> None:
    """Have a manifest that was put with ``answer`` in the list of its subject, if it has one and the registry keeps no
    list. Raises `RegistryFailure`."""
    document = json.loads(manifest.data)
    subject = document.get("subject")
    if not isinstance(subject, dict) or "oci-subject" in answer.headers:
        return
    digest = str(subject.get("digest"))
    data = _tagged(registry, path, digest)
    if manifest.descriptor.digest in (row.digest for row in _read(registry, data)):
        return
    rows = [*(json.loads(data)["manifests"] or ()), _row(manifest.descriptor, document)]
    index = canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": rows})
    registry.put_manifest(path, _tag(digest), INDEX_TYPE, index)


def _row(descriptor: Descriptor, document: Mapping[str, Any]) -> dict[str, Any]:
    """A descriptor with what readers of the list choose by."""
    config = document.get("config")
    kind = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    more = {"artifactType": kind, "annotations": document.get("annotations")}
    return {**descriptor.document(), **{name: value for name, value in more.items() if value}}
