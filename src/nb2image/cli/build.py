"""``nb2image build``: from a notebook to an image in a file, a folder or an engine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nb2image.cache import Store
from nb2image.cli.options import output_options, pairs_option, request, source_options

if TYPE_CHECKING:
    from nb2image.outputs import Output
    from nb2image.runtime.entries import Mode

__all__ = ["build"]


def _tags(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from nb2image.errors import OutputError
    from nb2image.image.names import parse_name

    for text in value:
        try:
            parse_name(text)
        except OutputError as error:
            raise click.BadParameter(f"{error.message} {error.hint}") from error
    return value


@click.command()
@source_options
@click.option(
    "-t",
    "--tag",
    "tags",
    multiple=True,
    callback=_tags,
    metavar="NAME[:TAG]",
    help="Name the image; can be given several times. Default: the notebook's name.",
)
@click.option(
    "-o",
    "--output",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write FILE.tar (loads everywhere) or an OCI layout DIRECTORY. Default: an archive beside the notebook.",
)
@click.option("--load", "load_", is_flag=True, help="Load the image into Docker or podman.")
@click.option("--push", is_flag=True, help="Push the image to the registry that each --tag names.")
@click.option(
    "--sbom",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the image's bill of materials (CycloneDX), which is also in the image.",
)
@click.option(
    "--apt-lock",
    type=click.Path(path_type=Path),
    metavar="FILE.lock",
    help="Write which system packages were added; kept beside apt.txt as apt.lock, it gives the same ones again.",
)
@pairs_option("--label", "Add a label to the image.")
@pairs_option("--env", "Set an environment variable in the image.")
@output_options
def build(
    tags: tuple[str, ...],
    paths: tuple[Path, ...],
    load_: bool,
    push: bool,
    sbom: Path | None,
    apt_lock: Path | None,
    progress: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **selection: Any,
) -> None:
    """Build an image from a notebook that carries its lock: no daemon, no root."""
    from nb2image.build import Clock, build_planned
    from nb2image.cli.listeners import listening
    from nb2image.outputs import EngineLoad, RegistryPush, Report, default_tag, output_for
    from nb2image.plan import make_plan
    from nb2image.progress import Warned

    if isinstance(selection["platform"], tuple):
        from nb2image.cli.platforms import build_index

        if load_ or sbom is not None or apt_lock is not None:
            raise click.UsageError(
                "Of several platforms only -o and --push are made: build each alone for --load, --sbom and --apt-lock."
            )
        build_index(tags, paths, push, progress, as_json=as_json, quiet=quiet, verbose=verbose, selection=selection)
        return
    outputs: list[Output] = [output_for(path) for path in paths]
    with ExitStack() as stack:
        if load_:
            outputs.append(stack.enter_context(closing(EngineLoad())))
        if push and not tags:
            raise click.UsageError("--push needs a --tag that says where to: -t registry.example/team/name:1.0")
        store = Store.default()
        pushed = stack.enter_context(closing(RegistryPush(tags, store, selection["plain_http"]))) if push else None
        outputs += [pushed] if pushed is not None else []
        reports = [Report(sbom)] if sbom is not None else []
        lock = Report(apt_lock, ".lock") if apt_lock is not None else None
        for output in outputs:
            output.check()
        for report in (*reports, *([lock] if lock is not None else [])):
            report.check()
        clock = Clock(stack.enter_context(listening(progress, quiet=quiet, verbose=verbose)))
        plan = make_plan(request(**selection, outputs=(*paths, *filter(None, (sbom, apt_lock)))), store, clock)
        if lock is not None and plan.system is None and not plan.request.add_missing:
            from nb2image.errors import SystemPackagesUnusable

            raise SystemPackagesUnusable(
                "There is nothing for --apt-lock to lock: --no-add-missing adds no package, and no apt.txt names one.",
                hint="Write names into apt.txt beside the notebook, or leave one of the two options away.",
            )
        if not outputs:
            outputs.append(output_for(plan.notebook.file.with_suffix(".tar")))
            outputs[0].check()
        # Whatever else is written needs the bytes of all layers.
        held = partial(pushed.held, listener=clock) if pushed is not None and outputs == [pushed] else None
        built = build_planned(plan, store, clock, held)
        names = tags or (default_tag(plan.notebook.name),)
        for output in outputs:
            output.write(built.image, names, clock)
        for report in reports:
            report.write(built.sbom)
        if lock is not None and built.plan.system is not None:
            lock.write(built.system_lock)
        elif lock is not None:
            clock(Warned(f"No Debian package is asked for or missing, so {lock.path} is not written."))
    command = run_command(outputs, names[0], built.plan.request.mode, gpu=built.plan.request.gpu)
    if as_json:
        from nb2image.cli.report import built_document

        document = built_document(built, names, [output.describe() for output in outputs], command)
        if pushed is not None:
            document["pushed"] = [each.document() for each in pushed.pushed]
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(built.image.digest)
        for output in outputs:
            if isinstance(output, RegistryPush):
                for each in output.pushed:
                    click.echo(f"pushed {each}")
                continue
            click.echo(f"written to {output.describe()} as {', '.join(names)}")
        for report in reports:
            click.echo(f"bill of materials written to {report.path}")
        click.echo(f"run it with: {command}")


def run_command(outputs: Sequence[Output], tag: str, mode: Mode, *, gpu: bool = False) -> str:
    """The exact command line that runs the image from one of the places where it was written, a loaded one first."""
    output = next((each for each in outputs if each.prepare() is None), outputs[0])
    # To a podman of an ordinary user the container's root is that user, who owns the folder.
    user = "0:0" if output.engine == "podman" and os.getuid() else '"$(id -u):0"'
    options = {
        "jupyter": "-p 127.0.0.1:8888:8888",
        "batch": f'-u {user} -v "$PWD/output:/output"',
    }[mode]
    if gpu:
        options = f"{'--device nvidia.com/gpu=all' if output.engine == 'podman' else '--gpus all'} {options}"
    steps = [output.prepare(), "mkdir -p output" if mode == "batch" else None]
    steps.append(f"{output.engine} run --rm {options} {output.reference(tag)}")
    return " && ".join(step for step in steps if step)
