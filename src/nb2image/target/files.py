"""Why locked packages have no file that a target can install, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nb2image.errors import NoMatchingFiles
from nb2image.lock.model import Lock
from nb2image.target.model import Platform, Target
from nb2image.target.select import Nearest, Selection, nearest, select

__all__ = ["no_files"]


def no_files(
    lock: Lock,
    target: Target,
    selection: Selection,
    unbuilt: str = "",
    elsewhere: str = "",
    *,
    pythons: Sequence[str] = (),
    build_sdists: bool = False,
) -> NoMatchingFiles:
    """The error table: one row per package, and the nearest target that would do.

    ``unbuilt`` says why source distributions of the table are not built, and what would change that; ``elsewhere``
    is a sentence on a base that would do; ``pythons`` and ``build_sdists`` limit what would, as for `nearest`.
    """
    total = len(selection.chosen) + len(selection.sources) + len(selection.misses)
    close: Nearest = nearest(lock, target, pythons, build_sdists=build_sdists)
    first = max(len(f"{m.name} {m.version}") for m in selection.misses)
    reason = max(len(m.reason) for m in selection.misses)
    rows = [f"{'package':<{first}}  {'why not':<{reason}}  the lock offers"]
    rows += [f"{f'{m.name} {m.version}':<{first}}  {m.reason:<{reason}}  {m.offers}" for m in selection.misses]
    rows.append(f"the target accepts: {_accepts(target)}")
    names = ", ".join(m.name for m in selection.misses[:3])
    count = len(selection.misses)
    what = f"{names} has no file" if count == 1 else f"{count} of {total} locked packages have no file"
    advice = f"{close}." if close.python != target.minor or not close.missing else ""
    usual = replace(target, platform=Platform())
    if target.platform != usual.platform and select(lock, usual, build_sdists=build_sdists).complete:
        advice = f"For {usual.platform} each of the packages has a file: build with --platform {usual.platform}."
    sources = [m.name for m in selection.misses if m.reason == "only a source distribution"]
    if sources:
        why = unbuilt or "and no strong hash of the lock holds them: lock another version."
        advice += f" {', '.join(sources)}: only source distributions, {why}"
    return NoMatchingFiles(
        f"{what} that {target} can install.",
        details=tuple(rows),
        hint=(elsewhere + advice).strip() or "Lock the notebook again for this target, or choose another base.",
    )


def _accepts(target: Target) -> str:
    pythons = f"cp{target.python.major}{target.python.minor}, abi3 of earlier ones, py3"
    libc = f"manylinux up to glibc {target.glibc}" if target.glibc else "linux"
    return f"{pythons}; {libc}, {target.platform.machine}, any"
