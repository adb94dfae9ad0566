"""``nb2image bases``: what bases there are, what an image is as a base, and new locks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nb2image.cli.image import image_options
from nb2image.cli.options import plain_http_option

if TYPE_CHECKING:
    from nb2image.bases.catalogue import CatalogueEntry
    from nb2image.bases.debian.lock import BaseLock

__all__ = ["bases"]


@click.group()
def bases() -> None:
    """List base images, look into one, or lock them anew."""


_CATALOGUE = click.option(
    "--catalogue",
    "catalogues",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read this catalogue, too.",
)


@bases.command("list")
@_CATALOGUE
def list_bases(catalogues: tuple[Path, ...]) -> None:
    """Show the bases that catalogues name, with what they hold and until when they are maintained."""
    from nb2image.bases.catalogue import read_catalogues
    from nb2image.cli.inspection import print_table

    rows = [_row(entry) for entry in read_catalogues(catalogues).entries.values()]
    print_table(("name", "Python", "C library", "CUDA", ">size", "end of life", "from"), rows)


def _row(entry: CatalogueEntry) -> tuple[str, ...]:
    from datetime import date

    ends = "" if entry.end_of_life is None else f"{entry.end_of_life}"
    over = " (past)" if entry.end_of_life is not None and entry.end_of_life < date.today() else ""
    size = _size(entry)
    return (
        entry.name,
        entry.python or "",
        entry.libc,
        entry.cuda or "",
        f"{size / 1e6:.0f} MB" if size else "",
        ends + over,
        "Debian" if entry.provider == "debian" else entry.reference.partition("/")[0] or entry.reference,
    )


def _size(entry: CatalogueEntry) -> int | None:
    """As stated, or of the packages that the lock of the first platform names."""
    if entry.provider != "debian":
        return entry.size
    from nb2image.bases.debian.lock import read_locks, shipped_lock
    from nb2image.target.model import Platform

    platform = Platform("linux", entry.platforms[0].partition("/")[2])
    if entry.locks is not None:
        locks = read_locks(entry.locks, entry.reference, platform)
        return locks.base.size if locks is not None else None
    lock = shipped_lock(entry.name, platform)
    return lock.size if lock is not None else None


@bases.command("show")
@click.argument("name", metavar="NAME")
@_CATALOGUE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(name: str, catalogues: tuple[Path, ...], as_json: bool) -> None:
    """Show what a catalogue says of one base."""
    import json
    from dataclasses import asdict

    from nb2image.bases.catalogue import read_catalogues
    from nb2image.inspection.words import printable

    entry = read_catalogues(catalogues).entry(name)
    values = {**asdict(entry), "size": _size(entry)}
    if as_json:
        click.echo(json.dumps(values, indent=2, default=str, ensure_ascii=False))
        return
    for key, value in values.items():
        if value:
            several = [" ".join(each) for each in value.items()] if isinstance(value, dict) else value
            text = ", ".join(several) if isinstance(several, (list, tuple)) else str(value)
            title = key.replace("_", " ")
            click.echo(f"{click.style(f'{title:<13}', bold=True)}{printable(text)}")


@bases.command("probe", short_help="Show what an image is as a base.")
@click.argument("image", metavar="IMAGE")
@click.option("--packages", is_flag=True, help="List the Python packages, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@image_options
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def probe_image(
    image: str,
    packages: bool,
    as_json: bool,
    preferred: str | None,
    platform: str | None,
    plain_http: bool,
    quiet: bool,
) -> None:
    """Show what an image is as a base: its system, C library, Pythons and their packages, CUDA, user and environment.

    IMAGE is an archive (FILE.tar), an OCI layout (DIRECTORY or DIRECTORY:TAG), an image of a registry
    (HOST/REPOSITORY[:TAG][@sha256:...]), or the name of an image in Docker or podman. It is read, not run and not
    unpacked.
    """
    import json

    from nb2image.bases.probe import document, probe
    from nb2image.cli.image import opened, wanted_platform
    from nb2image.cli.listeners import listening
    from nb2image.cli.probing import print_probe

    with listening("auto", quiet=quiet, verbose=False) as listener:
        stored, _ = opened(image, preferred, wanted_platform(platform), listener, plain_http=plain_http)
        found = probe(stored.read(), image, listener)
    if as_json:
        click.echo(json.dumps(document(found, image), indent=2, ensure_ascii=False))
    else:
        print_probe(found, packages=packages)


@bases.command("lock", short_help="Write down what bases are now, for builds to come.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_CATALOGUE
@click.option(
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bases"),
    show_default=True,
    help="Folder for the locks.",
)
@plain_http_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def lock(names: tuple[str, ...], catalogues: tuple[Path, ...], folder: Path, plain_http: bool, quiet: bool) -> None:
    """Write down what each NAME of a catalogue stands for now, so that builds take the same base from then on.

    Images are held by their digests, bases of Debian packages by the hash of each package. Builds that are given
    FOLDER/locked.toml (--catalogue, or for good in the configuration) take what is written there. Without a NAME,
    everything that the folder has is locked anew.
    """
    from datetime import date

    from nb2image.bases.catalogue import read_catalogues
    from nb2image.bases.locking import CATALOGUE, files_of, lock_bases, locked_before
    from nb2image.cache import Store
    from nb2image.cli.listeners import listening

    before = locked_before(folder)
    if not (names or before):
        raise click.UsageError("Name the bases to lock; `nb2image bases list` shows them.")
    file = folder / CATALOGUE
    known = read_catalogues(catalogues, but=file)
    # What no other catalogue knows any more is looked up as it was the last time.
    old = {name: each.entry for name, each in before.items()}
    meant = [known.entries.get(name) or old.get(name) or known.entry(name) for name in dict.fromkeys(names or before)]
    with listening("auto", quiet=quiet, verbose=False) as listener:
        locked = lock_bases(meant, date.today(), Store.default(), listener, plain_http=plain_http)
    _write_all(folder, files_of(locked, before, folder))
    if quiet:
        return
    for each in locked:
        then = before[each.entry.name].states() if each.entry.name in before else {}
        for platform, state in each.states().items():
            was = then.get(platform)
            change = "" if was is None else ", as before" if was == state else f"; was {was}"
            click.echo(f"{each.entry.name}  {platform}  {state}{change}")
        for platform in each.left_out:
            click.echo(f"{each.entry.name}  {platform}  is not there, and left out")
    click.echo(f"written to {file}; builds take it with --catalogue {file}")


def _write_all(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files below a folder; the last of them is what refers to the others. Raises `Unwritable`."""
    from nb2image.errors import Unwritable

    for name, text in texts.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, text)
        except OSError as error:
            raise Unwritable(
                f"{path} cannot be written: {error.strerror or error}.",
                hint="Name a folder that you may write with --output.",
            ) from error


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
            _write_all(folder, {f"toolchain/{path.name}": toolchain.text(), path.name: lock.text()})
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
