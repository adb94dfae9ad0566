"""From what the check of shared libraries found to what is asked of Debian."""

from __future__ import annotations

from nb2image.abi.check import Findings
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import SystemPackagesUnusable
from nb2image.system.installed import installed_in
from nb2image.system.wanted import Needed

__all__ = ["needed_of", "what_helps"]


def needed_of(findings: Findings, base: Base, store: Store) -> tuple[Needed, ...]:
    """The libraries that something imported needs and nothing has; none for a base that is not Debian's.

    A library that is there and too old is not among them: no package of the same suite has a newer one.
    """
    needed = tuple(
        Needed(each.soname, each.packages) for each in findings.missing if each.certain and each.found is None
    )
    if needed:
        try:
            installed_in(base, store)
        except SystemPackagesUnusable:
            return ()
    return needed


def what_helps(base: Base, store: Store, *, add_missing: bool) -> tuple[str, str]:
    """Of libraries that are missing in the end: whose packages were searched for them (``Debian bookworm``; may be
    empty), and what to do."""
    try:
        suite = installed_in(base, store).suite
    except SystemPackagesUnusable as error:
        return "", f"{error.message} {error.hint}"
    if not add_missing:
        return "", "Without --no-add-missing the Debian packages that have them are added; or name these in apt.txt."
    return f"Debian {suite}", (
        "The documentation of what needs them may say where they come from; another package, or another version, may "
        "do without them; docs/system-libraries.md says more."
    )
