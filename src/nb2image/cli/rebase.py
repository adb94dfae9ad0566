"""``nb2image rebase``: an image on another base, without building it anew."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nb2image.cache import Store
from nb2image.cli.inspect import opened, provenance, wanted_platform

if TYPE_CHECKING:
    from nb2image.bases.model import Base
    from nb2image.outputs import Output
    from nb2image.progress import Listener
    from nb2image.target.model import Platform

__all__ = ["rebase"]


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option(
    "--base",
    required=True,
    metavar="NAME|PATH",
    help="The new base: a name of `nb2image bases list`, or the path of an OCI layout or archive.",
)
@click.option(
    "-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="Name the image. Default: the names that it has."
)
@click.option(
    "-o",
    "--output",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write FILE.tar (loads everywhere) or an OCI layout DIRECTORY.",
)
@click.option("--load", "load_", is_flag=True, help="Load the image into Docker or podman.")
@click.option(
    "--offline", is_flag=True, help="Take a base that nb2image brings, and Debian packages, from the cache only."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--engine", "preferred", type=click.Choice(["docker", "podman"]), help="Ask this engine for the image.")
@click.option(
    "--platform", type=click.Choice(["linux/amd64", "linux/arm64"]), help="Which image to take of several platforms'."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def rebase(
    image: str,
    base: str,
    tags: tuple[str, ...],
    paths: tuple[Path, ...],
    load_: bool,
    offline: bool,
    as_json: bool,
    preferred: str | None,
    platform: str | None,
    quiet: bool,
) -> None:
    """Put the layers of IMAGE on another base, without building them anew.

    Python's minor version and the platform must be the same, glibc new enough for the packages that are inside, and
    their compiled code must find the shared libraries that it finds now.
    IMAGE is an archive, an OCI layout (DIRECTORY or DIRECTORY:TAG), or the name of an image in Docker or podman.
    """
    from nb2image.cli.listeners import listening
    from nb2image.outputs import EngineLoad, default_tag, output_for
    from nb2image.rebasing.rebase import rebased

    if not paths and not load_:
        raise click.UsageError("Say where the new image goes: -o PATH or --load.")
    outputs: list[Output] = [output_for(path) for path in paths]
    with ExitStack() as stack:
        if load_:
            outputs.append(stack.enter_context(closing(EngineLoad())))
        for output in outputs:
            output.check()
        listener = stack.enter_context(listening("auto", quiet=quiet, verbose=False))
        store = Store.default()
        stored, where = opened(image, preferred, wanted_platform(platform), listener)
        read = stored.read()
        known = provenance(image, stored, read, where)
        new = _base(base, read.platform, offline, store, listener)
        done = rebased(read, known, new, store, listener, offline=offline)
        names = tags or known.names or (default_tag(read.config.labels.get("io.nb2image.notebook", image)),)
        for output in outputs:
            output.write(done.image, names, listener)
    if as_json:
        document = {
            "digest": done.image.digest,
            "id": done.image.config_descriptor.digest,
            "tags": list(names),
            "outputs": [output.describe() for output in outputs],
            "base": {"name": new.reference, "digest": new.image.digest},
            "layers": {"base": len(new.image.layers), "kept": done.kept, "written": done.written},
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(done.image.digest)
        click.echo(f"{done.kept} layers are as they were, {done.written} were written for {new.reference}")
        for output in outputs:
            click.echo(f"written to {output.describe()} as {', '.join(names)}")


def _base(name: str, platform: Platform, offline: bool, store: Store, listener: Listener) -> Base:
    """The base that is meant. Raises `BaseError` and `NoMatchingBase`."""
    from nb2image.errors import NoMatchingBase
    from nb2image.index.settings import IndexSettings
    from nb2image.plan import Request, offered_bases
    from nb2image.progress import Note, stage

    if name == "auto":
        raise click.UsageError("--base auto is for builds; name the base that the image is to stand on.")
    request = Request(Path(), base=name, platform=platform, settings=IndexSettings(offline=offline))
    offered = offered_bases(request, store, listener)
    meant = [each for each in offered if each[1].name == name] or offered
    if len(meant) > 1:
        raise NoMatchingBase(
            f"{name} holds {len(meant)} images that could be the base.",
            hint="Name one of them:",
            details=tuple(each.name for _, each in meant),
        )
    provider, candidate = meant[0]
    with stage(listener, "base", candidate.name):
        base = provider.deliver(candidate, listener)
    for note in base.notes:
        listener(Note(note))
    return base
