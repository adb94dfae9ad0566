"""Options that several commands share, and the `Request` they come to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from nb2image.plan import Request
from nb2image.target.model import Platform

if TYPE_CHECKING:
    from nb2image.runtime.entries import Mode

__all__ = [
    "output_options",
    "pairs_option",
    "plain_http_option",
    "platform_choice",
    "request",
    "selection_options",
    "source_options",
]

_F = TypeVar("_F", bound=Callable[..., Any])


def _applied(function: _F, decorators: list[Callable[[_F], _F]]) -> _F:
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def _platform(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> Platform | tuple[Platform, ...]:
    """One platform, or several for the command that builds them into one index."""
    found = [re.fullmatch(r"linux/(amd64|arm64)", each.strip()) for each in ",".join(value).split(",")]
    platforms = dict.fromkeys(Platform("linux", each[1]) for each in found if each)
    if not all(found):
        raise click.BadParameter("linux/amd64 and linux/arm64 are known")
    if len(platforms) == 1:
        return next(iter(platforms))
    if context.command.name != "build":
        raise click.BadParameter("give one; `nb2image build` takes several at once")
    return tuple(platforms)


def _python(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"3\.\d{1,2}", value):
        raise click.BadParameter("give a minor version, such as 3.11")
    return value


def _pairs(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [item.partition("=") for item in value]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.BadParameter(f"{name!r} is not of the form NAME=VALUE")
    try:
        "".join(value).encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8") from None
    return {name: text for name, _, text in pairs}


def source_options(function: _F) -> _F:
    """The notebook, what to make of it, and where its packages come from."""
    source = click.argument("source", metavar="NOTEBOOK|DIRECTORY", type=click.Path(path_type=Path))
    return source(selection_options(function))


def selection_options(function: _F) -> _F:
    """What to make of a notebook, and where its packages come from."""
    return _applied(
        function,
        [
            click.option("--notebook", metavar="PATH", help="The notebook of a DIRECTORY, if it holds several."),
            click.option(
                "--mode",
                type=click.Choice(["jupyter", "batch"]),
                default="jupyter",
                show_default=True,
                help="JupyterLab on port 8888, or one run of the notebook with parameters.",
            ),
            click.option(
                "--base",
                default="auto",
                metavar="auto|NAME|PATH|REFERENCE",
                show_default=True,
                help="The base image: chosen by Python, glibc and size; a name of `nb2image bases list`; "
                "the path of an OCI layout or archive; or a registry's image, HOST/REPOSITORY[:TAG][@sha256:...].",
            ),
            click.option(
                "--catalogue",
                "catalogues",
                multiple=True,
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="Take bases from this catalogue, too.",
            ),
            click.option(
                "--python-build",
                metavar="FILE|URL#sha256=HEX",
                help="Lay this relocatable CPython over the base (for a Python that no base has).",
            ),
            click.option(
                "--python", metavar="X.Y", callback=_python, help="Build for this Python instead of the lock's."
            ),
            click.option(
                "--platform",
                multiple=True,
                default=("linux/amd64",),
                show_default="linux/amd64",
                callback=_platform,
                metavar="OS/ARCH",
                help="The platform of the image; `build` makes one index of several: linux/amd64,linux/arm64, or the "
                "option given twice.",
            ),
            click.option(
                "--index-url",
                metavar="URL|default",
                help="Use this package index instead of those the lock names; `default` is the one pip uses here.",
            ),
            click.option("--extra-index-url", multiple=True, metavar="URL", help="Ask this index too."),
            click.option(
                "--find-links", multiple=True, metavar="DIR", help="Take files from this folder or page first."
            ),
            click.option("--offline", is_flag=True, help="Use only what is in the cache and in --find-links."),
            plain_http_option,
            click.option(
                "--build-sdists",
                type=click.Choice(["auto", "never"]),
                default="auto",
                show_default=True,
                help="Build packages that have no wheel from their locked source distributions, in a sandbox.",
            ),
            click.option(
                "--add-missing/--no-add-missing",
                default=True,
                show_default=True,
                help="Add the Debian packages that have shared libraries which wheels need and nothing has.",
            ),
            click.option(
                "--gpu",
                is_flag=True,
                help="Require what the locked packages need of CUDA, and prepare the image for NVIDIA GPUs.",
            ),
            click.option(
                "--bytecode/--no-bytecode",
                default=None,
                help="Compile bytecode into the image (default: for batch only).",
            ),
            click.option(
                "--strict",
                is_flag=True,
                help="Treat a stale lock, a changed base, a wheel that differs from its RECORD, a missing shared "
                "library, or bytecode that only another Python than the base's own could compile as an error.",
            ),
        ],
    )


def output_options(function: _F) -> _F:
    """What a command says while it works."""
    return _applied(
        function,
        [
            click.option(
                "--progress",
                type=click.Choice(["auto", "plain", "json", "none"]),
                default="auto",
                show_default=True,
                help="Bars on a terminal, lines, JSON lines on standard error, or nothing.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end."),
            click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
            click.option("-v", "--verbose", is_flag=True, help="Say more."),
        ],
    )


def plain_http_option(function: _F) -> _F:
    """How a registry may be reached."""
    option = click.option(
        "--plain-http",
        is_flag=True,
        help="Take HTTP where a registry has no HTTPS; for one on this machine it is always taken.",
    )
    return option(function)


def platform_choice(function: _F) -> _F:
    """Which of several images under one name is meant."""
    option = click.option(
        "--platform",
        type=click.Choice(["linux/amd64", "linux/arm64"]),
        help="Which image to take of several platforms'.",
    )
    return option(function)


def pairs_option(name: str, text: str) -> Callable[[_F], _F]:
    """A repeatable option that takes ``NAME=VALUE``."""
    return click.option(name, multiple=True, metavar="NAME=VALUE", callback=_pairs, help=text)


def _epoch() -> int | None:
    """``SOURCE_DATE_EPOCH``, as reproducible-builds.org specifies it."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isdecimal() or int(text) >= 253402300800:  # the year 10000
        raise click.UsageError(f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds since 1970.")
    return int(text)


def request(
    *,
    source: Path,
    notebook: str | None,
    mode: Mode,
    base: str,
    python: str | None,
    platform: Platform,
    index_url: str | None,
    extra_index_url: tuple[str, ...],
    find_links: tuple[str, ...],
    offline: bool,
    bytecode: bool | None,
    strict: bool,
    build_sdists: Literal["auto", "never"] = "auto",
    gpu: bool = False,
    catalogues: tuple[Path, ...] = (),
    python_build: str | None = None,
    plain_http: bool = False,
    add_missing: bool = True,
    label: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    outputs: tuple[Path, ...] = (),
) -> Request:
    """The request that the options of `source_options` describe."""
    from nb2image.index.settings import IndexSettings

    settings = IndexSettings((index_url,) if index_url else None, extra_index_url, find_links, offline)
    return Request(
        source,
        notebook,
        mode,
        base,
        python,
        platform,
        settings,
        bytecode,
        label or {},
        env or {},
        strict,
        _epoch(),
        outputs,
        build_sdists,
        gpu,
        catalogues,
        python_build,
        plain_http,
        add_missing,
    )
