"""Which file of each locked package a target installs: pure functions over a completed lock and a target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, cast

from packaging.markers import Marker
from packaging.pylock import Package, PackageSdist, PackageWheel
from packaging.tags import Tag
from packaging.utils import BuildTag, InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from nb2image.errors import LockedTwice
from nb2image.lock.model import STRONG_HASHES, Lock

if TYPE_CHECKING:
    from nb2image.target.model import Target

__all__ = ["Chosen", "Miss", "Nearest", "Selection", "Source", "applicable", "glibc_need", "nearest", "select"]

_PYTHONS = tuple(f"3.{minor}" for minor in range(6, 16))
# High enough to accept every manylinux tag there is; which glibc a wheel really needs is read from its own tags.
_ANY_GLIBC = Version("2.99")
_MANYLINUX = re.compile(r"manylinux_2_(\d+)_")
_LEGACY_FLOOR = {"manylinux2014_": 17, "manylinux2010_": 12, "manylinux1_": 5}


class Chosen(NamedTuple):
    """A locked package and the wheel that the target installs of it."""

    package: Package
    wheel: PackageWheel


class Source(NamedTuple):
    """A locked package that has no wheel for the target, and the source distribution that one can be built from."""

    package: Package
    sdist: PackageSdist

    @property
    def looks(self) -> str:
        """Whether the build needs a compiler, as far as the lock tells: ``compiled`` where other platforms or Pythons
        have wheels of their own, else ``unknown``."""
        parsed = (_parsed(wheel.filename) for wheel in self.package.wheels or ())
        return "compiled" if any(tag.platform != "any" for each in parsed if each for tag in each[1]) else "unknown"


@dataclass(frozen=True)
class Miss:
    """A locked package that the target cannot install: what the lock offers of it and why none will do."""

    name: str
    version: str
    offers: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """The outcome for one target. ``skipped`` names packages whose marker excludes the target, ``sources`` are
    to be built."""

    chosen: tuple[Chosen, ...]
    misses: tuple[Miss, ...]
    skipped: tuple[str, ...]
    sources: tuple[Source, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.misses


@dataclass(frozen=True)
class Nearest:
    """The target that satisfies the most packages: ``python`` is ``X.Y``, ``glibc`` the least minor of glibc 2
    (None: any). ``missing`` are the packages that even it cannot install, ``built`` is how many of the others only
    have a source distribution for it."""

    python: str
    glibc: int | None
    satisfied: int
    total: int
    missing: tuple[str, ...]
    built: int = 0

    def __str__(self) -> str:
        where = f"Python {self.python}" + (f" on glibc ≥ 2.{self.glibc}" if self.glibc else "")
        if not self.missing:
            built = f", {self.built} of them from source distributions" if self.built else ""
            return f"{where} would satisfy all {self.total}{built}"
        rest = ", ".join(self.missing[:6]) + (f" and {len(self.missing) - 6} more" if len(self.missing) > 6 else "")
        return f"{where} would satisfy {self.satisfied} of {self.total} (not {rest})"


@cache
def _parsed(filename: str) -> tuple[BuildTag, frozenset[Tag]] | None:
    try:
        _, _, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    return build, tags


def _applies(marker: Marker | None, target: Target) -> bool:
    environment = cast("dict[str, str]", target.environment)
    return marker is None or marker.evaluate({**environment, "extra": ""}, context="lock_file")


def applicable(lock: Lock, target: Target) -> tuple[list[Package], list[str]]:
    """The packages whose marker admits the target, and the names of the others.

    Raises `LockedTwice` when two entries of one package apply (PEP 751, "Installation").
    """
    kept: dict[str, Package] = {}
    skipped: list[str] = []
    for package in lock.packages:
        if not _applies(package.marker, target):
            skipped.append(package.name)
            continue
        if package.name in kept:
            raise LockedTwice(
                f"{lock.source} locks {package.name} twice for {target}: "
                f"{kept[package.name].version} and {package.version}.",
                hint="Lock the notebook again, so that one version remains for each environment.",
            )
        kept[package.name] = package
    return list(kept.values()), [name for name in skipped if name not in kept]


def _best(package: Package, ranks: dict[Tag, int]) -> PackageWheel | None:
    best: tuple[tuple[int, tuple[int, str]], PackageWheel] | None = None
    for wheel in package.wheels or ():
        parsed = _parsed(wheel.filename)
        if parsed is None:
            continue
        build, tags = parsed
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is None:
            continue
        # A higher build number is the later build of the same release (PEP 427, "File name convention").
        number, rest = build if build else (-1, "")
        key = (-rank, (number, rest))
        if best is None or key > best[0]:
            best = (key, wheel)
    return best[1] if best else None


def _why(package: Package, target: Target) -> str:
    if package.requires_python is not None and not package.requires_python.contains(target.python, prereleases=True):
        return f"needs Python {package.requires_python}"
    if not package.wheels:
        return "only a source distribution" if package.sdist else "no file at all"
    pythons = {tag for wheel in package.wheels if (parsed := _parsed(wheel.filename)) for tag in parsed[1]}
    generous = set(replace(target, glibc=_ANY_GLIBC).tags)
    if pythons & generous:
        floor = min(f for wheel in package.wheels if (f := _floor(wheel, generous)) is not None)
        return f"its wheels need glibc ≥ 2.{floor}"
    return f"no wheel for Python {target.minor} on {target.platform}"


def _source(package: Package) -> Source | None:
    """The source distribution, when a hash of the lock holds it."""
    sdist = package.sdist
    if sdist is None or package.version is None or not any(sdist.hashes.get(each) for each in STRONG_HASHES):
        return None
    return Source(package, sdist)


def select(lock: Lock, target: Target, *, build_sdists: bool = False) -> Selection:
    """Choose the best wheel of each applicable package; `Selection.misses` has those without one.

    With ``build_sdists`` those that have a source distribution are in `Selection.sources` instead.

    The lock must be complete (every package with its files). Raises `LockedTwice`.
    """
    ranks = {tag: rank for rank, tag in reversed(list(enumerate(target.tags)))}
    packages, skipped = applicable(lock, target)
    chosen: list[Chosen] = []
    misses: list[Miss] = []
    sources: list[Source] = []
    for package in packages:
        fits = package.requires_python is None or package.requires_python.contains(target.python, prereleases=True)
        wheel = _best(package, ranks) if fits else None
        source = _source(package) if wheel is None and fits and build_sdists else None
        if source is not None:
            sources.append(source)
        elif wheel is None:
            misses.append(Miss(package.name, str(package.version), offers(package), _why(package, target)))
        else:
            chosen.append(Chosen(package, wheel))
    return Selection(tuple(chosen), tuple(misses), tuple(skipped), tuple(sources))


def _floor(wheel: PackageWheel, accepted: Iterable[Tag]) -> int | None:
    """The least glibc 2 minor that installs a wheel on a platform of which ``accepted`` has all tags; 0: any."""
    parsed = _parsed(wheel.filename)
    if parsed is None:
        return None
    floors: list[int] = []
    for tag in parsed[1] & frozenset(accepted):
        if found := _MANYLINUX.match(tag.platform):
            floors.append(int(found[1]))
        else:
            floors.append(next((f for name, f in _LEGACY_FLOOR.items() if tag.platform.startswith(name)), 0))
    return min(floors, default=None)


def glibc_need(selection: Selection, target: Target) -> tuple[int, str] | None:
    """The least glibc 2 minor on which every chosen package still has a wheel, and the first package that sets it with
    that wheel's file name; None: any C library will do."""
    accepted = frozenset(replace(target, glibc=_ANY_GLIBC).tags)
    found: tuple[int, str] | None = None
    for package, _ in selection.chosen:
        floors = [(f, w.filename) for w in package.wheels or () if (f := _floor(w, accepted)) is not None]
        floor, filename = min(floors, default=(0, ""))
        if floor > (found[0] if found else 0):
            found = (floor, f"{package.name} {package.version} ({filename})")
    return found


