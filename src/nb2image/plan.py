"""What would be built, and why: everything that is decided before a package is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

from nb2image.bases.model import Candidate, Provider, Remote
from nb2image.cache import Store
from nb2image.errors import NoMatchingBase, NoMatchingFiles, NotCached, RegistryFailure, StaleLock, SupportConflict
from nb2image.index.settings import DEFAULT, IndexSettings
from nb2image.lock.model import Lock
from nb2image.notebook.document import Notebook
from nb2image.progress import Listener, Silent, Warned, stage
from nb2image.target.files import no_files
from nb2image.target.match import Match, Wishes, match
from nb2image.target.model import Platform, Target
from nb2image.target.select import Chosen, Source, select

if TYPE_CHECKING:
    from nb2image.bases.catalogue import CatalogueEntry
    from nb2image.runtime.entries import Mode
    from nb2image.sdists.build import BuiltWheel
    from nb2image.system.add import SystemPackages

__all__ = ["Plan", "Request", "make_plan", "offered_bases"]


@dataclass(frozen=True)
class Request:
    """What the user asks for; every field has the default of the command line.

    ``base`` is ``auto``, a candidate's name, the path of an OCI layout or archive, or a reference that states its
    registry; ``plain_http``: whether that may be reached without https. ``bytecode`` None: on for
    batch, off for Jupyter. ``epoch``: seconds for ``created`` (``SOURCE_DATE_EPOCH``), None for the fixed default.
    ``outputs`` are the paths that images are written to: they do not come along when they lie in the repository.
    ``add_missing``: whether Debian packages are added for shared libraries that wheels need and nothing has.
    ``build_sdists``: whether packages without a wheel are built from their source distributions where they can be.
    ``gpu``: the image is to use GPUs, so that CUDA is required. ``catalogues`` are files of bases over those of the
    configuration. ``python_build`` is the path or address of a relocatable CPython to lay over the base.
    """

    source: Path
    notebook: str | None = None
    mode: Mode = "jupyter"
    base: str = "auto"
    python: str | None = None
    platform: Platform = field(default_factory=Platform)
    settings: IndexSettings = field(default_factory=IndexSettings)
    bytecode: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    epoch: int | None = None
    outputs: tuple[Path, ...] = ()
    build_sdists: Literal["auto", "never"] = "auto"
    gpu: bool = False
    catalogues: tuple[Path, ...] = ()
    python_build: str | None = None
    plain_http: bool = False
    add_missing: bool = True

    @property
    def own_settings(self) -> IndexSettings:
        """Where the project's own packages come from: a given index may hold only what notebooks lock, so the
        user's default index is asked after it."""
        given = self.settings.indexes
        return replace(self.settings, indexes=(*given, DEFAULT)) if given else self.settings

    @property
    def with_bytecode(self) -> bool:
        return self.mode == "batch" if self.bytecode is None else self.bytecode


@dataclass(frozen=True)
class Plan:
    """Everything that a build does, decided. ``kernel``, ``runner`` and ``support`` are the wheels of each;
    ``sources`` are to be built for the kernel, and once they are, ``built`` says what they came to and ``kernel`` has
    their wheels, too. ``system`` are the packages of the base's distribution that are added to it."""

    request: Request
    notebook: Notebook
    lock: Lock
    match: Match
    provider: Provider = field(repr=False)
    kernel: tuple[Chosen, ...]
    runner: tuple[Chosen, ...]
    support: tuple[Chosen, ...]
    sources: tuple[Source, ...] = ()
    built: tuple[BuiltWheel, ...] = ()
    system: SystemPackages | None = None

    def with_built(self, built: Sequence[BuiltWheel]) -> Plan:
        """The plan with a wheel for each of its sources."""
        kernel = sorted((*self.kernel, *(each.chosen for each in built)), key=lambda each: each.package.name)
        return replace(self, kernel=tuple(kernel), built=tuple(built))

    def on(self, target: Target) -> Plan:
        """The plan with the facts of the base as they are in it, where a catalogue stated them less exactly."""
        candidate = replace(self.match.candidate, target=target)
        return replace(self, match=replace(self.match, candidate=candidate))

    @property
    def target(self) -> Target:
        return self.match.candidate.target

    @property
    def locked_ipykernel(self) -> bool:
        return any(chosen.package.name == "ipykernel" for chosen in self.kernel)


