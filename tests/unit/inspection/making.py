"""Images to look into, made in memory."""

from __future__ import annotations

from collections.abc import Mapping

from nb2image.image.model import Image
from nb2image.inspection.inspect import inspect
from nb2image.inspection.model import File, Inspection, Owner, Provenance
from nb2image.layers.entry import HardLink, Link
from nb2image.progress import Silent
from tests.unit.image.making import MemoryLayer, files_of, image_of

SITE = "usr/lib/python3.11/site-packages"


def look(image: Image) -> Inspection:
    return inspect(image, Provenance("made:1"), Silent())


def look_into(*layers: MemoryLayer | Mapping[str, bytes | Link | HardLink]) -> Inspection:
    """What is in an image of these layers, the lowest first."""
    return look(image_of(*(files_of(each) if isinstance(each, Mapping) else each for each in layers)))


def file(found: Inspection, path: str) -> File:
    (one,) = (each for each in found.files if each.path == path)
    return one


def owner(found: Inspection, path: str) -> Owner:
    return found.owners[file(found, path).owner]


def installed(name: str, version: str, files: Mapping[str, bytes], site: str = SITE, *more: str) -> dict[str, bytes]:
    """An installed wheel; ``more`` are rows of RECORD for files that stand elsewhere."""
    info = f"{name}-{version}.dist-info"
    every = {**files, f"{info}/METADATA": f"Name: {name}\n".encode()}
    rows = [f"{path},,{len(data)}" for path, data in every.items()] + [f"{info}/RECORD,,", *more]
    return {f"{site}/{path}": data for path, data in {**every, f"{info}/RECORD": "\n".join(rows).encode()}.items()}


def dpkg(*packages: tuple[str, str, str]) -> dict[str, bytes]:
    """dpkg's database of packages: name, version, and the paths of its list."""
    stanzas = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\nConffiles:\n x\n"
        for name, version, _ in packages
    ]
    lists = {f"var/lib/dpkg/info/{name}.list": paths.encode() for name, _, paths in packages}
    return {"var/lib/dpkg/status": "\n".join(stanzas).encode(), **lists}
