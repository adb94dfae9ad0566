"""Bytecode layers of a base and of environments: the joint between wheels, layers and the target's Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NoReturn

from nb2image.bases.model import Base
from nb2image.cache import Store, digest_of_key
from nb2image.environment import INSTALLATION, EnvironmentLayers, Group, installed, kept
from nb2image.errors import NotCached
from nb2image.image.model import Layer
from nb2image.layers.bytecode import COMPILER, Interpreter, compiled
from nb2image.layers.cached import CachedLayer, Elsewhere, Known, known_layer, store_layer
from nb2image.layers.entry import Entry
from nb2image.layers.grouping import Item, group
from nb2image.layers.write import WRITER, WrittenLayer
from nb2image.processes import pool, workers
from nb2image.progress import Finished, Listener, Started
from nb2image.wheels.install import Scheme

__all__ = ["Part", "base_layer", "bytecode_layers"]


class Part:
    """What one bytecode layer is compiled from: a group of wheels below a prefix."""

    def __init__(self, wheels: Group, scheme: Scheme) -> None:
        self.group = wheels
        self.scheme = scheme

    def key(self, python: str) -> str:
        rows = [[wheel.name, wheel.version, wheel.digest] for wheel in self.group.wheels]
        return digest_of_key(
            "bytecode", WRITER, INSTALLATION, COMPILER, python, self.scheme.prefix, rows, self.group.dropped
        )

    @property
    def comment(self) -> str:
        return f"bytecode of {self.group.comment}"

    @property
    def size(self) -> int:
        return sum(wheel.size for wheel in self.group.wheels)


def parts(environment: EnvironmentLayers, scheme: Scheme, limit: int) -> list[Part]:
    """The wheels of an environment, in at most ``limit`` groups that cut as its own layers do, only coarser."""
    wheels = {str(wheel.name): wheel for each in environment.groups for wheel in each.wheels}
    dropped = {pair for each in environment.groups for pair in each.dropped}
    items = [Item(name, wheel.size) for name, wheel in wheels.items()]
    return [
        Part(
            Group(
                tuple(wheels[name] for name in names),
                tuple(sorted(pair for pair in dropped if pair[0] in names)),
            ),
            scheme,
        )
        for names in (group(items, limit) if items else [])
    ]


def _sources(part: Part, paths: dict[str, Path], interpreter: Interpreter) -> Iterator[Entry]:
    with ExitStack() as stack:
        for wheel in sorted(part.group.wheels):
            one = Group((wheel,), part.group.dropped)
            entries = kept(one, installed(one, part.scheme, lambda each: paths[each.filename], stack, {}))
            yield from compiled(entries, interpreter, part.scheme.minor)


def _first(entries: Iterable[Entry]) -> Iterator[Entry]:
    seen: set[str] = set()
    for entry in entries:
        if entry.path not in seen:
            seen.add(entry.path)
            yield entry


def _write(root: Path, part: Part, paths: dict[str, Path], interpreter: Interpreter) -> WrittenLayer:
    """In a worker: compile one part and write its layer into the store."""
    return store_layer(Store(root), _first(_sources(part, paths, interpreter)))


def bytecode_layers(
    base: Base,
    environments: Sequence[tuple[EnvironmentLayers, Scheme]],
    limit: int,
    store: Store,
    listener: Listener,
    fetch: Callable[[str, Collection[str]], Mapping[str, Path]],
    elsewhere: Elsewhere | None = None,
) -> list[Layer]:
    """One layer for the base's standard library, then those of each environment, ``limit`` in all.

    ``fetch`` gives the wheels of a prefix by file name: layers of wheels may be cached when the wheels are not. What is
    ``elsewhere`` is not compiled. Raises `BytecodeUnavailable` when something has to be compiled and no interpreter of
    the target's version can be started.
    """
    from nb2image.bases.interpreter import compiler_version, find_interpreter

    python = compiler_version(base, store, listener)
    share = max(1, (limit - 1) // max(1, len([e for e, _ in environments if e.groups])))
    found = [part for layers, scheme in environments for part in parts(layers, scheme, share)]
    missing = [part for part in found if _known(part, python, store) is None]
    held = _held(missing, python, store, elsewhere)
    if missing and not held:
        interpreter = find_interpreter(base, store, listener)
        if interpreter.version != python:
            # The base's own does not start here: what another one compiles is found by that one's version.
            python = interpreter.version
            missing = [part for part in found if _known(part, python, store) is None]
        listener(Started("bytecode", python, len(missing)))
        paths: dict[str, Mapping[str, Path]] = {}
        for prefix in dict.fromkeys(part.scheme.prefix for part in missing):
            wanted = {w.filename for part in missing if part.scheme.prefix == prefix for w in part.group.wheels}
            paths[prefix] = fetch(prefix, wanted)
        _compile_all(missing, paths, interpreter, store, listener)
    layers: list[Layer] = []
    for part in found:
        if part.key(python) in held:
            layers.append(held[part.key(python)])
            continue
        written = _known(part, python, store)
        if written is None:
            _pruned(part)
        layers.append(CachedLayer(store, written, part.comment, partial(_pruned, part)))
    return [base_layer(base, python, store, listener), *layers]


def _known(part: Part, python: str, store: Store) -> WrittenLayer | None:
    written = known_layer(store, part.key(python))
    return written if written and store.find("layers", written.digest, written.size) else None


def _held(missing: Sequence[Part], python: str, store: Store, elsewhere: Elsewhere | None) -> dict[str, Layer]:
    """Layers of parts by their key, if all of those that are missing here are elsewhere."""
    known = {part.key(python): known_layer(store, part.key(python)) for part in missing}
    absent = [Known(written, part.comment) for part in missing if (written := known[part.key(python)]) is not None]
    if elsewhere is None or not absent or len(absent) < len(missing):
        return {}
    layers = {layer.descriptor.digest: layer for layer in elsewhere(absent) or ()}
    return {key: layers[written.digest] for key, written in known.items() if written and layers}


def _pruned(part: Part) -> NoReturn:
    raise NotCached(f"The {part.comment} is not in the cache any more.", hint="Build again.")


def _compile_all(
    missing: Sequence[Part],
    paths: Mapping[str, Mapping[str, Path]],
    interpreter: Interpreter,
    store: Store,
    listener: Listener,
) -> None:
    with pool(min(workers(), len(missing) or 1)) as executor:
        running = []
        for part in sorted(missing, key=lambda part: -part.size):
            own = {wheel.filename: paths[part.scheme.prefix][wheel.filename] for wheel in part.group.wheels}
            running.append((part, executor.submit(_write, store.root, part, own, interpreter)))
        for part, future in running:
            store.put_record("layer", part.key(interpreter.version), future.result()._asdict())
            listener(Finished("bytecode", part.comment))


def base_layer(base: Base, python: str, store: Store, listener: Listener) -> CachedLayer:
    """The bytecode of a base's standard library; ``python`` as `compiler_version` gives it."""
    from nb2image.layers.cached import cached_layer

    key = digest_of_key("bytecode of a base", WRITER, COMPILER, python, base.image.digest)

    def entries() -> Iterator[Entry]:
        from nb2image.bases.interpreter import find_interpreter, standard_library

        interpreter = find_interpreter(base, store, listener)
        return compiled(standard_library(base, store), interpreter, base.target.minor)

    return cached_layer(store, key, f"bytecode of Python {base.target.python}'s standard library", entries)
