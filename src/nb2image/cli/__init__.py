"""The command line: parsing and printing only. A module is imported when its command is called."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from nb2image import __version__
from nb2image.errors import Nb2ImageError, Unwritable

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["cli", "main", "say"]

_COMMANDS = {
    "build": "Build an image from a locked notebook.",
    "plan": "Show what would be built, and why.",
    "run": "Run an image or a notebook with Docker or podman.",
    "push": "Push an image to a registry.",
    "pull": "Pull an image from a registry.",
    "copy": "Copy an image between registries and files.",
    "inspect": "Show what is in an image.",
    "diff": "Show what differs between two images.",
    "verify": "Check that an image is what its lock gives.",
    "rebase": "Put an image on another base without building it anew.",
    "bases": "List the base images, and lock them anew.",
    "cache": "Show or prune the cache.",
    "doctor": "Show which engines, tools and indexes are usable here.",
}

_COLLECTED = 50_000
"""Objects made and not yet gone that begin a search for cycles; Python's own figure is 700."""


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


class Terminated(KeyboardInterrupt):
    """SIGTERM came: a cancelled job cleans up as after Ctrl-C."""


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def say(line: str) -> None:
    """Print a line on standard error, unless nobody is left who reads it."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def fail(error: Nb2ImageError) -> NoReturn:
    """Say what went wrong and what to do, and leave with the error's own exit code."""
    say(f"{click.style('error:', fg='red', bold=True)} {error.message}")
    for line in error.details:
        say(f"  {line}")
    if error.hint:
        say(f"{click.style('hint:', fg='cyan')} {error.hint}")
    sys.exit(error.exit_code)


_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
_MACHINE |= {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
"""What a machine may lack at any moment and in any place: room, permission, descriptors, processes."""


def _unexpected(error: Exception) -> Nb2ImageError:
    """What is no `Nb2ImageError` is a defect of nb2image, whatever the input was, unless this machine failed."""
    import traceback
    from pathlib import Path

    if os.environ.get("NB2IMAGE_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in _MACHINE:
        what = error.filename if isinstance(error.filename, str) else "Something that nb2image needs"
        return Unwritable(
            f"{what} cannot be used: {error.strerror}.",
            hint="Free some space, memory or descriptors, or correct the permissions; TMPDIR and NB2IMAGE_CACHE_DIR "
            "name other places for files.",
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return Nb2ImageError(
        f"nb2image {__version__} failed unexpectedly: {type(error).__name__}{f': {text}' if text else ''} "
        f"({Path(place.filename).name}, line {place.lineno}).",
        hint="This is a defect of nb2image: report it with this line, the command, and what it prints with "
        "NB2IMAGE_DEBUG=1 in the environment.",
    )


def _require_utf8() -> None:
    """Start anew in UTF-8 mode (PEP 540) where names of files are read in another encoding of the locale's: they are
    bytes, and one folder must give one image."""
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _leave(error: BaseException) -> NoReturn:
    """Say that the command was interrupted, and leave with the code of the signal."""
    # A second one ends the process as it stands.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    say("interrupted")
    sys.exit(143 if isinstance(error, Terminated) else 130)


def main() -> NoReturn:
    """Entry point of ``nb2image`` and ``python -m nb2image``.

    Exit codes: 0 done, 1 unexpected or a closed pipe, 2 wrong usage, 130 and 143 interrupted by SIGINT and SIGTERM,
    the others as `nb2image.errors` says.
    """
    _require_utf8()
    # Nearly all that a command makes stays until its end: looking for cycles so often is a tenth of a start.
    gc.set_threshold(_COLLECTED)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(prog_name="nb2image", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        _leave(error.__cause__ or error)
    except Nb2ImageError as error:
        fail(error)
    except Exception as error:  # noqa: BLE001  (the last place that can say so in a sentence)
        # Until 3.12 Python wraps what comes while a class is made and a descriptor told its name.
        if isinstance(error.__cause__, KeyboardInterrupt):
            _leave(error.__cause__)
        fail(_unexpected(error))
    # All is done and said: an interrupt of the interpreter's own end would only print a traceback.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # what is left need not be looked through once more
    sys.exit(code if isinstance(code, int) else 0)
