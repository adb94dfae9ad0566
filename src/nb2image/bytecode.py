"""Bytecode layers of a base and of environments: the joint between wheels, layers and the target's Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from nb2image.bases.model import Base
from nb2image.cache import Store, digest_of_key
from nb2image.environment import INSTALLATION, EnvironmentLayers, Group, installed, kept, pool, workers
from nb2image.errors import NotCached
from nb2image.layers.bytecode import COMPILER, Interpreter, compiled
from nb2image.layers.cached import CachedLayer, store_layer
from nb2image.layers.entry import Entry
from nb2image.layers.grouping import Item, group
from nb2image.layers.write import WRITER, WrittenLayer
from nb2image.progress import Finished, Listener, Started
from nb2image.wheels.install import Scheme

__all__ = ["Part", "bytecode_layers"]


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
) -> list[CachedLayer]:
    """One layer for the base's standard library, then those of each environment, ``limit`` in all.

    ``fetch`` gives the wheels of a prefix by file name: layers of wheels may be cached when the wheels are not. Raises
    `BytecodeUnavailable` when something has to be compiled and no interpreter of the target's version can be started.
    """
    python = str(base.target.python)
    share = max(1, (limit - 1) // max(1, len([e for e, _ in environments if e.groups])))
    found = [part for layers, scheme in environments for part in parts(layers, scheme, share)]
    known: dict[str, WrittenLayer] = {}
    for part in found:
        record = store.get_record("layer", part.key(python))
        if record is not None:
            written = WrittenLayer(**record)
            if store.find("layers", written.digest, written.size) is not None:
                known[part.key(python)] = written
    missing = [part for part in found if part.key(python) not in known]
    if missing:
        from nb2image.bases.interpreter import find_interpreter

        interpreter = find_interpreter(base, store, listener)
        listener(Started("bytecode", python, len(missing)))
        paths: dict[str, dict[str, Path]] = {}
        for prefix in dict.fromkeys(part.scheme.prefix for part in missing):
            wanted = {w.filename for part in missing if part.scheme.prefix == prefix for w in part.group.wheels}
            paths[prefix] = dict(fetch(prefix, wanted))
        known.update(_compile_all(missing, paths, python, interpreter, store, listener))
    layers = [CachedLayer(store, known[part.key(python)], part.comment, partial(_pruned, part)) for part in found]
    return [_base_layer(base, store, listener), *layers]


def _pruned(part: Part) -> None:
    raise NotCached(f"The {part.comment} is not in the cache any more.", hint="Build again.")


def _compile_all(
    missing: Sequence[Part],
    paths: Mapping[str, Mapping[str, Path]],
    python: str,
    interpreter: Interpreter,
    store: Store,
    listener: Listener,
) -> dict[str, WrittenLayer]:
    results: dict[str, WrittenLayer] = {}
    with pool(min(workers(), len(missing))) as executor:
        running = []
        for part in sorted(missing, key=lambda part: -part.size):
            own = {wheel.filename: paths[part.scheme.prefix][wheel.filename] for wheel in part.group.wheels}
            running.append((part, executor.submit(_write, store.root, part, own, interpreter)))
        for part, future in running:
            written = future.result()
            store.put_record("layer", part.key(python), written._asdict())
            results[part.key(python)] = written
            listener(Finished("bytecode", part.comment))
    return results


def _base_layer(base: Base, store: Store, listener: Listener) -> CachedLayer:
    from nb2image.layers.cached import cached_layer

    key = digest_of_key("bytecode of a base", WRITER, COMPILER, base.image.digest)

    def entries() -> Iterator[Entry]:
        from nb2image.bases.interpreter import find_interpreter, standard_library

        interpreter = find_interpreter(base, store, listener)
        return compiled(standard_library(base, store), interpreter, base.target.minor)

    return cached_layer(store, key, f"bytecode of Python {base.target.python}'s standard library", entries)
