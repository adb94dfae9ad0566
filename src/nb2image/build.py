"""The pipeline: a plan's wheels become layers on its base, and those an image. Nothing but the order of things."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.environment import Conflict, Environment, EnvironmentLayers, Mismatch, Wheel, known_wheel
from nb2image.errors import BadWheel, NoCuda, NoMatchingBase, SystemPackagesUnusable, TooManyLayers
from nb2image.image.model import Image, Layer
from nb2image.index.download import download_each, locked_file
from nb2image.layers.cached import Elsewhere, Known
from nb2image.libraries import settled
from nb2image.parallel import Background
from nb2image.plan import Plan, Request, make_plan
from nb2image.progress import Event, Finished, Listener, Note, Warned, stage
from nb2image.runtime import KERNEL, RUNNER, SUPPORT
from nb2image.target.cuda import lacking
from nb2image.target.select import Chosen
from nb2image.wheels.install import Scheme

if TYPE_CHECKING:
    from nb2image.abi.check import Findings

__all__ = ["ENGINES_MOUNT", "Built", "Clock", "Destination", "build", "build_planned"]

ENGINES_MOUNT = 100
"""Layers of an image at most: Docker's classic store takes 125 and podman 4.3 mounts 127; some room remains for
those who build on top."""
_SHORT = 0.3
"""Seconds in which a base that was delivered before is found again."""
_OWN_LAYERS = 4
"""Layers that hold no wheels: runtime, bytecode of the base, what the lock came to, the notebook. System packages, if
any, are one more, which is not counted: wheels are grouped alike with and without it."""

Destination: TypeAlias = Callable[[Image, Sequence[Known]], Sequence[Layer] | None]
"""`Elsewhere` for an image on this base."""


class Clock:
    """A listener that passes events on and adds up the seconds of each stage."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.seconds: dict[str, float] = {}

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, Finished) and event.seconds:
            self.seconds[event.task] = self.seconds.get(event.task, 0.0) + event.seconds
        self._listener(event)


@dataclass(frozen=True)
class Built:
    """A finished image and how it came about. ``sbom`` is a file of it; ``seconds`` are wall time."""

    plan: Plan
    base: Base
    image: Image
    sbom: bytes = field(repr=False)
    conflicts: tuple[Conflict, ...]
    libraries: Findings
    clock: Clock = field(compare=False)

    @property
    def system_lock(self) -> bytes:
        """Which system packages were added (``apt.lock``). Raises `SystemPackagesUnusable` when none was asked for."""
        if self.plan.system is None:
            raise SystemPackagesUnusable(
                "There is nothing to lock: no system packages are asked for.",
                hint="Write their names into apt.txt beside the notebook.",
            )
        return self.plan.system.lock.text().encode()

    @property
    def seconds(self) -> Mapping[str, float]:
        """Of each stage so far, those of outputs included that were given ``clock`` as their listener."""
        return self.clock.seconds


def build(request: Request, store: Store, listener: Listener) -> Built:
    """Build the image that ``request`` describes. Raises any `Nb2ImageError`; writes nothing but the store."""
    clock = Clock(listener)
    return build_planned(make_plan(request, store, clock), store, clock)


def build_planned(plan: Plan, store: Store, clock: Clock, destination: Destination | None = None) -> Built:
    """The same for a request that `make_plan` has decided, with ``clock`` as its listener. Layers that are nowhere but
    at ``destination`` are not built anew: the image can be written to that only."""
    from nb2image import assemble

    request = plan.request
    for text in (*plan.lock.notes, f"{plan.match.candidate.name}: {'; '.join(plan.match.reasons)}", *plan.match.notes):
        clock(Note(text))
    for text in plan.match.warnings:
        clock(Warned(text))
    base = _base(plan, store, clock)
    _check_base(plan, base, clock)
    plan = plan.on(base.target)
    limits = _limits(len(base.image.layers))
    elsewhere = partial(destination, base.image) if destination is not None else None
    if plan.sources:
        with stage(clock, "sdists", plan.notebook.name):
            plan = _with_sources_built(plan, base, store, clock)
    with stage(clock, "environments"):
        environments = {
            prefix: _environment(plan, chosen, prefix, limits[prefix], store, clock, elsewhere)
            for prefix, chosen in _environments(plan)
        }
    wheels = {prefix: each.wheels for prefix, each in environments.items()}

    def fetch(prefix: str, filenames: Collection[str]) -> dict[str, Path]:
        return _fetched(plan, prefix, filenames, store, clock)

    with stage(clock, "libraries"):
        plan, below, libraries = settled(plan, base, wheels, store, clock, fetch)
    # What many images share lies below what only some have.
    ordered = {prefix: environments[prefix] for prefix in (RUNNER, SUPPORT, KERNEL)}
    layers: list[Layer] = [*below, assemble.runtime_layer(plan, store)]
    layers += [layer for each in ordered.values() for layer in each.layers]
    if request.with_bytecode:
        with stage(clock, "bytecode"):
            from nb2image.bytecode import bytecode_layers

            if request.strict:
                from nb2image.bases.interpreter import find_interpreter

                find_interpreter(base, store, clock, strict=True)

            compiled = [(each, Scheme(prefix, plan.target.minor)) for prefix, each in ordered.items()]
            layers += bytecode_layers(base, compiled, limits["bytecode"], store, clock, fetch, elsewhere)
    with stage(clock, "sbom"):
        from nb2image.sbom.document import sbom

        bill = sbom(plan, base, below, wheels, assemble.created(plan), store, fetch)
    with stage(clock, "assemble", plan.notebook.name):
        layers.append(assemble.lock_layer(plan, store))
        layers.append(assemble.notebook_layer(plan, bill, store, clock))
        image = assemble.image(plan, base, layers, clock)
    _report_mismatches(environments[KERNEL].mismatches, request.strict, clock)
    conflicts = environments[KERNEL].conflicts
    for path, winner, loser in conflicts:
        clock(Warned(f"{winner} and {loser} both bring /{path}, with different contents; that of {winner} is kept."))
    return Built(plan, base, image, bill, conflicts, libraries, clock)


