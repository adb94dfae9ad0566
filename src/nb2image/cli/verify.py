"""``nb2image verify``: whether an image is what its lock gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nb2image.cache import Store
from nb2image.cli.image import image_options, opened, provenance, wanted_platform
from nb2image.errors import NotVerified

if TYPE_CHECKING:
    from nb2image.verification.verify import Verdict

__all__ = ["verify"]

_ROWS = 20


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option(
    "--notebook",
    type=click.Path(path_type=Path, exists=True),
    metavar="NOTEBOOK|DIRECTORY",
    help="What the image should have been built from; without it, what is in the image.",
)
@click.option("--base", metavar="NAME|PATH|REFERENCE", help="The image's base, where nb2image does not bring it.")
@click.option(
    "--python-build", metavar="FILE|URL#sha256=HEX", help="The Python that was laid over the image's base, if one was."
)
@click.option(
    "--apt-lock",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The lock of the Debian packages that were added, as `build --apt-lock` wrote it.",
)
@click.option("--rebuild", is_flag=True, help="Build again, with none of the cache's layers, and compare digests.")
@click.option("--index-url", metavar="URL|default", help="Take packages that the cache lacks from this index.")
@click.option("--extra-index-url", multiple=True, metavar="URL", help="Ask this index too.")
@click.option("--find-links", multiple=True, metavar="DIR", help="Take files from this folder or page first.")
@click.option("--offline", is_flag=True, help="Use only what is in the cache and in --find-links.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@image_options
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.option("-v", "--verbose", is_flag=True, help="List all findings.")
def verify(
    image: str,
    notebook: Path | None,
    base: str | None,
    python_build: str | None,
    apt_lock: Path | None,
    rebuild: bool,
    index_url: str | None,
    extra_index_url: tuple[str, ...],
    find_links: tuple[str, ...],
    offline: bool,
    as_json: bool,
    preferred: str | None,
    platform: str | None,
    plain_http: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Check that an image holds exactly what its lock names, unmodified.

    Builds what the lock in the image gives, from wheels of the cache or an index, and compares every file. IMAGE is an
    archive, an OCI layout (DIRECTORY or DIRECTORY:TAG), an image of a registry (HOST/REPOSITORY[:TAG][@sha256:...]),
    or the name of an image in Docker or podman.
    """
    from nb2image.cli.listeners import listening
    from nb2image.index.settings import IndexSettings
    from nb2image.inspection.words import printable
    from nb2image.verification.verify import verify as check

    if notebook is not None and apt_lock is not None:
        raise click.UsageError("--apt-lock is for images without --notebook: name it apt.lock, beside the notebook.")
    settings = IndexSettings((index_url,) if index_url else None, extra_index_url, find_links, offline)
    with listening("auto", quiet=quiet, verbose=False) as listener:
        stored, output = opened(image, preferred, wanted_platform(platform), listener, plain_http=plain_http)
        read = stored.read()
        verdict = check(
            read,
            provenance(image, stored, read, output),
            Store.default(),
            listener,
            notebook=notebook,
            base=base,
            python_build=python_build,
            apt_lock=apt_lock,
            plain_http=plain_http,
            settings=settings,
            rebuild=rebuild,
        )
    if as_json:
        click.echo(json.dumps(_document(verdict), indent=2, ensure_ascii=False))
    else:
        _print(verdict, every=verbose)
    if not verdict.holds:
        raise NotVerified(
            printable(verdict.sentence),
            hint="Do not trust it before you know why; `nb2image build` makes it anew.",
        )


def _print(verdict: Verdict, *, every: bool) -> None:
    from nb2image.inspection.words import printable

    words = {True: click.style("ok", fg="green"), False: click.style("no", fg="red"), None: "--"}
    for check in verdict.checks:
        click.echo(f"{words[check.holds]}  {printable(check.sentence)}")
        listed = check.findings if every else check.findings[:_ROWS]
        for finding in listed:
            click.echo(f"      {finding.what} {printable(finding.name)}{_detail(finding.detail)}")
        if len(check.findings) > len(listed):
            click.echo(f"      and {len(check.findings) - len(listed)} more: --verbose lists them")
    for name, value in verdict.added.items():
        click.echo(f"--  asked for at the build, and no affair of the lock: {printable(f'{name}={value}')}")
    if verdict.holds:
        click.echo(printable(verdict.sentence))


def _detail(text: str) -> str:
    from nb2image.inspection.words import printable

    return f": {printable(text)}" if text else ""


def _document(verdict: Verdict) -> dict[str, Any]:
    """As docs/verify.schema.json describes it."""
    from nb2image.inspection.words import utf8

    where = verdict.found.provenance
    return {
        "format": 1,
        "reference": utf8(where.reference),
        "digest": where.digest,
        "id": where.id,
        "holds": verdict.holds,
        "sentence": utf8(verdict.sentence),
        "checks": [
            {
                "name": check.name,
                "holds": check.holds,
                "sentence": utf8(check.sentence),
                "findings": [finding._asdict() for finding in check.findings],
            }
            for check in verdict.checks
        ],
        "added": dict(verdict.added),
    }
