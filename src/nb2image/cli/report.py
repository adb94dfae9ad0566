"""A plan and a finished image as people read them, and as one JSON document."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nb2image.index.credentials import redact
from nb2image.plan import Plan
from nb2image.sizes import shown

if TYPE_CHECKING:
    from nb2image.abi.check import Findings
    from nb2image.build import Built
    from nb2image.target.match import Row
    from nb2image.target.select import Chosen

__all__ = ["built_document", "plan_document", "print_plan"]

_ROWS = 8
"""Bases that were not chosen are shown, without -v."""


def _packages(chosen: Sequence[Chosen]) -> list[dict[str, Any]]:
    return [
        {
            "name": package.name,
            "version": str(package.version),
            "file": wheel.filename,
            "size": wheel.size,
            "hashes": dict(wheel.hashes),
        }
        for package, wheel in chosen
    ]


def _sources(plan: Plan) -> list[dict[str, Any]]:
    """What has to be built, and once it is, from what and to what."""
    built = {each.package.name: each for each in plan.built}
    rows: list[dict[str, Any]] = []
    for source in plan.sources:
        package, sdist = source
        rows.append(
            {
                "name": package.name,
                "version": str(package.version),
                "file": sdist.filename,
                "size": sdist.size,
                "hashes": dict(sdist.hashes),
                "looks": source.looks,
            }
        )
        if (done := built.get(package.name)) is not None:
            rows[-1] |= {
                "wheel": {"file": done.filename, "size": done.size, "digest": done.digest},
                "build_requires": [each.document() for each in done.requirements],
                "sandbox": done.sandbox,
                "built_in": done.image,
                "cached": done.cached,
            }
    return rows


def _system(plan: Plan) -> dict[str, Any] | None:
    """Packages of the base's distribution that are added to it; None where none were asked for."""
    if plan.system is None:
        return None
    lock = plan.system.lock
    return {
        "asked": [str(each) for each in plan.system.wanted],
        "libraries": [
            {"soname": each.soname, "needed_by": list(each.by), "package": lock.libraries.get(each.soname) or None}
            for each in plan.system.needed
        ],
        "suite": lock.suite,
        "date": lock.date,
        "digest": lock.digest,
        "size": lock.size,
        "packages": [{"name": deb.name, "version": deb.version, "size": deb.size} for deb in lock.packages],
    }


def _cuda(plan: Plan, libraries: Findings | None) -> dict[str, Any]:
    """What the stack needs of CUDA. ``need``: nothing, driver (the wheels bring the rest) or libraries (of the base);
    ``version`` is the newest CUDA that anything uses, ``driver`` the oldest Linux driver for it, ``files`` what the
    wheels' files tell, null where nobody has read them yet."""
    from nb2image.abi.cuda import cuda_lacks, driver_users

    need = plan.match.cuda
    return {
        "need": need.kind,
        "required": plan.request.gpu,
        "version": str(need.version) if need.version else None,
        "libraries": [
            {"package": each.package, "cuda": str(each.cuda), "cudnn": str(each.cudnn) if each.cudnn else None}
            for each in need.libraries
        ],
        "driver": need.driver,
        "evidence": [asdict(each) for each in need.evidence],
        "notes": list(plan.match.notes),
        "files": None
        if libraries is None
        else {
            "lacks": [each._asdict() for each in cuda_lacks(libraries)],
            "driver": [{"package": package, "sonames": list(names)} for package, names in driver_users(libraries)],
        },
    }


