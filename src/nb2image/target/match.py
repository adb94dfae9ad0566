"""Which base fits a lock, and why: a pure function over the lock and what the providers offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from nb2image.errors import NoMatchingBase, NoMatchingFiles
from nb2image.lock.model import Lock
from nb2image.target.model import Target
from nb2image.target.select import Nearest, Selection, nearest, select

if TYPE_CHECKING:
    from nb2image.bases.model import Candidate

__all__ = ["Match", "Row", "Wishes", "match"]


@dataclass(frozen=True)
class Wishes:
    """What the user asked for. ``base``: a candidate's name, None for ``auto``; ``python``: ``X.Y`` or None;
    ``build_sdists``: a package without a wheel may be built from its source distribution."""

    base: str | None = None
    python: str | None = None
    build_sdists: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table that explains the choice; ``chosen`` or ``reason`` says why not."""

    name: str
    target: str
    satisfied: int
    total: int
    chosen: bool
    reason: str


@dataclass(frozen=True)
class Match:
    """The chosen candidate, the files it installs, and the table with a row for every candidate."""

    candidate: Candidate
    selection: Selection
    rows: tuple[Row, ...]
    reasons: tuple[str, ...]


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


def match(lock: Lock, candidates: Sequence[Candidate], wishes: Wishes) -> Match:
    """Choose by Python, then by what the packages need (glibc), then the one that has the fewest packages to build
    from source distributions, then the newest glibc, then the smallest size.

    The lock must be complete. Raises `NoMatchingBase` when no candidate has the Python that is wanted, and
    `NoMatchingFiles` when one has it but some packages have no file for it. Never takes another Python than
    the one asked for by ``--python`` or, failing that, by the lock.
    """
    named = [c for c in candidates if wishes.base in (None, c.name)]
    if not named:
        raise NoMatchingBase(
            f"There is no base named {wishes.base!r}.",
            hint=f"Choose one of {', '.join(sorted(c.name for c in candidates))}, or give the path of an image.",
        )
    python, asker = wanted_python(lock, wishes)
    fitting = [c for c in named if _python_fits(lock, c.target, python)]
    if not fitting:
        raise _no_python(lock, named, wishes, python, asker)
    tried = [(candidate, select(lock, candidate.target, build_sdists=wishes.build_sdists)) for candidate in fitting]
    complete = [(c, s) for c, s in tried if s.complete]
    if not complete:
        candidate, selection = min(tried, key=lambda pair: len(pair[1].misses))
        unbuilt = "" if wishes.build_sdists else "which --build-sdists never forbids to build."
        raise no_files(lock, candidate.target, selection, unbuilt)
    chosen, selection = max(
        complete,
        key=lambda pair: (-len(pair[1].sources), pair[0].target.glibc or Version("0"), -pair[0].size),
    )
    results = {c.name: s for c, s in tried}
    rows = tuple(_row(c, chosen, results.get(c.name), len(selection.sources), python, asker) for c in candidates)
    return Match(chosen, selection, rows, tuple(_reasons(lock, chosen, selection, python, asker, wishes)))


def _row(
    candidate: Candidate, chosen: Candidate, selection: Selection | None, built: int, python: str | None, asker: str
) -> Row:
    satisfied = len(selection.chosen) + len(selection.sources) if selection else 0
    total = satisfied + len(selection.misses) if selection else 0
    if candidate is chosen:
        reason = "chosen"
    elif selection is None:
        reason = f"Python {candidate.target.minor}, and {asker} asks for {python}" if python else "not asked for"
    elif selection.complete and len(selection.sources) > built:
        reason = f"{len(selection.sources)} packages would have to be built from source distributions"
    elif selection.complete:
        reason = "would do as well; the other has the newer glibc or is smaller"
    else:
        reason = f"{len(selection.misses)} packages have no file for it"
    return Row(candidate.name, str(candidate.target), satisfied, total, candidate is chosen, reason)


