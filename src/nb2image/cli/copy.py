"""``nb2image copy``: an image from any place to any other, its manifest unchanged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nb2image.cache import Store
from nb2image.cli.options import output_options, plain_http_option, platform_choice

if TYPE_CHECKING:
    from nb2image.image.whole import AnyImage
    from nb2image.progress import Listener
    from nb2image.registry.client import Registry
    from nb2image.registry.push import Pushed
    from nb2image.registry.reference import Reference
    from nb2image.target.model import Platform

__all__ = ["copy"]


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@platform_choice
@click.option(
    "--referrers",
    is_flag=True,
    help="From registry to registry: copy signatures, bills of materials and all else that refers to the image, too.",
)
@plain_http_option
@output_options
def copy(
    source: str,
    destination: str,
    platform: str | None,
    referrers: bool,
    plain_http: bool,
    progress: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Copy an image between registries and files; it keeps its digest.

    SOURCE and DESTINATION are each an archive (FILE.tar), an OCI layout (DIRECTORY, as a source also DIRECTORY:TAG), or
    a reference that states its registry (registry.example/team/name:1.0, docker.io/library/debian:12). An image for
    several platforms is copied whole, unless --platform chooses one.
    """
    from nb2image.cli.image import wanted_platform
    from nb2image.cli.listeners import listening

    with listening(progress, quiet=quiet, verbose=verbose) as listener, ExitStack() as stack:
        work = _Copying(wanted_platform(platform), plain_http, listener, stack)
        document = work.run(source, destination, referrers=referrers)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(document["digest"])
        with_them = f", with {len(document['referrers'])} that refer to it" if referrers else ""
        click.echo(f"copied to {document['destination']}{with_them}")


def _is_file(text: str) -> bool:
    from nb2image.image.read import split_base
    from nb2image.registry.reference import names_a_registry

    return os.path.exists(split_base(text)[0]) or not names_a_registry(text)  # noqa: PTH110 - false, not an error


@contextmanager
def _hostless(text: str) -> Iterator[None]:
    """Say what a reference looks like to whoever may have meant one by a path where nothing is."""
    from nb2image.errors import NotAnImage, Unwritable
    from nb2image.image.read import split_base

    try:
        yield
    except (NotAnImage, Unwritable) as error:
        if not text.endswith(".tar") and not os.path.exists(split_base(text)[0]):  # noqa: PTH110 - as above
            error.hint += f" A registry's image states its host: registry.example/{text.lstrip('./')}."
        raise


class _Copying:
    """One copy; registries stay open until its end, since layers are downloaded when they are written."""

    def __init__(self, platform: Platform | None, plain_http: bool, listener: Listener, stack: ExitStack) -> None:
        self._platform = platform
        self._plain_http = plain_http
        self._listener = listener
        self._stack = stack
        self._store = Store.default()
        self._registries: dict[str, Registry] = {}

    def run(self, source: str, destination: str, *, referrers: bool) -> dict[str, Any]:
        """The document of ``--json``."""
        if referrers and (_is_file(source) or _is_file(destination)):
            raise click.UsageError("--referrers is for copies from registry to registry.")
        from nb2image.outputs import Archive, Layout, output_for

        if not _is_file(destination):
            image, pushed = self._to_registry(source, destination)
            document = {"source": source, "destination": str(pushed.reference), **pushed.document()}
            if referrers:
                document["referrers"] = self._referrers(source, image, pushed.reference)
            return document
        output = output_for(Path(destination))
        # No other kind of output comes of a path.
        assert isinstance(output, (Archive, Layout))
        with _hostless(destination):
            output.check()
        image, names = self._image(source)
        output.write(image, names, self._listener)
        return {"source": source, "destination": output.describe(), "digest": image.digest, "tags": names}

    def _to_registry(self, source: str, destination: str) -> tuple[AnyImage, Pushed]:
        from nb2image.registry.places import Places
        from nb2image.registry.push import push
        from nb2image.registry.reference import parse_target

        target = parse_target(destination)
        registry = self._registry(target.domain)
        registry.find_manifest(target, push=True)
        if _is_file(source):
            image, _ = self._image(source)
        else:
            image, _ = self._pulled(source)
        return image, push(image, target, registry, self._listener, Places(self._store))

    def _referrers(self, source: str, image: AnyImage, target: Reference) -> list[str]:
        """Digests of what refers to an image and is copied beside it."""
        from nb2image.image.whole import whole_of
        from nb2image.registry.copy import copy_referrers
        from nb2image.registry.places import Places
        from nb2image.registry.pull import Source
        from nb2image.registry.reference import parse_reference

        named = parse_reference(source)
        origin = Source(self._registry(named.domain), named, self._store, self._listener)
        digests = [manifest.descriptor.digest for manifest in whole_of(image).manifests]
        registry, places = self._registry(target.domain), Places(self._store)
        return [each.digest for each in copy_referrers(origin, digests, target, registry, self._listener, places)]

    def _image(self, source: str) -> tuple[AnyImage, list[str]]:
        """An image or an index, with its names; its layers are here."""
        from nb2image.image.read import find_image, find_index
        from nb2image.image.whole import whole_of
        from nb2image.registry.pull import fetch_layers

        if not _is_file(source):
            image, reference = self._pulled(source)
            fetch_layers(whole_of(image).blobs, self._registry(reference.domain))
            return image, [f"{reference.repository}:{reference.tag or image.digest[7:19]}"]
        with _hostless(source):
            index = find_index(source) if self._platform is None else None
            if index is not None:
                return index[0], list(index[1])
            stored = find_image(source, self._platform)
        return (stored.exact or stored.read)(), list(stored.names)

    def _pulled(self, source: str) -> tuple[AnyImage, Reference]:
        """What a registry has: documents only. An index is one unless a platform was asked for."""
        from nb2image.image.documents import INDEX_TYPES
        from nb2image.registry.pull import pulled_image, resolve, whole_at
        from nb2image.registry.reference import parse_reference

        named = parse_reference(source)
        where, manifest = resolve(self._registry(named.domain), named, self._store, self._listener)
        if self._platform is None and manifest.descriptor.media_type in INDEX_TYPES:
            return whole_at(where, manifest), named
        return pulled_image(where, manifest, self._platform).read(exact=True), named

    def _registry(self, domain: str) -> Registry:
        from nb2image.registry.client import Registry

        if domain not in self._registries:
            self._registries[domain] = self._stack.enter_context(Registry(domain, plain_http=self._plain_http))
        return self._registries[domain]