def _base(plan: Plan, store: Store, listener: Listener) -> Base:
    """The base. While one takes long, its packages' mirrors and the processors do not wait for each other: wheels are
    fetched meanwhile, and large ones written."""

    def deliver() -> Base:
        with stage(listener, "base", plan.match.candidate.name):
            return plan.provider.deliver(plan.match.candidate, listener)

    delivery = Background(deliver)
    if delivery.ends_within(_SHORT):
        return delivery.result()
    with stage(listener, "environments"):
        for prefix, chosen in _environments(plan):
            _write_ahead(plan, chosen, prefix, store, listener)
    return delivery.result()


def _environments(plan: Plan) -> Sequence[tuple[str, Sequence[Chosen]]]:
    # What the user locked is fetched first: should its index fail, that shows before the project's own wheels come.
    return ((KERNEL, plan.kernel), (RUNNER, plan.runner), (SUPPORT, plan.support))


def _with_sources_built(plan: Plan, base: Base, store: Store, listener: Listener) -> Plan:
    from nb2image.sdists.build import Builder

    added: Sequence[Layer] = ()
    if plan.system is not None:
        from nb2image.system.add import named_layers

        added = named_layers(plan, base, store, listener)
    with Builder(plan.lock, base, plan.request.own_settings, store, listener, added=added) as builder:
        return plan.with_built([builder.build(source) for source in plan.sources])


def _report_mismatches(mismatches: Sequence[Mismatch], strict: bool, listener: Listener) -> None:
    """Wheels whose RECORD is wrong: installed as pip does, since the lock's hash holds the whole wheel."""
    by_wheel: dict[str, list[str]] = {}
    for wheel, path in mismatches:
        by_wheel.setdefault(wheel, []).append(path)
    for wheel, paths in by_wheel.items():
        if strict:
            raise BadWheel(wheel, paths[0], "the file differs from what RECORD states")
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        listener(
            Warned(
                f"{wheel}: {', '.join(paths[:3])}{more} differ from what the wheel's RECORD states; "
                "the wheel itself is the one that the lock holds."
            )
        )


def _check_base(plan: Plan, base: Base, listener: Listener) -> None:
    expected = plan.target
    for note in base.notes:
        listener(Note(note))
    if (base.target.minor, base.target.glibc, base.target.platform) != (
        expected.minor,
        expected.glibc,
        expected.platform,
    ):
        raise NoMatchingBase(
            f"The base {base.name} turned out to be {base.target}, and {expected} was announced.",
            hint="Its lock is out of step: run `nb2image bases update`; or correct the catalogue that announced it.",
        )
    if plan.request.gpu and (lacks := lacking(plan.match.cuda, base.target.cuda)):
        raise NoCuda(
            f"The base {base.name} turned out to lack {lacks}, which was announced.",
            hint="Correct the catalogue that announced it, or choose another base.",
        )


