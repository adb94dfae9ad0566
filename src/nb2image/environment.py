"""Wheels → the layers of one environment: the joint between what knows wheels and what knows layers.

Nothing runs. Each group of wheels is written by a worker process as soon as its last wheel is there, and found again
by its key afterwards; a second record remembers what the whole environment came to, so that an unchanged lock costs
a few small reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from packaging.utils import NormalizedName
from packaging.version import Version

from nb2image.abi.wheel import Gathered, known_objects
from nb2image.cache import Store, digest_of_key
from nb2image.errors import NotCached, WheelError
from nb2image.image.model import Layer
from nb2image.layers.cached import CachedLayer, Elsewhere, Known, known_layer, store_layer
from nb2image.layers.entry import Entry, HardLink, Link
from nb2image.layers.grouping import LARGE, Item, group
from nb2image.layers.write import WRITER, WrittenLayer
from nb2image.processes import pool, workers
from nb2image.progress import Finished, Listener, Started
from nb2image.target.select import Chosen
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import Scheme, install

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["INSTALLATION", "Conflict", "Environment", "EnvironmentLayers", "Mismatch", "Wheel", "known_wheel"]

INSTALLATION = "2"
"""Version of what `install` yields for a wheel: raised with every change of it, since layers are found by it."""

_SERIAL = 8 << 20
"""Bytes of wheels below which starting worker processes costs more than they save."""


class Wheel(NamedTuple):
    """A wheel that belongs to an environment; ``digest`` as ``sha256:<hex>``, ``size`` in bytes."""

    name: NormalizedName
    version: str
    filename: str
    digest: str
    size: int


class Conflict(NamedTuple):
    """A path that two wheels bring with different bytes, and whose file stays."""

    path: str
    winner: str
    loser: str


def known_wheel(chosen: Chosen, store: Store, path: Path | None = None) -> Wheel | None:
    """The wheel with its sha256 and size; None when only its bytes could tell them and are not here yet."""
    package, wheel = chosen
    digest = f"sha256:{wheel.hashes['sha256']}" if "sha256" in wheel.hashes else None
    if path is None and digest is not None:
        path = store.find("wheels", digest, wheel.size)
    if path is not None:
        return Wheel(package.name, str(package.version), wheel.filename, f"sha256:{path.name}", path.stat().st_size)
    if digest is None or wheel.size is None:
        return None
    return Wheel(package.name, str(package.version), wheel.filename, digest, wheel.size)


@dataclass(frozen=True)
class Group:
    """The wheels of one layer. ``dropped``: paths that another wheel of the environment wins, by wheel name."""

    wheels: tuple[Wheel, ...]
    dropped: tuple[tuple[str, str], ...] = ()

    @property
    def comment(self) -> str:
        return " ".join(f"{wheel.name}=={wheel.version}" for wheel in self.wheels)


class Mismatch(NamedTuple):
    """A file of a wheel that differs from what the wheel's RECORD states; taken as it is."""

    wheel: str
    path: str


class _Path(NamedTuple):
    path: str
    wheel: str
    crc32: int
    size: int


class _Result(NamedTuple):
    """What writing one group came to: its layer, what each wheel brings, and what differs from RECORD."""

    written: WrittenLayer
    paths: list[_Path]
    mismatches: list[Mismatch]


@dataclass(frozen=True)
class EnvironmentLayers:
    """``groups`` and ``layers`` correspond, bottom first."""

    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    conflicts: tuple[Conflict, ...]
    mismatches: tuple[Mismatch, ...]
    cached: bool

    @property
    def wheels(self) -> list[Wheel]:
        return [wheel for group in self.groups for wheel in group.wheels]


def installed(
    group: Group,
    scheme: Scheme,
    path_of: Callable[[Wheel], Path],
    stack: ExitStack,
    mismatches: dict[str, list[str]],
    proved: Collection[str] = (),
) -> Iterator[tuple[Wheel, Entry]]:
    """What each wheel of a group brings, in order of names; contents can be read until ``stack`` closes.

    ``mismatches`` receives, by file name, the paths that differ from RECORD, as the contents are read; it has them
    already of those in ``proved``.
    """
    for wheel in sorted(group.wheels):
        noted = mismatches.setdefault(wheel.filename, [])
        archive = WheelArchive(path_of(wheel), wheel.filename, noted, proved=wheel.filename in proved)
        stack.enter_context(archive)
        for entry in install(archive, scheme, name=wheel.name, version=Version(wheel.version)):
            yield wheel, entry