def _reasons(
    lock: Lock, chosen: Candidate, selection: Selection, python: str | None, asker: str, wishes: Wishes
) -> list[str]:
    reasons = []
    if wishes.base:
        reasons.append("asked for by --base")
    if python:
        reasons.append(f"{asker} asks for Python {python}, and it has {chosen.target.python}")
    elif lock.pylock.requires_python:
        reasons.append(f"the lock takes Python {lock.pylock.requires_python}, and it has {chosen.target.python}")
    else:
        reasons.append("the lock names no Python; this is the newest base that suits every package")
    libc = f" (glibc {chosen.target.glibc})" if chosen.target.glibc else ""
    if selection.sources:
        total = len(selection.chosen) + len(selection.sources)
        reasons.append(
            f"{len(selection.chosen)} of the {total} packages have a wheel for it{libc}, "
            f"and {len(selection.sources)} can be built from source distributions"
        )
    else:
        reasons.append(f"each of the {len(selection.chosen)} packages has a wheel for it{libc}")
    return reasons


def _no_python(
    lock: Lock, named: Sequence[Candidate], wishes: Wishes, python: str | None, asker: str
) -> NoMatchingBase:
    wanted = f"Python {python} ({asker})" if python else f"Python {lock.pylock.requires_python} ({lock.source})"
    offered = ", ".join(f"{c.name} (Python {c.target.minor})" for c in named)

    def selected(candidate: Candidate) -> Selection:
        return select(lock, candidate.target, build_sdists=wishes.build_sdists)

    usable = [c for c in named if selected(c).complete]
    if usable:
        best = min(usable, key=lambda c: abs(c.target.python.minor - Version(python or c.target.minor).minor))
        of_best = selected(best)
        total = len(of_best.chosen) + len(of_best.sources)
        built = f", or a source distribution to build ({len(of_best.sources)})" if of_best.sources else ""
        hint = (
            f"Every one of the {total} locked packages has a wheel for Python {best.target.minor}{built}: "
            f"build with --python {best.target.minor} if the notebook may run on it, or give an image that has "
            f"the right Python with --base PATH."
        )
    else:
        nearby = min(named, key=lambda c: len(selected(c).misses))
        selection = selected(nearby)
        missing = ", ".join(miss.name for miss in selection.misses[:6])
        more = f" and {len(selection.misses) - 6} more" if len(selection.misses) > 6 else ""
        hint = (
            f"No --python would do either: the closest, {nearby.target.minor}, lacks a wheel for {missing}{more}. "
            f"Lock the notebook again for one of these bases, or give an image with --base PATH."
        )
    what = f"The base {wishes.base!r} does not have" if wishes.base else "No base has"
    return NoMatchingBase(f"{what} {wanted}; there are: {offered}.", hint=hint)


def no_files(lock: Lock, target: Target, selection: Selection, unbuilt: str = "") -> NoMatchingFiles:
    """The error table: one row per package, and the nearest target that would do.

    ``unbuilt`` says why source distributions of the table are not built, and what would change that.
    """
    total = len(selection.chosen) + len(selection.misses)
    close: Nearest = nearest(lock, target)
    first = max(len(f"{m.name} {m.version}") for m in selection.misses)
    reason = max(len(m.reason) for m in selection.misses)
    rows = [f"{'package':<{first}}  {'why not':<{reason}}  the lock offers"]
    rows += [f"{f'{m.name} {m.version}':<{first}}  {m.reason:<{reason}}  {m.offers}" for m in selection.misses]
    rows.append(f"the target accepts: {_accepts(target)}")
    names = ", ".join(m.name for m in selection.misses[:3])
    count = len(selection.misses)
    what = f"{names} has no file" if count == 1 else f"{count} of {total} locked packages have no file"
    advice = f"{close}." if close.python != target.minor or not close.missing else ""
    sources = [m.name for m in selection.misses if m.reason == "only a source distribution"]
    if sources:
        why = unbuilt or "and no strong hash of the lock holds them: lock another version."
        advice += f" {', '.join(sources)}: only source distributions, {why}"
    return NoMatchingFiles(
        f"{what} that {target} can install.",
        details=tuple(rows),
        hint=advice.strip() or "Lock the notebook again for this target, or choose another base.",
    )


def _accepts(target: Target) -> str:
    pythons = f"cp{target.python.major}{target.python.minor}, abi3 of earlier ones, py3"
    libc = f"manylinux up to glibc {target.glibc}" if target.glibc else "linux"
    return f"{pythons}; {libc}, {target.platform.machine}, any"
