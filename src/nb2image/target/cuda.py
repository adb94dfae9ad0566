"""What a stack needs of CUDA, with evidence: nothing, a driver, or libraries of the base. Pure functions over rules.

CUDA libraries of one major version, from 11 on, serve programs that were built for an earlier minor version of it
(CUDA Compatibility guide, "Minor Version Compatibility"); before 11 each minor version has sonames of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nb2image.target.model import Cuda

__all__ = [
    "Evidence",
    "Libraries",
    "Need",
    "Rules",
    "advice",
    "cuda_need",
    "lacking",
    "need_of",
    "outlook",
    "parse_rules",
]

_COMPATIBLE_FROM = 11
_LEAST_POST = 90
"""The least number of a post release that names a CUDA: 9.0."""


@dataclass(frozen=True)
class Driver:
    """``minimum``: the oldest Linux driver for the CUDA versions ``series``; ``reports``: the CUDA that it has."""

    series: SpecifierSet
    minimum: str
    reports: Version

    @property
    def newest(self) -> str:
        """The newest CUDA of the series: ``12.x`` for a whole major version, else ``10.2``."""
        return f"{self.reports.major}.x" if len(self.series) > 1 else str(self.reports)


@dataclass(frozen=True)
class Rule:
    """A row of the table of packages; what its members mean stands in ``images/cuda.toml``."""

    kind: Literal["carried", "without", "libraries"]
    package: re.Pattern[str]
    versions: SpecifierSet
    local: re.Pattern[str] | None
    no_local: bool
    machine: str | None
    cuda: str
    cudnn: Version | None
    exact: bool
    unless: re.Pattern[str] | None
    newer: str
    cpu: bool
    source: str


@dataclass(frozen=True)
class NvidiaImage:
    """An image of NVIDIA; it has no Python, but its distribution packages ``pythons``."""

    tag: str
    cuda: Cuda
    pythons: tuple[str, ...]


@dataclass(frozen=True)
class Generation:
    """GPUs of one architecture, and the first CUDA that compiles for it."""

    name: str
    cuda: Version


@dataclass(frozen=True)
class Rules:
    """Everything that is known of CUDA, in the order of the file: the first row that fits a package counts."""

    drivers: tuple[Driver, ...] = ()
    packages: tuple[Rule, ...] = ()
    images: tuple[NvidiaImage, ...] = ()
    generations: tuple[Generation, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Why: ``package`` is a name with its version, ``says`` a phrase on it, ``source`` where that is stated;
    ``carries``: it brings the CUDA that it uses."""

    package: str
    says: str
    source: str
    carries: bool = False

    def __str__(self) -> str:
        return f"{self.package} {self.says}"


@dataclass(frozen=True)
class Libraries:
    """What one package loads from the base. ``exact``: no other minor version of CUDA will do; ``newer``: what could
    be locked instead, that brings it as wheels; ``cpu``: without a GPU it works, too."""

    package: str
    cuda: Version
    cudnn: Version | None = None
    exact: bool = False
    newer: str = ""
    cpu: bool = True

    def __str__(self) -> str:
        return f"CUDA {self.cuda}" + (f" and cuDNN {self.cudnn}" if self.cudnn else "")


@dataclass(frozen=True)
class Need:
    """``carried``: the newest CUDA that the wheels bring; ``libraries``: what the base has to bring; ``driver``: the
    oldest Linux driver that will do (None: not known), and ``reports`` the CUDA version which that driver has."""

    carried: Version | None = None
    libraries: tuple[Libraries, ...] = ()
    driver: str | None = None
    reports: Version | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def kind(self) -> Literal["nothing", "driver", "libraries"]:
        if self.libraries:
            return "libraries"
        return "driver" if self.carried else "nothing"

    @property
    def version(self) -> Version | None:
        """The newest CUDA that anything of the stack uses."""
        return max((*(each.cuda for each in self.libraries), *([self.carried] if self.carried else [])), default=None)

    def __str__(self) -> str:
        if self.kind == "nothing":
            return "nothing"
        driver = f"NVIDIA driver {self.driver} or newer" if self.driver else "an NVIDIA driver"
        if self.kind == "driver":
            return f"the locked packages bring CUDA {self.carried}; a GPU needs {driver} on the machine"
        wanted = ", ".join(dict.fromkeys(map(str, self.libraries)))
        return f"a GPU needs {wanted} in the base, and {driver} on the machine"