def kept(group: Group, entries: Iterable[tuple[Wheel, Entry]]) -> Iterator[Entry]:
    """The entries that stay: of two with one path the first, as for ``pip install --no-deps``, which installs
    the last name first."""
    dropped = set(group.dropped)
    seen: set[str] = set()
    for wheel, entry in entries:
        if entry.path not in seen and (wheel.name, entry.path) not in dropped:
            seen.add(entry.path)
            yield entry


def _crc32(entry: Entry) -> tuple[int, int]:
    content = entry.content
    if content is None or isinstance(content, (Link, HardLink)):
        text = repr(content).encode()
        return zlib.crc32(text), len(text)
    return content.crc32, content.size


def _write(root: Path, group: Group, scheme: Scheme, paths: dict[str, Path]) -> _Result:
    """In a worker: write the layer of a group into the store, and list what each wheel brings; its shared objects are
    read on the way (`nb2image.abi.wheel`).

    ``paths`` are of wheels whose hash is the lock's; what comparing one with its RECORD came to is remembered.
    """
    store = Store(root)
    found: list[_Path] = []
    keys = {wheel.filename: digest_of_key("record", INSTALLATION, wheel.digest) for wheel in group.wheels}
    mismatches: dict[str, list[str]] = {}
    for file, key in keys.items():
        if (known := store.get_record("record", key)) is not None:
            mismatches[file] = known
    proved = set(mismatches)

    gathered = {w.digest: Gathered(w.filename) for w in group.wheels if known_objects(store, w.digest) is None}

    def noted(entries: Iterable[tuple[Wheel, Entry]]) -> Iterator[tuple[Wheel, Entry]]:
        for wheel, entry in entries:
            found.append(_Path(entry.path, wheel.name, *_crc32(entry)))
            if wheel.digest in gathered:
                entry = gathered[wheel.digest].watched(entry)
            yield wheel, entry

    with ExitStack() as stack:
        entries = noted(installed(group, scheme, lambda wheel: paths[wheel.filename], stack, mismatches, proved))
        staying = list(kept(group, entries))
        try:
            written = store_layer(store, staying)
        except ValueError:
            _refuse_crossing(found)
            raise
        for digest, objects in gathered.items():
            objects.keep(store, digest)
    if len(staying) == len(found):  # so every file was read
        for file in keys.keys() - proved:
            store.put_record("record", keys[file], mismatches[file])
    return _Result(written, found, [Mismatch(file, path) for file in sorted(mismatches) for path in mismatches[file]])