def nearest(lock: Lock, target: Target, pythons: Sequence[str] = (), *, build_sdists: bool = False) -> Nearest:
    """The Python minor version, and its least glibc, that satisfies the most packages on the target's platform; one of
    ``pythons``, if there are any, and with ``build_sdists`` a source distribution will do.

    Among equals the one with the most wheels, then the one closest to the Python that the lock was made for.
    """
    wanted = Version(lock.python or target.minor).minor
    found: list[tuple[int, int, int, Nearest]] = []
    for python in pythons or _PYTHONS:
        # The last patch release of a minor version meets every floor inside it (Requires-Python: >=3.9.1).
        trial = replace(target, python=Version(f"{python}.99"), glibc=_ANY_GLIBC)
        accepted = frozenset(trial.tags)
        packages, _ = applicable(lock, trial)
        missing: list[str] = []
        glibc = built = 0
        for package in packages:
            fits = package.requires_python is None or package.requires_python.contains(trial.python, prereleases=True)
            floors = [f for w in package.wheels or () if fits and (f := _floor(w, accepted)) is not None]
            if floors:
                glibc = max(glibc, min(floors))
            elif fits and build_sdists and _source(package) is not None:
                built += 1
            else:
                missing.append(package.name)
        total = len(packages)
        answer = Nearest(python, glibc or None, total - len(missing), total, tuple(missing), built)
        found.append((len(missing), built, abs(int(python[2:]) - wanted), answer))
    return min(found, key=lambda row: row[:3])[3]