# -- the rules ---------------------------------------------------------------------------------------

_SECTIONS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "driver": (frozenset({"cuda", "minimum", "reports", "source"}), frozenset()),
    "carried": (frozenset({"package", "cuda", "source"}), frozenset({"versions", "local", "machine"})),
    "without": (frozenset({"package", "source"}), frozenset({"versions", "local", "machine"})),
    "libraries": (
        frozenset({"package", "cuda", "source"}),
        frozenset({"versions", "local", "machine", "cudnn", "exact", "unless", "newer", "cpu"}),
    ),
    "generation": (frozenset({"name", "cuda", "source"}), frozenset()),
    "image": (frozenset({"tag", "cuda", "cudnn", "pythons", "source"}), frozenset()),
}
_SWITCHES = frozenset({"exact", "cpu"})


def parse_rules(document: Mapping[str, Any], source: str) -> Rules:
    """The rules of a parsed file; ``source`` is its name. It ships with nb2image, so that a mistake in it is a defect:
    `ValueError` with table, row and key of the first one."""
    drivers: list[Driver] = []
    packages: list[Rule] = []
    images: list[NvidiaImage] = []
    generations: list[Generation] = []
    for section, rows in document.items():
        if section not in _SECTIONS or not isinstance(rows, list):
            raise ValueError(f"{source}: there is no table [[{section}]]; there are {', '.join(_SECTIONS)}.")
        for number, row in enumerate(rows, 1):
            where = f"[[{section}]] number {number}"
            try:
                _check_keys(row, section)
                if section == "driver":
                    Version(row["minimum"])
                    drivers.append(Driver(SpecifierSet(row["cuda"]), row["minimum"], Version(row["reports"])))
                elif section == "generation":
                    generations.append(Generation(row["name"], Version(row["cuda"])))
                elif section == "image":
                    cuda = Cuda(Version(row["cuda"]), Version(row["cudnn"]))
                    images.append(NvidiaImage(row["tag"], cuda, tuple(row["pythons"])))
                else:
                    packages.append(_rule(section, row))
            except (ValueError, re.error) as error:
                raise ValueError(f"{source}, {where}: {error}.") from error
    return Rules(tuple(drivers), tuple(packages), tuple(images), tuple(generations))


def _check_keys(row: object, section: str) -> None:
    needed, optional = _SECTIONS[section]
    if not isinstance(row, dict):
        raise ValueError("it is no table")
    for key, value in row.items():
        if key not in needed | optional:
            raise ValueError(f"the key {key!r} is none of {', '.join(sorted(needed | optional))}")
        if key == "pythons":
            if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
                raise ValueError("pythons has to be a list of strings")
        elif not isinstance(value, bool if key in _SWITCHES else str):
            raise ValueError(f"{key} has to be {'true or false' if key in _SWITCHES else 'a string'}")
        if value == "" and key != "local":
            raise ValueError(f"{key} is empty")
    if missing := sorted(needed - row.keys()):
        raise ValueError(f"the key {missing[0]!r} is missing")


def _rule(kind: Any, row: Mapping[str, Any]) -> Rule:
    package = re.compile(row["package"])
    local = row.get("local")
    cuda = row.get("cuda", "")
    if cuda == "name" and not package.groups:
        raise ValueError("cuda is read from the name, and package has no group")
    if cuda == "post" and row.get("local"):
        raise ValueError("cuda is read from the post release, and local is given, too")
    if cuda == "local" and not (local and re.compile(local).groups):
        raise ValueError("cuda is read from the local version, and local has no group")
    if cuda and cuda not in {"name", "local", "version", "post"}:
        Version(cuda)
    return Rule(
        kind,
        package,
        SpecifierSet(row.get("versions", "")),
        re.compile(local) if local else None,
        local == "",
        row.get("machine"),
        cuda,
        Version(row["cudnn"]) if "cudnn" in row else None,
        row.get("exact", False),
        re.compile(row["unless"]) if "unless" in row else None,
        row.get("newer", ""),
        row.get("cpu", True),
        row["source"],
    )


