"""What is fuzzed: each target has seeds made by code, and a function that raises where a reader breaks its promise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.fuzz import bases, images, locks, packages, wheels

__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """``run`` raises whatever it finds wrong; ``words`` are byte strings that the format knows."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...]
    about: str


TARGETS = {
    "zip": Target(wheels.run_zip, wheels.zip_seeds, wheels.ZIP_WORDS, "any bytes as a wheel"),
    "wheel": Target(wheels.run_wheel, wheels.wheel_seeds, wheels.WHEEL_WORDS, "wheels of odd parts, installed"),
    "record": Target(packages.run_record, packages.record_seeds, packages.RECORD_WORDS, "RECORD, read and written"),
    "metadata": Target(
        packages.run_metadata, packages.metadata_seeds, packages.METADATA_WORDS, "METADATA, WHEEL, entry points"
    ),
    "pages": Target(packages.run_page, packages.page_seeds, packages.PAGE_WORDS, "index pages, HTML and JSON"),
    "locks": Target(locks.run, locks.seeds, locks.WORDS, "locks of every format, and notebooks"),
    "layer": Target(images.run_layer, images.layer_seeds, (), "the layer writer"),
    "image": Target(images.run_image, images.image_seeds, images.IMAGE_WORDS, "archives, layers, image documents"),
    "elf": Target(bases.run_elf, bases.elf_seeds, (), "shared objects, whole and in parts"),
    "deb": Target(bases.run_deb, bases.deb_seeds, (), "Debian packages"),
    "bases": Target(
        bases.run_document, bases.document_seeds, bases.DOCUMENT_WORDS, "challenges, references, locks, catalogues"
    ),
}
