"""What stands in an image that a command wrote, read without the program's own readers."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["documents", "files", "layers", "members"]


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def documents(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and config of the only image of an OCI layout."""
    (row,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads(_blob(layout, row["digest"]).read_bytes())
    return manifest, json.loads(_blob(layout, manifest["config"]["digest"]).read_bytes())


def layers(layout: Path) -> list[Path]:
    """The blobs of its layers, the lowest first."""
    return [_blob(layout, row["digest"]) for row in documents(layout)[0]["layers"]]


def members(layout: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of all layers, the lowest first."""
    for layer in layers(layout):
        with tarfile.open(layer, "r:gz") as tar:
            for member in tar:
                yield tar, member


def files(layout: Path, below: str) -> dict[str, bytes]:
    """Contents of the regular files and hard links below a folder, upper layers over lower ones."""
    found = {}
    for tar, member in members(layout):
        if member.name.startswith(below) and (member.isfile() or member.islnk()):
            content = tar.extractfile(member)
            assert content is not None
            found[member.name.removeprefix(below)] = content.read()
    return found
