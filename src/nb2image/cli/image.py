"""IMAGE as commands take it: an archive, an OCI layout, an image in an engine, or one in a registry."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nb2image.cli.build import run_command
from nb2image.cli.options import plain_http_option, platform_choice
from nb2image.outputs import Archive, EngineLoad, Layout, RegistryPush

if TYPE_CHECKING:
    from nb2image.image.model import Image
    from nb2image.image.read import Stored
    from nb2image.inspection.model import Provenance
    from nb2image.outputs import Output
    from nb2image.progress import Listener
    from nb2image.target.model import Platform

__all__ = ["image_options", "opened", "provenance", "wanted_platform"]

_F = TypeVar("_F", bound=Callable[..., Any])
_DIGEST = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")


def image_options(function: _F) -> _F:
    """Which image IMAGE is, and how it is reached: ``preferred``, ``platform`` and ``plain_http``."""
    engine = click.option(
        "--engine", "preferred", type=click.Choice(["docker", "podman"]), help="Ask this engine for the image."
    )
    return engine(platform_choice(plain_http_option(function)))


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


def opened(
    image: str,
    preferred: str | None,
    platform: Platform | None,
    listener: Listener,
    *,
    plain_http: bool = False,
    here: bool = False,
) -> tuple[Stored, Output]:
    """The image and where it is: what exists as a file is one; a reference that states its registry is one of that
    registry, unless an engine is ``preferred`` or the image must be ``here``; any other name is an engine's.

    Raises `NotAnImage`, `EngineAbsent`, `EngineRefused` and `RegistryFailure`.
    """
    from nb2image.errors import NotAnImage
    from nb2image.image.read import find_image, split_base

    path, _ = split_base(image)
    if os.path.exists(path):  # noqa: PTH110 - false, not an error, below a folder that may not be entered
        return find_image(image, platform), Layout(path) if path.is_dir() else Archive(path)
    if not _REFERENCE.fullmatch(image) or image.endswith((".tar", ".tar.gz", "/")):
        raise NotAnImage(
            f"There is nothing at {image}.",
            hint="Name an OCI layout, an image archive, an image that Docker or podman has, or a registry's.",
        )
    if preferred is None and not here and _states_registry(image):
        return _in_registry(image, platform, listener, plain_http=plain_http)
    from nb2image.engines.client import choose
    from nb2image.engines.export import export

    with choose(preferred) as engine:
        return export(engine, image, listener, platform), EngineLoad(engine.name, engine)


def _states_registry(image: str) -> bool:
    from nb2image.registry.reference import names_a_registry

    # podman calls images so that have never seen a registry.
    return names_a_registry(image) and not image.startswith("localhost/")


def _in_registry(
    image: str, platform: Platform | None, listener: Listener, *, plain_http: bool
) -> tuple[Stored, Output]:
    """The image with all its layers in the cache, so that nothing needs the registry any more."""
    from nb2image.cache import Store
    from nb2image.errors import RegistryFailure
    from nb2image.image.read import Stored
    from nb2image.registry.client import Registry
    from nb2image.registry.pull import fetch_layers, open_remote
    from nb2image.registry.reference import parse_reference

    reference = parse_reference(image)
    store = Store.default()
    with Registry(reference.domain, plain_http=plain_http) as registry:
        try:
            pulled = open_remote(registry, reference, platform, store, listener)
        except RegistryFailure as error:
            error.hint += " An image of that name in an engine is meant by --engine docker|podman."
            raise
        read = pulled.read(exact=False)
        exact = pulled.read(exact=True)
        fetch_layers(read.layers, registry)
    return Stored((image,), pulled.digest, lambda: read, lambda: exact), RegistryPush([image], store)


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
