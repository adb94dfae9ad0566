"""``nb2image inspect``: what is in an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nb2image.cli.image import image_options, opened, provenance, wanted_platform

if TYPE_CHECKING:
    from nb2image.inspection.model import Inspection

__all__ = ["inspect", "inspected"]


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
@image_options
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
    plain_http: bool,
    quiet: bool,
) -> None:
    """Show what is in an image: its lock, base, packages, layers and sizes, and who brought which file.

    IMAGE is an archive (FILE.tar), an OCI layout (DIRECTORY or DIRECTORY:TAG), an image of a registry
    (HOST/REPOSITORY[:TAG][@sha256:...]), or the name of an image in Docker or podman; nb2image need not have built it.
    """
    from nb2image.cli import inspection as tables
    from nb2image.inspection.document import document, file_rows, ownership_document
    from nb2image.inspection.queries import find_packages, ownership

    found = inspected(image, preferred, platform, quiet=quiet, plain_http=plain_http)
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


def inspected(
    image: str, preferred: str | None, platform: str | None, *, quiet: bool, plain_http: bool = False
) -> Inspection:
    """What is in an image, wherever it is. Raises as `opened`."""
    from nb2image.cli.listeners import listening
    from nb2image.inspection.inspect import inspect as look

    with listening("auto", quiet=quiet, verbose=False) as listener:
        stored, output = opened(image, preferred, wanted_platform(platform), listener, plain_http=plain_http)
        read = stored.read()
        return look(read, provenance(image, stored, read, output), listener)
