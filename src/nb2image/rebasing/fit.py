"""Whether an image's own layers work on another base: by what they say of themselves, and by their shared objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.tags import parse_tag

from nb2image.abi.base import provided_by
from nb2image.abi.check import Findings, Installed, MissingLibrary
from nb2image.abi.elf import SharedObject
from nb2image.abi.find import findings
from nb2image.abi.layers import objects_in_layers
from nb2image.abi.report import sentence
from nb2image.abi.rules import shipped_rules
from nb2image.abi.wheel import looks_shared
from nb2image.bases.model import Base
from nb2image.build import ENGINES_MOUNT
from nb2image.cache import Store
from nb2image.errors import UnfitBase
from nb2image.image.model import Image
from nb2image.inspection.model import Inspection, Owner
from nb2image.inspection.scan import Scan
from nb2image.progress import Listener, Note, Warned
from nb2image.runtime import KERNEL, RUNNER, SUPPORT
from nb2image.target.model import Target

__all__ = ["Libraries", "check_libraries", "check_target", "find_libraries"]

_PREFIXES = (KERNEL, SUPPORT, RUNNER)


def check_target(found: Inspection, scanned: Scan, old: Target, base: Base, layers: int) -> None:
    """Raise `UnfitBase` where platform, Python, glibc or the number of layers rule ``base`` out; ``old`` is what the
    image stands on, ``layers`` how many of its own are to be put on the other one."""
    name, new = found.provenance.reference, base.target
    hint = "Choose a base with the same Python and at least the same glibc, or build the image anew."
    if new.platform != found.platform:
        raise UnfitBase(f"{name} is for {found.platform}, and {base.name} for {new.platform}.", hint=hint)
    if new.minor != old.minor:
        raise UnfitBase(
            f"The packages in {name} are those of Python {old.minor}, and {base.name} has {new.python}.", hint=hint
        )
    if len(base.image.layers) + layers > ENGINES_MOUNT:
        raise UnfitBase(
            f"{base.name} has {len(base.image.layers)} layers and {name} {layers} more; engines mount {ENGINES_MOUNT}.",
            hint="Flatten the base, for example with `podman build --squash-all`.",
        )
    wrong = [text for path, tags in _wheel_tags(scanned) if (text := _misfit(path, tags, old, new))]
    if wrong:
        raise UnfitBase(
            f"{base.name} ({new}) cannot hold {len(wrong)} of the packages in {name}.", hint=hint, details=tuple(wrong)
        )


def _wheel_tags(scanned: Scan) -> Iterator[tuple[str, list[str]]]:
    """The tags that each installed wheel states (binary distribution format; "File contents", WHEEL)."""
    folders = tuple(f"{prefix[1:]}/" for prefix in _PREFIXES)
    for path, data in sorted(scanned.kept.items()):
        if path.endswith(".dist-info/WHEEL") and path.startswith(folders):
            lines = (line.partition(":") for line in data.decode(errors="replace").splitlines())
            yield path, [value.strip() for name, _, value in lines if name.strip().lower() == "tag"]


def _misfit(path: str, stated: list[str], old: Target, new: Target) -> str:
    """Why a wheel does not fit a target, empty where it does."""
    tags = {tag for text in stated for tag in parse_tag(text)}
    stem = path.split("/")[-2].removesuffix(".dist-info")
    if not tags & set(new.tags):
        # Some wheels state other tags than their file names do: what the old base took shows it.
        if not tags & set(old.tags) and _glibc(new) >= _glibc(old):
            return ""
        return f"{stem} is for {', '.join(sorted({tag.platform for tag in tags})) or 'nothing that it states'}"
    local = all(tag.platform.startswith("linux_") for tag in tags)
    if local and _glibc(new) < _glibc(old):
        return f"{stem} was built on glibc {old.glibc}"
    return ""


def _glibc(target: Target) -> tuple[int, ...]:
    return target.glibc.release if target.glibc is not None else (0,)


# -- shared libraries ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Libraries:
    """What the shared objects in an image find on its own base, ``before``, and what is to be compared with that."""

    before: Findings
    installed: Mapping[str, Sequence[Installed]]
    packages: Mapping[str, Sequence[tuple[str, str, str]]]
    minor: str
    store: Store

    def on(self, base: Image) -> tuple[list[MissingLibrary], list[MissingLibrary]]:
        """What another base lacks that the image's own one has, and what both lack."""
        found = _findings(self.installed, self.packages, base, self.minor, self.store)
        known = {each.soname: each for each in self.before.missing}
        lost: list[MissingLibrary] = []
        before: list[MissingLibrary] = []
        for each in found.missing:
            old = known.get(each.soname)
            (before if old is not None and set(each.versions) <= set(old.versions) else lost).append(each)
        return lost, before


