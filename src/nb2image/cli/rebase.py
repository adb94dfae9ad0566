"""``nb2image rebase``: an image on another base, without building it anew."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nb2image.cache import Store
from nb2image.cli.image import image_options, opened, provenance, wanted_platform

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
    metavar="NAME|PATH|REFERENCE",
    help="The new base: a name of `nb2image bases list`, the path of an OCI layout or archive, or a registry's image, "
    "HOST/REPOSITORY[:TAG][@sha256:...].",
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
@click.option("--push", is_flag=True, help="Push the image to the registry that each --tag names.")
@click.option(
    "--offline", is_flag=True, help="Take a base that nb2image brings, and Debian packages, from the cache only."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@image_options
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def rebase(
    image: str,
    base: str,
    tags: tuple[str, ...],
    paths: tuple[Path, ...],
    load_: bool,
    push: bool,
    offline: bool,
    as_json: bool,
    preferred: str | None,
    platform: str | None,
    plain_http: bool,
    quiet: bool,
) -> None:
    """Put the layers of IMAGE on another base, without building them anew.

    Python's minor version and the platform must be the same, glibc new enough for the packages that are inside, and
    their compiled code must find the shared libraries that it finds now.
    IMAGE is an archive, an OCI layout (DIRECTORY or DIRECTORY:TAG), an image of a registry
    (HOST/REPOSITORY[:TAG][@sha256:...]), or the name of an image in Docker or podman.
    """
    from nb2image.cli.listeners import listening
    from nb2image.outputs import EngineLoad, RegistryPush, default_tag, output_for
    from nb2image.rebasing.rebase import rebased

    if not paths and not load_ and not push:
        raise click.UsageError("Say where the new image goes: -o PATH, --load or --push.")
    if push and not tags:
        raise click.UsageError("--push needs a --tag that says where to: -t registry.example/team/name:1.0")
    outputs: list[Output] = [output_for(path) for path in paths]
    with ExitStack() as stack:
        if load_:
            outputs.append(stack.enter_context(closing(EngineLoad())))
        store = Store.default()
        pushed = stack.enter_context(closing(RegistryPush(tags, store, plain_http))) if push else None
        outputs += [pushed] if pushed is not None else []
        for output in outputs:
            output.check()
        listener = stack.enter_context(listening("auto", quiet=quiet, verbose=False))
        stored, where = opened(image, preferred, wanted_platform(platform), listener, plain_http=plain_http)
        read = stored.read()
        known = provenance(image, stored, read, where)
        new = _base(base, read.platform, store, listener, offline=offline, plain_http=plain_http)
        done = rebased(read, known, new, store, listener, offline=offline)
        names = tags or known.names or (default_tag(read.config.labels.get("io.nb2image.notebook", image)),)
        for output in outputs:
            output.write(done.image, names, listener)
    if as_json:
        document: dict[str, Any] = {
            "digest": done.image.digest,
            "id": done.image.config_descriptor.digest,
            "tags": list(names),
            "outputs": [output.describe() for output in outputs],
            "base": {"name": new.reference, "digest": new.image.digest},
            "layers": {"base": len(new.image.layers), "kept": done.kept, "written": done.written},
        }
        if pushed is not None:
            document["pushed"] = [each.document() for each in pushed.pushed]
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(done.image.digest)
        click.echo(f"{done.kept} layers are as they were, {done.written} were written for {new.reference}")
        for output in outputs:
            if isinstance(output, RegistryPush):
                for each in output.pushed:
                    click.echo(f"pushed {each}")
                continue
            click.echo(f"written to {output.describe()} as {', '.join(names)}")


def _base(name: str, platform: Platform, store: Store, listener: Listener, *, offline: bool, plain_http: bool) -> Base:
    """The base that is meant. Raises `BaseError` and `NoMatchingBase`."""
    from nb2image.errors import NoMatchingBase
    from nb2image.index.settings import IndexSettings
    from nb2image.plan import Request, offered_bases
    from nb2image.progress import Note, stage

    if name == "auto":
        raise click.UsageError("--base auto is for builds; name the base that the image is to stand on.")
    request = Request(
        Path(), base=name, platform=platform, settings=IndexSettings(offline=offline), plain_http=plain_http
    )
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
