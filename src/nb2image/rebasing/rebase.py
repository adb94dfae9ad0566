"""An image's layers on another base: what the base decides is written anew, everything else is kept byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nb2image.bases.facts import read_target
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import UnfitBase
from nb2image.image.filesystem import content, members
from nb2image.image.model import DEFAULT_PATH, Config, Descriptor, Image, Layer
from nb2image.inspection.added import SYSTEM
from nb2image.inspection.inspect import inspect_scanned
from nb2image.inspection.model import Inspection, Provenance
from nb2image.inspection.scan import Scan, scan
from nb2image.layers.cached import CachedLayer, store_layer
from nb2image.layers.entry import BytesContent, Entry, HardLink, Link
from nb2image.layers.write import WrittenLayer
from nb2image.progress import Listener, Warned, stage
from nb2image.rebasing.fit import check_libraries, check_target, find_libraries
from nb2image.rebasing.system import added_anew, said_of
from nb2image.runtime import KERNEL, RUNNER, SBOM, SUPPORT
from nb2image.runtime.entries import Mode, environment_entries, execution
from nb2image.system.add import SystemPackages
from nb2image.target.model import Target

__all__ = ["Rebased", "rebased"]

_BASE_NAME = "org.opencontainers.image.base.name"
_BASE_DIGEST = "org.opencontainers.image.base.digest"
_OWN_MEMBERS = ("User", "WorkingDir", "Entrypoint", "Cmd", "ExposedPorts", "StopSignal")
"""What nb2image sets of the configuration; a base's own values of these are replaced by each build."""


@dataclass(frozen=True)
class Rebased:
    """The image on its new base. ``kept`` layers are those of the old one, ``written`` were made anew."""

    image: Image
    kept: int
    written: int


@dataclass(frozen=True)
class _On:
    """The new base with the packages that are added to it."""

    base: Base
    system: SystemPackages | None
    below: tuple[Layer, ...]


@dataclass(frozen=True)
class _Kept:
    """A layer as it was, with what the old image's history says of it."""

    layer: Layer
    comment: str

    @property
    def descriptor(self) -> Descriptor:
        return self.layer.descriptor

    @property
    def diff_id(self) -> str:
        return self.layer.diff_id

    def open(self) -> BinaryIO:
        return self.layer.open()

    def file(self) -> Path | None:
        return self.layer.file()


def rebased(
    image: Image, provenance: Provenance, base: Base, store: Store, listener: Listener, *, offline: bool = False
) -> Rebased:
    """Put the layers that nb2image built on ``base``. ``offline``: packages that it lacks come from the store only.

    Raises `UnfitBase` where they would not work there, and what `added_anew` raises.
    """
    name = provenance.reference
    scanned = scan(image, name, listener)
    found = inspect_scanned(image, provenance, scanned)
    with stage(listener, "rebase", name):
        count, comments = _base_layers(found), _comments(image)
        added = said_of(found)
        own = Image(image.config, image.layers[: count - (added.layers if added is not None else 0)])
        old = read_target(own, store)
        check_target(found, scanned, old, base, len(image.layers) - count)
        libraries = find_libraries(image, found, Image(image.config, image.layers[:count]), old.minor, store)
        searched = _searched(image, base.image)
        lost, before = libraries.on(searched)
        system: SystemPackages | None = None
        below: tuple[Layer, ...] = ()
        if added is not None:
            system, below = added_anew(added, name, lost, before, base, store, listener, offline=offline)
            lost, before = libraries.on(searched.with_layers(below))
        check_libraries(lost, before, name, base, listener)
        on = _On(base, system, below)
        layers: list[Layer] = []
        for number in range(count, len(image.layers)):
            layer = image.layers[number]
            new = _replaced(found, scanned, number, layer, old, on, comments[number], store, listener)
            layers.append(new if new is not None else _Kept(layer, comments[number]))
    written = sum(isinstance(layer, CachedLayer) for layer in (*below, *layers))
    return Rebased(_image(image, found, on, layers, listener), len(layers) + len(below) - written, written)


def _searched(image: Image, base: Image) -> Image:
    """The new base as the loader searches it: a variable that it does not set itself stays as the image has it."""
    name = "LD_LIBRARY_PATH"
    value = image.config.env.get(name)
    if not value or name in base.config.env:
        return base
    return base.with_config(base.config.with_env({name: value}))


def _base_layers(found: Inspection) -> int:
    """How many layers are the base's, packages that were added to it among them."""
    name = found.provenance.reference
    if found.base_layers is None or found.mode not in {"jupyter", "batch"}:
        raise UnfitBase(
            f"{name} does not say which of its layers are its base's, so they cannot be replaced.",
            hint="Only images that nb2image built can be put on another base.",
        )
    return found.base_layers


# -- layers -------------------------------------------------------------------------------------------------


def _comments(image: Image) -> list[str]:
    """What the history says of each layer, word for word."""
    rows = [row for row in json.loads(image.config_bytes).get("history") or () if not row.get("empty_layer")]
    found = [str(row.get("comment") or "") for row in rows]
    return [*found, *[""] * (len(image.layers) - len(found))]


