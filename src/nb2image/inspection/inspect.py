"""`inspect`: from an image to what is in it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from packaging.pylock import Package, Pylock
from packaging.utils import canonicalize_name, canonicalize_version

from nb2image.image.model import Image
from nb2image.inspection.model import (
    File,
    FileKind,
    Hidden,
    Inspection,
    LayerFacts,
    LockedPackage,
    LockFacts,
    Owner,
    Provenance,
)
from nb2image.inspection.owners import Claims, claims
from nb2image.inspection.scan import LOCK, Scan, is_whiteout, scan
from nb2image.inspection.words import utf8
from nb2image.progress import Listener
from nb2image.runtime import KERNEL, OWN, RUNNER, SBOM, SOURCE, SUPPORT, WORK

__all__ = ["inspect", "inspect_scanned"]

_LAUNCHER = f"{OWN[1:]}/lib/__main__.py"
_NOTEBOOK = (f"{WORK[1:]}/", f"{SOURCE[1:]}/")
_ROLES = {
    "kernel": (f"{KERNEL[1:]}/",),
    "runner": (f"{RUNNER[1:]}/",),
    "support": (f"{SUPPORT[1:]}/",),
    "notebook": (*_NOTEBOOK, SBOM[1:]),
}
"""What the layers above the runtime's bring, by the folders of their files."""


def inspect(
    image: Image, provenance: Provenance, listener: Listener, *, hashed: Callable[[str], bool] | None = None
) -> Inspection:
    """Read an image and say what is in it; ``hashed`` says of a diff ID whether to hash the files of the layer.

    Raises `NotAnImage` when a layer is damaged.
    """
    scanned = scan(image, provenance.reference, listener, hashed=hashed)
    return inspect_scanned(image, provenance, scanned)


def inspect_scanned(image: Image, provenance: Provenance, scanned: Scan) -> Inspection:
    """The same of an image whose layers were read."""
    claimed = claims(scanned)
    labels = {utf8(key): utf8(value) for key, value in image.config.labels.items()}
    version = labels.get("io.nb2image.version", "")
    base_layers = _base_layers(scanned) if version else None
    owners, files = _owned(scanned, claimed, bool(version), base_layers)
    hidden = tuple(Hidden(utf8(file.path), *file[1:]) for file in scanned.hidden)
    standard = {key: labels.get(key) or utf8(image.annotations.get(key, "")) for key in _STANDARD}
    return Inspection(
        provenance=provenance,
        platform=image.platform,
        created=utf8(str(image.config.document.get("created") or "")),
        title=standard["org.opencontainers.image.title"],
        labels=labels,
        user=utf8(str(image.config.execution.get("User") or "")),
        entrypoint=_words(image.config.execution.get("Entrypoint")) + _words(image.config.execution.get("Cmd")),
        system=_system(scanned),
        version=version,
        mode=labels.get("io.nb2image.mode", "") if version else "",
        notebook=labels.get("io.nb2image.notebook", "") if version else "",
        python=labels.get("io.nb2image.python", "") if version else "",
        base_name=standard["org.opencontainers.image.base.name"],
        base_digest=standard["org.opencontainers.image.base.digest"],
        base_layers=base_layers,
        lock=_lock(scanned, labels, owners) if version else None,
        layers=tuple(_layers(image, scanned, base_layers)),
        owners=owners,
        files=files,
        hidden=hidden,
        execution=image.config.execution,
    )


_STANDARD = (
    "org.opencontainers.image.title",
    "org.opencontainers.image.base.name",
    "org.opencontainers.image.base.digest",
)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(utf8(str(word)) for word in value) if isinstance(value, list) else ()


def _system(scanned: Scan) -> str:
    """``PRETTY_NAME`` of ``os-release(5)``."""
    data = scanned.kept.get("usr/lib/os-release") or scanned.kept.get("etc/os-release") or b""
    stated = re.search(r"""^PRETTY_NAME=["']?([^"'\n]*)""", data.decode(errors="replace"), re.MULTILINE)
    return stated[1] if stated else ""


def _base_layers(scanned: Scan) -> int | None:
    """The layers below the first of nb2image's own, which brings the launchers."""
    node = scanned.files.nodes.get(_LAUNCHER)
    return node.layer if node is not None else None


# -- files --------------------------------------------------------------------------------------------


def _owned(
    scanned: Scan, claimed: Claims, ours: bool, base_layers: int | None
) -> tuple[tuple[Owner, ...], tuple[File, ...]]:
    """Owners, and every file with its owner's number."""
    owners = [Owner(each.kind, *map(utf8, each[1:])) for each in claimed.owners]
    others: dict[Owner, int] = {}

    def number_of(owner: Owner) -> int:
        if owner not in others:
            others[owner] = len(owners)
            owners.append(owner)
        return others[owner]

    files: list[File] = []
    for path, node in scanned.files.nodes.items():
        info = node.info
        if info.isdir() or is_whiteout(path):
            continue
        size = info.size if info.isreg() else 0
        kind: FileKind = (
            "file" if info.isreg() else "symlink" if info.issym() else "hardlink" if info.islnk() else "special"
        )
        owner = claimed.owner(path, size)
        if owner is None:
            owner = number_of(_unclaimed(path, node.layer, ours, base_layers))
        target = utf8(info.linkname) if kind in {"symlink", "hardlink"} else ""
        digest = scanned.digests.get(path, "")
        files.append(File(utf8(path), size, node.layer, owner, kind, target, info.mode & 0o7777, digest))
    files.sort()
    return tuple(owners), tuple(files)


