"""`find_missing`: which libraries the shared objects of an environment will not find: a pure function.

What the loader does (ld.so(8)): a library whose soname is loaded already is taken; else ``DT_RPATH`` or ``DT_RUNPATH``
of the object that needs it are searched, ``LD_LIBRARY_PATH``, the cache of ``ld.so.conf``, and the default folders; and
of a library that defines versions each version that an object needs of it must be there. Which library of another wheel
is loaded already depends on the order of imports, and the packages see to that (``import torch`` before torchvision's
extension): what any object of the environment provides is never reported.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from nb2image.abi.base import Provided
from nb2image.abi.elf import SharedObject
from nb2image.abi.programs import MissingProgram
from nb2image.abi.rules import Rules

__all__ = ["Findings", "Installed", "MissingLibrary", "find_missing"]

_DRIVER = re.compile(r"lib(?:cuda|nvcuvid|nvoptix|cudadebugger|nvidia-[a-z0-9-]+)\.so(?:\.\d+)*")
"""Libraries of NVIDIA's driver: the host's, put into the container by its runtime."""
_PYTHON = re.compile(r"libpython(\d+\.\d+)[a-z]*\.so(?:\.[\d.]+)?")
_EXTENSION = re.compile(r"(?!lib)[A-Za-z_]\w*(?:\.[\w-]+)?\.so")
_OTHER_PYTHON = re.compile(r"\.(?:cpython-|pypy)(\d)(\d+)")
_ON_DEMAND = re.compile(r"(?:^|/)(?:plugins|qml|libexec|designer|tests?)/")
"""Folders of what an application loads when it has use for it, as Qt its plugins."""


class Installed(NamedTuple):
    """A shared object of an environment: ``path`` in its wheel, ``place`` in the image (absolute)."""

    package: str
    version: str
    filename: str
    path: str
    place: str
    object: SharedObject


class MissingLibrary(NamedTuple):
    """A library that an image lacks.

    ``found`` None: nothing has the ``soname``, and ``versions`` are all symbol versions that are wanted of it. Else it
    is the path of the library that has the soname and lacks ``versions``.

    ``needed_by``: wheel file names, and paths in them. ``certain``: something that is imported needs it. Otherwise
    only what a package loads on demand does, such as a plugin, or one of several ways to do a thing. ``why``: where
    ELF does not show the need, how it is known.
    """

    soname: str
    versions: tuple[str, ...]
    found: str | None
    needed_by: tuple[tuple[str, str], ...]
    certain: bool
    why: str = ""

    @property
    def packages(self) -> tuple[str, ...]:
        """Names of the packages that need it, sorted; what is no wheel's file name stands as it is."""
        return tuple(sorted({_package(filename) for filename, _ in self.needed_by}))


def _package(filename: str) -> str:
    try:
        return str(parse_wheel_filename(filename)[0])
    except InvalidWheelFilename:
        return filename


class Findings(NamedTuple):
    """``driver`` are libraries of NVIDIA's driver that are needed and come from the host; ``missing`` by soname;
    ``programs`` that packages run and nothing has."""

    missing: tuple[MissingLibrary, ...]
    driver: tuple[MissingLibrary, ...]
    programs: tuple[MissingProgram, ...] = ()


class _Lack(NamedTuple):
    soname: str
    versions: tuple[str, ...]
    found: str | None
    by: tuple[str, str]
    certain: bool
    why: str = ""


def find_missing(
    objects: Iterable[Installed], packages: Iterable[tuple[str, str, str]], provided: Provided, minor: str, rules: Rules
) -> Findings:
    """What the objects of one environment lack on a base.

    ``packages`` are name, version and wheel file name of all of its wheels, ``minor`` the Python that imports them.
    """
    environment = _Environment(objects, provided, minor, rules)
    lacks = [*environment.lacks(), *environment.opened(packages)]
    merged = _merged(lacks)
    driver = tuple(each for each in merged if _DRIVER.fullmatch(each.soname))
    return Findings(tuple(each for each in merged if each not in driver), driver)