def make_plan(request: Request, store: Store, listener: Listener) -> Plan:
    """Read the notebook and its lock, ask the indexes what files there are, and choose a base.

    Downloads metadata only. Raises `NotebookError`, `IndexFailure`, `TargetError` or `BaseError`.
    """
    from nb2image.images import runner_pythons
    from nb2image.notebook.document import read_notebook
    from nb2image.notebook.locks.find import read_lock

    with stage(listener, "read", str(request.source)):
        notebook = read_notebook(request.source, notebook=request.notebook)
        lock = read_lock(notebook)
        _check_freshness(lock, request, listener)
        offered = offered_bases(request, store, listener)
        candidates = [candidate for _, candidate in offered]
    with stage(listener, "match", notebook.name):
        complete = _completed(lock, request.settings, store, listener)
        # The images of a layout or archive are all meant by its path; one of Debian's is meant by its name.
        named = request.base if any(each.name == request.base for each in candidates) else None
        build = request.build_sdists == "auto"
        wishes = Wishes(named, request.python, build, request.gpu, date.today(), runner_pythons(request.mode))
        found = _matched(complete, candidates, wishes, lambda: _elsewhere(request, wishes, store), store, listener)
        for warning in _driver_warnings(found, request):
            listener(Warned(warning))
        provider = next(provider for provider, candidate in offered if candidate is found.candidate)
        found = _confirmed(found, provider)
        target = found.candidate.target
        kernel = found.selection.chosen
        runner = _own(request.mode, target, request, store, listener)
        support = _support((*kernel, *found.selection.sources), target, request, store, listener)
    plan = Plan(request, notebook, complete, found, provider, kernel, runner, support, found.selection.sources)
    return _with_system(plan, store, listener)


def _with_system(plan: Plan, store: Store, listener: Listener) -> Plan:
    """The plan with the packages that an ``apt.txt`` asks for."""
    from nb2image.system.wanted import apt_file, read_apt_file

    file = apt_file(plan.notebook)
    wanted = read_apt_file(file) if file is not None else ()
    if not wanted:
        return plan
    from nb2image.system.add import planned

    with stage(listener, "system", plan.notebook.name):
        return replace(plan, system=planned(plan, wanted, store, listener))


def _confirmed(found: Match, provider: Provider) -> Match:
    """The match with its candidate as it is where it comes from. Raises `RegistryFailure`, `NotAnImage`, `NotCached`;
    their hints name the next best base."""
    if not isinstance(provider, Remote):
        return found
    try:
        return replace(found, candidate=provider.confirm(found.candidate))
    except (RegistryFailure, NotCached) as failure:
        others = [row.name for row in found.rows if not (row.chosen or row.lacks)]
        if others:
            failure.hint += f" Or take the next best base: --base {others[0]}."
        raise


def _elsewhere(request: Request, wishes: Wishes, store: Store) -> list[Candidate]:
    """The registries' bases of the catalogues that could be named instead of one that is chosen."""
    if request.base != "auto" or request.python_build:
        return []
    from nb2image.bases.catalogue import read_catalogues
    from nb2image.bases.catalogued import CataloguedProvider

    offered = CataloguedProvider(read_catalogues(request.catalogues), request.platform, store, Silent()).elsewhere()
    return [each for each in offered if each.target.minor in wishes.pythons]


def _matched(
    lock: Lock,
    candidates: Sequence[Candidate],
    wishes: Wishes,
    elsewhere: Callable[[], Sequence[Candidate]],
    store: Store,
    listener: Listener,
) -> Match:
    """As `match`; what the choice needs to have built can be built here, else `NoMatchingFiles` says why not."""
    from nb2image.images import cuda_rules

    found = match(lock, candidates, wishes, cuda_rules(), elsewhere)
    if found.selection.sources:
        from nb2image.sandbox.choose import Absent, choose_sandbox

        sandbox = choose_sandbox(store, listener)
        if isinstance(sandbox, Absent):
            target = found.candidate.target
            unbuilt = f"and none can be built here, since {sandbox.reason}. {sandbox.hint}"
            raise no_files(lock, target, select(lock, target), unbuilt)
        sandbox.close()
    return found


