"""``nb2image push``: an image that is here, put onto a registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from nb2image.cli.options import output_options, plain_http_option, platform_choice

if TYPE_CHECKING:
    from nb2image.image.whole import AnyImage

__all__ = ["push"]


@click.command()
@click.argument("image", metavar="IMAGE")
@click.argument("reference", metavar="REFERENCE")
@click.option("--engine", "preferred", type=click.Choice(["docker", "podman"]), help="Ask this engine for the image.")
@platform_choice
@plain_http_option
@output_options
def push(
    image: str,
    reference: str,
    preferred: str | None,
    platform: str | None,
    plain_http: bool,
    progress: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Push an image to a registry; what the registry has already is not sent.

    IMAGE is an archive (FILE.tar), an OCI layout (DIRECTORY or DIRECTORY:TAG), or the name of an image in Docker or
    podman; one for several platforms is pushed whole, unless --platform chooses one. REFERENCE is
    HOST[:PORT]/REPOSITORY[:TAG]. Logins are those of `docker login` and `podman login`.
    """
    from nb2image.cache import Store
    from nb2image.cli.image import opened, wanted_platform
    from nb2image.cli.listeners import listening
    from nb2image.image.read import find_index
    from nb2image.registry.client import Registry
    from nb2image.registry.places import Places
    from nb2image.registry.push import push as push_image
    from nb2image.registry.reference import parse_target

    target = parse_target(reference)
    with (
        listening(progress, quiet=quiet, verbose=verbose) as listener,
        Registry(target.domain, plain_http=plain_http) as registry,
    ):
        # Before an engine exports gigabytes.
        registry.find_manifest(target, push=True)
        index = find_index(image) if platform is None else None
        if index is not None:
            found: AnyImage = index[0]
        else:
            stored, _ = opened(image, preferred, wanted_platform(platform), listener, here=True)
            found = stored.exact() if stored.exact is not None else stored.read()
        pushed = push_image(found, target, registry, listener, Places(Store.default()))
    if as_json:
        click.echo(json.dumps({"source": image, **pushed.document()}, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(pushed.digest)
        click.echo(f"pushed {pushed}")
