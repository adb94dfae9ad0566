"""What goes into ``bin``: wrappers of entry points, and scripts whose first line names the interpreter.

Texts and rules are those of pip (its template of version 26; the shebang rules are distlib's).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["EntryPoints", "is_interpreter", "rewrite_shebang", "wrapper"]

_WRAPPER = """\
import sys
from {module} import {name}
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit({function}())
"""
_LONGEST_SHEBANG = 127
"""Bytes with ``#!`` and the line's end: what Linux before 5.1 reads."""

_NAME = re.compile(r"(?!\[|\.wh\.)[^\s/\\=\x00-\x1f\x7f-\x9f]+")
"""Not a whiteout, which would delete a script of a layer below."""
_LONGEST_NAME = 255
"""Bytes that Linux file systems hold."""
_REFERENCE = re.compile(r"(?P<module>\w+(?:\.\w+)*):(?P<function>\w+(?:\.\w+)*)\s*(?:\[[^\]]*\])?")
_INTERPRETER = re.compile(r"(?:python|pypy)w?[0-9.]*t?(?:\.exe)?", re.IGNORECASE)


def is_interpreter(name: str) -> bool:
    """Whether a script of this name would take the place of an environment's Python.

    Only such names: ``python-argcomplete-check-easy-install-script`` and its like are real scripts.
    """
    return _INTERPRETER.fullmatch(name) is not None


@dataclass
class EntryPoints:
    """Names and object references of the two groups that become scripts."""

    console: dict[str, str] = field(default_factory=dict)
    gui: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, refuse: Callable[[str], Exception]) -> EntryPoints:
        """Read ``entry_points.txt`` (entry points specification, "File format") as ``importlib.metadata`` does: the
        last of two equal names counts. Raises what ``refuse`` makes of a rule's text."""
        found = cls()
        group: dict[str, str] | None = None
        for line in map(str.strip, text.splitlines()):
            if not line or line.startswith("#"):
                continue
            if line.startswith("[") and line.endswith("]"):
                group = {"console_scripts": found.console, "gui_scripts": found.gui}.get(line.strip("[]"))
            elif group is not None:
                name, separator, value = line.partition("=")
                name, value = name.strip(), value.strip()
                if not separator or not value:
                    raise refuse(f"the entry point {line!r} has no object reference")
                if not _NAME.fullmatch(name) or name in (".", "..") or len(name.encode()) > _LONGEST_NAME:
                    raise refuse(f"the entry point {name!r} would be a script outside the scripts folder, or none")
                if is_interpreter(name):
                    raise refuse(f"the entry point {name!r} would take the place of the environment's interpreter")
                if not _REFERENCE.fullmatch(value):
                    raise refuse(f"the entry point {name!r} refers to {value!r}, which is no module and function")
                group[name] = value
        return found

    def hides(self, filename: str) -> bool:
        """Whether a file of ``.data/scripts`` is what setuptools made for one of these entry points."""
        lower = filename.lower()
        if lower.endswith((".exe", ".pya")):
            filename = filename[:-4]
        elif lower.endswith("-script.py"):
            filename = filename[:-10]
        return filename in self.console or filename in self.gui

    def scripts(self, minor: str) -> list[tuple[str, str]]:
        """Name and object reference of every script, console before graphical.

        pip and setuptools state their own scripts with the version of the Python that built the wheel; like pip,
        replace these by those of ``minor`` (``X.Y``).
        """
        console = dict(self.console)
        result = []
        if pip := console.pop("pip", None):
            result += [("pip", pip), (f"pip{minor.partition('.')[0]}", pip), (f"pip{minor}", pip)]
            console = {name: value for name, value in console.items() if not re.fullmatch(r"pip(\d+(\.\d+)?)?", name)}
        if easy_install := console.pop("easy_install", None):
            result += [("easy_install", easy_install), (f"easy_install-{minor}", easy_install)]
            console = {n: v for n, v in console.items() if not re.fullmatch(r"easy_install(-\d+\.\d+)?", n)}
        return [*result, *console.items(), *self.gui.items()]


def wrapper(reference: str, interpreter: str) -> bytes:
    """The script of an entry point; ``reference`` as `EntryPoints` gives it."""
    match = _REFERENCE.fullmatch(reference)
    assert match is not None, "EntryPoints.parse lets nothing else through"
    function = match["function"]
    body = _WRAPPER.format(module=match["module"], name=function.partition(".")[0], function=function)
    return _shebang(interpreter) + body.encode()


def _shebang(interpreter: str) -> bytes:
    if " " in interpreter:
        interpreter = f'"{interpreter}"'
    line = f"#!{interpreter}\n".encode()
    if " " not in interpreter and len(line) <= _LONGEST_SHEBANG:
        return line
    # The kernel cannot run it, the shell can: sh reads 'exec' as a command, Python reads the two lines as a string.
    return f"#!/bin/sh\n'''exec' {interpreter} \"$0\" \"$@\"\n' '''\n".encode()


def rewrite_shebang(script: bytes, interpreter: str) -> bytes:
    """A script of ``.data/scripts`` that begins with ``#!python``, for ``interpreter``; arguments in that first line
    are lost, as with pip (binary distribution format, "Recommended installer features")."""
    return f"#!{interpreter}\n".encode() + script.partition(b"\n")[2]