def _replaced(
    found: Inspection,
    scanned: Scan,
    number: int,
    layer: Layer,
    old: Target,
    on: _On,
    comment: str,
    store: Store,
    listener: Listener,
) -> CachedLayer | None:
    """What stands in place of a layer on the new base, None where that is the layer itself."""
    role, base = found.layers[number].role, on.base
    if role == "runtime":
        # The shells of the environments name the base's Python.
        shells = [*environment_entries(RUNNER, base.target), *environment_entries(KERNEL, base.target)]
        if shells == [*environment_entries(RUNNER, old), *environment_entries(KERNEL, old)]:
            return None
        return _written(store, comment, lambda: _entries(layer, {entry.path: entry for entry in shells}))
    if role == "bytecode" and not any(
        file.layer == number and file.path.startswith(tuple(f"{each[1:]}/" for each in (KERNEL, RUNNER, SUPPORT)))
        for file in found.files
    ):
        from nb2image.bases.interpreter import compiler_version
        from nb2image.bytecode import base_layer

        # Sources of another base: bytecode that is not checked against them must go with them.
        return base_layer(base, compiler_version(base, store, listener), store, listener)
    node = scanned.files.nodes.get(SBOM[1:])
    if node is not None and node.layer == number:
        from nb2image.sbom.document import rebased as rebased_document

        def entries() -> list[Entry]:
            (document,) = (
                content(tar, info, layer) for path, info, tar in members(layer) if path == SBOM[1:] and info.isreg()
            )
            why = on.system.why if on.system is not None else {}
            changed = BytesContent(rebased_document(document, base, on.below, why, store))
            return _entries(layer, {SBOM[1:]: Entry(SBOM[1:], 0o644, changed)})

        return _written(store, comment, entries)
    return None


def _written(store: Store, comment: str, entries: Callable[[], list[Entry]]) -> CachedLayer:
    written: WrittenLayer = store_layer(store, entries())
    return CachedLayer(store, written, comment, lambda: store_layer(store, entries()))


def _entries(layer: Layer, changed: Mapping[str, Entry]) -> list[Entry]:
    """The entries of a layer, some of them others."""
    found: dict[str, Entry] = {}
    for path, info, tar in members(layer):
        if not path:
            continue
        value = (
            BytesContent(content(tar, info, layer))
            if info.isreg()
            else Link(info.linkname)
            if info.issym()
            else HardLink(info.linkname)
            if info.islnk()
            else None
        )
        found[path] = Entry(path, info.mode & 0o7777, value, info.uid, info.gid)
    # The Python's own name is among the links of an environment.
    stale = {path for path in found if _is_shell(path)} - changed.keys() if _is_shell(next(iter(changed))) else set()
    return [entry for path, entry in {**found, **changed}.items() if path not in stale]


def _is_shell(path: str) -> bool:
    return path.startswith(
        tuple(f"{prefix[1:]}/{name}" for prefix in (KERNEL, RUNNER) for name in ("bin/python", "pyvenv.cfg"))
    )


# -- documents ----------------------------------------------------------------------------------------------


def _image(image: Image, found: Inspection, on: _On, layers: list[Layer], listener: Listener) -> Image:
    """The new image; what it says of itself is as before, but for the base."""
    base = on.base
    mode: Mode = "batch" if found.mode == "batch" else "jupyter"
    own = execution(mode, found.notebook)["Env"]
    path = base.image.config.env.get("PATH", DEFAULT_PATH)
    new: dict[str, str] = {}
    for name, value in image.config.env.items():
        if name == "PATH":
            new[name] = f"{KERNEL}/bin:{RUNNER}/bin:{path}"
        elif name in own or name not in base.image.config.env:
            new[name] = value
        elif base.image.config.env[name] != value:
            text = f"{name} is {base.image.config.env[name]!r} on {base.name}, and was {value!r}; the base's is taken."
            listener(Warned(text, "Build the image anew with --env to have another."))
    system = on.system.labels() if on.system is not None else {}
    stated = {
        _BASE_NAME: base.reference,
        _BASE_DIGEST: base.image.digest,
        "io.nb2image.python": str(base.target.python),
        **{f"{SYSTEM}{name}": value for name, value in system.items()},
    }
    labels = {**_without_system(image.config.labels), **stated}
    members_ = {name: image.config.execution.get(name) for name in _OWN_MEMBERS}
    config: Config = base.image.config.with_execution(**members_).with_env(_ordered(new, own)).with_labels(labels)
    created: Any = image.config.document.get("created")
    if created:
        config = config.with_created(str(created))
    # Archives of engines have no annotations; a build states the same in both places.
    said = image.annotations or {
        name: value for name, value in labels.items() if name.startswith(("org.opencontainers.image.", "io.nb2image."))
    }
    annotations = {**_without_system(said), **stated}
    return base.image.with_layers([*on.below, *layers]).with_config(config).annotated(annotations)


def _without_system(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if not name.startswith(SYSTEM)}


def _ordered(env: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """A build sets its own variables first, then those it was asked for."""
    first = {name: env[name] for name in own if name in env}
    return {**first, **env}
