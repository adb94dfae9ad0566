"""A CPython that runs from any folder, laid over a base as a layer: for a Python that no base has.

Such builds (python-build-standalone's ``install_only``, what ``uv python install`` unpacks) are a tar with one folder
that holds ``bin`` and ``lib``. Its facts are read from its files; nothing of it is run.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from packaging.version import Version

from nb2image.abi.elf import Damaged, read_object
from nb2image.bases.facts import Unfit, build_facts, read_target
from nb2image.bases.model import Base, Candidate, Provider, Remote
from nb2image.cache import Store, digest_of_key
from nb2image.errors import BadPythonBuild, HashMismatch, IndexAnswered, IndexUnreachable, NotCached
from nb2image.image.filesystem import read_filesystem
from nb2image.image.model import DEFAULT_PATH, Config, Image
from nb2image.image.streams import BoundedTarInfo, decompressed
from nb2image.layers.cached import CachedLayer, cached_layer
from nb2image.layers.entry import Entry, FileContent, Link
from nb2image.layers.write import WRITER
from nb2image.progress import Listener
from nb2image.target.model import Platform

__all__ = ["PREFIX", "PythonBuild", "PythonBuildProvider", "read_build"]

PREFIX = "/opt/python"
_FORMAT = 1
_MOST_MEMBERS = 100_000
_LARGEST = 4 << 30
"""Bytes of all files: a debug build has one."""
_CHUNK = 1 << 20
_HASH = re.compile(r"(?P<place>.+)#sha256=(?P<sha256>[0-9a-f]{64})")
_GLIBC = re.compile(rb"\0GLIBC_2\.(\d{1,3})(?:\.\d+)?(?=\0)")


@dataclass(frozen=True)
class PythonBuild:
    """``digest`` is of the archive, ``glibc`` the oldest that it runs on, ``place`` where it was found."""

    place: str
    digest: str
    platform: Platform
    python: Version
    glibc: Version
    layer: CachedLayer

    @property
    def minor(self) -> str:
        return f"{self.python.major}.{self.python.minor}"


def read_build(given: str, store: Store, *, offline: bool = False) -> PythonBuild:
    """The build at a path or an http(s) address, ``#sha256=HEX`` behind it: an address needs one.

    Raises `BadPythonBuild` for an archive that is none or is hostile, and `IndexFailure` when it cannot be had.
    """
    stated = _HASH.fullmatch(given)
    place, digest = (stated["place"], f"sha256:{stated['sha256']}") if stated else (given, None)
    if place.startswith(("http://", "https://")):
        if digest is None:
            raise BadPythonBuild(
                f"{place} has no hash, so anything could come from there.",
                hint="Write its sha256 behind it: URL#sha256=HEX.",
            )
        archive = store.find_sound("bases", digest) or _downloaded(place, digest, store, offline)
    else:
        archive = Path(place).expanduser()
        found = _digest(archive)
        if digest not in (None, found):
            raise HashMismatch(
                f"{archive} has the hash {found}, and {digest} was asked for.", hint="Get the right file."
            )
        digest = found

    def fill(folder: Path) -> None:
        _unpack(archive, folder)

    key = digest_of_key("python-build", _FORMAT, digest)
    root = store.unpacked(f"sha256:{key}", fill)
    layer = cached_layer(
        store,
        digest_of_key("python-build", _FORMAT, WRITER, digest),
        f"Python of {digest[7:19]}",
        lambda: _entries(root),
    )
    return _facts(place, digest, layer, root)


def _digest(file: Path) -> str:
    value = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while data := stream.read(_CHUNK):
                value.update(data)
    except OSError as error:
        raise BadPythonBuild(
            f"{file} cannot be read: {error.strerror or error}.", hint="Name the archive of a relocatable CPython."
        ) from error
    return "sha256:" + value.hexdigest()


def _downloaded(url: str, digest: str, store: Store, offline: bool) -> Path:
    import httpx

    if offline:
        raise NotCached(
            f"{url} is not in the cache, and --offline forbids to fetch it.", hint="Build without --offline."
        )
    try:
        with (
            store.writing("bases") as writing,
            httpx.Client(follow_redirects=True, timeout=30) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                raise IndexAnswered(f"{url} answered {response.status_code}.", hint="Correct the address.")
            for data in response.iter_bytes(_CHUNK):
                writing.write(data)
                if writing.size > _LARGEST:
                    _refuse(url, "it has more than 4 GiB")
            if writing.digest != digest:
                raise HashMismatch(
                    f"{url} has the hash {writing.digest}, and {digest} was asked for.", hint="Correct hash or address."
                )
            return writing.commit()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise IndexUnreachable(
            f"{url} cannot be fetched: {error}.", hint="Fetch it by other means and name the file."
        ) from error


def _refuse(place: object, what: str) -> NoReturn:
    raise BadPythonBuild(
        f"{place} is no relocatable CPython: {what}.",
        hint="Name a tar with one folder that holds bin/python3 and lib/python3.N, as python-build-standalone's "
        "`install_only` archives are.",
    )


# -- the archive ----------------------------------------------------------------------------------------------


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files of the archive's one folder; links last, so that nothing is written through one."""
    links: dict[str, str] = {}
    seen: set[str] = set()
    top: str | None = None
    size = 0
    try:
        with (
            archive.open("rb") as source,
            decompressed(source) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedTarInfo) as tar,
        ):
            for info in tar:
                first, path = _split(archive, info)
                top = top or first
                if first != top:
                    _refuse(archive, f"it has {info.name!r} beside the folder {top!r}")
                size += info.size
                if path in seen or len(seen) > _MOST_MEMBERS or size > _LARGEST:
                    _refuse(archive, f"{info.name!r} is there twice, or too much is there")
                if not path:
                    continue
                seen.add(path)
                if info.isdir():
                    (folder / path).mkdir(parents=True, exist_ok=True)
                    continue
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                if info.issym():
                    links[path] = _target(archive, path, info)
                elif info.islnk():
                    shutil.copyfile(folder / _split(archive, info, info.linkname)[1], folder / path)
                    (folder / path).chmod(0o755 if info.mode & 0o111 else 0o644)
                elif info.isreg() and (content := tar.extractfile(info)) is not None:
                    with content, (folder / path).open("xb") as file:
                        shutil.copyfileobj(content, file, _CHUNK)
                    (folder / path).chmod(0o755 if info.mode & 0o111 else 0o644)
                else:
                    _refuse(archive, f"{info.name!r} is neither a file nor a folder nor a link")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, FileExistsError, NotADirectoryError) as error:
        _refuse(archive, f"it cannot be read ({error})")
    except (FileNotFoundError, IsADirectoryError) as error:
        _refuse(archive, f"a link leads to nothing ({error.filename})")
    for path, target in sorted(links.items()):
        if os.path.lexists(folder / path):
            _refuse(archive, f"{path!r} is a link, and something is below it")
        (folder / path).symlink_to(target)


