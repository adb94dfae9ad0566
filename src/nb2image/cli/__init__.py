"""The command line: parsing and printing only. A module is imported when its command is called."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click

from nb2image import __version__
from nb2image.errors import Nb2ImageError

__all__ = ["cli", "main"]

_COMMANDS = {
    "build": "Build an image from a locked notebook.",
    "plan": "Show what would be built, and why.",
    "run": "Run an image or a notebook with Docker or podman.",
    "bases": "List the base images, and lock them anew.",
    "cache": "Show or prune the cache.",
    "doctor": "Show which engines, tools and indexes are usable here.",
}


class _Lazy(click.Group):
    """Knows its commands by name and loads one when it is called, so that each starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"nb2image.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nb2image", message="%(prog)s %(version)s")
def cli() -> None:
    """A locked Jupyter notebook in, a runnable, exactly reproducible container image out."""


def fail(error: Nb2ImageError) -> NoReturn:
    """Say what went wrong and what to do, and leave with the error's own exit code."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    for line in error.details:
        click.echo(f"  {line}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)
    sys.exit(error.exit_code)


def main() -> NoReturn:
    """Entry point of ``nb2image`` and ``python -m nb2image``.

    Exit codes: 0 done, 1 unexpected, 2 wrong usage, 130 interrupted, the others as `nb2image.errors` says.
    """
    try:
        code = cli.main(prog_name="nb2image", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except Nb2ImageError as error:
        fail(error)
    sys.exit(code if isinstance(code, int) else 0)
