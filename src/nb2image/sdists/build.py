"""Source distributions → wheels in the store: each built once, in a sandbox, from pinned requirements.

A wheel is found again by everything that it follows from: the source distribution's hash, the base (and with it Python,
C library and platform), the build requirements, and `BUILD`. A warm build starts nothing and asks no index.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from packaging.pylock import Package, PackageSdist, PackageWheel
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from nb2image.bases.model import Base
from nb2image.cache import Store, digest_of_key
from nb2image.errors import (
    BadSignature,
    BadWheel,
    IndexFailure,
    NoCompiler,
    SdistFailed,
    SystemPackagesUnusable,
    Unwritable,
)
from nb2image.image.model import Image, Layer
from nb2image.index.download import download, locked_file
from nb2image.index.settings import IndexSettings
from nb2image.layers.directory import write_directory
from nb2image.layers.entry import Entry
from nb2image.lock.model import Lock
from nb2image.progress import Finished, Listener, Note, Started
from nb2image.runtime.entries import environment_entries
from nb2image.sandbox.choose import Absent, choose_sandbox
from nb2image.sandbox.model import FOLDER, Limits, Outcome, Sandbox, discard, open_output
from nb2image.sdists.failure import lacks_compiler, last_lines, missing_path, reason
from nb2image.sdists.requirements import BuildRequirement, Moment, as_of, build_locks_digest, pinned
from nb2image.sizes import shown
from nb2image.target.model import Platform, Target
from nb2image.target.select import Chosen, Source
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import Scheme, install
from nb2image.wheels.sdist import SourceDistribution, read_sdist

__all__ = ["BUILD", "Builder", "BuiltWheel"]

BUILD = 2
"""Version of how wheels are built: raised with every change that may give other wheels."""

_LARGEST_WHEEL = 1 << 30
_LARGEST_ANSWER = 1 << 20
_ELF = b"\x7fELF"
_DISK_FULL = 120
_OUT_OF_TIME = 121


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel that was built, now or before. ``digest`` as ``sha256:<hex>``, ``size`` in bytes; ``sandbox`` says which
    ran it, ``image`` is the digest of what it ran in."""

    package: Package
    sdist: PackageSdist
    filename: str
    digest: str
    size: int
    requirements: tuple[BuildRequirement, ...]
    sandbox: str
    image: str
    cached: bool = field(compare=False)

    @property
    def chosen(self) -> Chosen:
        """The package with the built wheel in place of its files."""
        value = self.digest.partition(":")[2]
        wheel = PackageWheel(name=self.filename, path=self.filename, size=self.size, hashes={"sha256": value})
        return Chosen(self.package, wheel)


@dataclass(frozen=True)
class _Room:
    """A base that a build may run in: its image with a compiler or without, and its Python."""

    image: Image
    target: Target
    compiler: bool


