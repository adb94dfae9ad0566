"""`provided_by`: the shared libraries that a base image has, read from its layers without unpacking them."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nb2image.abi.elf import MAGIC, WHOLE, Damaged, Machine, SharedObject, machine_of, read_object
from nb2image.abi.wheel import looks_shared
from nb2image.cache import Store, digest_of_key
from nb2image.image.filesystem import FileSystem, Overlay, members
from nb2image.image.model import Image

__all__ = ["MACHINES", "Library", "Provided", "known_provided", "provided_by"]

MACHINES = {"amd64": Machine(64, "X86_64"), "arm64": Machine(64, "AARCH64")}
"""By the architectures that images name."""
_KIND = "provides"
_FORMAT = 2
_TRUSTED = ("lib", "usr/lib", "lib64", "usr/lib64")
_CONFIGURATION = re.compile(r"etc/ld\.so\.conf(\.d/[^/]+\.conf)?")
_PROGRAM = re.compile(r"(?:usr/(?:local/)?)?s?bin/([^/]+)")
_LARGEST_CONFIGURATION = 1 << 16
_MOST_LIBRARIES = 50_000


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
    architecture = image.platform.architecture
    machine = MACHINES.get(architecture, Machine(64, architecture))
    files, objects, texts = _read(image)
    libraries = _libraries(files, objects, machine)
    programs = frozenset(match[1] for path in files.nodes if (match := _PROGRAM.fullmatch(path)))
    provided = Provided(machine, _folders(files, texts, _search(image)), libraries, programs)
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


def _read(image: Image) -> tuple[FileSystem, dict[tuple[int, str], SharedObject], dict[tuple[int, str], str]]:
    """The merged file system; of each layer and path the shared objects, and the loader's configuration."""
    overlay = Overlay()
    objects: dict[tuple[int, str], SharedObject] = {}
    texts: dict[tuple[int, str], str] = {}
    for number in range(len(image.layers) - 1, -1, -1):
        layer = image.layers[number]
        with overlay.layer(number) as take:
            for path, info, tar in members(layer):
                if take(path, info) is not None or not info.isreg():
                    continue
                library, configuration = looks_shared(path), _CONFIGURATION.fullmatch(path)
                if not (library or configuration) or len(objects) > _MOST_LIBRARIES:
                    continue
                stream = tar.extractfile(info)
                if stream is None:
                    continue
                with stream:
                    if configuration:
                        texts[number, path] = stream.read(_LARGEST_CONFIGURATION).decode("utf-8", "replace")
                    elif (found := _object(stream)) is not None:
                        objects[number, path] = found
    return overlay.merged(image.layers, {}), objects, texts


def _object(stream: Any) -> SharedObject | None:
    if stream.read(4) != MAGIC:
        return None
    # A tar is read once, front to back: of a giant (cuBLAS has half a gigabyte) only the name is known then.
    data = MAGIC + stream.read(WHOLE - 4)
    try:
        return read_object(lambda: [data], len(data))
    except Damaged:
        machine = machine_of(data)
        return SharedObject(machine, None, (), (), (), {}, ()) if machine else None


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
