"""What was found, in words and as JSON."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any

from nb2image.abi.check import Findings, MissingLibrary
from nb2image.errors import MissingLibraries
from nb2image.progress import Listener, Note, Warned

__all__ = ["by_package", "document", "sentence", "tell"]

_TOO_OLD = "Choose a newer base, which `nb2image bases list` shows, or lock an older version of the package."


def sentence(missing: MissingLibrary, base: str, besides: str = "") -> str:
    """One library in one sentence: which wheel and file need it, and what the base has instead. ``besides``: whose
    packages do not have it either (``Debian bookworm``)."""
    filename, path = missing.needed_by[0]
    others = {file for file, _ in missing.needed_by} - {filename}
    more = f" (and {len(others)} more wheel{'s' if len(others) > 1 else ''})" if others else ""
    verb = "opens" if missing.why else "needs"
    if missing.found is None:
        has = f"nor any package of {besides} has" if besides else "have"
        return f"{filename}{more}: {path} {verb} {missing.soname}, which neither the wheels nor the base {base} {has}."
    versions = ", ".join(missing.versions)
    have = f"{missing.found} of the base {base} lacks it"
    return f"{filename}{more}: {path} needs {versions} of {missing.soname}, and {have}."


def by_package(missing: Iterable[MissingLibrary]) -> dict[str, list[str]]:
    """The sonames that each package lacks, both sorted."""
    found: dict[str, set[str]] = {}
    for each in missing:
        for package in each.packages:
            found.setdefault(package, set()).add(each.soname)
    return {package: sorted(sonames) for package, sonames in sorted(found.items())}


def tell(findings: Findings, base: str, listener: Listener, *, strict: bool, besides: str = "", hint: str = "") -> None:
    """Warn of each library that something imported needs, and note the others. ``besides`` as for `sentence`, ``hint``
    says what to do about those that nothing has.

    With ``strict`` the first kind raises `MissingLibraries`.
    """
    certain = [each for each in findings.missing if each.certain]
    if strict and certain:
        raise MissingLibraries(
            f"{len(certain)} shared librar{'y is' if len(certain) == 1 else 'ies are'} missing, "
            f"the first of them {posixpath.basename(certain[0].soname)}: {sentence(certain[0], base, besides)}",
            hint=f"{hint if certain[0].found is None else _TOO_OLD} Or build without --strict.",
            details=tuple(sentence(each, base, besides) for each in certain),
        )
    absent = [each for each in certain if each.found is None]
    for each in absent:
        # What to do is the same for all of them, and said once.
        listener(Warned(sentence(each, base, besides), hint if each is absent[-1] else ""))
    for each in certain:
        if each.found is not None:
            listener(Warned(sentence(each, base), _TOO_OLD))
    seldom = [
        each.soname if each.found is None else f"a newer {each.soname}" for each in findings.missing if not each.certain
    ]
    if seldom:
        shown = ", ".join(seldom[:3]) + (f" and {len(seldom) - 3} more" if len(seldom) > 3 else "")
        verb = "is" if len(seldom) == 1 else "are"
        listener(Note(f"{shown} {verb} missing, too; only what packages load on demand, such as plugins, needs that."))
    for program in findings.programs:
        hint = f"Write {program.debian} into an apt.txt beside the notebook, and it is added."
        text = f"{program.package} runs the program {program.program}, which the base {base} has not"
        if program.imported:
            listener(Warned(f"{text}; it cannot be imported without.", hint))
        else:
            listener(Note(f"{text}. {hint}"))
    if findings.driver:
        names = ", ".join(each.soname for each in findings.driver)
        listener(Note(f"NVIDIA's driver is needed for a part of the packages: {names} come from the host."))


def document(findings: Findings) -> dict[str, Any]:
    """As JSON: ``missing`` and ``driver``, a row for each library; ``programs``."""
    return {
        "missing": [_row(each) for each in findings.missing],
        "driver": [_row(each) for each in findings.driver],
        "programs": [each._asdict() for each in findings.programs],
    }


def _row(missing: MissingLibrary) -> dict[str, Any]:
    return {
        "soname": missing.soname,
        "versions": list(missing.versions),
        "found": missing.found,
        "certain": missing.certain,
        "why": missing.why or None,
        "needed_by": [{"wheel": wheel, "file": path} for wheel, path in missing.needed_by],
    }
