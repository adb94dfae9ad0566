"""Bytecode as entries: what the target's Python would write into ``__pycache__``, compiled before it is needed.

The bytes of a .pyc depend on what else the compiling process holds: marshal marks an object for re-use when its
reference count says that somebody else has it too. Of 700 files compiled in another order about 60 changed with CPython
3.9 and 3.10, one with 3.12, none with 3.11 and 3.13. So every batch, the sources of one wheel in order of their paths,
gets a process of its own, with a fixed hash seed; then they depend on the batch and the interpreter alone.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from nb2image.errors import BytecodeUnavailable
from nb2image.layers.entry import BytesContent, Content, Entry, HardLink, Link

__all__ = ["COMPILER", "Interpreter", "cached_path", "compiled"]

COMPILER = "2"
"""Version of what is compiled and how: part of the key of every bytecode layer."""

_WORKER = Path(__file__).with_name("bytecode_worker.py")


@dataclass(frozen=True)
class Interpreter:
    """A Python of the target's minor version that can be started here.

    ``command`` and ``environment`` start it; ``version`` is its full version (it decides about the bytes).
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    version: str


def cached_path(path: str, minor: str) -> str:
    """Where CPython ``X.Y`` looks for the bytecode of a source (PEP 3147, PEP 488)."""
    folder, _, name = path.rpartition("/")
    tag = "cpython-" + minor.replace(".", "")
    return f"{folder}/__pycache__/{name[: -len('.py')]}.{tag}.pyc"


def compiled(entries: Iterable[Entry], interpreter: Interpreter, minor: str) -> Iterator[Entry]:
    """The bytecode of those entries that are Python sources, compiled in one process of their own.

    Sources that this Python cannot compile are passed over, as ``pip`` passes over them. Raises
    `BytecodeUnavailable` when the interpreter dies.
    """
    sources = sorted(
        (e for e in entries if e.path.endswith(".py") and e.content and not isinstance(e.content, (Link, HardLink))),
        key=lambda entry: entry.path,
    )
    if not sources:
        return
    with subprocess.Popen(
        [*interpreter.command, "-s", "-S", "-B", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONHASHSEED": "0", **dict(interpreter.environment)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for entry in sources:
            source = b"".join(cast("Content", entry.content).chunks())
            path = f"/{entry.path}".encode()
            try:
                process.stdin.write(struct.pack("<II", len(path), len(source)) + path + source)
                process.stdin.flush()
                (size,) = struct.unpack("<I", process.stdout.read(4))
                result = process.stdout.read(size)
            except (OSError, struct.error) as error:
                process.kill()
                raise BytecodeUnavailable(
                    f"The Python {interpreter.version} that compiles bytecode died at {entry.path}.",
                    hint="Build with --no-bytecode; the image works the same and imports more slowly.",
                ) from error
            if result:
                yield Entry(cached_path(entry.path, minor), 0o644, BytesContent(result))
