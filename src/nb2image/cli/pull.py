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
    from nb2image.image.whole import AnyImage
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

    REFERENCE is [HOST[:PORT]/]REPOSITORY[:TAG][@sha256:...]; without a host it is one of docker.io. An image for
    several platforms is written whole, unless --platform chooses one; an engine is given that for linux/amd64 then.
    Layers stay in the cache.
    """
    from nb2image.cli.image import wanted_platform
    from nb2image.cli.listeners import listening
    from nb2image.image.documents import INDEX_TYPES
    from nb2image.image.whole import Whole, whole_of
    from nb2image.outputs import Archive, EngineLoad, Layout, output_for
    from nb2image.registry.client import Registry
    from nb2image.registry.pull import fetch_layers, platforms_of, pulled_image, resolve, whole_at
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
        source, manifest = resolve(registry, named, Store.default(), listener)
        found: AnyImage
        if platform is None and manifest.descriptor.media_type in INDEX_TYPES:
            found, platforms = whole_at(source, manifest), list(platforms_of(manifest))
        else:
            found = pulled_image(source, manifest, wanted_platform(platform)).read(exact=True)
            platforms = [str(found.platform)]
        if paths or not isinstance(found, Whole):
            fetch_layers(whole_of(found).blobs, registry)
        tag = f"{named.repository}:{named.tag or found.digest[7:19]}"
        for output in outputs:
            if isinstance(output, (Archive, Layout)):
                output.write(found, [tag], listener)
            else:
                image = pulled_image(source, manifest, wanted_platform(platform)).read(exact=True)
                fetch_layers(image.layers, registry)
                output.write(image, [tag], listener)
    if as_json:
        document = {
            "reference": str(named),
            "digest": found.digest,
            "platforms": platforms,
            "size": sum(blob.descriptor.size for blob in whole_of(found).blobs),
            "tag": tag,
            "outputs": [output.describe() for output in outputs],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(found.digest)
        for output in outputs:
            click.echo(f"written to {output.describe()} as {tag}")
