"""What METADATA of wheels tells a bill of materials: licences, and who requires whom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from packaging.markers import Environment as Markers
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nb2image.cache import Store, digest_of_key
from nb2image.environment import Wheel
from nb2image.errors import BadWheel, NotCached
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.metadata import WheelMetadata, read_metadata

__all__ = ["About", "about", "required"]

_KIND = "about"
_FORMAT = 1
_LONGEST_LICENSE = 100
"""Characters; a longer ``License`` is the text of one and not its name."""


class About(NamedTuple):
    """``expression`` is an SPDX licence expression; else ``licenses`` are names, as whoever made the wheel wrote them.
    ``requires`` are dependency specifiers as METADATA has them."""

    expression: str | None
    licenses: Sequence[str]
    requires: Sequence[str]


def about(wheels: Iterable[Wheel], store: Store, fetch: Callable[[Collection[str]], object]) -> dict[str, About]:
    """By file name; found in ``store`` where a wheel was read before.

    ``fetch`` brings wheels (by file name) into the store that are not there any more. Raises what it raises, and
    `BadWheel`.
    """
    found: dict[str, About] = {}
    unread: list[Wheel] = []
    for wheel in wheels:
        record = store.get_record(_KIND, _key(wheel))
        if record is None:
            unread.append(wheel)
        else:
            found[wheel.filename] = About(*record)
    absent = {wheel.filename for wheel in unread if store.find("wheels", wheel.digest, wheel.size) is None}
    if absent:
        fetch(absent)
    for wheel in unread:
        try:
            found[wheel.filename] = _read(wheel, store)
        except BadWheel:
            if (stream := store.open_checked("wheels", wheel.digest)) is not None:
                stream.close()
                raise
            # The disk damaged it after it was verified.
            fetch({wheel.filename})
            found[wheel.filename] = _read(wheel, store)
        store.put_record(_KIND, _key(wheel), found[wheel.filename])
    return found


def _key(wheel: Wheel) -> str:
    return digest_of_key(_KIND, _FORMAT, wheel.digest)


def _read(wheel: Wheel, store: Store) -> About:
    path = store.find("wheels", wheel.digest)
    if path is None:
        raise NotCached(f"{wheel.filename} is not in the cache any more.", hint="Build again.")
    with WheelArchive(path, wheel.filename, []) as archive:
        metadata = read_metadata(archive)
    return About(metadata.license_expression, _licenses(metadata), list(metadata.raw_requires_dist))


def _licenses(metadata: WheelMetadata) -> list[str]:
    stated = (metadata.raw_license or "").strip()
    if stated and stated != "UNKNOWN" and len(stated) <= _LONGEST_LICENSE and "\n" not in stated:
        return [stated]
    paths = [text.split(" :: ") for text in metadata.classifiers if text.startswith("License :: ")]
    return sorted({path[-1] for path in paths if path[-1] != "OSI Approved"})


def required(packages: Mapping[str, About], markers: Markers) -> dict[str, set[str]]:
    """Which of ``packages`` (by normalised name) each requires on a target, with the extras that others ask of it.

    Versions are left alone: the lock decided them. A specifier that cannot be read is passed over.
    """
    parsed = {name: [one for text in each.requires if (one := _requirement(text))] for name, each in packages.items()}
    found: dict[str, set[str]] = {name: set() for name in packages}
    extras: dict[str, set[str]] = {name: {""} for name in packages}
    waiting = sorted(packages)
    while waiting:
        name = waiting.pop()
        for requirement in parsed[name]:
            wanted = canonicalize_name(requirement.name)
            if wanted not in packages or not any(_applies(requirement, markers, extra) for extra in extras[name]):
                continue
            if wanted != name:
                found[name].add(wanted)
            asked = set(requirement.extras) - extras[wanted]
            if asked:
                extras[wanted] |= asked
                waiting.append(wanted)
    return found


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _applies(requirement: Requirement, markers: Markers, extra: str) -> bool:
    if requirement.marker is None:
        return True
    try:
        return requirement.marker.evaluate(cast("dict[str, str]", {**markers, "extra": extra}))
    except (UndefinedComparison, UndefinedEnvironmentName):
        return False
