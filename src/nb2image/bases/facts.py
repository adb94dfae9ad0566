"""`read_target`: the facts of a base, read from the image itself and never from its name.

What runs decides: the interpreter is the first Python on the image's ``PATH`` that is a program for its
architecture and has its standard library; its full version stands in that program or in its ``libpython``;
glibc is the one that the program's own loader belongs to.
"""

from __future__ import annotations

import json
import posixpath
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from packaging.version import InvalidVersion, Version

from nb2image.bases import packages
from nb2image.bases.cuda import cuda_in
from nb2image.cache import Store, digest_of_key
from nb2image.errors import NotAnImage
from nb2image.image.filesystem import FileSystem, read_filesystem
from nb2image.image.model import DEFAULT_PATH, Image
from nb2image.target.model import Cuda, Platform, Target

__all__ = [
    "NO_PYTHON",
    "Unfit",
    "build_facts",
    "candidates",
    "glibc_in",
    "holds_facts",
    "known_target",
    "python_at",
    "read_target",
    "standard_library",
]

_KIND = "target"
_KINDS = {False: _KIND, True: "bare-target"}
_FORMAT = 2
_PROGRAM = re.compile(r"python3?(?:\.\d+)?[td]?")
_MINOR = re.compile(r"python(3\.\d+)(t?)")
_KEPT = re.compile(
    r"(?:.*/)?(?:python3?(?:\.\d+)?[td]?|libpython3[^/]*\.so[^/]*|libc\.so\.6|libc-2\.\d+\.so|patchlevel\.h|build-details\.json"
    r"|python3\.\d+t?/site\.py)"
)
_GLIBC = re.compile(rb"GNU C Library [^\n]{0,80}? release version (2\.\d+)")
_ELF_MACHINES = {3: "386", 20: "ppc", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}
_PT_INTERP = 3


def read_target(image: Image, store: Store | None = None, *, bare: bool = False) -> Target:
    """Facts of a base image; found in ``store`` when this image was read before. ``bare``: those of what a Python will
    be laid over; its own, if any, is not looked for, and Python's facts are placeholders.

    Raises `NotAnImage` when it has no CPython 3 that could run, or is damaged.
    """
    if store is not None and (known := known_target(image, store, bare=bare)) is not None:
        return known
    files = read_filesystem(image, lambda path: holds_facts(path) or packages.holds_packages(path))
    target = _without_python(image, files) if bare else _read(image, files)
    if store is not None:
        store.put_record(_KINDS[bare], _key(image), _to_record(target))
        packages.record(image, files, store)
    return target


def known_target(image: Image, store: Store, *, bare: bool = False) -> Target | None:
    """The same, of an image that was read before; None of any other one."""
    record = store.get_record(_KINDS[bare], _key(image))
    return _from_record(record) if record is not None else None


def _key(image: Image) -> str:
    return digest_of_key(_KIND, _FORMAT, image.digest)


def holds_facts(path: str) -> bool:
    """Whether the content of a file is needed to tell a base's Python and C library."""
    return _KEPT.fullmatch(path) is not None


def _to_record(target: Target) -> dict[str, Any]:
    return {
        "os": target.platform.os,
        "architecture": target.platform.architecture,
        "python": str(target.python),
        "interpreter": str(target.interpreter),
        "site_packages": str(target.site_packages),
        "glibc": str(target.glibc) if target.glibc else None,
        "cuda": _cuda_record(target.cuda),
    }


def _cuda_record(cuda: Cuda | None) -> dict[str, Any] | None:
    if cuda is None:
        return None
    cudnn = str(cuda.cudnn) if cuda.cudnn else None
    return {"version": str(cuda.version), "cudnn": cudnn, "libraries": cuda.libraries}


def _from_record(record: dict[str, Any]) -> Target:
    return Target(
        platform=Platform(record["os"], record["architecture"]),
        python=Version(record["python"]),
        interpreter=PurePosixPath(record["interpreter"]),
        site_packages=PurePosixPath(record["site_packages"]),
        glibc=Version(record["glibc"]) if record["glibc"] else None,
        cuda=_recorded_cuda(record["cuda"]),
    )


def _recorded_cuda(record: dict[str, Any] | None) -> Cuda | None:
    if record is None:
        return None
    cudnn = Version(record["cudnn"]) if record["cudnn"] else None
    return Cuda(Version(record["version"]), cudnn, record["libraries"])


NO_PYTHON = Version("0")
"""What stands for the version where there is no Python yet."""


class _Elf(NamedTuple):
    """``architecture`` in OCI's words, ``loader`` the path of PT_INTERP (None: a static program)."""

    architecture: str
    loader: str | None


class Unfit(Exception):
    """This candidate is no usable Python; the text says why."""


