"""``nb2image cache``: what it holds, where it is, and less of it."""

from __future__ import annotations

import json
import re

import click

from nb2image.cache import ROOMS, Store
from nb2image.sizes import shown

__all__ = ["cache"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", value.strip().lower())
    if not found:
        raise click.BadParameter("give a size such as 500M or 10G")
    return int(float(found[1]) * _UNITS[found[2]])


@click.group()
def cache() -> None:
    """Show or prune the cache."""


@cache.command()
def path() -> None:
    """Print where the cache is."""
    click.echo(Store.default().root)


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
def info(as_json: bool) -> None:
    """Show what the cache holds."""
    store = Store.default()
    usage = store.usage()
    if as_json:
        rows = {u.room: {"files": u.files, "bytes": u.size} for u in usage}
        click.echo(json.dumps({"path": str(store.root), "rooms": rows}, indent=2))
        return
    click.echo(store.root)
    for used in usage:
        click.echo(f"  {used.room:<8} {used.files:>7} files  {shown(used.size):>10}")
    click.echo(f"  {'total':<8} {sum(u.files for u in usage):>7} files  {shown(sum(u.size for u in usage)):>10}")


@cache.command()
@click.option("--layers", "parts", flag_value="layers", multiple=True, help="Finished layers.")
@click.option("--wheels", "parts", flag_value="wheels", multiple=True, help="Downloaded wheels.")
@click.option("--bases", "parts", flag_value="bases", multiple=True, help="Downloaded packages of bases.")
@click.option("--all", "everything", is_flag=True, help="All of these, and the records of what was found out.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Only what was not used for DAYS.")
@click.option("--max-size", callback=_size, metavar="SIZE", help="Oldest first, until SIZE (500M, 10G) is left.")
def prune(parts: tuple[str, ...], everything: bool, older_than: float | None, max_size: int | None) -> None:
    """Remove what the cache holds; it comes back when it is needed."""
    if everything:
        parts = (*ROOMS, "records")
    elif not parts:
        if older_than is None and max_size is None:
            raise click.UsageError("say what to prune: --layers, --wheels, --bases, --all, --older-than or --max-size")
        parts = ROOMS
    seconds = older_than * 86400 if older_than is not None else None
    removed = Store.default().prune(parts, older_than=seconds, max_size=max_size)
    click.echo(f"removed {removed.files} files, {shown(removed.size)}")
