"""Writing images into an OCI layout directory (``image-layout.md``).

A layout may hold several images; each is found by the annotations of its descriptor in ``index.json``:

``org.opencontainers.image.ref.name``
    the name as a user types it, tag included: ``ds108:latest``. skopeo and podman (``oci:DIR:ds108:latest``) and
    umoci (``--image DIR:ds108:latest``) compare the whole string, so two images may both be ``latest``; podman
    makes ``localhost/ds108:latest`` of it where it is all there is.
``io.containerd.image.name``
    the canonical name, ``docker.io/library/ds108:latest``: what containerd, Docker's containerd store and podman
    prefer as the name of an image that they load.

A hard link keeps the mode 0444 of the cache; all else is the user's to write, since skopeo overwrites manifests in
place. Blobs appear by rename, ``index.json`` comes last, and a failed write takes away what it brought. Writers of one
layout wait for each other (``flock`` on ``oci-layout``). An image whose name is given to another one stays as
unnamed blobs; nothing here collects garbage in a folder that belongs to the user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nb2image.errors import Unwritable
from nb2image.image.copying import cloned_or_linked, pour
from nb2image.image.model import INDEX_TYPE, Image, Layer, canonical_json
from nb2image.image.names import Name, parse_name
from nb2image.image.whole import AnyImage, whole_of
from nb2image.progress import Advanced, Listener, stage

__all__ = [
    "CONTAINERD_NAME",
    "LAYOUT_FILE",
    "REF_NAME",
    "index_document",
    "index_rows",
    "refuse_foreign",
    "write_layout",
]

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT_FILE = canonical_json({"imageLayoutVersion": "1.0.0"})
_PARTIAL = ".partial"
_OWN = {"oci-layout", "index.json", "blobs", _PARTIAL}


def write_layout(image: AnyImage, tags: Sequence[str], destination: Path, listener: Listener) -> None:
    """Put an image, or an index with all that it names, into the layout at ``destination``, which is made if it is not
    there (its parent must be).

    Without ``tags`` the image gets a descriptor without a name. Raises `Unwritable`, and whatever the layers
    raise when their bytes cannot be had; the layout is then as it was.
    """
    names = [parse_name(tag) for tag in tags]
    total = sum(blob.descriptor.size for blob in whole_of(image).blobs)
    with stage(listener, "write", str(destination), total=total, unit="bytes"):
        try:
            _write(image, names, destination, lambda n: listener(Advanced("write", str(destination), n)))
        except OSError as error:
            raise Unwritable(
                f"The layout {destination} cannot be written: {error.strerror or error}.",
                hint="Choose a folder that you may write, on a disk with enough space.",
            ) from error


def _write(image: AnyImage, names: Sequence[Name], destination: Path, advance: Callable[[int], None]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    whole = whole_of(image)
    with _locked(destination) as layout:
        index = _read_index(destination)
        # Layers that lay in the cache are hashed before they are linked to: on all processors.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(lambda layer: layout.add_layer(layer, advance), whole.blobs):
                pass
        for manifest in whole.manifests:
            layout.add_blob(manifest.descriptor.digest, manifest.data)
        layout.replace("index.json", canonical_json(_merged(index, index_rows(image, names))))


def index_rows(image: AnyImage, names: Sequence[Name]) -> list[dict[str, Any]]:
    """One descriptor for ``index.json`` per name; without names a single one that has none."""
    row = image.descriptor.document()
    if isinstance(image, Image):
        row["platform"] = {"architecture": image.platform.architecture, "os": image.platform.os}
    if not names:
        return [row]
    return [{**row, "annotations": {REF_NAME: n.familiar, CONTAINERD_NAME: n.canonical}} for n in names]


def index_document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An ``index.json`` of these descriptors."""
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": sorted(rows, key=_order)}


def _order(row: Mapping[str, Any]) -> tuple[str, str]:
    return _ref_name(row) or "", str(row.get("digest"))