def plan_document(plan: Plan, libraries: Findings | None) -> dict[str, Any]:
    """What is decided, as JSON: the same members that a build's document has. ``libraries`` None: only a build, which
    has the wheels, can tell."""
    from nb2image.abi.report import document

    candidate = plan.match.candidate
    return {
        "notebook": plan.notebook.document_name,
        "title": plan.notebook.title,
        "mode": plan.request.mode,
        "lock": {
            "source": plan.lock.source,
            "digest": plan.lock.digest,
            "python": plan.lock.python,
            "indexes": [redact(url) for url in plan.lock.indexes],
            "fresh": plan.lock.freshness.fresh,
            "difference": plan.lock.freshness.difference or None,
            "notes": list(plan.lock.notes),
        },
        "base": {
            "name": candidate.name,
            "origin": candidate.origin,
            "python": str(candidate.target.python),
            "glibc": str(candidate.target.glibc) if candidate.target.glibc else None,
            "platform": str(candidate.target.platform),
            "reasons": list(plan.match.reasons),
            "warnings": list(plan.match.warnings),
            "considered": [asdict(row) for row in plan.match.rows],
        },
        "cuda": _cuda(plan, libraries),
        "packages": _packages(plan.kernel),
        "sources": _sources(plan),
        "skipped": list(plan.match.selection.skipped),
        "runner": _packages(plan.runner),
        "support": _packages(plan.support),
        "bytecode": plan.request.with_bytecode,
        "system": _system(plan),
        "libraries": document(libraries) if libraries is not None else None,
    }


def built_document(built: Built, tags: Sequence[str], outputs: Sequence[str], run: str) -> dict[str, Any]:
    """The one document of ``build --json``. Sizes in bytes, seconds of wall time."""
    image = built.image
    document = plan_document(built.plan, built.libraries)
    document["base"] |= {"reference": built.base.reference, "digest": built.base.image.digest}
    return {
        **document,
        "digest": image.digest,
        "config": image.config_descriptor.digest,
        "tags": list(tags),
        "size": sum(layer.descriptor.size for layer in image.layers),
        "layers": [
            {
                "digest": layer.descriptor.digest,
                "diff_id": layer.diff_id,
                "size": layer.descriptor.size,
                "comment": layer.comment,
            }
            for layer in image.layers
        ],
        "conflicts": [conflict._asdict() for conflict in built.conflicts],
        "seconds": {stage: round(seconds, 3) for stage, seconds in built.seconds.items()},
        "outputs": list(outputs),
        "run": run,
    }


def _line(name: str, text: str) -> None:
    click.echo(f"{click.style(f'{name:<9}', bold=True)} {text}")


def _wheels(chosen: Sequence[Chosen]) -> str:
    """How many and how large; an index need not tell sizes (PEP 503 has none)."""
    if any(wheel.size is None for _, wheel in chosen):
        return f"{len(chosen)} wheels"
    return f"{len(chosen)} wheels, {shown(sum(wheel.size or 0 for _, wheel in chosen))}"


def _print_considered(rows: Sequence[Row], *, verbose: bool) -> None:
    """The bases that were not chosen, the best first: as a table on a terminal, else a line each."""
    others = [row for row in rows if not row.chosen]
    shown_rows = others if verbose else others[:_ROWS]
    if shown_rows and sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("base", "what it is", "packages", "why, or why not", box=box.SIMPLE, pad_edge=False)
        for row in (*(row for row in rows if row.chosen), *shown_rows):
            counted = f"{row.satisfied} of {row.total}" if row.total else "–"
            style = "bold" if row.chosen else None
            table.add_row(*map(Text, (row.name, row.target, counted, _told(row))), style=style)
        Console(highlight=False).print(table)
    else:
        for row in shown_rows:
            _line("  not", f"{row.name} ({row.target}): {row.reason}")
    if len(others) > len(shown_rows):
        _line("  not", f"{len(others) - len(shown_rows)} more, which -v shows")


def _told(row: Row) -> str:
    """Everything for and against a base; the reason comes first."""
    return "; ".join(dict.fromkeys((row.reason, *row.advantages, *row.disadvantages)))