def _refuse_crossing(paths: Iterable[_Path]) -> None:
    """Raise `WheelError` where one wheel brings a file and another a folder of the same name."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path, wheel, _, _ in paths:
        files[path] = wheel
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = wheel
            folder = folder.rpartition("/")[0]
    for path in sorted(files.keys() & folders.keys()):
        raise WheelError(
            f"{files[path]} and {folders[path]} cannot be installed together: "
            f"/{path} is a file of the one and a folder of the other.",
            hint="Lock other versions, or only one of them.",
        )


class Environment:
    """One environment of an image: its wheels below ``scheme.prefix``, in at most ``limit`` layers."""

    def __init__(self, store: Store, scheme: Scheme, wheels: Sequence[Wheel], limit: int) -> None:
        self.store = store
        self.scheme = scheme
        self.wheels = tuple(sorted(wheels))
        self.limit = limit

    @cached_property
    def _key(self) -> str:
        rows = [[wheel.name, wheel.version, wheel.digest] for wheel in self.wheels]
        return digest_of_key("environment", *self._writers, self.limit, rows)

    @property
    def _writers(self) -> tuple[str, ...]:
        return (WRITER, INSTALLATION, self.scheme.prefix, self.scheme.minor)

    def _group_key(self, group: Group) -> str:
        rows = [[wheel.name, wheel.version, wheel.digest] for wheel in group.wheels]
        return digest_of_key("wheels", *self._writers, rows, group.dropped)

    def _plan(self) -> list[Group]:
        by_name = {str(wheel.name): wheel for wheel in self.wheels}
        items = [Item(str(wheel.name), wheel.size) for wheel in self.wheels]
        return [Group(tuple(by_name[name] for name in names)) for names in group(items, self.limit)]

    def cached(self, elsewhere: Elsewhere | None = None) -> EnvironmentLayers | None:
        """The layers, when all of them are in the store, or those that are not are ``elsewhere``; needs no wheel."""
        record = self.store.get_record("environment", self._key)
        if record is None:
            return None
        by_name = {str(wheel.name): wheel for wheel in self.wheels}
        groups = [
            Group(tuple(by_name[name] for name in row["names"]), tuple((n, p) for n, p in row["dropped"]))
            for row in record["groups"]
        ]
        layers = self._layers(groups, elsewhere)
        if layers is None:
            return None
        conflicts = tuple(Conflict(*row) for row in record["conflicts"])
        mismatches = tuple(Mismatch(*row) for row in record["mismatches"])
        return EnvironmentLayers(tuple(groups), tuple(layers), conflicts, mismatches, True)

    def _layers(self, groups: Sequence[Group], elsewhere: Elsewhere | None) -> list[Layer] | None:
        known = [known_layer(self.store, self._group_key(group)) for group in groups]
        found: dict[str, Layer] = {}
        absent: list[Known] = []
        for each, written in zip(groups, known, strict=True):
            if written is None:
                return None
            if self._is_here(written):
                found[written.digest] = self._layer(each, written)
            else:
                absent.append(Known(written, each.comment))
        if absent:
            held = elsewhere(absent) if elsewhere is not None else None
            if held is None:
                return None
            found |= {layer.descriptor.digest: layer for layer in held}
        return [found[written.digest] for written in known if written is not None]

    def _is_here(self, written: WrittenLayer) -> bool:
        return self.store.find("layers", written.digest, written.size) is not None

    def _known(self, group: Group) -> WrittenLayer | None:
        """What was written for a group, if it is in the store."""
        written = known_layer(self.store, self._group_key(group))
        return written if written is not None and self._is_here(written) else None

    def _layer(self, group: Group, written: WrittenLayer) -> CachedLayer:
        return CachedLayer(self.store, written, group.comment, lambda: self._write_again(group))

    def _write_again(self, group: Group) -> None:
        # The wheels stay open until the layer is written: contents are read after all entries are known.
        with ExitStack() as stack:
            store_layer(self.store, kept(group, installed(group, self.scheme, self._stored, stack, {})))

    def _stored(self, wheel: Wheel) -> Path:
        path = self.store.find("wheels", wheel.digest, wheel.size)
        if path is None:
            raise NotCached(
                f"{wheel.filename} is not in the cache any more, and a layer has to be written from it again.",
                hint="Build again, so that it is downloaded.",
            )
        return path

    def write_ahead(self, arrivals: Iterable[tuple[Wheel, Path]]) -> None:
        """Write layers of large wheels while others arrive whose sizes nobody knows, or while the base does.

        Which wheels share a layer shows only when all sizes are known, but a large one shares its own with none, unless
        there are very many. Raises `BadWheel` and `Unwritable`.
        """
        from concurrent.futures import as_completed

        running: dict[Future[_Result], str] = {}
        with ExitStack() as stack:
            executor = None
            for wheel, path in arrivals:
                alone = Group((wheel,))
                if wheel.size < LARGE or self._result(alone) is not None:
                    continue
                if executor is None:
                    executor = stack.enter_context(pool(workers()))
                future = executor.submit(_write, self.store.root, alone, self.scheme, {wheel.filename: path})
                running[future] = self._group_key(alone)
            for future in as_completed(running):
                self._remember(running[future], future.result())

    def build(
        self, arrivals: Iterable[tuple[str, Path]], listener: Listener, processes: int | None = None
    ) -> EnvironmentLayers:
        """The layers, written from wheels as they arrive: ``(file name, path)`` in any order.

        Raises `BadWheel` for a wheel that breaks a rule, `WheelError` for two that exclude each other, `Unwritable`
        when the store is full.
        """
        groups = self._plan()
        listener(Started("layer", self.scheme.prefix, len(groups)))
        results = self._write_all(groups, arrivals, listener, processes or workers())
        groups, conflicts = self._resolve(groups, results)
        changed = [group for group in groups if group.dropped]
        if changed:
            paths = {wheel.filename: self._stored(wheel) for group in changed for wheel in group.wheels}
            results.update(self._write_all(changed, paths.items(), listener, 1))
        final = [results[self._group_key(group)] for group in groups]
        layers = tuple(self._layer(group, result.written) for group, result in zip(groups, final, strict=True))
        mismatches = tuple(mismatch for result in final for mismatch in result.mismatches)
        record = {
            "groups": [{"names": [w.name for w in g.wheels], "dropped": g.dropped} for g in groups],
            "conflicts": conflicts,
            "mismatches": mismatches,
        }
        self.store.put_record("environment", self._key, record)
        listener(Finished("layer", self.scheme.prefix))
        return EnvironmentLayers(tuple(groups), layers, tuple(conflicts), mismatches, False)

    def _result(self, group: Group) -> _Result | None:
        """What writing a group came to before; None where its layer is not in the store any more."""
        known, record = self._known(group), self.store.get_record("paths", self._group_key(group))
        if known is None or record is None:
            return None
        mismatches = [Mismatch(*row) for row in record["mismatches"]]
        return _Result(known, [_Path(*row) for row in record["paths"]], mismatches)

    def _remember(self, key: str, result: _Result) -> None:
        self.store.put_record("paths", key, {"paths": result.paths, "mismatches": result.mismatches})
        self.store.put_record("layer", key, result.written._asdict())

    def _write_all(
        self, groups: Sequence[Group], arrivals: Iterable[tuple[str, Path]], listener: Listener, processes: int
    ) -> dict[str, _Result]:
        """Layer and paths of each group by its key, from the store or written by workers."""
        results: dict[str, _Result] = {}
        waiting: dict[str, tuple[Group, set[str]]] = {}
        for each in groups:
            key = self._group_key(each)
            if (result := self._result(each)) is not None:
                results[key] = result
                listener(Finished("layer", each.comment, cached=True))
            else:
                waiting[key] = (each, {wheel.filename for wheel in each.wheels})

        def done(key: str, result: _Result) -> None:
            self._remember(key, result)
            results[key] = result
            listener(Finished("layer", waiting[key][0].comment))

        paths: dict[str, Path] = {}
        size = sum(wheel.size for each, _ in waiting.values() for wheel in each.wheels)
        with ExitStack() as stack:
            parallel = processes > 1 and size > _SERIAL
            executor = stack.enter_context(pool(min(processes, len(waiting)))) if parallel else None
            running: dict[Future[_Result], str] = {}
            missing = {key: set(files) for key, (_, files) in waiting.items()}
            for filename, path in arrivals:
                paths[filename] = path
                for key in [k for k, files in missing.items() if filename in files]:
                    missing[key].discard(filename)
                    if missing[key]:
                        continue
                    del missing[key]
                    each = waiting[key][0]
                    own = {wheel.filename: paths[wheel.filename] for wheel in each.wheels}
                    if executor is None:
                        done(key, _write(self.store.root, each, self.scheme, own))
                    else:
                        running[executor.submit(_write, self.store.root, each, self.scheme, own)] = key
            if running:
                from concurrent.futures import as_completed

                for future in as_completed(running):
                    done(running[future], future.result())
        return results

    def _resolve(self, groups: Sequence[Group], results: dict[str, _Result]) -> tuple[list[Group], list[Conflict]]:
        """Find paths that several wheels bring with different bytes, and let the first name win each."""
        first: dict[str, _Path] = {}
        conflicts: list[Conflict] = []
        losers: set[tuple[str, str]] = set()
        listed = sorted((p for each in groups for p in results[self._group_key(each)].paths), key=attrgetter("wheel"))
        _refuse_crossing(listed)
        for path in listed:
            known = first.setdefault(path.path, path)
            if known is not path and (known.crc32, known.size) != (path.crc32, path.size):
                conflicts.append(Conflict(path.path, known.wheel, path.wheel))
                losers.add((path.wheel, path.path))
        resolved = []
        for each in groups:
            names = {wheel.name for wheel in each.wheels}
            resolved.append(Group(each.wheels, tuple(sorted(loser for loser in losers if loser[0] in names))))
        return resolved, conflicts
