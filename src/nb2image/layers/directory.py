"""Entries as files below a folder of this machine: a sink beside the layer's tar."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nb2image.layers.entry import Entry, HardLink, Link

__all__ = ["write_directory"]


def write_directory(entries: Iterable[Entry], folder: Path) -> None:
    """Write entries below ``folder``; owners are whoever runs this. A path that comes twice has the last content.

    No symbolic link is followed, neither one that stands there nor one of the entries. Raises `OSError`, and what the
    entries' contents raise.
    """
    for entry in entries:
        place = folder / entry.path
        content = entry.content
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(entry.mode)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        if isinstance(content, Link):
            place.symlink_to(content.target)
        elif isinstance(content, HardLink):
            os.link(folder / content.path, place, follow_symlinks=False)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(place, flags, 0o600), "wb") as stream:
                stream.writelines(content.chunks())
            place.chmod(entry.mode)