def find_libraries(image: Image, found: Inspection, base: Image, minor: str, store: Store) -> Libraries:
    """The shared objects that ``image`` has of its own; ``base`` are its layers below them.

    They are read from the layers, whatever lock and bill of materials say. Raises `NotAnImage` for a damaged layer.
    """
    folders = tuple(f"{prefix[1:]}/" for prefix in _PREFIXES)
    own = [file for file in found.files if file.path.startswith(folders) and looks_shared(file.path)]
    numbers = sorted({file.layer for file in own if file.kind == "file"})
    objects = objects_in_layers([image.layers[number] for number in numbers], store)
    installed: dict[str, list[Installed]] = {prefix: [] for prefix in _PREFIXES}
    for file in own:
        each = objects.get(image.layers[file.layer].diff_id, {}).get(file.path)
        if each is not None:
            prefix = next(prefix for prefix in _PREFIXES if file.path.startswith(f"{prefix[1:]}/"))
            installed[prefix].append(_installed(found.owners[file.owner], file.path, prefix, minor, each))
    packages = {
        prefix: [
            (owner.name, owner.version, _said(owner))
            for owner in found.owners
            if owner.kind == "wheel" and owner.place == prefix
        ]
        for prefix in _PREFIXES
    }
    return Libraries(_findings(installed, packages, base, minor, store), installed, packages, minor, store)


def _findings(
    installed: Mapping[str, Sequence[Installed]],
    packages: Mapping[str, Sequence[tuple[str, str, str]]],
    base: Image,
    minor: str,
    store: Store,
) -> Findings:
    return findings(installed, packages, provided_by(base, store), minor, shipped_rules())


def _installed(owner: Owner, path: str, prefix: str, minor: str, each: SharedObject) -> Installed:
    # As the path in the wheel was.
    inside = path.removeprefix(f"{prefix[1:]}/").removeprefix(f"lib/python{minor}/site-packages/")
    return Installed(owner.name, owner.version, _said(owner), inside, f"/{path}", each)


def _said(owner: Owner) -> str:
    return f"{owner.name} {owner.version}" if owner.kind == "wheel" else "a file of no package"


def check_libraries(
    lost: Sequence[MissingLibrary], before: Sequence[MissingLibrary], name: str, base: Base, listener: Listener
) -> None:
    """Raise `UnfitBase` for what the image ``name`` would lose on ``base`` and something that is imported needs; tell
    of the rest."""
    certain = [each for each in lost if each.certain]
    if certain:
        count = f"{len(certain)} shared librar{'y' if len(certain) == 1 else 'ies'}"
        raise UnfitBase(
            f"{base.name} lacks {count} that packages in {name} need and its own base has: "
            f"{sentence(certain[0], base.name)}",
            hint="Choose a base that has them, or build the image anew: `nb2image build --base NEW` adds what Debian's "
            "bases lack.",
            details=tuple(sentence(each, base.name) for each in certain[1:]),
        )
    for each in before:
        if each.certain:
            listener(Warned(sentence(each, base.name), "It was missing on the image's own base, too."))
    if seldom := [each.soname for each in lost if not each.certain]:
        listener(Note(f"{', '.join(seldom)} are missing on {base.name}; only what is loaded on demand needs them."))