class Builder:
    """Builds the source distributions of one lock for one base; use as a context manager, since it may keep a
    connection to an engine. ``added`` are layers of Debian packages over the base (``apt.txt``). ``sandbox`` and
    ``limits`` are there for tests."""

    def __init__(
        self,
        lock: Lock,
        base: Base,
        settings: IndexSettings,
        store: Store,
        listener: Listener,
        *,
        added: Sequence[Layer] = (),
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._lock = lock
        self._base = base
        self._added = tuple(added)
        self._settings = settings
        self._store = store
        self._listener = listener
        self._sandbox = sandbox
        self._limits = limits or Limits()
        self._moment: Moment = as_of(lock)
        self._no_compiler: NoCompiler | None = None

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sandbox is not None:
            self._sandbox.close()

    def build(self, source: Source) -> BuiltWheel:
        """The wheel of a source distribution, from the store or built now.

        Raises `SdistFailed`, `BadSdist`, `IndexFailure`, `BaseError`, `Unwritable`.
        """
        known = self._store.get_record("build-requirements", self._requirements_key(source))
        if known is not None:
            found = self._known(source, tuple(BuildRequirement(*row) for row in known))
            if found is not None:
                self._listener(Finished("sdist", source.sdist.filename, cached=True))
                return found
        begin = time.perf_counter()
        self._listener(Started("sdist", source.sdist.filename))
        built = self._built(source)
        self._listener(Finished("sdist", source.sdist.filename, time.perf_counter() - begin, cached=built.cached))
        return built

    # -- what is known ------------------------------------------------------------------------------------

    def _requirements_key(self, source: Source) -> str:
        # Where no date decides, the locks that ship with nb2image do.
        deciding = self._moment.key or build_locks_digest(self._base.target.minor)
        return digest_of_key(BUILD, sorted(source.sdist.hashes.items()), *self._ground, deciding)

    def _build_key(self, source: Source, requirements: Sequence[BuildRequirement]) -> str:
        python = str(self._base.target.python)
        hashes = sorted(source.sdist.hashes.items())
        return digest_of_key(BUILD, hashes, python, *self._ground, [list(each) for each in requirements])

    @property
    def _ground(self) -> list[str]:
        """What builds stand on: the base's digest, and what is laid over it."""
        return [self._base.image.digest, *(layer.diff_id for layer in self._added)]

    def _known(self, source: Source, requirements: tuple[BuildRequirement, ...]) -> BuiltWheel | None:
        record = self._store.get_record("build", self._build_key(source, requirements))
        if record is None:
            return None
        stream = self._store.open_checked("wheels", record["digest"])
        if stream is None:
            return None
        stream.close()
        return BuiltWheel(
            source.package,
            source.sdist,
            record["filename"],
            record["digest"],
            record["size"],
            requirements,
            record["sandbox"],
            record["image"],
            True,
        )

    # -- building -------------------------------------------------------------------------------------------

    def _built(self, source: Source) -> BuiltWheel:
        package, file = source
        assert package.version is not None, "a source distribution is chosen by its version"
        archive = download(
            [locked_file(package, file)], self._settings, self._store, self._listener, indexes=self._lock.indexes
        )
        sdist = read_sdist(archive[file.filename], file.filename, package.name, package.version)
        room = self._room(compiler=sdist.compiled is not None)
        requires, ask = sdist.build_system.requires, True
        while True:
            requirements, how = self._pinned(requires, sdist, room.target)
            if (known := self._known(source, requirements)) is not None:
                self._remember(source, requirements)
                return known
            with self._folder(sdist, room.target, requirements) as folder:
                self._write_task(folder, sdist, requires, requirements, ask=ask)
                command = [f"{FOLDER}/env/bin/python", "-u", f"{FOLDER}/worker.py"]
                outcome = self._ready().run(room.image, folder, command, self._limits)
                answer = _answer(folder) if (outcome.ended, outcome.code) == ("itself", 0) else {}
                if isinstance(filename := answer.get("wheel"), str):
                    built = self._taken(source, room, folder, filename, requirements, outcome)
                    self._remember(source, requirements)
                    self._listener(
                        Note(f"{file.filename} was built in {built.sandbox}; its build requirements: {how}.")
                    )
                    return built
            more = answer.get("requires")
            if ask and isinstance(more, list) and all(isinstance(each, str) for each in more):
                requires, ask = (*requires, *more), False
            elif not room.compiler and self._no_compiler is None and lacks_compiler(outcome.log):
                room = self._room(compiler=True)
                if not room.compiler:
                    self._refuse(sdist, outcome)
            else:
                self._refuse(sdist, outcome)

    def _ready(self) -> Sandbox:
        if self._sandbox is None:
            found = choose_sandbox(self._store, self._listener)
            if isinstance(found, Absent):
                raise SdistFailed(f"No source distribution can be built here: {found.reason}.", hint=found.hint)
            self._sandbox = found
        return self._sandbox

    def _room(self, *, compiler: bool) -> _Room:
        """The base, with a compiler where one is asked for and known; on another processor its like of this one."""
        architecture = self._ready().architecture
        if architecture != self._base.target.platform.architecture:
            native = self._native(architecture)
            return _Room(native.image, native.target, False)
        if compiler:
            from nb2image.bases.debian.toolchain import toolchain_image

            try:
                image = toolchain_image(self._base, self._store, self._listener, offline=self._settings.offline)
            except NoCompiler as error:
                self._no_compiler = error
            else:
                return _Room(image.with_layers(self._added), self._base.target, True)
        return _Room(self._base.image.with_layers(self._added), self._base.target, False)

    def _native(self, architecture: str) -> Base:
        from nb2image.bases.debian.provider import DebianProvider

        provider = DebianProvider(self._store, platform=Platform("linux", architecture), offline=self._settings.offline)
        minor = self._base.target.minor
        fitting = [each for each in provider.candidates() if each.target.minor == minor]
        if not fitting:
            raise SdistFailed(
                f"A source distribution for {self._base.target} cannot be built here, on {architecture}: "
                f"no base of this processor has Python {minor}.",
                hint="Build on a machine of the image's platform.",
            )
        same = [each for each in fitting if each.name == self._base.name]
        return provider.deliver((same or fitting)[0], self._listener)

    def _pinned(
        self, requires: Sequence[str], sdist: SourceDistribution, target: Target
    ) -> tuple[tuple[BuildRequirement, ...], str]:
        return pinned(
            requires,
            target,
            self._moment,
            self._settings,
            self._lock,
            self._store,
            self._listener,
            source=sdist.filename,
            # What predates pyproject.toml was written for the setuptools of its time.
            older=sdist.older_setuptools or sdist.build_system.legacy,
        )

    @contextmanager
    def _folder(
        self, sdist: SourceDistribution, target: Target, requirements: Sequence[BuildRequirement]
    ) -> Iterator[Path]:
        """What the sandbox sees: the sources, an environment with the build requirements, and room for the wheel."""
        wheels = [each.chosen for each in requirements]
        files = [locked_file(*each) for each in wheels]
        paths = download(files, self._settings, self._store, self._listener, indexes=self._lock.indexes)
        folder = self._store.scratch()
        try:
            with _guarded(self._store), ExitStack() as stack:
                for name in ("source", "out"):
                    (folder / name).mkdir()
                sdist.unpack(folder / "source")
                prefix = f"{FOLDER}/env"
                write_directory(_inside(environment_entries(prefix, target)), folder)
                for package, wheel in wheels:
                    opened = stack.enter_context(WheelArchive(paths[wheel.filename], wheel.filename, []))
                    assert package.version is not None, "build requirements are pinned"
                    entries = install(opened, Scheme(prefix, target.minor), name=package.name, version=package.version)
                    write_directory(_inside(entries), folder)
            yield folder
        finally:
            discard(folder)

    def _write_task(
        self,
        folder: Path,
        sdist: SourceDistribution,
        requires: Sequence[str],
        requirements: Sequence[BuildRequirement],
        *,
        ask: bool,
    ) -> None:
        system = sdist.build_system
        task = {
            "backend": system.backend,
            "path": system.backend_path,
            "ask": ask,
            "have": [*requires, *(each.name for each in requirements)],
            **asdict(self._limits),
        }
        with _guarded(self._store):
            (folder / "job.json").write_text(json.dumps(task))
            shutil.copyfile(Path(__file__).parents[1] / "sandbox/worker.py", folder / "worker.py")
            for name in ("job.json", "worker.py"):
                (folder / name).chmod(0o644)

    # -- the result -----------------------------------------------------------------------------------------

    def _remember(self, source: Source, requirements: Sequence[BuildRequirement]) -> None:
        rows = [list(each) for each in requirements]
        self._store.put_record("build-requirements", self._requirements_key(source), rows)

    def _taken(
        self,
        source: Source,
        room: _Room,
        folder: Path,
        filename: str,
        requirements: tuple[BuildRequirement, ...],
        outcome: Outcome,
    ) -> BuiltWheel:
        """Check the wheel as one from a stranger, and put it into the store."""
        sdist = source.sdist.filename
        with ExitStack() as stack:
            stream = open_output(folder, filename, _LARGEST_WHEEL)
            if stream is None:
                raise _useless(sdist, "its build says that it wrote a wheel, and there is none", outcome)
            stack.enter_context(stream)
            writing = stack.enter_context(self._store.writing("wheels"))
            while piece := stream.read(1 << 20):
                writing.write(piece)
            writing.stream.flush()
            try:
                self._check(source, room, filename, writing.path)
            except BadWheel as error:
                raise _useless(
                    sdist, f"the wheel that it built is not valid: {error.message.rstrip('.')}", outcome
                ) from error
            except _Unfit as error:
                raise _useless(sdist, str(error), outcome) from error
            size = writing.size
            digest = writing.digest
            writing.commit()
        built = BuiltWheel(
            source.package,
            source.sdist,
            filename,
            digest,
            size,
            requirements,
            self._ready().title,
            room.image.digest,
            False,
        )
        record = {key: getattr(built, key) for key in ("filename", "digest", "size", "sandbox", "image")}
        self._store.put_record("build", self._build_key(source, requirements), record)
        return built

    def _check(self, source: Source, room: _Room, filename: str, path: Path) -> None:
        """Raise `_Unfit` or `BadWheel` unless it is the locked package and fits the target."""
        package, target = source.package, self._base.target
        try:
            name, version, _, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            raise _Unfit(f"its build wrote {filename!r}, which is no wheel's name") from None
        if (name, version) != (package.name, package.version):
            raise _Unfit(f"its build gave {name} {version} instead of {package.name} {package.version}")
        assert package.version is not None, "just compared"
        pure = True
        with WheelArchive(path, filename) as archive:
            pure = not any(archive.content(member).head(4) == _ELF for member in archive.members.values())
            scheme = Scheme("/opt/check", target.minor)
            for entry in install(archive, scheme, name=canonicalize_name(name), version=package.version):
                if entry.content is not None and not isinstance(entry.content, tuple):
                    for _ in entry.content.chunks():
                        pass
        pure = pure and all(tag.platform == "any" and tag.abi == "none" for tag in tags)
        if room.target.platform != target.platform and not pure:
            raise _Unfit(f"it comes to compiled code, which for {target.platform} can only be built on such a machine")
        if not tags.intersection(target.tags):
            raise _Unfit(f"its build gave {filename}, which {target} does not install")

    def _refuse(self, sdist: SourceDistribution, outcome: Outcome) -> NoReturn:
        hint = "Lock a version that has wheels for this base, or choose another base."
        if outcome.ended == "time limit" or outcome.code == _OUT_OF_TIME:
            seconds = self._limits.seconds
            span = f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
            why = f"its build did not end within {span}"
        elif outcome.code == _DISK_FULL:
            why = f"its build wrote more than {shown(self._limits.disk)}"
        elif outcome.code == 137:
            why = "its build was killed, most often for want of memory"
            hint = "Close other programs and build again, or lock a version that has wheels."
        else:
            why = reason(outcome.log)
            platform = self._base.target.platform
            if lacks_compiler(outcome.log) and self._ready().architecture != platform.architecture:
                why = f"it needs a compiler, and compiled code for {platform} can only be built on such a machine"
                hint = "Build there, or lock a version that has wheels."
            elif lacks_compiler(outcome.log):
                hint = self._no_compiler.hint if self._no_compiler is not None else hint
            elif (pattern := missing_path(outcome.log)) is not None:
                hint = self._where_it_is(pattern) or hint
        raise SdistFailed(f"{sdist.filename} cannot be built: {why}.", hint=hint, details=last_lines(outcome.log))

    def _where_it_is(self, pattern: str) -> str:
        """What to do for a file of a library that a build lacks; empty for a base that is none of Debian's."""
        from nb2image.system.installed import installed_in
        from nb2image.system.sonames import packages_with_path

        try:
            installed = installed_in(self._base, self._store)
        except SystemPackagesUnusable:
            return ""
        names: Sequence[str] = ()
        if not self._settings.offline:
            with suppress(IndexFailure, BadSignature):
                names = packages_with_path(
                    pattern, installed.suite, installed.architecture, self._store, self._listener
                )
        if not names:
            return (
                "If a package of Debian has it, write the package's name into apt.txt beside the notebook; "
                "or lock a version that has wheels."
            )
        others = f" (so have {', '.join(names[1:4])})" if len(names) > 1 else ""
        return (
            f"Debian's package {names[0]} has it{others}: write its name into apt.txt beside the notebook; "
            "or lock a version that has wheels."
        )


class _Unfit(Exception):
    """What is wrong with a wheel that was built, to follow "cannot be built: "."""


def _useless(filename: str, why: str, outcome: Outcome) -> SdistFailed:
    return SdistFailed(
        f"{filename} cannot be built: {why}.",
        hint="Lock a version that has wheels for this base, or choose another base.",
        details=last_lines(outcome.log),
    )


@contextmanager
def _guarded(store: Store) -> Iterator[None]:
    """Whatever cannot be written inside is the store's: raises `Unwritable`."""
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"The cache at {store.root} cannot be written: {error.strerror or error}.",
            hint="Free some space or set NB2IMAGE_CACHE_DIR to a folder that you may read and write.",
        ) from error


def _answer(folder: Path) -> dict[str, Any]:
    """What the worker wrote, or somebody in its place; empty when it is nothing of use."""
    stream = open_output(folder, "result.json", _LARGEST_ANSWER)
    if stream is None:
        return {}
    with stream:
        try:
            document = json.loads(stream.read(_LARGEST_ANSWER))
        except (ValueError, RecursionError):
            return {}
    return document if isinstance(document, dict) else {}


def _inside(entries: Iterator[Entry] | Sequence[Entry]) -> Iterator[Entry]:
    """Entries of the sandbox's paths as paths of the folder."""
    inner = FOLDER.lstrip("/") + "/"
    return (entry._replace(path=entry.path.removeprefix(inner)) for entry in entries)
