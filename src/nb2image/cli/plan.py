"""``nb2image plan``: what a build would do, and why."""

from __future__ import annotations

import json
from typing import Any

import click

from nb2image.cache import Store
from nb2image.cli.options import output_options, request, source_options

__all__ = ["plan"]


@click.command()
@source_options
@output_options
def plan(progress: str, as_json: bool, quiet: bool, verbose: bool, **selection: Any) -> None:
    """Show what would be built and why; only metadata is downloaded."""
    from nb2image.cli.listeners import listening
    from nb2image.cli.report import plan_document, print_plan
    from nb2image.libraries import foreseen
    from nb2image.plan import make_plan

    store = Store.default()
    with listening(progress, quiet=quiet, verbose=verbose) as listener:
        made = make_plan(request(**selection), store, listener)
        libraries = foreseen(made, store)
    if as_json:
        click.echo(json.dumps(plan_document(made, libraries), indent=2, ensure_ascii=False))
    else:
        print_plan(made, libraries, verbose=verbose)
