"""``nb2image run``: an image that an engine has, or one in a file or a notebook, which are loaded first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nb2image.cli.options import request, selection_options

if TYPE_CHECKING:
    from nb2image.engines.client import Engine
    from nb2image.progress import Listener
    from nb2image.target.model import Platform

__all__ = ["run"]


# What follows SOURCE belongs to the container: `-p alpha 3` is papermill's.
@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("source", metavar="IMAGE|NOTEBOOK|DIRECTORY|FILE.tar")
@selection_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@click.option("--engine", "preferred", type=click.Choice(["docker", "podman"]), help="Use this engine.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("output"),
    show_default=True,
    metavar="DIR",
    help="Where a batch image leaves executed notebooks.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors, and what the container prints, only.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def run(
    source: str,
    arguments: tuple[str, ...],
    preferred: str | None,
    output: Path,
    quiet: bool,
    verbose: bool,
    **selection: Any,
) -> int:
    """Run an image, or build, load and run a notebook, with Docker or podman.

    A plain name is an image that the engine has, and otherwise a folder of that name; ./NAME is always the folder. An
    archive or an OCI layout (DIRECTORY or DIRECTORY:TAG) is loaded first; of several platforms' images that of the
    engine's machine, unless --platform names another.

    A Jupyter image is served on this machine until Ctrl-C; a batch image runs once with ARGS, which are papermill's
    (-p NAME VALUE), and its exit code is passed on. Options of nb2image come before the image or notebook.
    """
    from nb2image.cli.listeners import listening
    from nb2image.engines.client import choose
    from nb2image.engines.run import check_processor, image_mode, run_batch, serve

    there = os.path.exists(source)  # noqa: PTH110 - false, not an error, below a folder that may not be entered
    if source.endswith((".ipynb", ".py")) and not there:
        from nb2image.errors import NotANotebook

        raise NotANotebook(
            f"There is no notebook {source}.", hint="Check the path; an image's name has no such suffix."
        )
    packed = _is_packed(source)
    arguments = _for_container(source, arguments, built=there and not packed)
    with choose(preferred) as engine:
        reference = source
        if (there or packed) and (_is_path(source) or engine.image_id(source) is None):
            with listening("auto", quiet=quiet, verbose=verbose) as listener:
                if packed:
                    given = click.get_current_context().get_parameter_source("platform")
                    named = selection["platform"] if given is ParameterSource.COMMANDLINE else None
                    reference = _load_image(engine, source, named, listener)
                else:
                    reference = _load_notebook(engine, Path(source), listener, selection)
        mode = image_mode(engine, reference)
        check_processor(engine, reference)
        if mode == "batch":
            return run_batch(
                engine, reference, arguments, output, sys.stdout.buffer, sys.stderr.buffer, gpu=selection["gpu"]
            )
        with serve(engine, reference, arguments, sys.stderr.buffer, sys.stderr.buffer, gpu=selection["gpu"]) as server:
            # Whoever serves ends by Ctrl-C or, as a service, by SIGTERM (`nb2image.cli.Terminated`).
            try:
                click.echo(server.url)
                if not quiet:
                    click.echo("Ctrl-C stops it.", err=True)
                return server.wait()
            except KeyboardInterrupt:
                return 0


def _for_container(source: str, arguments: tuple[str, ...], *, built: bool) -> tuple[str, ...]:
    """What the container gets. Beside a notebook that is built first, options of this command among it are meant for
    this command: a batch run that was asked for there would silently become a JupyterLab."""
    if arguments[:1] == ("--",):
        return arguments[1:]
    if not built:
        return arguments
    options = (item for item in run.params if isinstance(item, click.Option))
    own = {name for item in options for name in (*item.opts, *item.secondary_opts) if name.startswith("--")}
    # Papermill has this one, too.
    own.discard("--engine")
    for argument in arguments:
        if argument.partition("=")[0] in own:
            raise click.UsageError(
                f"{argument} stands after {source}, where everything is for the container. Put options of nb2image "
                f"before {source}, or `--` after it when the container is to have them."
            )
    return arguments


def _load_notebook(engine: Engine, source: Path, listener: Listener, selection: dict[str, Any]) -> str:
    """Build a notebook and load it; the image's name."""
    from nb2image.build import build
    from nb2image.cache import Store
    from nb2image.engines.load import load
    from nb2image.outputs import default_tag

    built = build(request(source=source, **selection), Store.default(), listener)
    tag = default_tag(built.plan.notebook.name)
    load(engine, built.image, [tag], listener)
    return tag


def _is_packed(source: str) -> bool:
    """Whether an archive of images or an OCI layout is meant."""
    from nb2image.image.read import split_base

    path, _ = split_base(source)
    try:
        return (path / "oci-layout").is_file() or (path.is_file() and path.name.endswith((".tar", ".tar.gz", ".tgz")))
    except OSError:
        return False


def _load_image(engine: Engine, source: str, platform: Platform | None, listener: Listener) -> str:
    """Load an image from a file, by default that for the machine of the engine; its name.

    Raises `NotAnImage` and `EngineRefused`.
    """
    from nb2image.cli.image import opened, provenance
    from nb2image.engines.load import load
    from nb2image.outputs import default_tag
    from nb2image.target.model import Platform

    machine = engine.architecture.lower()
    wanted = platform or Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine))
    stored, where = opened(source, None, wanted, listener, here=True)
    read = stored.read()
    names = provenance(source, stored, read, where).names
    tag = names[0] if names else default_tag(read.config.labels.get("io.nb2image.notebook", source))
    load(engine, read, [tag], listener)
    return tag


def _is_path(source: str) -> bool:
    """Whether what was given can be no image's name: ``./report``, ``report/``, ``My Report``, ``report.ipynb``."""
    from nb2image.errors import OutputError
    from nb2image.image.names import parse_name

    try:
        parse_name(source)
    except OutputError:
        return True
    return source.endswith((".ipynb", ".py"))
