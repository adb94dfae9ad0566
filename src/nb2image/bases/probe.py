"""`probe`: what an image is as a base, read from its layers and its config; nothing of it is run or unpacked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nb2image.abi.base import Provided, is_part, provided_in, read_part
from nb2image.bases.cuda import Cuda, cuda_in
from nb2image.bases.facts import Unfit, candidates, glibc_in, holds_facts, python_at, standard_library
from nb2image.bases.packages import Distribution, distribution_of, system_packages
from nb2image.errors import NotAnImage
from nb2image.image.filesystem import FileSystem
from nb2image.image.model import DEFAULT_PATH, Image
from nb2image.inspection.scan import PartReader, scan
from nb2image.inspection.words import utf8
from nb2image.progress import Listener
from nb2image.target.model import Platform

__all__ = ["Installed", "Libc", "Libraries", "PackageDatabase", "Probe", "Python", "document", "probe"]

_PROGRAM = re.compile(r"(?:.*/)?bin/python3(?:\.\d+)?t?")
_PACKAGES = re.compile(r"(?:.+/)?python(3(?:\.\d+)?)t?/(?:site|dist)-packages")
_INSTALLED = re.compile(r"([^/]+?)-([^/-]+)(?:-[^/]+)?\.(?:dist-info|egg-info)")
_MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[^/]+\.so\.1")
_MUSL_PROGRAM = re.compile(rf"{_MUSL.pattern}|(?:usr/)?lib/[^/]+-linux-musl/libc\.so")
"""Debian's loader is a link to its libc.so, elsewhere it is the other way round."""
_MUSL_VERSION = re.compile(rb"\0(1\.\d\.\d{1,2})(?:-git[^\0]*)?\0")
_VERSIONED = {"GLIBC": "libc.so.6", "GLIBCXX": "libstdc++.so.6", "CXXABI": "libstdc++.so.6"}
_DPKG = re.compile(r"var/lib/dpkg/(?:status|status\.d/[^/]+)")
_APK = "lib/apk/db/installed"
_RPM = re.compile(r"(?:var/lib|usr/lib/sysimage)/rpm/(?:rpmdb\.sqlite|Packages\.db|Packages)")
_RELEASES = ("etc/os-release", "usr/lib/os-release")


@dataclass(frozen=True)
class Libc:
    """``name`` is ``glibc`` or ``musl``; ``version`` None: it states none."""

    name: str
    version: str | None


@dataclass(frozen=True)
class PackageDatabase:
    """Packages of the distribution; ``kind`` is ``dpkg``, ``apk`` or ``rpm``, of which the last is not counted."""

    kind: str
    packages: int | None


@dataclass(frozen=True)
class Installed:
    """A Python package as its metadata folder is named."""

    name: str
    version: str
    folder: str


@dataclass(frozen=True)
class Python:
    """An interpreter. ``version`` is the full one, None where ``problem`` says why no notebook could run on it.

    ``site_packages`` is where its pip installs, ``folders`` are those that it imports packages from and that are there;
    ``externally_managed``: its distribution asks pip to keep away (PEP 668).
    """

    path: str
    version: str | None
    site_packages: str | None
    folders: tuple[str, ...]
    externally_managed: bool
    pip: str | None
    distributions: tuple[Installed, ...]
    problem: str | None


@dataclass(frozen=True)
class Libraries:
    """``sonames`` are what the loader finds without being told where; ``versions`` the newest symbol versions by their
    names' beginnings, which say what wheels may have been linked to: ``GLIBC``, ``GLIBCXX`` and ``CXXABI``, the last
    two of libstdc++, if there is one."""

    sonames: tuple[str, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Probe:
    """``size`` is that of the layers as they are stored, ``files`` that of the regular files to be seen, in bytes.

    The first of ``pythons`` without a problem is what a notebook would run on. ``elsewhere`` are Python packages in
    folders that belong to none of them: those of virtual environments, mostly.
    """

    platform: Platform
    size: int
    files: int
    layers: int
    distribution: Distribution | None
    libc: Libc | None
    libraries: Libraries
    pythons: tuple[Python, ...]
    elsewhere: tuple[Installed, ...]
    databases: tuple[PackageDatabase, ...]
    cuda: Cuda
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    folder: str
    env: Mapping[str, str]

    @property
    def python(self) -> Python | None:
        """What a notebook would run on."""
        return next((each for each in self.pythons if each.problem is None), None)


def probe(image: Image, where: str, listener: Listener) -> Probe:
    """Read the facts of an image, each layer once. ``where`` names it for progress.

    Raises `NotAnImage` when a layer is damaged.
    """
    scanned = scan(image, where, listener, keep=_keeps, reader=PartReader(is_part, read_part))
    files = scanned.files
    owned, elsewhere, pythons = _installed(files), [], []
    interpreters = list(_interpreters(image, files))
    for path in interpreters:
        pythons.append(_python(image, files, path, owned))
    used = {folder for python in pythons for folder in python.folders}
    for folder in sorted(owned):
        if f"/{folder}" not in used:
            elsewhere += owned[folder]
    execution = image.config.execution
    return Probe(
        platform=image.platform,
        size=sum(layer.descriptor.size for layer in image.layers),
        files=sum(node.info.size for node in files.nodes.values() if node.info.isreg()),
        layers=len(image.layers),
        distribution=distribution_of(files),
        libc=_libc(files),
        libraries=_libraries(provided_in(image, files, scanned.parts)),
        pythons=tuple(pythons),
        elsewhere=tuple(elsewhere),
        databases=tuple(_databases(files)),
        cuda=cuda_in(files, image.config.env),
        user=str(execution.get("User") or ""),
        entrypoint=_words(execution.get("Entrypoint")),
        command=_words(execution.get("Cmd")),
        folder=str(execution.get("WorkingDir") or ""),
        env=image.config.env,
    )


def _keeps(path: str) -> bool:
    return (
        path in _RELEASES
        or path == _APK
        or _DPKG.fullmatch(path) is not None
        or _MUSL_PROGRAM.fullmatch(path) is not None
        or holds_facts(path)
    )


def _words(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value or ()))