def _limits(base_layers: int) -> dict[str, int]:
    """How many layers each environment may have, so that engines mount the whole."""
    room = ENGINES_MOUNT - base_layers - _OWN_LAYERS
    if room < 6:
        raise TooManyLayers(
            f"The base has {base_layers} layers, and engines mount about {ENGINES_MOUNT} in all.",
            hint="Flatten the base, for example with `podman build --squash-all`.",
        )
    # A third for bytecode whether it is asked for or not, so that both modes cut the wheels alike.
    wheels = room - room // 3
    return {
        RUNNER: max(1, wheels // 6),
        SUPPORT: max(1, wheels // 12),
        KERNEL: max(1, wheels - wheels // 6 - wheels // 12),
        "bytecode": room // 3,
    }


def _environment(
    plan: Plan,
    chosen: Sequence[Chosen],
    prefix: str,
    limit: int,
    store: Store,
    listener: Listener,
    elsewhere: Elsewhere | None,
) -> EnvironmentLayers:
    """The layers of one environment: from the store, from elsewhere, or written while its wheels arrive."""
    if not chosen:
        return EnvironmentLayers((), (), (), (), True)
    known = [known_wheel(each, store) for each in chosen]
    wheels = [wheel for wheel in known if wheel is not None]
    if len(wheels) == len(chosen):
        cached = Environment(store, Scheme(prefix, plan.target.minor), wheels, limit).cached(elsewhere)
        if cached is not None:
            listener(Finished("layer", prefix, cached=True))
            return cached
    try:
        return _written(plan, chosen, prefix, limit, store, listener)
    except BadWheel:
        # Whatever is wrong with a wheel whose bytes are no longer those that were downloaded is the disk's doing.
        # Every one, since a second damaged wheel would fail the next attempt.
        if not [wheel for wheel in wheels if _dropped(store, wheel)]:
            raise
        listener(Note("A damaged wheel was found in the cache and is downloaded again."))
        return _written(plan, chosen, prefix, limit, store, listener)


def _dropped(store: Store, wheel: Wheel) -> bool:
    """Whether a wheel in the store was damaged; it is dropped then."""
    if store.find("wheels", wheel.digest) is None:
        return False
    stream = store.open_checked("wheels", wheel.digest)
    if stream is None:
        return True
    stream.close()
    return False


def _arriving(
    plan: Plan, chosen: Sequence[Chosen], prefix: str, store: Store, listener: Listener
) -> Generator[tuple[str, Path], None, None]:
    """File names and paths of wheels as they come from the store, find-links or an index."""
    # The largest first: a process that gets the longest work last is waited for by all others.
    by_size = sorted(chosen, key=lambda each: -(wheel.size if (wheel := known_wheel(each, store)) else 0))
    files = [locked_file(each.package, each.wheel) for each in by_size]
    # Packages of the project's own locks come from where the plan found them.
    own = prefix != KERNEL
    settings = plan.request.own_settings if own else plan.request.settings
    indexes = () if own else plan.lock.indexes
    with closing(download_each(files, settings, store, listener, indexes=indexes)) as arriving:
        for file, path in arriving:
            yield file.filename, path


def _written(
    plan: Plan, chosen: Sequence[Chosen], prefix: str, limit: int, store: Store, listener: Listener
) -> EnvironmentLayers:
    wheels = [wheel for each in chosen if (wheel := known_wheel(each, store)) is not None]
    if len(wheels) < len(chosen):
        # An index told no sizes: which wheels share a layer shows only when all of them are here.
        paths = _write_ahead(plan, chosen, prefix, store, listener)
        wheels = [w for each in chosen if (w := known_wheel(each, store, paths[each.wheel.filename])) is not None]
        arrivals: Iterable[tuple[str, Path]] = paths.items()
        return Environment(store, Scheme(prefix, plan.target.minor), wheels, limit).build(arrivals, listener)
    with closing(_arriving(plan, chosen, prefix, store, listener)) as arrivals:
        return Environment(store, Scheme(prefix, plan.target.minor), wheels, limit).build(arrivals, listener)


def _write_ahead(
    plan: Plan, chosen: Sequence[Chosen], prefix: str, store: Store, listener: Listener
) -> dict[str, Path]:
    """Have the wheels of an environment in the store, by file name, and layers of the large ones."""
    by_file = {each.wheel.filename: each for each in chosen}
    paths: dict[str, Path] = {}

    def arrived(arriving: Iterable[tuple[str, Path]]) -> Iterator[tuple[Wheel, Path]]:
        for filename, path in arriving:
            paths[filename] = path
            if (wheel := known_wheel(by_file[filename], store, path)) is not None:
                yield wheel, path

    with closing(_arriving(plan, chosen, prefix, store, listener)) as arriving:
        Environment(store, Scheme(prefix, plan.target.minor), (), 1).write_ahead(arrived(arriving))
    return paths


def _fetched(plan: Plan, prefix: str, filenames: Collection[str], store: Store, listener: Listener) -> dict[str, Path]:
    """Paths of wheels of one environment, downloaded where the store has them no more."""
    chosen = {KERNEL: plan.kernel, RUNNER: plan.runner, SUPPORT: plan.support}[prefix]
    wanted = [each for each in chosen if each.wheel.filename in filenames]
    with closing(_arriving(plan, wanted, prefix, store, listener)) as arriving:
        return dict(arriving)
