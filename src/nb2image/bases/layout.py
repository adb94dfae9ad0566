"""`LayoutProvider`: bases that the user has as an OCI layout or an image archive (``--base PATH[:NAME]``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nb2image.bases.facts import read_target
from nb2image.bases.model import Base, Candidate
from nb2image.cache import Store
from nb2image.errors import NotAnImage, OutputError
from nb2image.image.model import Image
from nb2image.image.names import parse_name
from nb2image.image.read import Stored, find_image, split_base, stored_images
from nb2image.progress import Listener
from nb2image.target.model import Platform

__all__ = ["LayoutProvider"]


@dataclass(frozen=True)
class _Found:
    candidate: Candidate
    image: Image
    reference: str


class LayoutProvider:
    """Offers every image of one platform that stands at a path, or the one that is named after it.

    ``path`` is what ``--base`` was given; ``bare`` as for `read_target`. Nothing is read before candidates are asked
    for; they raise `NotAnImage` when nothing there can be a base.
    """

    def __init__(self, path: Path | str, platform: Platform, store: Store | None = None, *, bare: bool = False) -> None:
        self._bare = bare
        self._location = str(path)
        self._platform = platform
        self._store = store
        self._found: list[_Found] | None = None

    def candidates(self) -> Sequence[Candidate]:
        return [found.candidate for found in self._bases()]

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:  # noqa: ARG002  (there is nothing to wait for)
        for found in self._bases():
            if found.candidate == candidate:
                return Base(candidate.name, found.image, candidate.target, found.reference)
        raise NotAnImage(f"{self._location} holds no base called {candidate.name!r}.", hint="Ask for the candidates.")

    def _bases(self) -> list[_Found]:
        if self._found is None:
            self._found = self._read()
        return self._found

    def _read(self) -> list[_Found]:
        path, ref = split_base(self._location)
        stored = stored_images(path, self._platform) if ref is None else []
        if len(stored) > 1:
            return self._several(path, stored)
        one = find_image(self._location, self._platform)
        return [self._base(path, self._location, one.names, one.read())]

    def _several(self, path: Path, stored: Sequence[Stored]) -> list[_Found]:
        """Those that can be a base; images without Python may stand beside them."""
        bases: list[_Found] = []
        refusals: list[NotAnImage] = []
        for one in stored:
            name = f"{path}:{one.names[0]}" if one.names else str(path)
            try:
                bases.append(self._base(path, name, one.names, one.read()))
            except NotAnImage as error:
                refusals.append(error)
        if not bases:
            raise NotAnImage(
                f"None of the {len(stored)} images in {path} can be a base.",
                hint=refusals[0].hint,
                details=tuple(error.message for error in refusals),
            )
        return bases

    def _base(self, path: Path, name: str, names: Sequence[str], image: Image) -> _Found:
        target = read_target(image, self._store, bare=self._bare)
        size = sum(layer.descriptor.size for layer in image.layers)
        origin = f"image {image.digest[7:19]} in {path}"
        return _Found(Candidate(name, target, size, origin, cached=True), image, _reference(path, names))


def _reference(path: Path, names: Sequence[str]) -> str:
    """A fully qualified name. An image that has none, or only a tag, is one of this machine (``localhost/``)."""
    stem = re.sub(r"[^a-z0-9]+", "-", path.resolve().name.removesuffix(".tar").lower()).strip("-") or "base"
    for name in sorted(names, key=lambda name: "/" not in name):
        if "/" in name or ":" in name:
            try:
                return parse_name(name).canonical
            except OutputError:
                continue
    for name in names:
        try:
            return parse_name(f"localhost/{stem}:{name}").canonical
        except OutputError:
            continue
    return f"localhost/{stem}:latest"
