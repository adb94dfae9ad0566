"""``nb2image pull``: an image from a registry into a file, a folder or an engine."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nb2image.cache import Store
from nb2image.cli.options import output_options, plain_http_option, platform_choice

if TYPE_CHECKING:
    from nb2image.outputs import Output

__all__ = ["pull"]


@click.command()
@click.argument("reference", metavar="REFERENCE")
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
@click.option("--engine", "preferred", type=click.Choice(["docker", "podman"]), help="Load into this engine.")
@platform_choice
@plain_http_option
@output_options
def pull(
    reference: str,
    paths: tuple[Path, ...],
    load_: bool,
    preferred: str | None,
    platform: str | None,
    plain_http: bool,
    progress: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Pull an image from a registry; it keeps its digest.

    REFERENCE is [HOST[:PORT]/]REPOSITORY[:TAG][@sha256:...]; without a host it is one of docker.io. Of an image for
    several platforms, that of --platform is taken, else that of linux/amd64. Layers stay in the cache.
    """
    from nb2image.cli.image import wanted_platform
    from nb2image.cli.listeners import listening
    from nb2image.outputs import EngineLoad, output_for
    from nb2image.registry.client import Registry
    from nb2image.registry.pull import fetch_layers, open_remote
    from nb2image.registry.reference import parse_reference

    if not paths and not load_:
        raise click.UsageError("say where to: -o FILE.tar, -o DIRECTORY or --load")
    named = parse_reference(reference)
    outputs: list[Output] = [output_for(path) for path in paths]
    with ExitStack() as stack:
        if load_:
            outputs.append(stack.enter_context(closing(EngineLoad(preferred))))
        for output in outputs:
            output.check()
        listener = stack.enter_context(listening(progress, quiet=quiet, verbose=verbose))
        registry = stack.enter_context(Registry(named.domain, plain_http=plain_http))
        pulled = open_remote(registry, named, wanted_platform(platform), Store.default(), listener)
        image = pulled.read(exact=True)
        fetch_layers(image.layers, registry)
        tag = f"{named.repository}:{named.tag}" if named.tag else f"{named.repository}:{pulled.digest[7:19]}"
        for output in outputs:
            output.write(image, [tag], listener)
    if as_json:
        document = {
            "reference": str(named),
            "digest": pulled.digest,
            "platform": str(image.platform),
            "size": sum(layer.descriptor.size for layer in image.layers),
            "tag": tag,
            "outputs": [output.describe() for output in outputs],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(pulled.digest)
        for output in outputs:
            click.echo(f"written to {output.describe()} as {tag}")