def _driver_warnings(found: Match, request: Request) -> Iterator[str]:
    """Whether the driver of this machine, where it has one, is new enough for what the image needs."""
    needed = found.cuda.driver
    if not request.gpu or needed is None:
        return
    from nb2image.engines.nvidia import local_driver

    here = local_driver()
    if here is not None and Version(here) < Version(needed):
        yield (
            f"This machine's NVIDIA driver {here} is too old for the image, which needs {needed} or newer for CUDA "
            f"{found.cuda.version}; run it on another machine, or update the driver."
        )


def _check_freshness(lock: Lock, request: Request, listener: Listener) -> None:
    if lock.freshness.fresh is not False:
        return
    text = f"{lock.source} is stale: {lock.freshness.difference}"
    hint = "Lock the notebook again to bring both together."
    if request.strict:
        raise StaleLock(text, hint=hint)
    listener(Warned(text, hint))


def offered_bases(request: Request, store: Store, listener: Listener) -> list[tuple[Provider, Candidate]]:
    """What the request's ``base`` may mean, and who provides each.

    Raises `NoMatchingBase`, `NotAnImage`, `BadCatalogue`, and for a registry's image `RegistryFailure` and `NotCached`.
    """
    from nb2image.bases.catalogue import read_catalogues
    from nb2image.bases.catalogued import CataloguedProvider
    from nb2image.bases.debian.provider import DebianProvider

    bare = request.python_build is not None
    catalogue = read_catalogues(request.catalogues)
    pinned = {each.name: (each.reference, each.locks) for each in catalogue.entries.values() if each.locks is not None}
    debian = DebianProvider(
        store,
        platform=request.platform,
        strict=request.strict,
        offline=request.settings.offline,
        pinned=pinned,
    )
    catalogued = CataloguedProvider(
        catalogue,
        request.platform,
        store,
        listener,
        named=request.base,
        offline=request.settings.offline,
        plain_http=request.plain_http,
        bare=bare,
    )
    offered: list[tuple[Provider, Candidate]] = [
        *(
            (debian, replace(each, end_of_life=entry.end_of_life))
            for each in debian.candidates()
            if (entry := catalogue.entries.get(each.name)) is not None and entry.provider == "debian"
        ),
        *((catalogued, each) for each in catalogued.candidates()),
    ]
    names = {candidate.name for _, candidate in offered}
    if request.base != "auto" and request.base not in names:
        from nb2image.bases.layout import LayoutProvider
        from nb2image.image.read import split_base
        from nb2image.registry.reference import names_a_registry

        if (entry := catalogue.entries.get(request.base)) is not None:
            raise _not_here(entry, request.platform)
        if names_a_registry(request.base) and not split_base(request.base)[0].exists():
            named = _from_registry(request, store, listener)
            return _with_python(named, request.python_build, request, store) if request.python_build else named
        if "/" not in request.base and not split_base(request.base)[0].exists():
            raise NoMatchingBase(
                f"There is no base named {request.base!r}, and nothing of that name here.",
                hint=f"Choose one of {', '.join((*sorted(names), 'the path of an OCI layout or archive'))}, "
                "or a reference that states its registry, such as docker.io/library/python:3.11-slim.",
            )
        provider = LayoutProvider(Path(request.base), request.platform, store, bare=bare)
        offered = [(provider, candidate) for candidate in provider.candidates()]
    if not offered:
        raise NoMatchingBase(
            f"There is no base image for {request.platform}.",
            hint="Give one as an OCI layout or archive: --base PATH.",
        )
    return _with_python(offered, request.python_build, request, store) if request.python_build else offered


