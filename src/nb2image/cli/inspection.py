"""An inspection as people read it in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from nb2image.inspection.model import File, Inspection, Owner
from nb2image.inspection.queries import Ownership
from nb2image.inspection.words import facts, printable, sentence
from nb2image.sizes import shown

__all__ = ["print_files", "print_layers", "print_ownership", "print_summary", "print_table"]

_LARGEST = 20
_NAME = 34
"""Columns of a name beyond which the rest of its row is moved to the right."""


def print_summary(found: Inspection, *, every: bool) -> None:
    """What the image is, how to run it, its parts and its largest packages, or all of them."""
    click.echo(printable(sentence(found)))
    if found.provenance.run:
        click.echo(f"Run it with: {found.provenance.run}")
    click.echo()
    for name, text in facts(found):
        click.echo(f"{click.style(f'{name:<9}', bold=True)} {printable(text)}")
    click.echo()
    rows = [
        (
            f"{part.title} ({part.name})" if part.name.startswith("/") else part.title,
            f"{part.packages}" if part.packages else "",
            f"{part.tally.files:,}",
            shown(part.tally.size),
            shown(part.tally.bytecode) if part.tally.bytecode else "",
        )
        for part in found.parts
    ]
    print_table(("part", ">packages", ">files", ">size", ">bytecode"), rows)
    if not found.packages:
        return
    click.echo()
    shown_numbers = found.packages if every else found.packages[:_LARGEST]
    packages = [
        (
            found.owners[number].name,
            found.owners[number].version,
            found.owners[number].place or "Debian",
            f"{found.tallies[number].files:,}",
            shown(found.tallies[number].size),
        )
        for number in shown_numbers
    ]
    print_table(("package", "version", "in", ">files", ">size"), packages)
    rest = found.packages[len(shown_numbers) :]
    if rest:
        size = sum(found.tallies[number].size for number in rest)
        click.echo(f"and {len(rest)} smaller ones of {shown(size)}: --packages lists them")


def print_layers(found: Inspection) -> None:
    """Layers from the bottom up: who brought them, sizes, and what they hold."""
    rows = [
        (
            f"{number}",
            layer.role,
            f"{layer.files:,}",
            shown(layer.size),
            shown(layer.raw),
            shown(layer.hidden) if layer.hidden else "",
            _cut(layer.comment, 36),
        )
        for number, layer in enumerate(found.layers, 1)
    ]
    heads: tuple[str, ...] = (">layer", "by", ">files", ">stored", ">tar", ">hidden", "what")
    # Columns that say nothing of this image take no room.
    kept = [n for n in range(len(heads)) if any(row[n] for row in rows)]
    print_table([heads[n] for n in kept], [[row[n] for n in kept] for row in rows])


def print_files(found: Inspection, files: Sequence[File]) -> None:
    """Files, the largest first, each with its layer and who brought it."""
    rows = [
        (shown(file.size), f"{file.layer + 1}", _said(found.owners[file.owner]), _place(file))
        for file in sorted(files, key=lambda file: (-file.size, file.path))
    ]
    print_table((">size", ">layer", "brought by", "path"), rows)


def print_ownership(found: Inspection, answer: Ownership) -> None:
    """Who brought a path."""
    place = f"/{answer.place}"
    if answer.file is not None:
        file = answer.file
        layer = found.layers[file.layer]
        what = f"{shown(file.size)}" if file.kind == "file" else file.kind
        click.echo(f"{printable(place)} ({what}) is of {_said(found.owners[file.owner], full=True)}.")
        role = f" ({layer.role})" if layer.role else ""
        click.echo(f"It stands in layer {file.layer + 1}{role}: {_cut(layer.comment, 120)}")
        if file.target:
            click.echo(f"It leads to {printable(file.target)}.")
    elif answer.owners:
        rows = [
            (_said(found.owners[number], full=True), f"{tally.files:,}", shown(tally.size))
            for number, tally in answer.owners
        ]
        click.echo(f"Below {printable(place)}:")
        print_table(("brought by", ">files", ">size"), rows)
    else:
        click.echo(f"{printable(place)} is not to be seen in a container.")
    for hidden in answer.hidden[:_LARGEST]:
        name = "/" + printable(hidden.path)
        click.echo(f"Layer {hidden.by + 1} hides {name} of layer {hidden.layer + 1} ({shown(hidden.size)}).")
    if len(answer.hidden) > _LARGEST:
        click.echo(f"and {len(answer.hidden) - _LARGEST} more hidden files: --json lists them")


def _place(file: File) -> str:
    return f"/{file.path}" + (f" -> {file.target}" if file.target else "")


def _said(owner: Owner, *, full: bool = False) -> str:
    """An owner in a few words."""
    if owner.kind == "wheel":
        return f"{owner.name} {owner.version} in {owner.place}" if full else f"{owner.name} {owner.version}"
    if owner.kind == "debian":
        return f"Debian's {owner.name} {owner.version}" if full else owner.name
    return {
        "nb2image": "nb2image's runtime" if full else "nb2image",
        "notebook": "the notebook and its files" if full else "notebook",
        "base": "the base image, and of no package" if full else "base",
        "nobody": "no package" if full else "-",
    }[owner.kind]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they need, a name's within reason; ``>`` before a head: numbers, to the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [min(max([len(head.lstrip(">")), *(len(row[n]) for row in cells)]), _NAME) for n, head in enumerate(heads)]

    def line(row: Sequence[str]) -> str:
        parts = [
            text.rjust(width) if head.startswith(">") else text.ljust(width)
            for text, width, head in zip(row, widths, heads, strict=True)
        ]
        return "  ".join(parts).rstrip()

    click.echo(click.style(line([head.lstrip(">") for head in heads]), bold=True))
    for row in cells:
        click.echo(line(row))
