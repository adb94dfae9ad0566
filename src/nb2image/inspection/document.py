"""An inspection as one JSON document, whose shape docs/inspect.md describes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nb2image.inspection.model import File, Inspection, Tally, part_of
from nb2image.inspection.queries import Ownership
from nb2image.inspection.words import utf8

__all__ = ["FORMAT", "document", "file_rows", "ownership_document"]

FORMAT = 1
"""Raised when a member changes its meaning or goes; new members may come without."""


def document(found: Inspection) -> dict[str, Any]:
    """Everything but the list of files."""
    provenance, lock = found.provenance, found.lock
    return {
        "format": FORMAT,
        "reference": utf8(provenance.reference),
        "names": list(provenance.names),
        "digest": provenance.digest,
        "id": provenance.id,
        "platform": str(found.platform),
        "created": found.created,
        "title": found.title,
        "system": found.system,
        "user": found.user,
        "entrypoint": list(found.entrypoint),
        "labels": dict(found.labels),
        "run": utf8(provenance.run),
        "nb2image": {
            "version": found.version,
            "mode": found.mode,
            "notebook": found.notebook,
            "python": found.python,
        }
        if found.ours
        else None,
        "base": {"name": found.base_name, "digest": found.base_digest, "layers": found.base_layers},
        "lock": None
        if lock is None
        else {
            "path": lock.path,
            "source": lock.source,
            "digest": lock.digest,
            "exact": lock.exact,
            "missing": list(lock.missing),
            "foreign": list(lock.foreign),
            "problem": lock.problem,
            "packages": [{**row._asdict(), "hashes": dict(row.hashes)} for row in lock.packages],
        },
        "size": found.size,
        "total": _tally(found.total),
        "hidden": {"files": len(found.hidden), "size": sum(file.size for file in found.hidden)},
        "parts": [
            {"name": part.name, "title": part.title, "packages": part.packages, **_tally(part.tally)}
            for part in found.parts
        ],
        "packages": [_package(found, number) for number in found.packages],
        "layers": [
            {
                "digest": layer.digest,
                "diff_id": layer.diff_id,
                "media_type": layer.media_type,
                "size": layer.size,
                "raw": layer.raw,
                "files": layer.files,
                "content": layer.content,
                "hidden": layer.hidden,
                "role": layer.role,
                "comment": layer.comment,
            }
            for layer in found.layers
        ],
    }


def _tally(tally: Tally) -> dict[str, int]:
    return tally._asdict()


def _package(found: Inspection, number: int) -> dict[str, Any]:
    owner = found.owners[number]
    layers, biggest = found.details[number]
    return {
        "kind": owner.kind,
        "name": owner.name,
        "version": owner.version,
        "environment": owner.place,
        **_tally(found.tallies[number]),
        "layers": list(layers),
        "biggest": [{"path": f"/{file.path}", "size": file.size} for file in biggest],
    }


def file_rows(found: Inspection, files: Iterable[File]) -> list[dict[str, Any]]:
    """Files with who brought each."""
    return [
        {
            "path": f"/{file.path}",
            "size": file.size,
            "layer": file.layer,
            "kind": file.kind,
            "target": file.target,
            "owner": _owner(found, file.owner),
        }
        for file in files
    ]


def _owner(found: Inspection, number: int) -> dict[str, str]:
    owner = found.owners[number]
    return {"kind": owner.kind, "name": owner.name, "version": owner.version, "part": part_of(owner)}


def ownership_document(found: Inspection, answer: Ownership) -> dict[str, Any]:
    """The answer to ``--owner`` as JSON."""
    return {
        "format": FORMAT,
        "path": utf8(answer.path),
        "place": f"/{answer.place}",
        "file": file_rows(found, [answer.file])[0] if answer.file else None,
        "owners": [{**_owner(found, number), **_tally(tally)} for number, tally in answer.owners],
        "hidden": [
            {"path": f"/{file.path}", "size": file.size, "layer": file.layer, "by": file.by} for file in answer.hidden
        ],
    }