def _read(image: Image, files: FileSystem) -> Target:
    passed_over: list[str] = []
    seen: set[str] = set()
    for path in candidates(files, image.config.env.get("PATH") or DEFAULT_PATH):
        found = files.file(path)
        if found is None or found in seen:
            continue
        seen.add(found)
        try:
            return replace(python_at(files, found, image.platform), cuda=cuda_in(files, image.config.env).target)
        except Unfit as reason:
            passed_over.append(f"/{found}: {reason}")
    raise NotAnImage(
        f"The image {image.digest} has no Python that could be used as a base.",
        hint="Name an image with CPython 3 on its PATH, in /usr/bin, /usr/local/bin or /opt, or lay one over this with "
        "--python-build.",
        details=tuple(passed_over),
    )


def _without_python(image: Image, files: FileSystem) -> Target:
    glibc, cuda = glibc_in(files), cuda_in(files, image.config.env).target
    return Target(image.platform, NO_PYTHON, PurePosixPath("/"), PurePosixPath("/"), glibc, cuda)


def candidates(files: FileSystem, path: str) -> Iterator[str]:
    """Where a base's Python may be, the one to prefer first; ``path`` is the image's ``PATH``."""
    folders = [folder.strip("/") for folder in path.split(":") if folder.startswith("/")]
    folders += ["usr/local/bin", "usr/bin", *(f"opt/{name}/bin" for name in files.children("opt"))]
    for folder in dict.fromkeys(folders):
        yield f"{folder}/python3"
        yield f"{folder}/python"
    # Images of several Pythons, or of one that has only its versioned name.
    for folder in dict.fromkeys(folders):
        versioned = [name for name in files.children(folder) if _MINOR.fullmatch(name)]
        yield from (f"{folder}/{name}" for name in sorted(versioned, key=_minor_of, reverse=True))


def _minor_of(name: str) -> int:
    found = _MINOR.search(name)
    return int(found[1].partition(".")[2]) if found else 0


def python_at(files: FileSystem, interpreter: str, platform: Platform) -> Target:
    """The facts of one interpreter. Raises `Unfit`, and `NotAnImage` for one of another architecture."""
    name = posixpath.basename(interpreter)
    if not _PROGRAM.fullmatch(name):
        raise Unfit(f"a program called {name}, not Python")
    program = files.read(interpreter) or b""
    elf = _elf(program)
    if elf.architecture != platform.architecture:
        raise NotAnImage(
            f"The image is said to be for {platform}, and its /{interpreter} is for {elf.architecture}.",
            hint="The image's config or its content is wrong; get the image for the right platform.",
        )
    prefix = posixpath.dirname(posixpath.dirname(interpreter))
    library = standard_library(files, prefix, name)
    minor = _MINOR.fullmatch(posixpath.basename(library))
    if minor is None or minor[2]:
        raise Unfit("a free-threaded Python, which the wheels of a lock seldom fit")
    return Target(
        platform=platform,
        python=_version(files, program, prefix, library, minor[1]),
        interpreter=PurePosixPath("/", interpreter),
        site_packages=_site_packages(files, library, minor[1]),
        glibc=_glibc(files, elf, interpreter),
    )


def build_facts(files: FileSystem, interpreter: str) -> tuple[str, Version]:
    """Architecture (in OCI's words) and version of an interpreter that stands in no base yet. Raises `Unfit`."""
    program = files.read(interpreter) or b""
    prefix = posixpath.dirname(posixpath.dirname(interpreter))
    library = standard_library(files, prefix, posixpath.basename(interpreter))
    minor = _MINOR.fullmatch(posixpath.basename(library))
    if minor is None or minor[2]:
        raise Unfit("a free-threaded Python, which the wheels of a lock seldom fit")
    return _elf(program).architecture, _version(files, program, prefix, library, minor[1])


def standard_library(files: FileSystem, prefix: str, program: str) -> str:
    """The folder of ``os.py``, which is how Python itself finds its prefix (``Modules/getpath.py``)."""
    for lib in ("lib", "lib64"):
        folder = posixpath.join(prefix, lib)
        names = [n for n in files.children(folder) if _MINOR.fullmatch(n) and files.file(f"{folder}/{n}/os.py")]
        exact = [n for n in names if n == program]
        if exact or len(names) == 1:
            return f"{folder}/{(exact or names)[0]}"
    raise Unfit(f"its standard library is not in /{prefix}/lib or /{prefix}/lib64")


def _elf(program: bytes) -> _Elf:
    """Machine and loader of a program (``elf(5)``: Ehdr, Phdr)."""
    if program[:4] != b"\x7fELF" or len(program) < 64:
        raise Unfit("no ELF program")
    order = ">" if program[5] == 2 else "<"
    wide = program[4] == 2
    machine = struct.unpack_from(order + "H", program, 18)[0]
    loader = None
    start = struct.unpack_from(order + ("Q" if wide else "I"), program, 32 if wide else 28)[0]
    step, count = struct.unpack_from(order + "HH", program, 54 if wide else 42)
    try:
        for position in range(start, start + step * count, step):
            if struct.unpack_from(order + "I", program, position)[0] == _PT_INTERP:
                offset, size = (
                    struct.unpack_from(order + "Q16xQ", program, position + 8)
                    if wide
                    else struct.unpack_from(order + "I8xI", program, position + 4)
                )
                loader = program[offset : offset + size].rstrip(b"\0").decode()
    except (struct.error, ValueError) as error:
        raise Unfit(f"a damaged ELF program ({error})") from error
    return _Elf(_ELF_MACHINES.get(machine, f"ELF machine {machine}"), loader)


