"""Commands that meet a full or read-only file system: a real one of a few megabytes, in a namespace of its own."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["Met", "on_small_disks"]

# Arguments: where to mount, where to note, a list of mount options with a "--" behind it, and the command.
_SCRIPT = r"""
place=$1 notes=$2; shift 2
options=
while [ "$1" != -- ]; do options="$options $1"; shift; done
shift
n=0
for option in $options; do
    # Without the type an ordinary user may not.
    if [ $n = 0 ]; then mount -t tmpfs -o "$option" tmpfs "$place" || exit 99
    else mount -t tmpfs -o "remount,$option" tmpfs "$place" || exit 99; fi
    "$@" >"$notes/$n.out" 2>"$notes/$n.err" </dev/null
    echo $? >"$notes/$n.code"
    cp -R "$place" "$notes/$n.files" || exit 98
    n=$((n + 1))
done
"""


class Met(NamedTuple):
    """What came of one run; ``files`` is a copy of the file system after it."""

    code: int
    out: str
    err: str
    files: Path


@functools.lru_cache(maxsize=1)
def _namespace() -> tuple[str, ...]:
    flags = ("--mount",) if os.geteuid() == 0 else ("--user", "--map-root-user", "--mount")
    command = ("unshare", *flags)
    try:
        subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {' '.join(command)}: {error}")
    return command


def on_small_disks(
    place: Path, options: Sequence[str], notes: Path, command: Sequence[str], cwd: Path, environ: Mapping[str, str]
) -> list[Met]:
    """Run a command once per item of ``options`` (of mount, like ``size=500k`` or ``ro``) with a tmpfs at ``place``,
    which the first makes and each further one changes, contents and all."""
    place.mkdir(exist_ok=True)
    notes.mkdir()
    path = os.environ.get("PATH", os.defpath)
    # The shell needs a path with mount and cp; the command keeps its own.
    shell = ["sh", "-c", _SCRIPT, "sh", str(place), str(notes), *options, "--"]
    own = ["env", "-i", *(f"{name}={value}" for name, value in environ.items())]
    subprocess.run(
        [*_namespace(), *shell, *own, *command], cwd=cwd, env={**os.environ, "PATH": path}, check=True, timeout=300
    )
    return [
        Met(
            int((notes / f"{n}.code").read_text()),
            (notes / f"{n}.out").read_text(),
            (notes / f"{n}.err").read_text(),
            notes / f"{n}.files",
        )
        for n in range(len(options))
    ]
