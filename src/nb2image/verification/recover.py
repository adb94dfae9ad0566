"""From an image of nb2image back to the request that it was built by, by what the image itself says."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from nb2image.errors import NoLock, NotVerified
from nb2image.image.filesystem import content, members
from nb2image.image.model import Image
from nb2image.index.settings import IndexSettings
from nb2image.inspection.added import Added, Untold, added_to
from nb2image.inspection.model import File, Inspection
from nb2image.layers.tar import MTIME
from nb2image.lock.model import Lock
from nb2image.notebook.document import read_notebook
from nb2image.plan import Plan, Request
from nb2image.runtime import SOURCE
from nb2image.system.wanted import APT_FILE, APT_LOCK

__all__ = ["Recovered", "recover"]

_SEED = f"{SOURCE[1:]}/"
_BESIDE = "requirements.txt"
_PYTHON_BUILD = "nb2image.local/python-build:"


@dataclass(frozen=True)
class _StatedLock(Lock):
    """A lock whose digest is the one that an image states: the lock that it was made from is not at hand."""

    stated: str = ""

    @property
    def digest(self) -> str:
        return self.stated


@dataclass(frozen=True)
class Recovered:
    """``request`` builds the image again. ``lock_source`` and ``lock_digest`` are what the image states of a lock that
    stood beside the notebook and did not come along, else empty."""

    request: Request
    lock_source: str = ""
    lock_digest: str = ""

    def planned(self, plan: Plan) -> Plan:
        """The plan of the request, in the image's words."""
        if not self.lock_digest:
            return plan
        fields = {name: getattr(plan.lock, name) for name in Lock.__dataclass_fields__}
        return replace(plan, lock=_StatedLock(**{**fields, "source": self.lock_source}, stated=self.lock_digest))


def recover(
    image: Image,
    found: Inspection,
    folder: Path,
    *,
    base: str | None,
    notebook: Path | None,
    python_build: str | None,
    apt_lock: Path | None,
    settings: IndexSettings,
    plain_http: bool,
) -> Recovered:
    """The request, for ``notebook`` or for what the image has of it, which is written below ``folder``.

    ``apt_lock`` is the lock of the added Debian packages, where neither notebook nor image brings it.

    Raises `NotVerified` for an image that does not say enough.
    """
    if found.mode not in {"jupyter", "batch"} or not found.notebook or found.lock is None or found.base_layers is None:
        raise NotVerified(
            f"{found.provenance.reference} does not say what it was built from: labels, lock or launchers are missing.",
            hint="Only images that nb2image built can be verified; build this one again.",
        )
    added = _added(found)
    request = Request(
        source=folder,
        mode="batch" if found.mode == "batch" else "jupyter",
        base=base or _base(found, python_build),
        python=found.python.rpartition(".")[0] or None,
        platform=found.platform,
        settings=settings,
        bytecode=any(layer.role == "bytecode" for layer in found.layers),
        epoch=_epoch(found.created),
        gpu="io.nb2image.cuda" in found.labels,
        python_build=python_build,
        plain_http=plain_http,
        add_missing=added is not None and (added.missing or not added.layers),
    )
    if notebook is not None:
        named = found.notebook if notebook.is_dir() else None
        return Recovered(replace(request, source=notebook, notebook=named))
    _extract(image, found, folder)
    request = replace(request, **_source(folder, found.notebook))
    if apt_lock is not None:
        shutil.copyfile(apt_lock, folder / APT_LOCK)
    if added is not None and added.wanted and not any(folder.rglob(APT_FILE)):
        if request.source == folder:
            raise NotVerified(
                f"{found.provenance.reference} has packages of its base's distribution added, and not the file that "
                "asked for them.",
                hint="Name the repository that it was built from, with its apt.txt: --notebook PATH.",
            )
        (folder / APT_FILE).write_text("".join(f"{name}\n" for name in added.wanted))
    if request.source == folder or _carries_lock(request.source):
        return Recovered(request)
    # Only hashes: where the files are to be had is the index's affair.
    lines = [
        f"{row.name}=={row.version} {' '.join(f'--hash={kind}:{value}' for kind, value in row.hashes.items())}\n"
        for row in found.lock.packages
    ]
    (folder / _BESIDE).write_text("".join(lines))
    return Recovered(request, found.lock.source, found.lock.digest)