# -- Python's version -----------------------------------------------------------------------------------


def _version(files: FileSystem, program: bytes, prefix: str, library: str, minor: str) -> Version:
    for found in _stated_versions(files, program, prefix, library, minor):
        try:
            # Distributors mark a build from between two releases with a plus sign (`PY_VERSION`).
            version = Version(found.rstrip("+"))
        except InvalidVersion:
            continue
        if f"{version.major}.{version.minor}" == minor:
            return version
    raise Unfit(f"its full version {minor}.? stands nowhere")


def _stated_versions(files: FileSystem, program: bytes, prefix: str, library: str, minor: str) -> Iterator[str]:
    yield from _compiled_in(program, minor)
    for lib in sorted({"lib", "lib64", posixpath.dirname(library).removeprefix(prefix).strip("/")}):
        folder = posixpath.join(prefix, lib)
        triplets = [name for name in files.children(folder) if name.endswith(("-linux-gnu", "-linux-musl"))]
        for place in (folder, *(f"{folder}/{name}" for name in triplets)):
            for name in (f"libpython{minor}.so.1.0", f"libpython{minor}.so"):
                yield from _compiled_in(files.read(f"{place}/{name}") or b"", minor)
    # PEP 739, from Python 3.14 on.
    details = files.read(f"{library}/build-details.json")
    if details is not None:
        yield from _from_details(details)
    header = files.read(posixpath.join(prefix, f"include/python{minor}/patchlevel.h")) or b""
    if stated := re.search(rb'#define\s+PY_VERSION\s+"([^"]+)"', header):
        yield stated[1].decode("ascii", "replace")


def _compiled_in(program: bytes, minor: str) -> list[str]:
    """`PY_VERSION`, which `Py_GetVersion` formats: a string of its own among the program's constants, or the end
    of a longer one (``/opt/python-3.12.1``), since linkers merge strings with equal ends.

    Two different ones (another library of that version linked in) say nothing.
    """
    # What begins with literal bytes is searched for at a hundred times the speed of what looks behind itself.
    version = re.compile(re.escape(minor).encode() + rb"\.\d{1,2}(?:(?:a|b|rc)\d{1,2})?\+?(?=\0)")
    whole: set[str] = set()
    ending: set[str] = set()
    for match in version.finditer(program):
        before = program[match.start() - 1 : match.start()] if match.start() else b"."
        if before == b"\0":
            whole.add(match[0].decode())
        if not (before.isdigit() or before == b"."):
            ending.add(match[0].decode())
    return next((sorted(found) for found in (whole, ending) if len(found) == 1), [])


def _from_details(document: bytes) -> Iterator[str]:
    try:
        info = json.loads(document)["implementation"]["version"]
        level = {"final": "", "candidate": "rc", "alpha": "a", "beta": "b"}[info["releaselevel"]]
        yield f"{info['major']}.{info['minor']}.{info['micro']}" + (f"{level}{info['serial']}" if level else "")
    except (ValueError, KeyError, TypeError, RecursionError):
        return


# -- the C library and site-packages -----------------------------------------------------------------


def _glibc(files: FileSystem, elf: _Elf, interpreter: str) -> Version | None:
    if elf.loader is None or not posixpath.basename(elf.loader).startswith(("ld-linux", "ld64", "ld-2")):
        return None  # static, musl or another C library
    loader = files.resolve(elf.loader)
    if loader is None:
        raise Unfit(f"its loader {elf.loader} is missing")
    # The real place of the loader first: it and libc.so.6 come from one package, whatever lib and lib64 link to.
    found = glibc_in(files, posixpath.dirname(loader))
    if found is None:
        raise Unfit(f"/{interpreter} needs glibc, and no libc.so.6 that states a version is there")
    return found


def glibc_in(files: FileSystem, *folders: str) -> Version | None:
    """The version of the first ``libc.so.6`` that states one: in ``folders``, or where distributions have it."""
    places = list(folders)
    for lib in ("lib", "lib64", "usr/lib", "usr/lib64"):
        places += [lib, *(f"{lib}/{name}" for name in files.children(lib) if name.endswith("-linux-gnu"))]
    for folder in dict.fromkeys(places):
        content = files.read(f"{folder}/libc.so.6")
        if content is not None and (stated := _GLIBC.search(content)):
            return Version(stated[1].decode())
    return None


def _site_packages(files: FileSystem, library: str, minor: str) -> PurePosixPath:
    """Where pip of this Python would install (``sysconfig.get_path("purelib")``)."""
    # Debian's own `site` looks there; only its constant is quoted, other mentions are prose.
    if b'"dist-packages"' in (files.read(f"{library}/site.py") or b""):
        return PurePosixPath(f"/usr/local/lib/python{minor}/dist-packages")
    # Fedora keeps platform-independent packages in lib although its standard library is in lib64.
    lib = posixpath.dirname(posixpath.dirname(library))
    return PurePosixPath("/", lib, "lib", f"python{minor}", "site-packages")
