"""Where a finished image goes: each output is one class that writes any image."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nb2image.errors import Unwritable
from nb2image.image.model import Image
from nb2image.progress import Listener, stage

__all__ = ["Archive", "EngineLoad", "Layout", "Output", "default_tag", "output_for"]


def default_tag(name: str) -> str:
    """An image name made of a notebook's: ``My Analysis.ipynb`` → ``my-analysis:latest``.

    Follows the grammar of a path component (OCI distribution specification, "Pulling manifests").
    """
    words = re.findall(r"[a-z0-9]+", name.rpartition("/")[2].removesuffix(".ipynb").removesuffix(".py").lower())
    return f"{'-'.join(words) or 'notebook'}:latest"


class Output(Protocol):
    """A destination. ``describe`` and ``commands`` are for people: where it went, and how to run it from there."""

    def write(self, image: Image, tags: Sequence[str], listener: Listener) -> None:
        """Write or load the image. Raises `OutputError`; leaves nothing half-written."""
        ...

    def describe(self) -> str: ...

    def prepare(self, tag: str, /) -> str | None:
        """The command after which an engine knows the image, or None when it does already."""
        ...


@dataclass(frozen=True)
class Archive:
    """A ``.tar`` that is an OCI layout and loads with ``docker load`` and ``podman load``."""

    path: Path

    def write(self, image: Image, tags: Sequence[str], listener: Listener) -> None:
        from nb2image.image.archive import write_archive

        with stage(listener, "write", str(self.path)):
            write_archive(image, tags, self.path, listener)

    def describe(self) -> str:
        return str(self.path)

    def prepare(self, _tag: str) -> str | None:
        return f"docker load -i {shlex.quote(str(self.path))}"


@dataclass(frozen=True)
class Layout:
    """An OCI layout directory, in which other images may live too."""

    path: Path

    def write(self, image: Image, tags: Sequence[str], listener: Listener) -> None:
        from nb2image.image.layout import write_layout

        with stage(listener, "write", str(self.path)):
            write_layout(image, tags, self.path, listener)

    def describe(self) -> str:
        return f"{self.path}/"

    def prepare(self, tag: str) -> str | None:
        short = tag.rpartition(":")[2]
        return f"skopeo copy {shlex.quote(f'oci:{self.path}:{short}')} docker-daemon:{tag}"


@dataclass
class EngineLoad:
    """Docker or podman on this machine."""

    preferred: str | None = None
    _title: str = "an engine"

    def write(self, image: Image, tags: Sequence[str], listener: Listener) -> None:
        from nb2image.engines.client import choose
        from nb2image.engines.load import load

        engine = choose(self.preferred)
        with stage(listener, "load", engine.title):
            load(engine, image, tags, listener)
        self._title = engine.title

    def describe(self) -> str:
        return self._title

    def prepare(self, _tag: str) -> str | None:
        return None


def output_for(path: Path) -> Output:
    """The output that a path means: ``.tar`` an archive, a directory or a path without suffix a layout.

    Raises `Unwritable` for any other suffix, so that a typo does not become a folder.
    """
    if path.suffix == ".tar":
        if path.is_dir():
            raise Unwritable(f"{path} is a directory, and an archive was asked for.", hint="Choose another name.")
        return Archive(path)
    if path.is_dir() or not path.suffix or str(path).endswith("/"):
        if path.exists() and not path.is_dir():
            raise Unwritable(f"{path} is a file, and a layout is a directory.", hint="End the name with .tar.")
        return Layout(path)
    raise Unwritable(
        f"{path}: {path.suffix} is no kind of image that can be written.",
        hint="End the name with .tar for an archive, or give a directory for an OCI layout.",
    )