def _added(found: Inspection) -> Added | None:
    try:
        return added_to(found)
    except Untold:
        raise NotVerified(
            f"{found.provenance.reference} has packages of its base's distribution added, and its history does not say "
            "which were asked for.",
            hint="Do not trust it: labels or history were changed. Build it anew.",
        ) from None


def _base(found: Inspection, python_build: str | None) -> str:
    """The name of the base that the image states, where nb2image brings it."""
    from nb2image.bases.debian.lock import shipped_lock
    from nb2image.bases.debian.selection import SUITES

    if found.base_name.startswith(_PYTHON_BUILD):
        if python_build is None:
            raise NotVerified(
                f"{found.provenance.reference} stands on a base with a Python of its own laid over it, "
                f"{found.base_name.removeprefix(_PYTHON_BUILD)}.",
                hint="Give the archive that it was built with: --python-build FILE.",
            )
        # Whether it is that one, its digest says.
        stated = re.search(r"\((\w+)\)$", found.layers[0].comment) if found.layers else None
        if stated is not None and stated[1] in SUITES:
            return stated[1]
    for suite in SUITES:
        lock = shipped_lock(suite, found.platform)
        if lock is not None and lock.reference == found.base_name:
            return suite
    raise NotVerified(
        f"{found.provenance.reference} stands on {found.base_name or 'a base without a name'}, "
        "which nb2image does not bring.",
        hint="Give that base, as an OCI layout or archive (--base PATH) or, where you trust that registry, by its "
        f"reference: --base {_reference(found)}",
    )


def _reference(found: Inspection) -> str:
    """How the base is asked for by digest, where its name is a registry's."""
    from nb2image.registry.reference import names_a_registry

    name = found.base_name
    if not names_a_registry(name) or name.startswith(("localhost/", "nb2image.local/")):
        return "HOST/REPOSITORY[:TAG]"
    return name if "@" in name else f"{name}@{found.base_digest}"


def _epoch(created: str) -> int | None:
    try:
        moment = int(datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp())
    except ValueError:
        return None
    return None if moment == MTIME else moment


def _extract(image: Image, found: Inspection, folder: Path) -> None:
    """Write the notebook and the files that came along below an empty folder."""
    wanted = {file.path: file for file in found.files if file.path.startswith(_SEED)}
    links: list[File] = []
    for number in sorted({file.layer for file in wanted.values()}):
        layer = image.layers[number]
        for path, info, tar in members(layer):
            file = wanted.get(path)
            if file is None or file.layer != number:
                continue
            if info.issym():
                links.append(file)
            elif info.isreg():
                place = folder / path.removeprefix(_SEED)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content(tar, info, layer))
                place.chmod(0o755 if info.mode & 0o100 else 0o644)
    # Last, so that nothing is written through them.
    for file in links:
        place = folder / file.path.removeprefix(_SEED)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(place):
            place.symlink_to(file.target)


def _source(folder: Path, notebook: str) -> Mapping[str, Any]:
    """What was built: a notebook, the percent script that it was made from, or a repository of it."""
    names = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    script = str(PurePosixPath(notebook).with_suffix(".py"))
    if names == {notebook}:
        return {"source": folder / notebook}
    if names == {notebook, script} and read_notebook(folder / script).raw == (folder / notebook).read_bytes():
        return {"source": folder / script}
    return {"source": folder, "notebook": notebook}


def _carries_lock(notebook: Path) -> bool:
    from nb2image.notebook.locks.find import read_lock

    try:
        read_lock(read_notebook(notebook))
    except NoLock:
        return False
    return True
