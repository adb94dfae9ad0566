"""``nb2image copy``: an image from any place to any other, its manifest unchanged."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nb2image.cache import Store
from nb2image.cli.options import output_options, plain_http_option, platform_choice

if TYPE_CHECKING:
    from nb2image.image.model import Image
    from nb2image.progress import Listener
    from nb2image.registry.client import Manifest
    from nb2image.registry.pull import Pulled, Source
    from nb2image.registry.push import Pushed
    from nb2image.target.model import Platform

__all__ = ["copy"]


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@platform_choice
@plain_http_option
@output_options
def copy(
    source: str,
    destination: str,
    platform: str | None,
    plain_http: bool,
    progress: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Copy an image between registries and files; it keeps its digest.

    SOURCE and DESTINATION are each an archive (FILE.tar), an OCI layout (DIRECTORY, as a source also DIRECTORY:TAG), or
    a reference that states its registry (registry.example/team/name:1.0, docker.io/library/debian:12). From registry to
    registry an image for several platforms is copied whole, unless --platform chooses one.
    """
    from nb2image.cli.image import wanted_platform
    from nb2image.cli.listeners import listening

    with listening(progress, quiet=quiet, verbose=verbose) as listener, ExitStack() as stack:
        work = _Copying(wanted_platform(platform), plain_http, listener, stack)
        document = work.run(source, destination)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(document["digest"])
        click.echo(f"copied to {document['destination']}")


def _is_file(text: str) -> bool:
    from nb2image.image.read import split_base
    from nb2image.registry.reference import names_a_registry

    return os.path.exists(split_base(text)[0]) or not names_a_registry(text)  # noqa: PTH110 - false, not an error


class _Copying:
    """One copy; registries stay open until its end, since layers are downloaded when they are written."""

    def __init__(self, platform: Platform | None, plain_http: bool, listener: Listener, stack: ExitStack) -> None:
        self._platform = platform
        self._plain_http = plain_http
        self._listener = listener
        self._stack = stack
        self._store = Store.default()

    def run(self, source: str, destination: str) -> dict[str, Any]:
        """The document of ``--json``."""
        from nb2image.outputs import output_for

        if not _is_file(destination):
            pushed = self._to_registry(source, destination)
            return {"source": source, "destination": str(pushed.reference), **pushed.document()}
        output = output_for(Path(destination))
        output.check()
        image, names = self._image(source)
        output.write(image, names, self._listener)
        return {"source": source, "destination": output.describe(), "digest": image.digest, "tags": names}

    def _to_registry(self, source: str, destination: str) -> Pushed:
        from nb2image.registry.client import Registry
        from nb2image.registry.copy import copy_all
        from nb2image.registry.push import push
        from nb2image.registry.reference import parse_target

        target = parse_target(destination)
        registry = self._stack.enter_context(Registry(target.domain, plain_http=self._plain_http))
        registry.find_manifest(target, push=True)
        if not _is_file(source) and self._platform is None:
            where, manifest = self._resolved(source)
            return copy_all(manifest, where, target, registry, self._listener)[-1]
        image, _ = self._image(source)
        return push(image, target, registry, self._listener)

    def _image(self, source: str) -> tuple[Image, list[str]]:
        from nb2image.image.read import find_image
        from nb2image.registry.pull import fetch_layers

        if _is_file(source):
            stored = find_image(source, self._platform)
            return (stored.exact or stored.read)(), list(stored.names)
        pulled = self._pulled(source)
        image = pulled.read(exact=True)
        assert pulled.source.registry is not None
        fetch_layers(image.layers, pulled.source.registry)
        reference = pulled.reference
        return image, [f"{reference.repository}:{reference.tag or pulled.digest[7:19]}"]

    def _resolved(self, source: str) -> tuple[Source, Manifest]:
        from nb2image.registry.client import Registry
        from nb2image.registry.pull import resolve
        from nb2image.registry.reference import parse_reference

        named = parse_reference(source)
        registry = self._stack.enter_context(Registry(named.domain, plain_http=self._plain_http))
        return resolve(registry, named, self._store, self._listener)

    def _pulled(self, source: str) -> Pulled:
        from nb2image.registry.pull import pulled_image

        where, manifest = self._resolved(source)
        return pulled_image(where, manifest, self._platform)