def _unclaimed(path: str, layer: int, ours: bool, base_layers: int | None) -> Owner:
    """The owner of a file that no package claims."""
    if base_layers is not None and layer < base_layers:
        return Owner("base", "base")
    if ours and path.startswith(_NOTEBOOK):
        return Owner("notebook", "notebook")
    if ours and (path.startswith(f"{OWN[1:]}/") or _shell(path)):
        return Owner("nb2image", "nb2image")
    return Owner("nobody", "nobody")


def _shell(path: str) -> bool:
    """Whether a file makes a folder a virtual environment."""
    return path.startswith(
        tuple(f"{env[1:]}/{name}" for env in (KERNEL, RUNNER) for name in ("pyvenv.cfg", "bin/python"))
    )


# -- layers -------------------------------------------------------------------------------------------


def _layers(image: Image, scanned: Scan, base_layers: int | None) -> Iterator[LayerFacts]:
    lost = [0] * len(image.layers)
    for file in scanned.hidden:
        lost[file.layer] += file.size
    paths: list[list[str]] = [[] for _ in image.layers]
    for path, node in scanned.files.nodes.items():
        if not node.info.isdir():
            paths[node.layer].append(path)
    for number, (layer, comment) in enumerate(zip(image.layers, _comments(image), strict=True)):
        files, size = scanned.counted[number]
        yield LayerFacts(
            digest=layer.descriptor.digest,
            diff_id=layer.diff_id,
            media_type=layer.descriptor.media_type,
            size=layer.descriptor.size,
            raw=scanned.raw[number],
            files=files,
            content=size,
            role=_role(number, paths[number], base_layers),
            comment=comment,
            hidden=lost[number],
        )


def _comments(image: Image) -> list[str]:
    """What the history says of each layer: nb2image's comment, or the command of a Dockerfile."""
    history = json.loads(image.config_bytes).get("history") or ()
    rows = [row for row in history if not row.get("empty_layer")]
    found = []
    for number in range(len(image.layers)):
        row = rows[number] if number < len(rows) else {}
        created, comment = str(row.get("created_by") or ""), str(row.get("comment") or "")
        # BuildKit's own comment says only its name.
        text = comment if created in {"", "nb2image"} and comment else created
        found.append(utf8(" ".join(text.split())))
    return found


def _role(number: int, paths: Sequence[str], base_layers: int | None) -> str:
    """Who brought a layer of an image of nb2image, told by what is to be seen of it."""
    if base_layers is None:
        return ""
    if number < base_layers:
        return "base"
    if number == base_layers:
        return "runtime"

    if all(path.endswith(".pyc") for path in paths):
        return "bytecode" if paths else ""
    if LOCK in paths:
        return "lock"
    for name, folders in _ROLES.items():
        if all(path.startswith(folders) for path in paths):
            return name
    return ""


# -- the lock -----------------------------------------------------------------------------------------


def _lock(scanned: Scan, labels: dict[str, str], owners: Sequence[Owner]) -> LockFacts | None:
    data = scanned.kept.get(LOCK)
    if data is None:
        return None
    source, digest = labels.get("io.nb2image.lock.source", ""), labels.get("io.nb2image.lock.digest", "")
    try:
        packages = _locked(data)
    except (ValueError, RecursionError) as error:
        # Of tomllib, of packaging.pylock and of UTF-8: each is a ValueError.
        return LockFacts(f"/{LOCK}", source, digest, problem=utf8(" ".join(str(error).split())))
    there = _versions(owner for owner in owners if owner.kind == "wheel" and owner.place == KERNEL)
    wanted = _versions(packages)
    missing = tuple(sorted(wanted[key] for key in wanted.keys() - there.keys()))
    foreign = tuple(sorted(there[key] for key in there.keys() - wanted.keys()))
    return LockFacts(f"/{LOCK}", source, digest, packages, missing, foreign)


def _versions(packages: Iterable[Owner | LockedPackage]) -> dict[tuple[str, str], str]:
    """Names and versions as they are written, by how they compare: 1.0 is 1.00 and 1.0.0 (PEP 440)."""
    return {(each.name, canonicalize_version(each.version)): f"{each.name} {each.version}" for each in packages}


def _locked(data: bytes) -> tuple[LockedPackage, ...]:
    """The packages of a ``pylock.toml`` (PEP 751). Raises `ValueError` when it is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    document = Pylock.from_dict(tomllib.loads(data.decode()))
    return tuple(_locked_package(package) for package in document.packages)


def _locked_package(package: Package) -> LockedPackage:
    files = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
    first = files[0] if files else None
    name = (first.name or (first.path or "").rpartition("/")[2]) if first else ""
    return LockedPackage(
        canonicalize_name(package.name),
        str(package.version or ""),
        name,
        dict(first.hashes) if first else {},
    )
