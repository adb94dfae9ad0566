"""Which base fits a lock, and why: a pure function over the lock and what the providers offer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache, cached_property
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nb2image.errors import NoCuda, NoMatchingBase
from nb2image.lock.model import Lock
from nb2image.target.cuda import Need, Rules, advice, cuda_need, lacking, outlook, too_new
from nb2image.target.files import no_files
from nb2image.target.model import Target
from nb2image.target.select import Selection, glibc_need, select

if TYPE_CHECKING:
    from nb2image.bases.model import Candidate

__all__ = ["Match", "Row", "Wishes", "match"]


@dataclass(frozen=True)
class Wishes:
    """What the user asked for. ``base``: a candidate's name, None for ``auto``; ``python``: ``X.Y`` or None;
    ``build_sdists``: a package without a wheel may be built from its source distribution; ``gpu``: CUDA is required;
    ``today``: the day by which bases are past their end of life, None: none is; ``pythons``: the Pythons (``X.Y``) that
    notebooks can be started on, empty: any."""

    base: str | None = None
    python: str | None = None
    build_sdists: bool = False
    gpu: bool = False
    today: date | None = None
    pythons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of the table that explains the choice, for one candidate.

    ``reason`` is ``chosen`` or why not, in a phrase; ``advantages`` and ``disadvantages`` are all that was found for
    and against it; ``lacks`` is the one thing that kept it from being usable, empty when it is.
    """

    name: str
    target: str
    satisfied: int
    total: int
    chosen: bool
    reason: str
    advantages: tuple[str, ...] = ()
    disadvantages: tuple[str, ...] = ()
    lacks: str = ""


