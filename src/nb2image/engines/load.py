"""Hand an image to an engine, sending only the layers that it lacks.

Docker (20.10 and later, classic image store) accepts an archive whose tar lacks layers that it has under the same
ChainID (image-spec, ``config.md``, "Layer ChainID"): a *prefix* of the diff IDs shared with an image it has. podman
(4.3 and later) reads the archive as an OCI layout and takes any layer that its storage knows by digest from there.
Both facts are taken as hints: an engine that refuses such an archive gets the whole one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from nb2image.engines.client import Engine, refusal
from nb2image.errors import EngineRefused
from nb2image.image.archive import archive_stream
from nb2image.image.model import Image
from nb2image.image.names import parse_name
from nb2image.progress import Advanced, Finished, Listener, Started

__all__ = ["Loaded", "load", "present_layers"]

_INSPECTED_IMAGES = 64
"""Each inspection costs a millisecond or two; beyond this number, looking costs more than it can save."""


@dataclass(frozen=True)
class Loaded:
    """What came of loading. ``sent`` is the size in bytes of the archive that was sent, ``layers`` how many layers
    it held; both are 0 when the engine had the image already. ``seconds``: wall time."""

    engine: str
    id: str
    tags: tuple[str, ...]
    layers: int
    sent: int
    seconds: float


def load(engine: Engine, image: Image, tags: Sequence[str], listener: Listener) -> Loaded:
    """Load ``image`` under ``tags`` (at least one), and check that the engine then has it under each of them.

    Raises `EngineRefused`.
    """
    begin = time.perf_counter()
    layers = sent = 0
    identity = engine.image_id(image.config_descriptor.digest)
    if identity is None:
        present = present_layers(engine, image)
        try:
            layers, sent = _send(engine, image, tags[0], present, listener)
        except EngineRefused:
            if not present:
                raise
            layers, sent = _send(engine, image, tags[0], (), listener)
        identity = _identify(engine, image, tags[0])
    for tag in tags:
        _tag(engine, identity, tag)
    seconds = time.perf_counter() - begin
    listener(Finished("load", engine.title, seconds, cached=not sent))
    return Loaded(engine.name, identity, tuple(tags), layers, sent, seconds)


def present_layers(engine: Engine, image: Image) -> frozenset[str]:
    """The diff IDs of those layers of ``image`` that need not be sent."""
    if not engine.takes_partial_archives:
        return frozenset()
    wanted = [layer.diff_id for layer in image.layers]
    found: set[str] = set()
    for identity in _likely_relatives(engine, image):
        document = engine.inspect(identity) or {}
        theirs = [str(item) for item in (document.get("RootFS") or {}).get("Layers") or ()]
        if engine.name == "podman":
            found.update(set(wanted) & set(theirs))
        else:
            shared = takewhile(lambda pair: pair[0] == pair[1], zip(wanted, theirs, strict=False))
            found.update(diff_id for diff_id, _ in shared)
        if found.issuperset(wanted):
            break
    return frozenset(found)


def _likely_relatives(engine: Engine, image: Image) -> list[str]:
    """IDs of images in the engine, those with most labels in common with ``image`` first."""
    labels = image.config.labels.items()
    with engine.asked("its images"):
        rows = engine.api.images()
    rows.sort(key=lambda row: len(labels & (row.get("Labels") or {}).items()), reverse=True)
    return [str(row["Id"]) for row in rows[:_INSPECTED_IMAGES]]


def _send(engine: Engine, image: Image, tag: str, present: Collection[str], listener: Listener) -> tuple[int, int]:
    """Send an archive without the layers in ``present``; return how many layers and bytes were sent."""
    kept = {x.descriptor.digest: x.descriptor.size for x in image.layers if x.diff_id not in present}
    listener(Started("load", engine.title, sum(kept.values()), "bytes"))
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for chunk in archive_stream(image, [tag], present):
            sent += len(chunk)
            yield chunk
            listener(Advanced("load", engine.title, len(chunk)))

    with engine.asked("to load the image"):
        # podman reports a failure by the status, Docker inside the stream of its answer.
        for event in engine.api.load_image(counted()):  # type: ignore[no-untyped-call]
            if isinstance(event, dict) and event.get("error"):
                raise refusal(engine, "to load the image", str(event["error"]))
    return len(kept), sent


def _identify(engine: Engine, image: Image, tag: str) -> str:
    """The ID that the engine gave the image: its config's digest, or with containerd's store its manifest's."""
    expected = (image.config_descriptor.digest, image.digest)
    for name in (expected[0], tag):
        identity = engine.image_id(name)
        if identity in expected:
            return str(identity)
    if identity is None and engine.one_user_only:
        raise EngineRefused(
            f"{engine.title} {engine.version} cannot unpack {tag}: it runs as a user who has one user ID only, "
            "and files of the image belong to several.",
            hint="Ask an administrator to add IDs (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
            'USER`, then `podman system migrate`), or set ignore_chown_errors = "true" in [storage.options.overlay] of '
            "~/.config/containers/storage.conf.",
        )
    raise EngineRefused(
        f"{engine.title} {engine.version} says that it loaded {tag}, "
        f"but its image is {identity or 'absent'} instead of {expected[0]}.",
        hint="Something else loaded or removed images at the same time, or the engine changes images; try again.",
    )


def _tag(engine: Engine, identity: str, tag: str) -> None:
    if engine.image_id(tag) == identity:
        return
    name = parse_name(tag)
    with engine.asked(f"the tag {tag}"):
        engine.api.tag(identity, f"{name.domain}/{name.path}", name.tag)
    if engine.image_id(tag) != identity:
        raise EngineRefused(
            f"{engine.title} {engine.version} does not give {tag} to the image {identity}.",
            hint="Something else moves this tag at the same time; try again.",
        )