def _span(values: Sequence[str]) -> Iterator[str]:
    """``cp36 cp37 cp38`` → ``cp36–cp38``, other tags as they are."""
    numbers = sorted(int(v[3:]) for v in values if re.fullmatch(r"cp3\d+", v))
    while numbers:
        last = 0
        while last + 1 < len(numbers) and numbers[last + 1] == numbers[last] + 1:
            last += 1
        yield f"cp3{numbers[0]}" if last == 0 else f"cp3{numbers[0]}–cp3{numbers[last]}"
        del numbers[: last + 1]
    yield from sorted(v for v in values if not re.fullmatch(r"cp3\d+", v))


def _family(platform: str) -> str:
    if found := _MANYLINUX.match(platform):
        return f"glibc 2.{found[1]} {platform[found.end() :]}"
    for name, floor in _LEGACY_FLOOR.items():
        if platform.startswith(name):
            return f"glibc 2.{floor} {platform[len(name) :]}"
    if platform.startswith("macosx"):
        return "macOS"
    if platform.startswith("musllinux"):
        return "musl"
    return {"any": "any", "win32": "Windows", "win_amd64": "Windows", "win_arm64": "Windows"}.get(platform, platform)


def offers(package: Package) -> str:
    """What the lock offers of a package, short enough for a table: ``cp36–cp39: glibc 2.17 x86_64, macOS; sdist``."""
    by_platform: dict[str, set[str]] = {}
    for wheel in package.wheels or ():
        parsed = _parsed(wheel.filename)
        for tag in parsed[1] if parsed else ():
            by_platform.setdefault(_family(tag.platform), set()).add(tag.interpreter)
    by_pythons: dict[str, list[str]] = {}
    for family, pythons in sorted(by_platform.items()):
        by_pythons.setdefault(" ".join(_span(sorted(pythons))), []).append(family)
    parts = [f"{pythons}: {', '.join(families)}" for pythons, families in by_pythons.items()]
    if package.sdist:
        parts.append("source distribution")
    return "; ".join(parts) or "nothing"