def _print_cuda(plan: Plan, libraries: Findings | None, *, verbose: bool) -> None:
    """What is needed of CUDA by the rules, and what the wheels' files tell, where they were read."""
    from nb2image.abi.cuda import cuda_lacks, driver_users
    from nb2image.libraries import beside_rules

    need = plan.match.cuda
    lacks = cuda_lacks(libraries) if libraries is not None else ()
    drivers = driver_users(libraries) if libraries is not None else ()
    nothing = (
        "no rule knows a locked package that uses it, but" if lacks or drivers else "nothing that is locked uses it"
    )
    _line("cuda", nothing if need.kind == "nothing" else str(need))
    evidence = need.evidence if verbose else need.evidence[:3]
    for each in evidence:
        _line("  why", str(each) + (f" ({each.source})" if verbose else ""))
    if len(need.evidence) > len(evidence):
        _line("  why", f"{len(need.evidence) - len(evidence)} more packages, which -v shows")
    for lack in lacks:
        _line("  files", f"{lack.title} needs {lack}{beside_rules(plan, lack)}; neither wheels nor base have it")
    for package, sonames in drivers:
        _line("  files", f"{package} needs {', '.join(sonames)} of NVIDIA's driver")
    for note in plan.match.notes:
        _line("  gpu", note)


def _print_libraries(plan: Plan, libraries: Findings | None) -> None:
    """What wheels need of the system; ``build`` adds it to Debian's bases."""
    from nb2image.abi.cuda import without_cuda
    from nb2image.abi.report import by_package

    certain = [each for each in without_cuda(libraries).missing if each.certain] if libraries is not None else []
    if libraries is None:
        _line("libraries", "`nb2image build` checks, once the wheels are here, which shared libraries they need")
    elif not certain:
        but = " but those of CUDA" if any(each.certain for each in libraries.missing) else ""
        _line("libraries", f"all shared libraries that the wheels need are there{but}")
    else:
        added = "; build adds the Debian packages that have them" if plan.request.add_missing else ""
        _line("libraries", f"{len(certain)} that the wheels need {'is' if len(certain) == 1 else 'are'} missing{added}")
        for package, sonames in by_package(certain).items():
            _line("  missing", f"{package} needs {', '.join(sonames)}")
    for each in libraries.programs if libraries is not None else ():
        _line("  missing", f"{each.package} runs the program {each.program}; {each.debian} in apt.txt adds it")


def print_plan(plan: Plan, libraries: Findings | None, *, verbose: bool) -> None:
    """The plan as a page: what, from which lock, on which base and why, with which packages."""
    lock, candidate = plan.lock, plan.match.candidate
    fresh = {True: "fresh", False: "STALE", None: "age unknown"}[lock.freshness.fresh]
    _line("notebook", f"{plan.notebook.document_name} ({plan.notebook.title})")
    _line("lock", f"{lock.source}, Python {lock.python or 'not stated'}, {len(lock.packages)} packages, {fresh}")
    if lock.indexes:
        _line("indexes", ", ".join(redact(url) for url in lock.indexes))
    for note in lock.notes:
        _line("note", note)
    _line("base", f"{candidate.name}: {candidate.target} ({candidate.origin})")
    for reason in plan.match.reasons:
        _line("  why", reason)
    for warning in plan.match.warnings:
        _line("  but", warning)
    _print_considered(plan.match.rows, verbose=verbose)
    _print_cuda(plan, libraries, verbose=verbose)
    if plan.system is not None:
        _line("system", plan.system.sentence())
    _print_libraries(plan, libraries)
    _line("kernel", _wheels(plan.kernel))
    for source in plan.sources:
        compiler = {"compiled": "with a compiler", "unknown": "whether with a compiler shows after its download"}
        _line("  build", f"{source.sdist.filename}, in a sandbox; {compiler[source.looks]}")
    if plan.match.selection.skipped:
        _line("  not", f"excluded by markers: {', '.join(plan.match.selection.skipped)}")
    if plan.support:
        _line("support", f"{_wheels(plan.support)}, since the lock brings no ipykernel")
    _line("runner", f"{plan.request.mode}: {_wheels(plan.runner)}")
    _line("bytecode", "compiled" if plan.request.with_bytecode else "not compiled")
    if verbose:
        for package, wheel in plan.kernel:
            click.echo(f"  {package.name} {package.version}  {wheel.filename}")
        for deb in plan.system.lock.packages if plan.system is not None else ():
            click.echo(f"  {deb.name} {deb.version}  {deb.file.rpartition('/')[2]}")