def _split(archive: Path, info: tarfile.TarInfo, name: str | None = None) -> tuple[str, str]:
    """The first folder of a member's path, and the rest."""
    text = info.name if name is None else name
    path = posixpath.normpath(text)
    if text.startswith("/") or path.split("/")[0] in {"..", "."} or "\0" in text or ".." in text.split("/"):
        _refuse(archive, f"the path {text!r} leads out of it")
    first, _, rest = path.partition("/")
    return first, rest


def _target(archive: Path, path: str, info: tarfile.TarInfo) -> str:
    target = info.linkname
    found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or found == ".." or found.startswith("../"):
        _refuse(archive, f"the link {info.name!r} leads out of it, to {target!r}")
    return target


def _entries(root: Path) -> Iterator[Entry]:
    """Everything but bytecode, which would be out of date: times are not kept."""
    made = ["opt", PREFIX[1:]]
    yield from (Entry(path, 0o755, None) for path in made)
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        inside = Path(folder).relative_to(root)
        for name in sorted((*folders, *files)):
            path = Path(folder, name)
            place = posixpath.join(PREFIX[1:], str(inside), name) if str(inside) != "." else f"{PREFIX[1:]}/{name}"
            if path.is_symlink():
                yield Entry(place, 0o777, Link(os.readlink(path)))  # noqa: PTH115 - as it is written
            elif path.is_dir():
                yield Entry(place, 0o755, None)
            else:
                yield Entry(place, 0o755 if path.stat().st_mode & 0o100 else 0o644, FileContent(path))


