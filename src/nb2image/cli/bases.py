"""``nb2image bases``: what Debian bases there are, and new locks for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nb2image.bases.debian.lock import BaseLock

__all__ = ["bases"]


@click.group()
def bases() -> None:
    """List the Debian bases, or renew their locks."""


@bases.command("list")
def list_bases() -> None:
    """Show the bases that nb2image has a lock of."""
    from nb2image.bases.debian.lock import shipped_lock, shipped_names
    from nb2image.target.model import Platform

    for suite, architecture in shipped_names():
        lock = shipped_lock(suite, Platform("linux", architecture))
        if lock is not None:
            size = lock.size / 1e6
            click.echo(
                f"{suite:10} {lock.target}  Debian {lock.release} of {lock.day}, "
                f"{len(lock.packages)} packages, {size:.0f} MB"
            )


@bases.command("update", short_help="Lock the bases anew, from Debian's index of today.")
@click.argument("suites", metavar="[SUITE]...", nargs=-1)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the new locks. Default: where nb2image keeps its own, which builds then use.",
)
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="linux/ARCH",
    help="Only for this platform. Default: every one that has a lock.",
)
def update(suites: tuple[str, ...], output: Path | None, platforms: tuple[str, ...]) -> None:
    """Resolve bases from Debian's signed index as it is now, and write their locks."""
    from importlib.resources import files

    from nb2image.bases.debian.lock import shipped_lock, shipped_names
    from nb2image.bases.debian.selection import SUITES
    from nb2image.bases.debian.update import update_locks
    from nb2image.cache import Store
    from nb2image.cli.listeners import listening
    from nb2image.errors import Unwritable
    from nb2image.target.model import Platform

    for suite in suites:
        if suite not in SUITES:
            raise click.BadParameter(f"{suite} is none of {', '.join(SUITES)}.", param_hint="SUITE")
    architectures = [_architecture(platform) for platform in platforms]
    known = sorted({architecture for _, architecture in shipped_names()} | {"amd64"})
    folder = output if output is not None else Path(str(files("nb2image") / "images" / "bases"))
    store = Store.default()
    for suite in suites or SUITES:
        for architecture in architectures or known:
            platform = Platform("linux", architecture)
            old = shipped_lock(suite, platform)
            with listening("auto", quiet=False, verbose=False) as listener:
                lock, toolchain = update_locks(suite, platform, store, listener)
            path = folder / f"{suite}-{architecture}.json"
            try:
                (folder / "toolchain").mkdir(parents=True, exist_ok=True)
                _replace(path, lock.text())
                _replace(folder / "toolchain" / path.name, toolchain.text())
            except OSError as error:
                raise Unwritable(
                    f"{path} cannot be written: {error.strerror or error}.",
                    hint="Name a folder that you may write with --output.",
                ) from error
            click.echo(f"{path}: {lock.target}; {_difference(old, lock)}")


def _replace(path: Path, text: str) -> None:
    """Write a file that others may be reading, and leave the old one as it is should that fail."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", delete=False) as stream:
        new = Path(stream.name)
        try:
            stream.write(text)
            stream.flush()
            new.chmod(0o644)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def _difference(old: BaseLock | None, new: BaseLock) -> str:
    """Names of packages that are not the same in both locks."""
    if old is None:
        return f"{len(new.packages)} packages"
    rows = {(deb.name, deb.sha256) for deb in old.packages} ^ {(deb.name, deb.sha256) for deb in new.packages}
    return "changed: " + ", ".join(sorted({name for name, _ in rows})) if rows else "unchanged"


def _architecture(platform: str) -> str:
    system, _, architecture = platform.partition("/")
    if system != "linux" or not architecture:
        raise click.BadParameter(f"{platform} is no linux/ARCH.", param_hint="--platform")
    return architecture
