"""``nb2image build`` for several platforms at once: one index of the images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import click

from nb2image.cache import Store
from nb2image.cli.options import request

__all__ = ["build_index"]


def build_index(
    tags: Sequence[str],
    paths: Sequence[Path],
    push: bool,
    progress: str,
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    selection: dict[str, Any],
) -> None:
    """Build one image for each platform and write or push them as one; what they share is made once."""
    from nb2image.build import Clock, build_planned
    from nb2image.cli.listeners import listening
    from nb2image.image.model import ImageIndex
    from nb2image.outputs import Archive, Layout, RegistryPush, default_tag, output_for
    from nb2image.plan import make_plan

    if push and not tags:
        raise click.UsageError("--push needs a --tag that says where to: -t registry.example/team/name:1.0")
    outputs = [output_for(path) for path in paths]
    platforms = selection.pop("platform")
    store = Store.default()
    with ExitStack() as stack:
        pushed = stack.enter_context(closing(RegistryPush(tags, store, selection["plain_http"]))) if push else None
        outputs += [pushed] if pushed is not None else []
        clock = Clock(stack.enter_context(listening(progress, quiet=quiet, verbose=verbose)))
        for output in outputs:
            output.check()
        # Whatever one of them lacks shows before anything is built.
        plans = [
            make_plan(request(**selection, platform=each, outputs=tuple(paths)), store, clock) for each in platforms
        ]
        if not outputs:
            outputs.append(output_for(plans[0].notebook.file.with_suffix(".tar")))
            outputs[0].check()
        held = partial(pushed.held, listener=clock) if pushed is not None and outputs == [pushed] else None
        index = ImageIndex(tuple(build_planned(plan, store, clock, held).image for plan in plans))
        names = tuple(tags) or (default_tag(plans[0].notebook.name),)
        for output in outputs:
            assert isinstance(output, (Archive, Layout, RegistryPush))
            output.write(index, names, clock)
    if as_json:
        document = {
            "digest": index.digest,
            "tags": list(names),
            "outputs": [output.describe() for output in outputs],
            "images": [
                {"platform": str(plan.target.platform), "base": plan.match.candidate.name, "digest": image.digest}
                for plan, image in zip(plans, index.images, strict=True)
            ],
        }
        if pushed is not None:
            document["pushed"] = [each.document() for each in pushed.pushed]
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(index.digest)
        for image in index.images:
            click.echo(f"{image.platform}: {image.digest}")
        for each in pushed.pushed if pushed is not None else ():
            click.echo(f"pushed {each}")
        for output in outputs:
            if output is not pushed:
                click.echo(f"written to {output.describe()} as {', '.join(names)}")