# -- its facts ------------------------------------------------------------------------------------------------


def _facts(place: str, digest: str, layer: CachedLayer, root: Path) -> PythonBuild:
    programs = sorted((root / "bin").glob("python3.*")) if (root / "bin").is_dir() else []
    programs = [path for path in programs if re.fullmatch(r"python3\.\d+", path.name) and path.is_file()]
    if len(programs) != 1:
        _refuse(place, f"it has {len(programs) or 'no'} programs bin/python3.N")
    files = read_filesystem(Image(Config.new(Platform()), (layer,)), lambda path: "/bin/" in path or ".so" in path)
    try:
        architecture, python = build_facts(files, f"{PREFIX[1:]}/bin/{programs[0].name}")
    except Unfit as reason:
        _refuse(place, str(reason))
    _check_program(place, root, programs[0])
    needs = {int(found) for path in _elfs(root) for found in _GLIBC.findall(path.read_bytes())}
    if not needs:
        _refuse(place, "its program was not linked to glibc")
    return PythonBuild(place, digest, Platform("linux", architecture), python, Version(f"2.{max(needs)}"), layer)


def _check_program(place: str, root: Path, program: Path) -> None:
    """That the program finds the libraries which the archive brings for it, wherever the archive is unpacked."""
    data = program.read_bytes()
    try:
        found = read_object(lambda: [data], len(data))
    except Damaged as error:
        _refuse(place, f"{program.name} is damaged: {error}")
    if found is None:
        return  # of which other checks say more
    for soname in found.needed:
        if not (root / "lib" / soname).exists():
            continue  # the base's, then
        folders = [each for each in (*found.rpath, *found.runpath) if each.startswith(("$ORIGIN", "${ORIGIN}"))]
        places = [program.parent / each.partition("ORIGIN")[2].lstrip("}/") for each in folders]
        if not any((each / soname).exists() for each in places):
            stated = ", ".join((*found.rpath, *found.runpath)) or "the system's folders"
            _refuse(place, f"its program looks for {soname} in {stated}, and not beside itself")


def _elfs(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if not path.is_symlink() and path.is_file() and (path.parent.name == "bin" or ".so" in path.name):
            yield path


class PythonBuildProvider:
    """A candidate of another provider with a Python laid over it; none where that does not run."""

    def __init__(self, inner: Provider, candidate: Candidate, build: PythonBuild, store: Store) -> None:
        self._inner = inner
        self._candidate = candidate
        self._build = build
        self._store = store

    def candidates(self) -> Sequence[Candidate]:
        below, build = self._candidate, self._build
        glibc = below.target.glibc
        if below.target.platform != build.platform or glibc is None or glibc < build.glibc:
            return ()
        target = replace(
            below.target,
            python=build.python,
            interpreter=PurePosixPath(f"{PREFIX}/bin/python{build.minor}"),
            site_packages=PurePosixPath(f"{PREFIX}/lib/python{build.minor}/site-packages"),
        )
        origin = f"{below.origin}, with Python {build.python} of {build.place}"
        return (replace(below, target=target, origin=origin, size=below.size + build.layer.descriptor.size),)

    def confirm(self, candidate: Candidate) -> Candidate:
        """As the other provider does, where it does."""
        if not isinstance(self._inner, Remote):
            return candidate
        self._candidate = self._inner.confirm(self._candidate)
        return self.candidates()[0]

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:  # noqa: ARG002  (it has but one)
        """The base with the layer on top and its Python first on ``PATH``. Raises what the other provider raises."""
        base = self._inner.deliver(self._candidate, listener)
        path = base.image.config.env.get("PATH") or DEFAULT_PATH
        config = base.image.config.with_env({"PATH": f"{PREFIX}/bin:{path}"})
        image = base.image.with_layers([self._build.layer]).with_config(config)
        reference = f"nb2image.local/python-build:{self._build.python}-{self._build.digest[7:19]}"
        return replace(base, image=image, target=read_target(image, self._store), reference=reference)