def _ref_name(row: Mapping[str, Any]) -> str | None:
    annotations = row.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _merged(index: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    taken = {_ref_name(row) for row in rows} - {None}
    digests = {row["digest"] for row in rows}
    kept = [
        row
        for row in index.get("manifests", ())
        if _ref_name(row) not in taken and not (_ref_name(row) is None and row.get("digest") in digests)
    ]
    return {**index, **index_document([*kept, *rows])}


def _read_index(layout: Path) -> dict[str, Any]:
    try:
        text = (layout / "index.json").read_bytes()
    except FileNotFoundError:
        return {}
    try:
        document = json.loads(text)
        rows = document["manifests"]
        sound = isinstance(document, dict) and all(isinstance(row, dict) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise Unwritable(
            f"{layout / 'index.json'} is damaged: it is no OCI image index.",
            hint="Write to another folder, or remove this one if nothing in it is needed.",
        )
    found: dict[str, Any] = document
    return found


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[_Writing]:
    """The layout with its lock held; made if it is not there, and made unseen when the body fails."""
    made = False
    while True:
        with contextlib.suppress(FileExistsError):
            root.mkdir()
            made = True
        marker = root / "oci-layout"
        try:
            refuse_foreign(root)
            handle = os.open(marker, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # a writer that failed has just taken its folder away
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # The writer that we waited for may have failed and taken the file away.
            if _is_at(handle, marker):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    fresh = os.fstat(handle).st_size == 0
    writing = _Writing(root)
    try:
        if fresh:
            os.write(handle, LAYOUT_FILE)
        writing.begin()
        yield writing
        writing.end()
    except BaseException:
        writing.undo()
        if fresh:
            marker.unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                root.rmdir()
        raise
    finally:
        os.close(handle)


def refuse_foreign(root: Path) -> None:
    """Raise `Unwritable` for a folder of other things. Raises `FileNotFoundError` where there is no folder."""
    foreign = {path.name for path in root.iterdir()} - _OWN
    if foreign and not (root / "oci-layout").exists():
        raise Unwritable(
            f"{root} holds other files and is no OCI layout.", hint="Name a new or empty folder, or a .tar file."
        )


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class _Writing:
    """What one write brings to a layout, so that it can be taken away again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._partial = root / _PARTIAL
        self._new: list[Path] = []

    def begin(self) -> None:
        # Left behind by a writer that was killed; none other is at work, since the lock is ours.
        if self._partial.is_dir():
            shutil.rmtree(self._partial)
        for folder in (self._partial, self._root / "blobs", self._blobs):
            if not folder.exists():
                folder.mkdir()
                self._new.append(folder)

    def end(self) -> None:
        self._partial.rmdir()

    def undo(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        for path in reversed(self._new):
            with contextlib.suppress(OSError):
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()

    def add_layer(self, layer: Layer, advance: Callable[[int], None]) -> None:
        digest, size = layer.descriptor.digest, layer.descriptor.size
        if self._there(digest, size):
            return
        partial = self._partial / digest.partition(":")[2]
        source = layer.file()
        if source is not None and cloned_or_linked(source, digest, size, partial):
            advance(size)
        else:
            with partial.open("xb", buffering=0) as out:
                pour(layer, out, advance)
        self._place(partial, digest)

    def add_blob(self, digest: str, data: bytes) -> None:
        if self._there(digest, len(data)):
            return
        partial = self._partial / digest.partition(":")[2]
        partial.write_bytes(data)
        self._place(partial, digest)

    def replace(self, name: str, data: bytes) -> None:
        partial = self._partial / name
        partial.write_bytes(data)
        partial.replace(self._root / name)

    def _there(self, digest: str, size: int) -> bool:
        try:
            return (self._blobs / digest.partition(":")[2]).stat().st_size == size
        except FileNotFoundError:
            return False

    def _place(self, partial: Path, digest: str) -> None:
        final = self._blobs / digest.partition(":")[2]
        known = final.exists()
        partial.replace(final)
        if not known:
            self._new.append(final)
