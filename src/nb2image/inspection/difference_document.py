"""A difference as one JSON document, whose shape docs/diff.schema.json states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nb2image.inspection.compare import Changed, Difference, PackageChange, Setting
from nb2image.inspection.model import File, Inspection, LayerFacts, part_of
from nb2image.inspection.words import utf8

__all__ = ["FORMAT", "document", "file_rows"]

FORMAT = 1
"""Raised when a member changes its meaning or goes; new members may come without."""


def document(found: Difference) -> dict[str, Any]:
    """Everything but the list of files."""
    return {
        "format": FORMAT,
        "same": found.same,
        "before": _image(found.before),
        "after": _image(found.after),
        "packages": [_package(row) for row in found.packages],
        "base": _settings(found.base),
        "lock": [_package(row) for row in found.locked],
        "configuration": _settings(found.settings),
        "files": {
            **_tally(found.tally),
            "owners": [
                {"kind": row.owner.kind, "name": row.owner.name, "part": part_of(row.owner), **_tally(row.tally)}
                for row in found.owners
            ],
        },
        "layers": {
            "shared": _layers(found.shared),
            "before": _layers(found.gone),
            "after": _layers(found.new),
        },
    }


def file_rows(found: Difference) -> list[dict[str, Any]]:
    """Every file that differs."""
    return [
        {
            "path": f"/{row.path}",
            "change": row.change,
            "before": _file(row.before),
            "after": _file(row.after),
            "owner": {"kind": row.owner.kind, "name": row.owner.name, "part": part_of(row.owner)},
        }
        for row in found.files
    ]


def _file(file: File | None) -> dict[str, Any] | None:
    if file is None:
        return None
    return {
        "size": file.size,
        "kind": file.kind,
        "target": file.target,
        "mode": file.mode,
        "sha256": file.digest or None,
    }


def _image(found: Inspection) -> dict[str, Any]:
    return {
        "reference": utf8(found.provenance.reference),
        "digest": found.provenance.digest,
        "id": found.provenance.id,
        "size": found.size,
        "files": found.total.files,
        "content": found.total.size,
    }


def _package(row: PackageChange) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "environment": row.place,
        "name": row.name,
        "change": row.change,
        "before": row.before,
        "after": row.after,
    }


def _settings(rows: Iterable[Setting]) -> list[dict[str, Any]]:
    return [row._asdict() for row in rows]


def _tally(tally: Changed) -> dict[str, int]:
    return tally._asdict()


def _layers(rows: Iterable[LayerFacts]) -> list[dict[str, Any]]:
    return [
        {
            "digest": row.digest,
            "diff_id": row.diff_id,
            "size": row.size,
            "files": row.files,
            "role": row.role,
            "comment": row.comment,
        }
        for row in rows
    ]