# -- what a stack needs ------------------------------------------------------------------------------


def cuda_need(packages: Iterable[tuple[str, Version]], machine: str, rules: Rules) -> Need:
    """What the chosen ``packages`` (normalised names) need on a ``machine`` (``uname -m``)."""
    locked = dict(packages)
    carried: list[Version] = []
    libraries: list[Libraries] = []
    evidence: list[Evidence] = []
    found: list[tuple[int, str, Rule, tuple[str, str]]] = []
    for name, version in locked.items():
        fitting = ((n, r, m) for n, r in enumerate(rules.packages) if (m := _fits(r, name, version, machine)))
        if (first := next(fitting, None)) is not None:
            found.append((first[0], name, first[1], first[2]))
    # In the order of the rules, which have the most telling ones first.
    for _, name, rule, groups in sorted(found, key=lambda row: row[:2]):
        version = locked[name]
        title = f"{name} {version}"
        if rule.kind == "without":
            evidence.append(Evidence(title, "is a build without CUDA", rule.source))
            continue
        cuda = _version(rule.cuda, version, groups)
        if rule.kind == "carried":
            carried.append(cuda)
            evidence.append(Evidence(title, f"brings CUDA {cuda}", rule.source, carries=True))
            continue
        wanted = Libraries(title, cuda, rule.cudnn, rule.exact, rule.newer, rule.cpu)
        brought = rule.unless and next((each for each in sorted(locked) if rule.unless.fullmatch(each)), None)
        if brought:
            carried.append(Version(str(cuda.major)))
            evidence.append(Evidence(title, f"loads CUDA from the wheel of {brought} {locked[brought]}", rule.source))
        else:
            libraries.append(wanted)
            evidence.append(Evidence(title, f"loads {wanted} from the base", rule.source))
    return need_of(libraries, rules, carried, evidence)


def need_of(
    libraries: Iterable[Libraries], rules: Rules, carried: Sequence[Version] = (), evidence: Sequence[Evidence] = ()
) -> Need:
    """The need of some libraries and of what wheels bring (``carried``), with the driver for the newest of them."""
    loaded = tuple(libraries)
    used = max((*carried, *(each.cuda for each in loaded)), default=None)
    driver = next((each for each in rules.drivers if used is not None and each.series.contains(used)), None)
    minimum, reports = (driver.minimum, driver.reports) if driver else (None, None)
    return Need(max(carried, default=None), loaded, minimum, reports, tuple(evidence))


def _fits(rule: Rule, name: str, version: Version, machine: str) -> tuple[str, str] | None:
    """The digits that the name and the local version give, where the rule is for this package."""
    named = rule.package.fullmatch(name)
    if named is None or (rule.machine is not None and rule.machine != machine):
        return None
    if not rule.versions.contains(version.public, prereleases=True):
        return None
    local = version.local or ""
    found = rule.local.search(local) if rule.local else None
    if (rule.local and found is None) or (rule.no_local and local):
        return None
    if rule.cuda == "post":
        # An ordinary post release has a small number.
        return ("", str(version.post)) if (version.post or 0) >= _LEAST_POST else None
    return next(filter(None, named.groups()), ""), found[1] if found and found.re.groups else ""


def _version(cuda: str, version: Version, groups: tuple[str, str]) -> Version:
    if cuda == "version":
        return Version(f"{version.major}.{version.minor}")
    if cuda == "name":
        return _of_digits(groups[0])
    return _of_digits(groups[1]) if cuda in {"local", "post"} else Version(cuda)


def _of_digits(digits: str) -> Version:
    """``12`` → 12, ``118`` → 11.8, ``92`` → 9.2: two digits that begin with 1 are a major version."""
    if len(digits) == 2 and digits.startswith("1"):
        return Version(digits)
    return Version(f"{digits[:-1]}.{digits[-1]}")