@dataclass(frozen=True)
class Match:
    """The chosen candidate, and the files it installs.

    ``cuda`` is what the chosen files need of CUDA; ``notes`` and ``warnings`` are sentences that a user must see.
    """

    candidate: Candidate
    selection: Selection
    reasons: tuple[str, ...]
    cuda: Need = field(default_factory=Need)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    table: Callable[[], tuple[Row, ...]] = field(default=tuple, repr=False, compare=False)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The table with a row for every candidate, best first; made when it is asked for, since a build shows none."""
        return self.table()

    @property
    def misses(self) -> tuple[Row, ...]:
        """The candidates that will not do, nearest first."""
        return tuple(row for row in self.rows if row.lacks)


@dataclass(frozen=True)
class _Tried:
    """A candidate with the right Python, and what comes of it."""

    candidate: Candidate
    selection: Selection
    cuda: Need
    gpu: bool
    today: date | None

    @property
    def past(self) -> bool:
        """Whether nobody mends this base any more."""
        end = self.candidate.end_of_life
        return end is not None and self.today is not None and end < self.today

    @property
    def idle_cuda(self) -> bool:
        """Whether it brings CUDA libraries, gigabytes, that nothing would load."""
        return self.candidate.target.cuda is not None and not (self.gpu and self.cuda.libraries)

    @property
    def lacks(self) -> str:
        """The one thing that keeps it from being usable."""
        misses = self.selection.misses
        if misses:
            first = f"{misses[0].name} {misses[0].version}: {misses[0].reason}"
            return first if len(misses) == 1 else f"{len(misses)} packages have no file for it, first {first}"
        if self.gpu:
            if self.cuda.kind == "nothing":
                return "anything locked that uses CUDA"
            return lacking(self.cuda, self.candidate.target.cuda)
        return ""

    def rank(self) -> tuple[object, ...]:
        """Larger is better. That a base brings no gigabytes for nothing, and is mended, goes before everything but
        fitting; then wheels before building, then the lowest order, the newest glibc and Python, the smallest, what is
        here already."""
        candidate, selection = self.candidate, self.selection
        return (
            -len(selection.misses),
            not self.lacks,
            not self.idle_cuda,
            not self.past,
            -len(selection.sources),
            -candidate.order,
            candidate.target.glibc or Version("0"),
            candidate.target.python.release[:2],
            -candidate.size,
            candidate.cached,
        )


def wanted_python(lock: Lock, wishes: Wishes) -> tuple[str | None, str]:
    """The Python to match, and who asked for it."""
    if wishes.python:
        return wishes.python, "--python"
    if lock.python:
        return lock.python, lock.source
    return None, ""


def _python_fits(lock: Lock, target: Target, python: str | None) -> bool:
    if python is not None:
        return target.minor == python
    requires = lock.pylock.requires_python
    return requires is None or requires.contains(target.python, prereleases=True)


def match(
    lock: Lock,
    candidates: Sequence[Candidate],
    wishes: Wishes,
    rules: Rules | None = None,
    elsewhere: Callable[[], Sequence[Candidate]] = tuple,
) -> Match:
    """Choose the best of the candidates that have the right Python and a file for every package; what is better,
    `_Tried.rank` says. ``rules`` tell what packages need of CUDA (None: nothing). Those ``elsewhere`` are never chosen;
    where one would do, rows and refusals tell of it, and only for these are they asked for.

    The lock must be complete. Raises `NoMatchingBase` when no candidate has the Python that is wanted,
    `NoMatchingFiles` when one has it but some packages have no file for it, and `NoCuda` when the GPU that is asked
    for could not be used. Never takes another Python than the one asked for by ``--python`` or, failing that, by the
    lock.
    """
    rules = rules or Rules()
    named = [c for c in candidates if wishes.base in (None, c.name)]
    if not named:
        raise NoMatchingBase(
            f"There is no base named {wishes.base!r}.",
            hint=f"Choose one of {', '.join(sorted(c.name for c in candidates))}, or give the path of an image.",
        )
    python, asker = wanted_python(lock, wishes)
    fitting = [c for c in named if _python_fits(lock, c.target, python)]

    @cache
    def remote() -> list[_Tried]:
        return _fitting_elsewhere(lock, elsewhere, wishes, python, rules)

    if not fitting:
        other = _instead(lock, candidates, wishes, python, rules)
        raise _no_python(lock, named, wishes, python, asker, other or _from_elsewhere(remote(), ""), rules)
    tried = _ranked(_try(lock, c, wishes, rules) for c in fitting)
    best = tried[0]
    if not best.selection.complete:
        unbuilt = "" if wishes.build_sdists else "which --build-sdists never forbids to build."
        raise no_files(
            lock,
            best.candidate.target,
            best.selection,
            unbuilt,
            _instead(lock, candidates, wishes, python, rules) or _from_elsewhere(remote(), ""),
            pythons=wishes.pythons,
            build_sdists=wishes.build_sdists,
        )
    if best.lacks:
        raise _no_cuda(best, wishes, rules, remote())
    chosen = best.candidate
    wanted = Version(python or chosen.target.minor).minor
    others = sorted(
        (c for c in candidates if c not in fitting), key=lambda c: (abs(c.target.python.minor - wanted), c.name)
    )

    def table() -> tuple[Row, ...]:
        usable = sum(not each.lacks for each in tried)
        return (
            *(_row(each, best) for each in tried[:usable]),
            *(_row(each, best, elsewhere=True) for each in remote()),
            *(_row(each, best) for each in tried[usable:]),
            *(_other(c, named, python, asker, lock) for c in others),
        )

    reasons = tuple(_reasons(lock, best, python, asker, wishes))
    if wishes.gpu:
        note = too_new(best.cuda, rules)
    else:
        note = outlook(best.cuda, chosen.target.minor, rules) if lacking(best.cuda, chosen.target.cuda) else ""
    warnings = (_out_of_support(best, wishes, remote()),) if best.past else ()
    return Match(chosen, best.selection, reasons, best.cuda, (note,) if note else (), warnings, table)


def _ranked(tried: Iterable[_Tried]) -> list[_Tried]:
    """The best first; of equals, by name."""
    return sorted(sorted(tried, key=lambda each: each.candidate.name), key=_Tried.rank, reverse=True)


def _fitting_elsewhere(
    lock: Lock, elsewhere: Callable[[], Sequence[Candidate]], wishes: Wishes, python: str | None, rules: Rules
) -> list[_Tried]:
    """Those elsewhere that would do and are still mended, or failing these all that would do; the best first."""
    if wishes.base or python is None:
        return []
    named = (each for each in elsewhere() if each.target.minor == python)
    found = [each for each in _ranked(_try(lock, c, wishes, rules) for c in named) if not each.lacks]
    return [each for each in found if not each.past] or found


def _to_build(tried: _Tried) -> str:
    count = len(tried.selection.sources)
    return f"{count} package{'s' if count > 1 else ''} would have to be built from source distributions"


def _instead(lock: Lock, candidates: Sequence[Candidate], wishes: Wishes, python: str | None, rules: Rules) -> str:
    """A sentence on the base that would be taken if none were asked for; empty where that would not do either."""
    if wishes.base is None:
        return ""
    fitting = [each for each in candidates if _python_fits(lock, each.target, python)]
    found = [each for each in _ranked(_try(lock, each, wishes, rules) for each in fitting) if not each.lacks]
    return f"The base {found[0].candidate.name} fits: leave --base {wishes.base} out. " if found else ""


def _from_elsewhere(remote: Sequence[_Tried], instead: str) -> str:
    """A sentence on the best base elsewhere; empty where there is none."""
    if not remote:
        return ""
    name = remote[0].candidate.name
    past = f"; it has been out of support since {remote[0].candidate.end_of_life}" if remote[0].past else ""
    return f"A registry has a base that fits{instead}: --base {name}{past}. "


def _out_of_support(best: _Tried, wishes: Wishes, remote: Sequence[_Tried]) -> str:
    chosen = best.candidate
    why = f"{chosen.name} has been out of support since {chosen.end_of_life}: nobody mends its security faults."
    if wishes.base:
        return f"{why} It was asked for."
    mended = [each for each in remote if not each.past]
    if mended:
        return f"{why} {_from_elsewhere(mended, ' and is still mended').rstrip()}"
    return f"{why} No better base fits the lock; lock the notebook for a newer Python when you can."


def _try(lock: Lock, candidate: Candidate, wishes: Wishes, rules: Rules) -> _Tried:
    target = candidate.target
    selection = select(lock, target, build_sdists=wishes.build_sdists)
    locked = _locked(selection)
    return _Tried(candidate, selection, cuda_need(locked, target.platform.machine, rules), wishes.gpu, wishes.today)


def _locked(selection: Selection) -> list[tuple[str, Version]]:
    packages = [*(each.package for each in selection.chosen), *(each.package for each in selection.sources)]
    return [(each.name, each.version) for each in packages if each.version is not None]


# -- the table ---------------------------------------------------------------------------------------


def _row(tried: _Tried, best: _Tried, *, elsewhere: bool = False) -> Row:
    candidate, selection = tried.candidate, tried.selection
    satisfied = len(selection.chosen) + len(selection.sources)
    chosen = tried is best
    reason = "chosen" if chosen else tried.lacks or _worse(tried, best)
    if elsewhere:
        reason = "would do; it is in a registry, and --base with this name takes it from there"
    return Row(
        candidate.name,
        str(candidate.target),
        satisfied,
        satisfied + len(selection.misses),
        chosen,
        reason,
        tuple(_for(tried)),
        tuple(_against(tried)),
        tried.lacks,
    )


def _other(candidate: Candidate, named: Sequence[Candidate], python: str | None, asker: str, lock: Lock) -> Row:
    """The row of a candidate that was not tried."""
    if candidate not in named:
        reason = lacks = "not asked for"
    elif python:
        reason, lacks = f"Python {candidate.target.minor}, and {asker} asks for {python}", f"Python {python}"
    else:
        lacks = f"Python {lock.pylock.requires_python}"
        reason = f"Python {candidate.target.python}, and {lock.source} takes {lock.pylock.requires_python}"
    return Row(candidate.name, str(candidate.target), 0, 0, False, reason, (), (reason,), lacks)


def _for(tried: _Tried) -> Iterable[str]:
    target, selection = tried.candidate.target, tried.selection
    if selection.complete and not selection.sources:
        yield f"all {len(selection.chosen)} packages have wheels for it"
    if tried.gpu and not tried.lacks:
        yield f"has {target.cuda}" if tried.cuda.libraries else f"the wheels bring CUDA {tried.cuda.carried}"
    if tried.candidate.cached:
        yield "is on this machine"


def _against(tried: _Tried) -> Iterable[str]:
    if tried.lacks:
        yield tried.lacks
    if tried.selection.sources:
        yield _to_build(tried)
    if tried.past:
        yield f"out of support since {tried.candidate.end_of_life}"
    if tried.idle_cuda:
        yield f"brings {tried.candidate.target.cuda}, which nothing would load"


def _worse(tried: _Tried, best: _Tried) -> str:
    """The first thing in which a usable base is behind the chosen one."""
    mine, other = tried.candidate, best.candidate
    if tried.idle_cuda and not best.idle_cuda:
        return f"brings {mine.target.cuda}, which nothing would load"
    if tried.past and not best.past:
        return f"out of support since {mine.end_of_life}"
    if len(tried.selection.sources) > len(best.selection.sources):
        return _to_build(tried)
    if mine.order != other.order:
        why = "nb2image assembles it itself" if other.order == 0 else "it needs no registry"
        return f"would do as well; {other.name} goes first, since {why}"
    if mine.target.glibc != other.target.glibc:
        return f"would do as well; {other.name} has the newer glibc ({other.target.glibc})"
    if mine.target.minor != other.target.minor:
        return f"would do as well; {other.name} has the newer Python ({other.target.minor})"
    if mine.size != other.size:
        return f"would do as well; {other.name} is smaller"
    return f"would do as well as {other.name}" + (
        ", which is on this machine" if other.cached and not mine.cached else ""
    )


# -- reasons -----------------------------------------------------------------------------------------


def _reasons(lock: Lock, best: _Tried, python: str | None, asker: str, wishes: Wishes) -> Iterable[str]:
    target, selection = best.candidate.target, best.selection
    if wishes.base:
        yield "asked for by --base"
    if python:
        yield f"{asker} asks for Python {python}, and it has {target.python}"
    elif lock.pylock.requires_python:
        yield f"the lock takes Python {lock.pylock.requires_python}, and it has {target.python}"
    else:
        yield "the lock names no Python; this is the newest base that suits every package"
        if floor := _highest_floor(selection):
            yield floor
    libc = f" (glibc {target.glibc})" if target.glibc else ""
    if selection.sources:
        total = len(selection.chosen) + len(selection.sources)
        yield (
            f"{len(selection.chosen)} of the {total} packages have a wheel for it{libc}, "
            f"and {len(selection.sources)} can be built from source distributions"
        )
    else:
        yield f"each of the {len(selection.chosen)} packages has a wheel for it{libc}"
    if needed := glibc_need(selection, target):
        yield f"glibc 2.{needed[0]} or newer is needed, by {needed[1]}"
    if wishes.gpu:
        if best.cuda.libraries:
            yield f"it brings {target.cuda}, and {_listed(best.cuda)}"
        else:
            yield f"the wheels bring CUDA {best.cuda.carried}, so the base needs none"


def _listed(need: Need) -> str:
    return ", ".join(f"{each.package} loads {each}" for each in need.libraries)


def _highest_floor(selection: Selection) -> str:
    """Which package asks for the newest Python, by its Requires-Python."""

    def floor(specifiers: SpecifierSet) -> Version:
        least = (Version(s.version) for s in specifiers if s.operator in {">=", ">", "~="})
        return max(least, default=Version("0"))

    stated = [each.package for each in selection.chosen if each.package.requires_python]
    highest = max(stated, key=lambda each: floor(each.requires_python or SpecifierSet()), default=None)
    if highest is None:
        return ""
    return f"{highest.name} {highest.version} takes Python {highest.requires_python}; no other package asks for newer"


def _no_cuda(best: _Tried, wishes: Wishes, rules: Rules, remote: Sequence[_Tried] = ()) -> NoCuda:
    target = best.candidate.target
    if best.cuda.kind == "nothing":
        elsewhere = cuda_need(_locked(best.selection), "x86_64", rules)
        if target.platform.machine != "x86_64" and elsewhere.kind != "nothing":
            return NoCuda(
                f"--gpu asks for CUDA, and on {target.platform} no locked package uses it: {elsewhere.evidence[0]} on "
                "linux/amd64 only.",
                hint=f"Build for linux/amd64, or lock builds that have CUDA for {target.platform}, or leave --gpu out.",
            )
        built = next((f": {each}" for each in best.cuda.evidence), "")
        return NoCuda(
            f"--gpu asks for CUDA, and no locked package uses it, as far as nb2image knows{built}.",
            hint="Lock a build that brings CUDA, or leave --gpu out. For a package that nb2image does not know, "
            "--env NVIDIA_VISIBLE_DEVICES=all gives the image the GPUs.",
        )
    if wishes.base:
        having = f"the base {wishes.base} {f'lacks {best.lacks}' if target.cuda else 'has none'}"
    else:
        having = "no base that fits the lock has that"
        having += f": {best.candidate.name} lacks {best.lacks}" if target.cuda else ""
    return NoCuda(
        f"--gpu asks for CUDA: {_listed(best.cuda)} from the base, and {having}.",
        hint=_from_elsewhere(remote, "") or advice(best.cuda, target.minor, rules),
    )


def _no_python(
    lock: Lock,
    named: Sequence[Candidate],
    wishes: Wishes,
    python: str | None,
    asker: str,
    elsewhere: str,
    rules: Rules,
) -> NoMatchingBase:
    wanted = f"Python {python} ({asker})" if python else f"Python {lock.pylock.requires_python} ({lock.source})"
    offered = ", ".join(f"{c.name} (Python {c.target.minor})" for c in named)
    startable = python is None or not wishes.pythons or python in wishes.pythons
    own = "" if startable else f" nb2image starts notebooks on Python {wishes.pythons[0]} to {wishes.pythons[-1]} only."
    bring = ", or give an image that has the right Python with --base PATH" if startable and not elsewhere else ""
    tried = [_try(lock, candidate, wishes, rules) for candidate in named]
    usable = [each for each in tried if each.selection.complete]
    if usable:
        asked = Version(python or "0").minor if python else None

        def distance(each: _Tried) -> tuple[int, bool, int]:
            minor = each.candidate.target.python.minor
            return (abs(minor - asked) if asked is not None else 0, each.past, -minor)

        best = min(usable, key=distance)
        hint = f"{_other_python(best)}{bring}."
        if best.lacks:
            hint += f" {_no_cuda(best, wishes, rules).hint}"
    else:
        nearby = min(tried, key=lambda each: len(each.selection.misses))
        misses = nearby.selection.misses
        missing = ", ".join(miss.name for miss in misses[:6])
        more = f" and {len(misses) - 6} more" if len(misses) > 6 else ""
        hint = (
            f"No --python would do either: the closest, {nearby.candidate.target.minor}, lacks a wheel for "
            f"{missing}{more}. Lock the notebook again for one of these bases{bring}."
        )
    what = f"The base {wishes.base!r} does not have" if wishes.base else "No base has"
    return NoMatchingBase(f"{what} {wanted}; there are: {offered}.{own}", hint=elsewhere + hint)


def _other_python(best: _Tried) -> str:
    """That the packages would also go on the Python of another base, and how."""
    minor = best.candidate.target.minor
    sources = best.selection.sources
    total = len(best.selection.chosen) + len(sources)
    have = f"Each of the {total} locked packages has a wheel for Python {minor}"
    if sources:
        compiled = sum(each.looks == "compiled" for each in sources)
        doubt = (
            f" (compiling {compiled} of them, whose wheels are for other Pythons, may well fail)" if compiled else ""
        )
        have = (
            f"{total - len(sources)} of the {total} locked packages have a wheel for Python {minor}, and "
            f"{len(sources)} would be built from source distributions{doubt}"
        )
    return f"{have}: build with --python {minor} if the notebook may run on it"