def _with_python(
    offered: Sequence[tuple[Provider, Candidate]], given: str, request: Request, store: Store
) -> list[tuple[Provider, Candidate]]:
    """The candidates that a relocatable CPython runs on, with it."""
    from nb2image.bases.relocatable import PythonBuildProvider, read_build

    build = read_build(given, store, offline=request.settings.offline)
    found: list[tuple[Provider, Candidate]] = []
    for provider, candidate in offered:
        laid = PythonBuildProvider(provider, candidate, build, store)
        found += ((laid, each) for each in laid.candidates())
    if not found:
        raise NoMatchingBase(
            f"The Python {build.python} of {build.place} is for {build.platform} with glibc {build.glibc} or newer: "
            f"there is no such base among {', '.join(f'{each.name} ({_c_library(each)})' for _, each in offered)}.",
            hint="Name another base, or a build for an older glibc.",
        )
    return found


def _c_library(candidate: Candidate) -> str:
    target = candidate.target
    return f"{target.platform}, glibc {target.glibc}" if target.glibc else f"{target.platform}, without glibc"


def _from_registry(request: Request, store: Store, listener: Listener) -> list[tuple[Provider, Candidate]]:
    from nb2image.bases.registry import RegistryProvider

    provider = RegistryProvider(
        request.base,
        request.platform,
        store,
        listener,
        offline=request.settings.offline,
        plain_http=request.plain_http,
        bare=request.python_build is not None,
    )
    return [(provider, candidate) for candidate in provider.candidates()]


def _not_here(entry: CatalogueEntry, platform: Platform) -> NoMatchingBase:
    """Why a base of the catalogue is no candidate."""
    if str(platform) not in entry.platforms:
        what, hint = f"is for {', '.join(entry.platforms)}, not for {platform}", "Choose another base or --platform."
    else:
        what, hint = "has no Python", "Choose one that has, or lay one over it with --python-build."
        if entry.cuda is not None:
            hint = "Lay one over it with --python-build, or add one to it as docs/gpu.md shows and name the result."
    return NoMatchingBase(f"The base {entry.name} {what}.", hint=hint)


def _completed(lock: Lock, settings: IndexSettings, store: Store, listener: Listener) -> Lock:
    from nb2image.index.complete import complete

    return complete(lock, settings, store, listener)


def _own(name: str, target: Target, request: Request, store: Store, listener: Listener) -> tuple[Chosen, ...]:
    """The wheels of one of the project's own locks, for the target."""
    from nb2image.images import runner_lock

    lock = _completed(runner_lock(name, target.minor), request.own_settings, store, listener)
    selection = select(lock, target)
    if not selection.complete:
        # Of what the user locked nothing is wrong, and nobody can lock this anew.
        total = len(selection.chosen) + len(selection.misses)
        raise NoMatchingFiles(
            f"No notebook can be started on {target}: {len(selection.misses)} of the {total} packages of nb2image's "
            f"own {name} environment have no wheel for it, such as {selection.misses[0].name}.",
            details=no_files(lock, target, selection).details,
            hint="Choose a base with glibc 2.28 or newer, such as Debian's; Alpine's have musl in its place.",
        )
    return selection.chosen


def _support(
    kernel: Sequence[Chosen | Source], target: Target, request: Request, store: Store, listener: Listener
) -> tuple[Chosen, ...]:
    """Packages that start a kernel where the lock brings no ipykernel: those that it lacks of the first support lock
    that its versions satisfy. Raises `SupportConflict` when they satisfy none."""
    from nb2image.images import support_locks, support_requirements
    from nb2image.target.support import check_support

    locked: dict[str, Version] = {package.name: package.version for package, _ in kernel if package.version is not None}
    if "ipykernel" in locked:
        return ()
    failure: SupportConflict | None = None
    for name in support_locks(target.minor):
        try:
            names = set(check_support(locked, support_requirements(name, target.minor), target.environment))
        except SupportConflict as conflict:
            failure = failure or conflict
            continue
        chosen = _own(name, target, request, store, listener)
        return tuple(each for each in chosen if each.package.name in names)
    assert failure is not None
    raise failure
