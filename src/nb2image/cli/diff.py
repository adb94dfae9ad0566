"""``nb2image diff``: what differs between two images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from nb2image.cli.image import image_options, opened, provenance, wanted_platform
from nb2image.errors import ImagesDiffer
from nb2image.runtime import KERNEL

if TYPE_CHECKING:
    from nb2image.inspection.compare import Changed, Difference, FileChange, PackageChange, Setting
    from nb2image.inspection.model import LayerFacts

__all__ = ["diff"]

_ROWS = 20
_FOLLOW = {
    "org.opencontainers.image.base.digest",
    "org.opencontainers.image.base.name",
    "io.nb2image.lock.digest",
    "io.nb2image.python",
    "io.nb2image.system.lock.digest",
    "io.nb2image.system.packages",
}
"""Labels of what is shown in other rows."""
_WORDS = {"added": "+", "removed": "-", "changed": "~"}


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--files", is_flag=True, help="List every file that differs; with --json, in the document.")
@click.option("--packages", is_flag=True, help="List every package that differs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--exit-code", is_flag=True, help="Leave with exit code 80 where the images differ.")
@image_options
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def diff(
    before: str,
    after: str,
    files: bool,
    packages: bool,
    as_json: bool,
    exit_code: bool,
    preferred: str | None,
    platform: str | None,
    plain_http: bool,
    quiet: bool,
) -> None:
    """Show what differs between images A and B: packages, base, lock, configuration, files, layers and sizes.

    A and B are archives (FILE.tar), OCI layouts (DIRECTORY or DIRECTORY:TAG), images of registries
    (HOST/REPOSITORY[:TAG][@sha256:...]), or names of images in Docker or podman; nb2image need not have built them.
    """
    from nb2image.cli.listeners import listening
    from nb2image.inspection.compare import difference
    from nb2image.inspection.difference_document import document, file_rows

    with listening("auto", quiet=quiet, verbose=False) as listener:
        read = []
        for name in (before, after):
            stored, output = opened(name, preferred, wanted_platform(platform), listener, plain_http=plain_http)
            image = stored.read()
            read.append((image, provenance(name, stored, image, output)))
        found = difference(read[0], read[1], listener)
    if as_json:
        made = document(found)
        if files:
            made["files"]["list"] = file_rows(found)
        click.echo(json.dumps(made, indent=2, ensure_ascii=False))
    else:
        _print(found, every_package=packages, every_file=files)
    if exit_code and not found.same:
        raise ImagesDiffer(_sentence(found))


def _print(found: Difference, *, every_package: bool, every_file: bool) -> None:
    from nb2image.cli.inspection import print_table
    from nb2image.inspection.words import printable
    from nb2image.sizes import shown

    click.echo(_sentence(found))
    if found.same:
        return
    click.echo()
    shared = sum(layer.size for layer in found.shared)
    rows = [
        ("stored", shown(found.before.size), shown(found.after.size)),
        ("files", shown(found.before.total.size), shown(found.after.total.size)),
        ("layers", f"{len(found.before.layers)}", f"{len(found.after.layers)}"),
        ("shared", f"{len(found.shared)} of {shown(shared)}", ""),
    ]
    print_table(("", "A", "B"), rows)
    facts = list(_facts(found))
    if facts:
        click.echo()
        for name, old, new in facts:
            click.echo(f"{click.style(printable(name), bold=True)}: {_value(old)} -> {_value(new)}")
    # What somebody locked is what is looked for; a base brings hundreds of others.
    _packages("package", sorted(found.packages, key=lambda row: row.kind != "wheel"), every=every_package)
    _packages("locked file", _only_locked(found), every=every_package)
    _layers(found)
    if not found.files:
        return
    click.echo()
    if every_file:
        print_table(("", ">A", ">B", "brought by", "path"), [_file(row) for row in found.files])
        return
    print_table(
        ("files of", ">added", ">removed", ">changed", ">A", ">B"),
        [
            (row.owner.name, *_tally(row.tally), shown(row.tally.before), shown(row.tally.after))
            for row in found.owners[:_ROWS]
        ],
    )
    if len(found.owners) > _ROWS:
        click.echo(f"and of {len(found.owners) - _ROWS} more: --json lists them")
    click.echo("--files lists every file")


def _sentence(found: Difference) -> str:
    from nb2image.inspection.words import printable

    names = printable(f"{found.before.provenance.reference} and {found.after.provenance.reference}")
    if found.same:
        one, other = found.before.provenance.digest, found.after.provenance.digest
        return f"{names} are the same image." if one == other else f"{names} hold the same, stored in other words."
    tally = found.tally
    files = tally.added + tally.removed + tally.changed
    python = _pythons(found)
    settings = len(list(_settings(found)))
    parts = [
        _counted([row for row in found.packages if row.kind == "wheel"], "Python package"),
        _counted([row for row in found.packages if row.kind != "wheel"], "Debian package"),
        f"Python ({python[0]} and {python[1]})" if python[0] != python[1] else "",
        "the base" if found.base else "",
        "the lock" if found.locked else "",
        "the notebook's files" if any(row.owner.kind == "notebook" for row in found.files) else "",
        f"{settings} setting{'' if settings == 1 else 's'}" if settings else "",
        f"{files:,} file{'' if files == 1 else 's'}" if files else "",
    ]
    said = [part for part in parts if part]
    if not said:
        # The same files in other layers, or settings that only follow from something else.
        said = ["layers" if found.gone or found.new else "labels" if found.settings else "the order of layers"]
    return f"{names} differ in {', '.join(said)}."


def _facts(found: Difference) -> Iterator[tuple[str, str | None, str | None]]:
    """What each image is, one a line, where that differs."""
    python = _pythons(found)
    if python[0] != python[1]:
        yield "Python", python[0] or None, python[1] or None
    for row in found.base:
        yield "base" if row.name == "name" else f"base {row.name}", row.before, row.after
    for row in _settings(found):
        yield row.name, row.before, row.after


def _pythons(found: Difference) -> tuple[str, str]:
    return found.before.python, found.after.python


def _settings(found: Difference) -> Iterator[Setting]:
    """Settings without the labels that say of something else what it is."""
    return (row for row in found.settings if row.name.removeprefix("label ") not in _FOLLOW)


def _only_locked(found: Difference) -> list[PackageChange]:
    """Of the locks what is not to be seen in the environment: another file of the same version, or a lock that the
    environment does not follow."""
    seen = {(row.name, row.before, row.after) for row in found.packages if row.place == KERNEL}
    hashes = [
        {row.name: next(iter(row.hashes.values()), "") for row in each.lock.packages} if each.lock is not None else {}
        for each in (found.before, found.after)
    ]

    def told(row: PackageChange) -> PackageChange:
        """Files of one name apart."""
        if row.before != row.after:
            return row
        one, other = (f"{row.before}, {each.get(row.name, '')[:12]}…" for each in hashes)
        return row._replace(before=one, after=other)

    return [
        told(row)
        for row in found.locked
        if (row.name, *(None if text is None else text.partition(" ")[0] for text in (row.before, row.after)))
        not in seen
    ]


def _counted(rows: Sequence[PackageChange], noun: str) -> str:
    if not rows:
        return ""
    kinds = [row.change for row in rows]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in _WORDS if kind in kinds)
    return f"{len(rows)} {noun}{'' if len(rows) == 1 else 's'} ({counts})"


def _short(text: str | None) -> str | None:
    """A digest as people compare it; --json has it whole."""
    return f"{text[:19]}…" if text is not None and re.fullmatch(r"sha256:[0-9a-f]{64}", text) else text


def _value(text: str | None) -> str:
    from nb2image.inspection.words import printable

    return "(none)" if text is None else printable(_short(text) or "")


def _tally(tally: Changed) -> tuple[str, ...]:
    return tuple(f"{number:,}" if number else "" for number in tally[:3])


def _packages(what: str, rows: Sequence[PackageChange], *, every: bool) -> None:
    from nb2image.cli.inspection import print_table

    if not rows:
        return
    listed = rows if every else rows[:_ROWS]
    click.echo()
    print_table(
        ("", what, "A", "B", "in"),
        [(_WORDS[row.change], row.name, row.before or "", row.after or "", row.place or "Debian") for row in listed],
    )
    if len(rows) > len(listed):
        click.echo(f"and {len(rows) - len(listed)} more: --packages lists them")


def _layers(found: Difference) -> None:
    from nb2image.cli.inspection import print_table
    from nb2image.sizes import shown

    def rows(sign: str, layers: Iterable[LayerFacts]) -> list[tuple[str, ...]]:
        return [(sign, each.role, shown(each.size), each.comment[:60]) for each in layers]

    listed = [*rows("-", found.gone), *rows("+", found.new)]
    if not listed:
        return
    click.echo()
    print_table(("", "layer by", ">stored", "what"), listed[:_ROWS])
    if len(listed) > _ROWS:
        click.echo(f"and {len(listed) - _ROWS} more: --json lists them")


def _file(row: FileChange) -> tuple[str, ...]:
    from nb2image.sizes import shown

    old, new = (shown(file.size) if file is not None else "" for file in (row.before, row.after))
    return (_WORDS[row.change], old, new, row.owner.name, f"/{row.path}")
