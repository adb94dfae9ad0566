"""Starting a base's own Python on this machine, without root and without a container.

Its interpreter, shared libraries and standard library are unpacked into the cache, and started through the base's own
loader with an explicit library path: that needs neither chroot nor privileges, only Linux on the same processor.
Elsewhere an interpreter of the same minor version on ``PATH`` does.
"""

from __future__ import annotations

import os
import platform
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nb2image.bases.model import Base
from nb2image.bases.roots import unpack
from nb2image.cache import Store
from nb2image.errors import BytecodeUnavailable
from nb2image.image.filesystem import read_filesystem
from nb2image.layers.bytecode import Interpreter
from nb2image.layers.entry import Entry, FileContent
from nb2image.progress import Listener, Warned

__all__ = ["compiler_version", "find_interpreter", "standard_library"]

_SHARED = re.compile(r"\.so(\.\d+)*$")
_LOADERS = ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1")
_MACHINES = {"amd64": {"x86_64", "amd64"}, "arm64": {"aarch64", "arm64"}}


def _library(base: Base) -> str:
    """The standard library's path in the image, without the leading slash."""
    return f"{base.target.interpreter.parent.parent}/lib/python{base.target.minor}".lstrip("/")


def _runs_here(base: Base) -> bool:
    return sys.platform == "linux" and platform.machine().lower() in _MACHINES[base.target.platform.architecture]


def compiler_version(base: Base, store: Store, listener: Listener) -> str:
    """The full version of the Python that `find_interpreter` will give; known without a start where it is the base's
    own. Raises `BytecodeUnavailable` when there is none."""
    return str(base.target.python) if _runs_here(base) else find_interpreter(base, store, listener).version


def find_interpreter(base: Base, store: Store, listener: Listener, *, strict: bool = False) -> Interpreter:
    """The base's own Python, else one of its minor version on ``PATH``, which may be another patch release.

    Raises `BytecodeUnavailable` when neither can be started here, or with ``strict`` when only the second can.
    """
    reason = f"{base.target.platform} does not run on this machine"
    if _runs_here(base):
        interpreter = _own(base, _unpacked(base, store))
        if _version(interpreter) == str(base.target.python):
            return interpreter
        reason = "its own does not start here"
    program = shutil.which(f"python{base.target.minor}")
    if program is not None:
        version = _version(Interpreter((program,), (), ""))
        if version is not None and version.startswith(f"{base.target.minor}."):
            if strict:
                raise BytecodeUnavailable(
                    f"Bytecode for {base.name} could be compiled only by {program} ({version}), since {reason}.",
                    hint="Where the base's own Python compiles it, the digest may be another: "
                    "build with --no-bytecode, or without --strict.",
                )
            listener(
                Warned(
                    f"Bytecode is compiled by {program} ({version}), since {reason}.",
                    "Where the base's own Python compiles it, the digest may be another; --no-bytecode avoids that.",
                )
            )
            return Interpreter((program,), (), version)
    raise BytecodeUnavailable(
        f"No Python {base.target.minor} can compile bytecode for {base.name}: {reason}, "
        f"and there is no python{base.target.minor} on PATH.",
        hint=f"Install Python {base.target.minor} (`uv python install {base.target.minor}`), "
        "or build with --no-bytecode.",
    )


def standard_library(base: Base, store: Store) -> Iterator[Entry]:
    """The sources of the base's standard library, as entries of the image."""
    root = _unpacked(base, store)
    library = _library(base)
    for folder, names, files in os.walk(root / library):
        names[:] = sorted(
            n for n in names if n not in {"__pycache__", "test", "tests", "site-packages", "dist-packages"}
        )
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and not path.is_symlink():
                yield Entry(str(path.relative_to(root)), 0o644, FileContent(path))


def _version(interpreter: Interpreter) -> str | None:
    """The full version that an interpreter tells, or None when it does not start or lacks what compiling needs."""
    script = (
        "import sys, marshal, _imp, _warnings, _frozen_importlib_external; print('%d.%d.%d' % sys.version_info[:3])"
    )
    try:
        done = subprocess.run(
            [*interpreter.command, "-s", "-S", "-B", "-c", script],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=dict(interpreter.environment),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _own(base: Base, root: Path) -> Interpreter:
    loader = next((root / name for name in _LOADERS if (root / name).exists()), None)
    program = root / str(base.target.interpreter).lstrip("/")
    folders = sorted({str(path.parent) for path in root.rglob("*.so*") if "/python" not in str(path.parent)})
    command = (str(loader), "--library-path", ":".join(folders)) if loader else ()
    home = str(root / str(base.target.interpreter.parent.parent).lstrip("/"))
    environment = (("LC_ALL", "C.UTF-8"), ("PYTHONHOME", home), ("PYTHONUTF8", "1"))
    return Interpreter((*command, str(program)), environment, str(base.target.python))


def _unpacked(base: Base, store: Store) -> Path:
    """The folder that holds what of the base's Python is needed to start it; made once for a base."""
    library = _library(base) + "/"
    interpreter = str(base.target.interpreter).lstrip("/")

    def needed(path: str) -> bool:
        if "/test/" in path or "/tests/" in path:
            return False
        return path.startswith(library) or path.endswith(f"/{Path(interpreter).name}") or bool(_SHARED.search(path))

    def fill(folder: Path) -> None:
        unpack(read_filesystem(base.image), folder, wanted=needed, link=_relative)

    return store.unpacked(base.image.digest, fill)


def _relative(path: str, target: str) -> str:
    """A link's target in a folder that will not be the root."""
    return posixpath.relpath(target.lstrip("/"), posixpath.dirname(path)) if target.startswith("/") else target