class _Environment:
    def __init__(self, objects: Iterable[Installed], provided: Provided, minor: str, rules: Rules) -> None:
        self._provided = provided
        self._rules = rules
        self._minor = minor
        self._objects = [each for each in objects if self._runs(each)]
        self._by_place = {each.place: each for each in self._objects}
        self._by_name: dict[str, list[Installed]] = {}
        for each in self._objects:
            for name in dict.fromkeys((each.object.soname or "", posixpath.basename(each.path))):
                self._by_name.setdefault(name, []).append(each)
        self._optional = {each.place for each in self._objects if rules.optional(each.package, each.path)}

    def _runs(self, each: Installed) -> bool:
        """Whether this machine and Python could load an object: some wheels bring several of a kind."""
        tag = _OTHER_PYTHON.search(posixpath.basename(each.path))
        return each.object.machine == self._provided.machine and (
            tag is None or (tag[0].startswith(".cpython-") and f"{tag[1]}.{tag[2]}" == self._minor)
        )

    def lacks(self) -> Iterator[_Lack]:
        reached = self._imported()
        for each in self._objects:
            for soname in each.object.needed:
                python = _PYTHON.fullmatch(soname)
                if python is not None and (python[1] != self._minor or self._has_python(soname)):
                    continue
                if (lack := self._lack(each, soname)) is not None:
                    yield lack._replace(certain=each.place in reached)

    def _has_python(self, soname: str) -> bool:
        """The interpreter has loaded its own before it loads anything else, wherever that stands."""
        return any(posixpath.basename(path) == soname for path in self._provided.libraries)

    def _imported(self) -> set[str]:
        """The places of objects that something imported loads, directly or through others."""
        needs: dict[str, list[str]] = {}
        needed: set[str] = set()
        for each in self._objects:
            found = [other.place for soname in each.object.needed for other in self._by_name.get(soname, ())]
            needs[each.place] = [place for place in found if place != each.place and place not in self._optional]
            needed.update(needs[each.place])
        waiting = [
            each.place
            for each in self._objects
            if not _ON_DEMAND.search(each.path)
            and each.place not in self._optional
            # What nothing else needs is opened by its package (ctypes), as far as anybody can tell.
            and (_EXTENSION.fullmatch(posixpath.basename(each.path)) or each.place not in needed)
        ]
        reached: set[str] = set()
        while waiting:
            if (place := waiting.pop()) not in reached:
                reached.add(place)
                waiting += needs[place]
        return reached

    def _lack(self, each: Installed, soname: str) -> _Lack | None:
        wanted = each.object.versions.get(soname, ())
        first: tuple[str, tuple[str, ...]] | None = None
        for path, defines in self._candidates(each, soname):
            lacking = tuple(version for version in wanted if version not in defines) if defines else ()
            if not lacking:
                return None
            first = first or (path, lacking)
        by = (each.filename, each.path)
        return _Lack(soname, first[1], first[0], by, True) if first else _Lack(soname, wanted, None, by, True)

    def _candidates(self, each: Installed, soname: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Paths of what could be taken for a needed library, in the loader's order, and the versions they define."""
        origin = posixpath.dirname(each.place)
        paths = [soname] if "/" in soname else []
        for folder in (*each.object.rpath, *each.object.runpath):
            paths.append(posixpath.join(_expanded(folder, origin), soname))
        for path in map(posixpath.normpath, paths):
            if path in self._by_place:
                yield path, self._by_place[path].object.defines
            elif path in self._provided.libraries:
                yield path, self._provided.libraries[path].defines
        if (found := self._provided.find(soname)) is not None:
            yield found, self._provided.libraries[found].defines
        for other in self._by_name.get(soname, ()):
            if other.place not in self._optional:
                yield other.place, other.object.defines

    def opened(self, packages: Iterable[tuple[str, str, str]]) -> Iterator[_Lack]:
        """Libraries that ELF cannot show, since a package opens them itself."""
        for name, version, filename in packages:
            # psycopg looks for that of psycopg-binary, and not for that of psycopg2-binary.
            own = (each for each in self._objects if f"{each.package}-".startswith(f"{name}-"))
            brought = {posixpath.basename(each.path) for each in own}
            for rule in self._rules.opened(name, version):
                if any(self._provided.find(soname) or soname in self._by_name for soname in rule.sonames):
                    continue
                # auditwheel adds a hash to a name, and packages their processor.
                stems = "|".join(re.escape(soname.partition(".so")[0]) for soname in rule.sonames)
                if any(re.match(rf"(?:{stems})[-_.]", base) for base in brought):
                    continue
                yield _Lack(rule.sonames[0], (), None, (filename, rule.file), rule.imported, rule.source)


def _expanded(folder: str, origin: str) -> str:
    """With the tokens of ld.so(8); ``$PLATFORM`` and ``$LIB`` are left to those who still use them."""
    return folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


def _merged(lacks: Sequence[_Lack]) -> tuple[MissingLibrary, ...]:
    found: dict[str, list[_Lack]] = {}
    for lack in lacks:
        found.setdefault(lack.soname, []).append(lack)
    rows = []
    for soname, same in sorted(found.items()):
        # What is imported first: it is what a message names.
        same.sort(key=lambda lack: (not lack.certain, lack.by))
        versions = sorted({version for lack in same for version in lack.versions})
        needed_by = tuple(dict.fromkeys(lack.by for lack in same))
        why = next((lack.why for lack in same if lack.why), "")
        path = next((lack.found for lack in same if lack.found), None)
        rows.append(MissingLibrary(soname, tuple(versions), path, needed_by, same[0].certain, why))
    return tuple(rows)