def _interpreters(image: Image, files: FileSystem) -> Iterator[str]:
    """Paths of the programs, each once however many names it has, those first that a base's would be taken from."""
    path = image.config.env.get("PATH") or DEFAULT_PATH
    seen: set[str] = set()
    for place in (*candidates(files, path), *sorted(path for path in files.nodes if _PROGRAM.fullmatch(path))):
        found = files.file(place)
        if found is not None and found not in seen and posixpath.basename(found).startswith("python"):
            seen.add(found)
            yield found


def _python(image: Image, files: FileSystem, path: str, owned: Mapping[str, list[Installed]]) -> Python:
    problem = version = site_packages = library = None
    try:
        target = python_at(files, path, image.platform)
        version, site_packages = str(target.python), str(target.site_packages)
    except Unfit as reason:
        problem = str(reason)
    except NotAnImage as error:
        problem = error.message
    try:
        prefix = posixpath.dirname(posixpath.dirname(path))
        library = standard_library(files, prefix, posixpath.basename(path))
    except Unfit:
        folders: list[str] = []
    else:
        folders = list(_folders(files, library, owned))
    distributions = tuple(each for folder in folders for each in owned.get(folder, ()))
    return Python(
        path=f"/{path}",
        version=version,
        site_packages=site_packages,
        folders=tuple(f"/{folder}" for folder in folders),
        externally_managed=library is not None and files.file(f"{library}/EXTERNALLY-MANAGED") is not None,
        pip=next((each.version for each in distributions if each.name.lower() == "pip"), None),
        distributions=distributions,
        problem=problem,
    )


def _folders(files: FileSystem, library: str, owned: Mapping[str, list[Installed]]) -> Iterator[str]:
    """Folders of packages that an interpreter with this standard library has on ``sys.path``."""
    name = posixpath.basename(library)
    root = posixpath.dirname(posixpath.dirname(library))
    parents = [root, *(["usr/local"] if root == "usr" else [])]
    found = [f"{parent}/{lib}/{name}" for parent in parents for lib in ("lib", "lib64")]
    places = [f"{folder}/{kind}" for folder in found for kind in ("site-packages", "dist-packages")]
    # All of Debian's Pythons share one folder (Debian Python Policy 2.5).
    places += [f"{root}/lib/python3/dist-packages"] if root == "usr" else []
    seen = set()
    for place in places:
        resolved = files.resolve(place)
        if resolved is not None and resolved not in seen and (resolved in owned or files.is_directory(resolved)):
            seen.add(resolved)
            yield resolved


def _installed(files: FileSystem) -> dict[str, list[Installed]]:
    """Python packages by the folder that they stand in, as their metadata is named: reading it would say no more."""
    found: dict[str, list[Installed]] = {}
    for path in files.nodes:
        folder, _, name = path.rpartition("/")
        if name.endswith("-info") and (stated := _INSTALLED.fullmatch(name)) and _PACKAGES.fullmatch(folder):
            found.setdefault(folder, []).append(Installed(stated[1], stated[2], f"/{folder}"))
    for each in found.values():
        each.sort(key=lambda package: (package.name.lower(), package.version))
    return found


def _libc(files: FileSystem) -> Libc | None:
    glibc = glibc_in(files)
    if glibc is not None:
        return Libc("glibc", str(glibc))
    for path in sorted(files.nodes):
        if _MUSL.fullmatch(path):
            stated = set(_MUSL_VERSION.findall(files.read(path) or b""))
            return Libc("musl", stated.pop().decode() if len(stated) == 1 else None)
    return None


def _libraries(provided: Provided) -> Libraries:
    newest = {prefix: provided.newest(soname, f"{prefix}_") for prefix, soname in _VERSIONED.items()}
    return Libraries(
        tuple(sorted(provided.sonames)), {prefix: version for prefix, version in newest.items() if version is not None}
    )


def _databases(files: FileSystem) -> Iterator[PackageDatabase]:
    if any(_DPKG.fullmatch(path) for path in files.nodes):
        yield PackageDatabase("dpkg", len(system_packages(files)))
    apk = files.read(_APK)
    if apk is not None:
        yield PackageDatabase("apk", len(re.findall(rb"^P:", apk, re.MULTILINE)))
    if any(_RPM.fullmatch(path) for path in files.nodes):
        yield PackageDatabase("rpm", None)


def document(found: Probe, reference: str) -> dict[str, Any]:
    """The facts as JSON values."""
    made = asdict(found)
    made["platform"] = str(found.platform)
    made["distribution"] = found.distribution._asdict() if found.distribution else None
    made["env"] = dict(found.env)
    made["libraries"] = {"sonames": list(found.libraries.sonames), "versions": dict(found.libraries.versions)}
    value: dict[str, Any] = _written({"format": 1, "reference": reference, **made})
    return value


def _written(value: Any) -> Any:
    """The same with every text as UTF-8 can hold it."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {utf8(name): _written(each) for name, each in value.items()}
    return [_written(each) for each in value] if isinstance(value, (list, tuple)) else value
