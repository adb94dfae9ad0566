"""An inspection as one HTML page that needs nothing else: no network, no server, no other file.

Everything that comes from the image is escaped: as text of HTML, or inside the JSON that the page's script reads and
only ever shows as text. The content security policy allows this one script and this one style sheet, by their hashes.
"""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from nb2image.errors import Unwritable
from nb2image.inspection.model import Inspection
from nb2image.inspection.tree import tree_rows
from nb2image.inspection.words import facts, figures, printable, sentence
from nb2image.temporary import sweep, temporary_file

__all__ = ["page", "write_page"]


def page(found: Inspection) -> str:
    """The page's text."""
    folder = files("nb2image.inspection").joinpath("page")
    script, style, template = (folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("js", "css", "html"))
    provenance = found.provenance
    rows = facts(found)
    if provenance.names:
        rows.insert(1, ("read from", provenance.reference))
    run = provenance.run
    command = f'<h3 class="run">Run it with</h3><pre id="run" tabindex="0">{_escaped(run)}</pre>' if run else ""
    return Template(template).substitute(
        title=_escaped(next(iter(provenance.names), provenance.reference)),
        sentence=_escaped(sentence(found)),
        figures="".join(
            f'<div class="{figure.state}"><dt>{_escaped(figure.name)}</dt>'
            f'<dd class="value">{_escaped(figure.value)}</dd><dd>{_escaped(figure.more)}</dd></div>'
            for figure in figures(found)
        ),
        command=command,
        facts="".join(f"<dt>{_escaped(name)}</dt><dd>{_escaped(text)}</dd>" for name, text in rows),
        data=_json(_data(found)),
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _hash(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: Any) -> str:
    """JSON that may stand in a ``script`` element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(found: Inspection) -> dict[str, Any]:
    return {
        "tree": tree_rows(found),
        "owners": [
            [owner.kind, printable(owner.name), printable(owner.version), printable(owner.place), *tally]
            for owner, tally in zip(found.owners, found.tallies, strict=True)
        ],
        "packages": list(found.packages),
        "layers": [
            [
                layer.role,
                printable(layer.comment),
                layer.size,
                layer.raw,
                layer.files,
                layer.content,
                layer.hidden,
                layer.digest,
            ]
            for layer in found.layers
        ],
    }


def write_page(found: Inspection, destination: Path) -> None:
    """Write the page; it appears whole or not at all. Raises `Unwritable`."""
    text = page(found).encode("utf-8")
    final = destination.resolve()
    try:
        if final.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        names = (f".{final.name}.", ".partial")
        sweep(final.parent, *names)
        with temporary_file(final.parent, *names, mode=0o666) as (partial, out):
            out.write(text)
            out.close()
            partial.replace(final)
    except OSError as error:
        raise Unwritable(
            f"{destination} cannot be written: {error.strerror or error}.",
            hint="Name a file in a folder that you may write, on a disk with enough space.",
        ) from error
