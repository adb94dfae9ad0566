"""The document itself: parts from the store, and what the notebook adds. Imports nothing slow when all parts are known.

CycloneDX 1.6 (ECMA-424, first edition), as JSON: the version that syft and trivy write themselves, so that whoever
reads theirs reads this. Nothing in it tells where, when or by whom an image was built, nor where packages came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nb2image import __version__
from nb2image.bases.model import Base
from nb2image.cache import Store, digest_of_key
from nb2image.environment import Wheel
from nb2image.errors import NotAnImage
from nb2image.image.model import Layer, canonical_json
from nb2image.plan import Plan
from nb2image.runtime import KERNEL, WORK
from nb2image.runtime import SBOM as SBOM_PATH
from nb2image.target.model import Target

if TYPE_CHECKING:
    from packaging.pylock import PackageSdist

__all__ = ["SBOM", "rebased", "sbom"]

SBOM = "1"
"""Version of what a document says: raised with every change of it, and of the pinned libraries that write it."""

_KIND = "sbom"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_NAMESPACE = UUID("0c512b83-41bf-4bf9-b315-94f4721eaaa0")

Part = Mapping[str, Any]
"""See `nb2image.sbom.components`."""
Fetch = Callable[[str, Collection[str]], Mapping[str, Path]]
"""Downloads wheels that the store has no more: those of one environment, by file name."""


def sbom(
    plan: Plan,
    base: Base,
    system: Sequence[Layer],
    environments: Mapping[str, Sequence[Wheel]],
    created: str,
    store: Store,
    fetch: Fetch,
) -> bytes:
    """The bill of materials of an image: equal for equal images, whatever the store holds.

    ``system`` are layers that add packages of its distribution to the base, ``environments`` are the wheels by prefix,
    ``created`` is what the image states. Raises what ``fetch`` raises, which is asked for wheels whose METADATA was
    never read, and `BadWheel`.
    """
    parts = [_base(base, system, plan.system.why if plan.system is not None else {}, store)]
    for prefix, wheels in environments.items():
        if wheels:
            built = {str(each.package.name): each.sdist for each in plan.built} if prefix == KERNEL else {}
            parts.append(_environment(prefix, sorted(wheels), built, plan.target, store, partial(fetch, prefix)))
    files = list(_files(plan))
    kernel = [root for part in parts for root in part["roots"] if root.startswith("kernel:")]
    others = [root for part in parts for root in part["roots"] if not root.startswith("kernel:")]
    requires = {ref: needed for part in parts for ref, needed in part["requires"].items()}
    requires["image"] = [*others, "notebook"]
    requires["notebook"] = [*kernel, *(file["bom-ref"] for file in files if file["bom-ref"] != "notebook")]
    components = [*files, *(component for part in parts for component in part["components"])]
    document: dict[str, Any] = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "nb2image", "version": __version__}]},
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": plan.notebook.title,
                "properties": _properties(
                    {
                        "nb2image:lock.digest": plan.lock.digest,
                        "nb2image:mode": plan.request.mode,
                        "nb2image:platform": str(plan.target.platform),
                    }
                ),
            },
        },
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
        "dependencies": [
            {"ref": ref, **({"dependsOn": sorted(needed)} if needed else {})}
            for ref, needed in sorted(requires.items())
        ],
    }
    incomplete = [ref for part in parts for ref in part.get("incomplete", ())]
    if incomplete:
        document["compositions"] = [{"aggregate": "incomplete", "assemblies": incomplete}]
    return _numbered(document)


def _numbered(document: Mapping[str, Any]) -> bytes:
    # RFC 9562, section 5.5: a name-based UUID, of the document without it.
    digest = hashlib.sha1(_NAMESPACE.bytes + canonical_json(document), usedforsecurity=False).digest()
    return canonical_json({**document, "serialNumber": UUID(bytes=digest[:16], version=5).urn})


def rebased(data: bytes, base: Base, system: Sequence[Layer], wanted: Mapping[str, str], store: Store) -> bytes:
    """The bill of materials of an image on another base, to which the layers of ``system`` add packages of its
    distribution, among them the ``wanted``: why, by name.

    Raises `NotAnImage` when it is none that nb2image wrote.
    """
    try:
        document = json.loads(data)
        edges = {row["ref"]: row.get("dependsOn", []) for row in document["dependencies"]}
        old = set()
        waiting = ["base", *(ref for ref in edges["image"] if ref.startswith("system:"))]
        while waiting:
            ref = waiting.pop()
            if ref not in old:
                old.add(ref)
                waiting += edges.get(ref, ())
        components = {each["bom-ref"]: each for each in document["components"] if each["bom-ref"] not in old}
        part = _base(base, system, wanted, store)
        components |= {each["bom-ref"]: each for each in part["components"]}
        edges = {ref: needed for ref, needed in edges.items() if ref not in old} | dict(part["requires"])
        edges["image"] = [*(ref for ref in edges["image"] if ref not in old), *part["roots"]]
        others = [row["assemblies"] for row in document.pop("compositions", ())]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotAnImage(
            f"The image's {SBOM_PATH} is none that nb2image wrote.", hint="Build the image anew on the other base."
        ) from error
    incomplete = [*part.get("incomplete", ()), *(ref for refs in others for ref in refs if ref not in old)]
    document.pop("serialNumber", None)
    document |= {
        "components": [components[ref] for ref in sorted(components)],
        "dependencies": [
            {"ref": ref, **({"dependsOn": sorted(needed)} if needed else {})} for ref, needed in sorted(edges.items())
        ],
    }
    if incomplete:
        document["compositions"] = [{"aggregate": "incomplete", "assemblies": incomplete}]
    return _numbered(document)


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _files(plan: Plan) -> Iterable[dict[str, Any]]:
    """The notebook, and the script it was made from. What else a repository holds is its own affair: no scanner could
    match it, and its names would be told to whoever gets the document."""
    notebook = plan.notebook
    yield _file("notebook", notebook.document_name, notebook.raw)
    if notebook.script is not None:
        yield _file("script", notebook.name, notebook.script)


def _file(ref: str, name: str, data: bytes) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": ref,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}],
        "properties": _properties({"nb2image:path": f"{WORK}/{name}"}),
    }


def _base(base: Base, system: Sequence[Layer], wanted: Mapping[str, str], store: Store) -> Part:
    """The base, and the packages that were added to it."""
    target = base.target
    facts = [base.reference, str(target.python), str(target.interpreter), str(target.platform)]
    added = [[layer.diff_id for layer in system], sorted(map(list, wanted.items()))] if system else []
    key = digest_of_key(_KIND, SBOM, "base", base.image.digest, facts, *added)
    part: Part | None = store.get_record(_KIND, key)
    if part is None:
        from nb2image.bases.packages import contents_of
        from nb2image.sbom.components import base_part

        before = contents_of(base.image, store)
        contents = contents_of(base.image.with_layers(system), store) if system else before
        here = {package.key: package.version for package in before.system}
        new = {p.key: wanted.get(p.name, "") for p in contents.system if here.get(p.key) != p.version}
        part = {**base_part(base, contents, new), "incomplete": [] if contents.complete else ["base"]}
        store.put_record(_KIND, key, part)
    return part


def _environment(
    prefix: str,
    wheels: Sequence[Wheel],
    built: Mapping[str, PackageSdist],
    target: Target,
    store: Store,
    fetch: Callable[[Collection[str]], object],
) -> Part:
    markers = target.environment
    sources = [[name, sdist.filename, sorted(sdist.hashes.items())] for name, sdist in sorted(built.items())]
    key = digest_of_key(_KIND, SBOM, prefix, markers, wheels, sources)
    part: Part | None = store.get_record(_KIND, key)
    if part is None:
        from nb2image.sbom.components import wheels_part
        from nb2image.sbom.wheels import about, required

        facts = about(wheels, store, fetch)
        requires = required({str(wheel.name): facts[wheel.filename] for wheel in wheels}, markers)
        part = wheels_part(prefix, wheels, facts, requires, built)
        store.put_record(_KIND, key, part)
    return part
