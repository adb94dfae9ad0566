"""`provided_by`: the shared libraries that a base image has, read from its layers without unpacking them."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from nb2image.abi.elf import MAGIC, Damaged, Kept, Machine, SharedObject, outlined, read_object
from nb2image.abi.wheel import looks_shared
from nb2image.cache import Store, digest_of_key
from nb2image.image.filesystem import FileSystem, Overlay, members
from nb2image.image.model import Image

__all__ = [
    "MACHINES",
    "Library",
    "Part",
    "Provided",
    "is_part",
    "known_provided",
    "provided_by",
    "provided_in",
    "read_part",
]

MACHINES = {"amd64": Machine(64, "X86_64"), "arm64": Machine(64, "AARCH64")}
"""By the architectures that images name."""
_KIND = "provides"
_FORMAT = 3
_TRUSTED = ("lib", "usr/lib", "lib64", "usr/lib64")
_CONFIGURATION = re.compile(r"etc/ld\.so\.conf(\.d/[^/]+\.conf)?")
_PROGRAM = re.compile(r"(?:usr/(?:local/)?)?s?bin/([^/]+)")
_LARGEST_CONFIGURATION = 1 << 16
_MOST_LIBRARIES = 50_000
_PIECE = 1 << 20

Part: TypeAlias = SharedObject | str
"""A shared object, or a text that configures the loader."""


class Library(NamedTuple):
    """``defines`` are its symbol versions: none where it has none or where it was too large to be read; the loader
    insists on versions only of a library that has some."""

    soname: str
    defines: tuple[str, ...]


@dataclass(frozen=True)
class Provided:
    """What a base provides to what is loaded in it.

    ``libraries`` by absolute path, links resolved into further names; ``folders`` are where the loader looks without
    being told, in order: ``LD_LIBRARY_PATH``, those of ``ld.so.conf``, its own. ``programs`` are names of what stands
    in the usual folders of programs.
    """

    machine: Machine
    folders: tuple[str, ...]
    libraries: Mapping[str, Library]
    programs: frozenset[str] = frozenset()

    def find(self, soname: str) -> str | None:
        """The path of the library that the loader finds under a soname, or None."""
        return next((path for folder in self.folders if (path := f"{folder}/{soname}") in self.libraries), None)

    @property
    def sonames(self) -> frozenset[str]:
        """All that `find` finds."""
        folders = set(self.folders)
        return frozenset(posixpath.basename(path) for path in self.libraries if posixpath.dirname(path) in folders)

    def newest(self, soname: str, prefix: str) -> str | None:
        """The highest symbol version of a library: ``("libstdc++.so.6", "GLIBCXX_")`` gives ``GLIBCXX_3.4.30``."""
        path = self.find(soname)
        found = self.libraries[path].defines if path else ()
        numbered = [(each, re.fullmatch(re.escape(prefix) + r"(\d+(?:\.\d+)*)", each)) for each in found]
        by_number = {tuple(map(int, match[1].split("."))): name for name, match in numbered if match}
        return by_number[max(by_number)] if by_number else None


def provided_by(image: Image, store: Store | None = None) -> Provided:
    """The libraries of an image; found in ``store`` when the same layers were read before.

    Raises `NotAnImage` when a layer is damaged.
    """
    if store is not None and (known := known_provided(image, store)) is not None:
        return known
    provided = provided_in(image, *_read(image))
    if store is not None:
        store.put_record(_KIND, _key(image), _to_record(provided))
    return provided


def known_provided(image: Image, store: Store) -> Provided | None:
    """The same where the layers were read before, else None."""
    record = store.get_record(_KIND, _key(image))
    return _from_record(record) if record is not None else None


def _key(image: Image) -> str:
    layers = [layer.diff_id for layer in image.layers]
    return digest_of_key(_KIND, _FORMAT, image.platform.architecture, _search(image), layers)


def _search(image: Image) -> str:
    return image.config.env.get("LD_LIBRARY_PATH", "")


def provided_in(image: Image, files: FileSystem, parts: Mapping[tuple[int, str], Part]) -> Provided:
    """The same of an image that somebody else reads: its merged file system, and what `read_part` made of the regular
    files that `is_part` named, by layer and path."""
    architecture = image.platform.architecture
    machine = MACHINES.get(architecture, Machine(64, architecture))
    objects = {place: part for place, part in parts.items() if isinstance(part, SharedObject)}
    texts = {place: part for place, part in parts.items() if isinstance(part, str)}
    programs = frozenset(match[1] for path in files.nodes if (match := _PROGRAM.fullmatch(path)))
    folders = _folders(files, texts, _search(image))
    return Provided(machine, folders, _libraries(files, objects, machine), programs)


def is_part(path: str) -> bool:
    """Whether a file tells of the libraries of its image: by its name it is one, or configures the loader."""
    return looks_shared(path) or _CONFIGURATION.fullmatch(path) is not None


def read_part(path: str, size: int, stream: Any) -> Part | None:
    """What such a file of ``size`` bytes tells, read once from front to back; None: nothing."""
    if _CONFIGURATION.fullmatch(path):  # which by its name could be a library
        text: bytes = stream.read(_LARGEST_CONFIGURATION)
        return text.decode("utf-8", "replace")
    piece: bytes = stream.read(_PIECE)
    if not piece.startswith(MAGIC):
        return None
    outline = outlined(piece)
    kept = Kept(size)
    while piece:
        kept.add(piece)
        piece = stream.read(_PIECE)
    try:
        return read_object(lambda: (), size, kept)
    except Damaged:
        # Of a giant whose names stand in another place than linkers put them, only the file's own is known.
        return outline


def _read(image: Image) -> tuple[FileSystem, dict[tuple[int, str], Part]]:
    overlay = Overlay()
    parts: dict[tuple[int, str], Part] = {}
    for number in range(len(image.layers) - 1, -1, -1):
        layer = image.layers[number]
        with overlay.layer(number) as take:
            for path, info, tar in members(layer):
                if take(path, info) is not None or not info.isreg():
                    continue
                if not is_part(path) or len(parts) > _MOST_LIBRARIES:
                    continue
                stream = tar.extractfile(info)
                if stream is None:
                    continue
                with stream:
                    if (found := read_part(path, info.size, stream)) is not None:
                        parts[number, path] = found
    return overlay.merged(image.layers, {}), parts


def _libraries(
    files: FileSystem, objects: Mapping[tuple[int, str], SharedObject], machine: Machine
) -> dict[str, Library]:
    found: dict[str, Library] = {}
    for path, node in files.nodes.items():
        if not looks_shared(path):
            continue
        real = files.file(path) if node.info.issym() else path
        if real is None:
            continue
        node = files.nodes[real]
        name = posixpath.normpath(node.info.linkname).lstrip("/") if node.info.islnk() else real
        each = objects.get((node.layer, name))
        if each is not None and each.machine == machine:
            found[f"/{path}"] = Library(each.soname or posixpath.basename(path), each.defines)
    return found


def _folders(files: FileSystem, texts: Mapping[tuple[int, str], str], search: str) -> tuple[str, ...]:
    configured = [folder for text in _configuration(files, texts, "etc/ld.so.conf", 0) for folder in text]
    trusted = [f"{lib}/{name}" for lib in _TRUSTED for name in files.children(lib) if "-linux-" in name]
    places = [*search.split(":"), *configured, *trusted, *_TRUSTED, "usr/local/lib"]
    resolved = [files.resolve(place) for place in places if place.strip("/")]
    return tuple(dict.fromkeys(f"/{place}" for place in resolved if place and files.is_directory(place)))


def _configuration(
    files: FileSystem, texts: Mapping[tuple[int, str], str], path: str, depth: int
) -> Iterator[list[str]]:
    """The folders of ``ld.so.conf`` and what it includes (ldconfig(8))."""
    found = files.file(path)
    text = texts.get((files.nodes[found].layer, found)) if found else None
    if text is None or depth > 2:
        return
    for line in io.StringIO(text):
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                folder = posixpath.dirname(posixpath.join("/etc", pattern)).lstrip("/")
                for name in files.children(folder):
                    yield from _configuration(files, texts, f"{folder}/{name}", depth + 1)
        elif words and words[0].startswith("/"):
            yield [words[0].partition("=")[0]]


def _to_record(provided: Provided) -> dict[str, Any]:
    return {
        "machine": provided.machine,
        "folders": provided.folders,
        "libraries": provided.libraries,
        "programs": sorted(provided.programs),
    }


def _from_record(record: dict[str, Any]) -> Provided:
    libraries = {path: Library(soname, tuple(defines)) for path, (soname, defines) in record["libraries"].items()}
    return Provided(Machine(*record["machine"]), tuple(record["folders"]), libraries, frozenset(record["programs"]))
