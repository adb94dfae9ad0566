"""The configuration file: what a user or a machine sets once.

``NB2IMAGE_CONFIG`` names the one that is read; without it ``/etc/nb2image/config.toml`` and then the user's
(``~/.config/nb2image/config.toml``, below ``XDG_CONFIG_HOME`` where that is set), each if it is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Config", "config_files", "read_config"]

_SITE = Path("/etc/nb2image/config.toml")


@dataclass(frozen=True)
class Config:
    """``catalogues`` are files of bases, those of the machine before those of the user."""

    catalogues: tuple[Path, ...] = ()


def config_files() -> tuple[Path, ...]:
    """The files that are read, whether or not they are there."""
    if named := os.environ.get("NB2IMAGE_CONFIG"):
        return (Path(named).expanduser(),)
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return _SITE, Path(folder).expanduser() / "nb2image" / "config.toml"


def read_config() -> Config:
    """What all files together say. Raises `BadCatalogue` for one that is wrong, or that ``NB2IMAGE_CONFIG`` names and
    that is not there."""
    catalogues: list[Path] = []
    for file in config_files():
        if not os.environ.get("NB2IMAGE_CONFIG") and not os.path.exists(file):  # noqa: PTH110 - false where it may not be looked
            continue
        catalogues += _catalogues(file)
    return Config(tuple(catalogues))


def _catalogues(file: Path) -> list[Path]:
    from nb2image.bases.catalogue import read_toml

    document, source = read_toml(file)
    for key in document:
        if key != "catalogue":
            source.fail(None, key, "is not known; `catalogue` is, a list of files")
    values = document.get("catalogue", [])
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        source.fail(None, "catalogue", "must be a list of files")
    return [file.parent / Path(value).expanduser() for value in values]
