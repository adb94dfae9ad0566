"""An image out of an engine, as the engine exports it (``docker save``)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from nb2image.engines.client import Engine
from nb2image.errors import EngineRefused, Unwritable
from nb2image.image.read import Stored, find_image
from nb2image.progress import Advanced, Listener, stage
from nb2image.target.model import Platform
from nb2image.temporary import temporary_file

__all__ = ["export"]

_CHUNK = 1 << 20


def export(engine: Engine, reference: str, listener: Listener, platform: Platform | None = None) -> Stored:
    """Have an image exported into a temporary file, which goes when the image is forgotten.

    Raises `EngineRefused` when the engine lacks the image, `Unwritable` when there is no room for it.
    """
    document = engine.inspect(reference)
    if document is None:
        raise EngineRefused(
            f"{engine.title} has no image {reference}.",
            hint=f"`{engine.name} pull {reference}` fetches it from a registry; one in a file is named by its path.",
        )
    size = document.get("Size")
    total = size if isinstance(size, int) else None
    with stage(listener, "export", reference, total=total, unit="bytes"):
        try:
            with temporary_file(Path(tempfile.gettempdir()), "nb2image-", ".tar") as (path, stream):
                for piece in _pieces(engine, reference):
                    stream.write(piece)
                    listener(Advanced("export", reference, len(piece)))
                stream.flush()
                return find_image(path, platform)
        except OSError as error:
            raise Unwritable(
                f"There is no room in {tempfile.gettempdir()} for {reference}: {error.strerror or error}.",
                hint="Set TMPDIR to a folder with more space.",
            ) from error


def _pieces(engine: Engine, reference: str) -> Iterator[bytes]:
    """The archive as it comes. Raises `EngineRefused`; what the caller does with a piece is none of its affair."""
    with engine.asked(f"to export {reference}"):
        pieces = iter(engine.api.get_image(reference, chunk_size=_CHUNK))
    while True:
        with engine.asked(f"to export {reference}"):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece
