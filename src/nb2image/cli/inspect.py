"""``nb2image inspect``: what is in an image."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nb2image.cli.build import run_command
from nb2image.outputs import Archive, EngineLoad, Layout

if TYPE_CHECKING:
    from nb2image.image.model import Image
    from nb2image.image.read import Stored
    from nb2image.inspection.model import Inspection, Provenance
    from nb2image.outputs import Output
    from nb2image.progress import Listener
    from nb2image.target.model import Platform

__all__ = ["inspect", "inspected", "opened", "provenance", "wanted_platform"]

_DIGEST = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option("--packages", is_flag=True, help="List all packages instead of the largest.")
@click.option("--layers", is_flag=True, help="List the layers.")
@click.option("--files", is_flag=True, help="List all files, the largest first; with --json, in the document.")
@click.option("--package", metavar="NAME", help="List the files of one package.")
@click.option("--owner", "path", metavar="PATH", help="Say who brought a file, or the files below a folder.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with a map of sizes to look at."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--engine", "preferred", type=click.Choice(["docker", "podman"]), help="Ask this engine for the image.")
@click.option(
    "--platform", type=click.Choice(["linux/amd64", "linux/arm64"]), help="Which image to take of several platforms'."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def inspect(
    image: str,
    packages: bool,
    layers: bool,
    files: bool,
    package: str | None,
    path: str | None,
    html: Path | None,
    as_json: bool,
    preferred: str | None,
    platform: str | None,
    quiet: bool,
) -> None:
    """Show what is in an image: its lock, base, packages, layers and sizes, and who brought which file.

    IMAGE is an archive (FILE.tar), an OCI layout (DIRECTORY or DIRECTORY:TAG), or the name of an image in Docker or
    podman; nb2image need not have built it.
    """
    from nb2image.cli import inspection as tables
    from nb2image.inspection.document import document, file_rows, ownership_document
    from nb2image.inspection.queries import find_packages, ownership

    found = inspected(image, preferred, platform, quiet=quiet)
    numbers = find_packages(found, package) if package is not None else ()
    answer = ownership(found, path) if path is not None else None
    if html is not None:
        from nb2image.inspection.page import write_page

        write_page(found, html)
    listed = [file for file in found.files if not numbers or file.owner in numbers]
    if as_json:
        made = ownership_document(found, answer) if answer is not None else document(found)
        if answer is None and (files or numbers):
            made["files"] = file_rows(found, listed)
            made["hidden"]["list"] = [{**file._asdict(), "path": f"/{file.path}"} for file in found.hidden]
        click.echo(json.dumps(made, indent=2, ensure_ascii=False))
    elif answer is not None:
        tables.print_ownership(found, answer)
    elif files or numbers:
        tables.print_files(found, listed)
    elif layers:
        tables.print_layers(found)
    elif html is not None:
        click.echo(f"written to {html}")
    else:
        tables.print_summary(found, every=packages)


def inspected(image: str, preferred: str | None, platform: str | None, *, quiet: bool) -> Inspection:
    """What is in an image, wherever it is. Raises as `opened`."""
    from nb2image.cli.listeners import listening
    from nb2image.inspection.inspect import inspect as look

    with listening("auto", quiet=quiet, verbose=False) as listener:
        stored, output = opened(image, preferred, wanted_platform(platform), listener)
        read = stored.read()
        return look(read, provenance(image, stored, read, output), listener)


def wanted_platform(text: str | None) -> Platform | None:
    """The platform of ``--platform``."""
    from nb2image.target.model import Platform

    return Platform("linux", text.partition("/")[2]) if text else None


def provenance(image: str, stored: Stored, read: Image, output: Output) -> Provenance:
    """How ``image``, as the user calls it, was found; ``read`` is what `opened` gave, read."""
    from nb2image.inspection.model import Provenance

    stated = _DIGEST.fullmatch(stored.key)
    digest = stored.key if stored.key.startswith("sha256:") else None
    if digest is None:
        identity = f"sha256:{stated[1]}" if stated else None
    else:
        # The config of an image in Docker's own words was translated, and is known by another digest.
        identity = read.config_descriptor.digest if read.digest == digest else None
    names = _familiar(stored.names)
    tag = image if not isinstance(output, (Archive, Layout)) else next(iter(names), identity)
    run = _run_line(output, tag, read.config.labels.get("io.nb2image.mode"))
    return Provenance(image, names, digest, identity, run)


def opened(image: str, preferred: str | None, platform: Platform | None, listener: Listener) -> tuple[Stored, Output]:
    """The image and where it is. Raises `NotAnImage`, `EngineAbsent` and `EngineRefused`."""
    from nb2image.errors import NotAnImage
    from nb2image.image.read import find_image, split_base

    path, _ = split_base(image)
    if os.path.exists(path):  # noqa: PTH110 - false, not an error, below a folder that may not be entered
        return find_image(image, platform), Layout(path) if path.is_dir() else Archive(path)
    if not _REFERENCE.fullmatch(image) or image.endswith((".tar", ".tar.gz", "/")):
        raise NotAnImage(
            f"There is nothing at {image}.",
            hint="Name an OCI layout, an image archive, or an image that Docker or podman has.",
        )
    from nb2image.engines.client import choose
    from nb2image.engines.export import export

    with choose(preferred) as engine:
        return export(engine, image, listener, platform), EngineLoad(engine.name, engine)


def _familiar(names: Sequence[str]) -> tuple[str, ...]:
    """Names as users type them, each once; what is no name is left out."""
    from nb2image.errors import OutputError
    from nb2image.image.names import parse_name

    found: dict[str, None] = {}
    for name in names:
        with suppress(OutputError):
            found[parse_name(name).familiar] = None
    return tuple(found)


def _run_line(output: Output, tag: str | None, mode: str | None) -> str:
    """The command that runs the image, or nothing where it has no name to run it by."""
    if tag is None or (isinstance(output, Layout) and tag.startswith("sha256:")):
        return ""
    if mode == "jupyter" or mode == "batch":
        return run_command([output], tag, "jupyter" if mode == "jupyter" else "batch")
    steps = [output.prepare(), f"{output.engine} run --rm {output.reference(tag)}"]
    return " && ".join(step for step in steps if step)