# -- what a base lacks -------------------------------------------------------------------------------


def lacking(need: Need, cuda: Cuda | None) -> str:
    """The first thing that the stack needs and a base with ``cuda`` does not have, as a phrase; empty: nothing."""
    for wanted in need.libraries:
        if cuda is None:
            return f"{wanted} for {wanted.package}"
        if not cuda.libraries:
            return f"the libraries of CUDA beside libcudart, for {wanted.package}"
        if not _serves(cuda.version, wanted.cuda, exact=wanted.exact):
            return f"CUDA {wanted.cuda} for {wanted.package} (it has {cuda.version})"
        if wanted.cudnn and (cuda.cudnn is None or cuda.cudnn.major != wanted.cudnn.major or cuda.cudnn < wanted.cudnn):
            return f"cuDNN {wanted.cudnn} for {wanted.package} (it has {cuda.cudnn or 'none'})"
    return ""


def _serves(has: Version, wanted: Version, *, exact: bool = False) -> bool:
    if exact or wanted.major < _COMPATIBLE_FROM:
        return (has.major, has.minor) == (wanted.major, wanted.minor)
    return has.major == wanted.major and has >= wanted


def advice(need: Need, python: str, rules: Rules) -> str:
    """What to do so that a stack which needs libraries of the base can use a GPU, as sentences: which image, or what to
    lock."""
    fitting = [each for each in rules.images if not lacking(need, each.cuda)]
    newer = next((each.newer for each in need.libraries if each.newer), "")
    locked = f"lock {newer}, which brings CUDA along" if newer else "lock versions that bring CUDA along"
    if not fitting:
        return f"{_capital(locked)}: no image that NVIDIA still offers has these libraries together."
    # The nearest that is enough, with the right Python where there is one.
    image = min(fitting, key=lambda each: (python not in each.pythons, each.cuda.version, each.tag))
    how = "docs/gpu.md shows two ways" if python in image.pythons else "docs/gpu.md shows how"
    driver = f" CUDA {need.version} needs NVIDIA driver {need.driver} or newer on the machine." if need.driver else ""
    return f"Build with --gpu on NVIDIA's image docker.io/{image.tag} with Python {python} added: {how}.{driver}" + (
        f" Or {locked}." if newer else ""
    )


def outlook(need: Need, python: str, rules: Rules) -> str:
    """What using a GPU would take, as a paragraph for a stack whose libraries the base lacks; empty for others."""
    if not need.libraries:
        return ""
    cpu = all(each.cpu for each in need.libraries)
    names = " and ".join(dict.fromkeys(each.package for each in need.libraries))
    several = len({each.package for each in need.libraries}) > 1
    wanted = " and ".join(dict.fromkeys(map(str, need.libraries)))
    now = (
        f"{names} will compute on the CPU"
        if cpu
        else f"{names} {'compute' if several else 'computes'} on GPUs only, and cannot"
    )
    others = ", ".join(dict.fromkeys(each.package for each in need.evidence if each.carries))
    themselves = f" {others} can use a GPU in this image as it is, since CUDA comes along." if others else ""
    return (
        f"{now} in this image. To use a GPU {'they need' if several else 'it needs'} NVIDIA's {wanted}, which neither "
        f"the base nor a locked package brings. {advice(need, python, rules)}{themselves}"
    )


def too_new(need: Need, rules: Rules) -> str:
    """A sentence on GPUs that are newer than the CUDA that wheels bring; empty where there are none. What is loaded
    from the base may be newer than what is asked for."""
    brought = need.carried
    if brought is None:
        return ""
    # A major version alone may be any of its minor ones.
    later = [
        each
        for each in sorted(rules.generations, key=lambda each: each.cuda)
        if (brought < each.cuda if len(brought.release) > 1 else brought.major < each.cuda.major)
    ]
    if not later:
        return ""
    return (
        f"CUDA {brought} is older than GPUs of the generation {later[0].name}: on these and later ones it may not work."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
