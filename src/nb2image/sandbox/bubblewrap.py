"""`Bubblewrap`: Linux namespaces by the program ``bwrap``; needs neither a daemon nor root."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from nb2image.bases.roots import unpacked_root
from nb2image.cache import Store
from nb2image.errors import SdistFailed
from nb2image.image.model import Image
from nb2image.sandbox.model import ENVIRONMENT, FOLDER, USER, Limits, Outcome, Tail

__all__ = ["Bubblewrap", "Found", "find_bubblewrap"]

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PATIENCE = 10.0
"""Seconds in which the kernel ends what was killed."""
_SHARED_MEMORY = 64 << 20
_POINTS = ("dev", "proc", "tmp", FOLDER.strip("/"))
"""Folders of the root that are mounted over."""

# Root gives itself up before anything but the base's interpreter runs; neither the site module nor the environment has
# a say until then.
_DROP = f"""
import os, sys
os.setgroups([])
os.setresgid({USER}, {USER}, {USER})
os.setresuid({USER}, {USER}, {USER})
os.execv(sys.argv[1], sys.argv[1:])
"""


class Found(NamedTuple):
    """The program and what it can do, or why it cannot be used (``reason``, and what to do about it)."""

    program: str | None
    version: str = ""
    options: frozenset[str] = frozenset()
    reason: str = ""
    remedy: str = ""


@cache
def find_bubblewrap() -> Found:
    """Whether ``bwrap`` is here and starts; tried once in a process."""
    if sys.platform != "linux":
        return Found(None, reason="bubblewrap needs Linux")
    program = shutil.which("bwrap")
    if program is None:
        return Found(None, reason="bubblewrap is not installed", remedy="install it (`apt install bubblewrap`)")
    try:
        version = _ask([program, "--version"]).rpartition(" ")[2].strip()
        options = frozenset(re.findall(r"--[a-z0-9-]+", _ask([program, "--help"])))
        if os.geteuid() == 0 and "--perms" not in options:
            # Nobody could not write into /tmp, which would be root's.
            return Found(
                None, reason=f"bubblewrap {version} is too old for root", remedy="install version 0.5 or later"
            )
        probe = [program, *_namespaces(options), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
        done = subprocess.run(
            [*probe, sys.executable, "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env={},
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Found(None, reason=f"bubblewrap does not start ({error})")
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("bwrap: ").rstrip(".")
        return Found(
            None,
            reason=f"bubblewrap does not start ({words})",
            remedy="let ordinary users make user namespaces (sysctl kernel.unprivileged_userns_clone=1, and "
            "kernel.apparmor_restrict_unprivileged_userns=0 where there is one)",
        )
    return Found(program, version, options)


def _ask(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE)
    return done.stdout + done.stderr


def _namespaces(options: frozenset[str]) -> list[str]:
    """New namespaces of every kind, a user that is nobody, and an end with whoever started it."""
    common = ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "localhost", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        # In a user namespace of its own it would still be root to the kernel: see _DROP.
        kinds = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        return [*kinds, *common, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    nested = ["--disable-userns"] if "--disable-userns" in options else []
    return ["--unshare-all", "--unshare-user", *nested, "--uid", str(USER), "--gid", str(USER), *common]


class Bubblewrap:
    """A `Sandbox` of this machine; ``found`` is that of `find_bubblewrap`, with a program."""

    def __init__(self, found: Found, store: Store) -> None:
        assert found.program is not None
        self._program = found.program
        self._found = found
        self._store = store

    @property
    def title(self) -> str:
        return f"bubblewrap {self._found.version}"

    @property
    def architecture(self) -> str:
        machine = platform.machine().lower()
        return _ARCHITECTURES.get(machine, machine)

    def close(self) -> None:
        """Nothing is kept open."""

    def run(self, image: Image, folder: Path, command: Sequence[str], limits: Limits) -> Outcome:
        root = unpacked_root(image, self._store, points=_POINTS)
        if os.geteuid() == 0:
            _give_away(folder)
            command = [_interpreter(folder, command[0]), "-I", "-S", "-c", _DROP, *command]
        arguments = [self._program, *self._arguments(root, folder, limits), "--", *command]
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            cwd="/",
        )
        try:
            return _watched(process, limits)
        finally:
            process.kill()
            process.wait()

    def _arguments(self, root: Path, folder: Path, limits: Limits) -> list[str]:
        options = self._found.options
        perms = ["--perms", "1777"] if "--perms" in options else []

        def tmpfs(path: str, size: int) -> list[str]:
            return [*perms, *(["--size", str(size)] if "--size" in options else []), "--tmpfs", path]

        return [
            *_namespaces(options),
            *("--ro-bind", str(root), "/"),
            *("--proc", "/proc"),
            *("--dev", "/dev", *tmpfs("/dev/shm", _SHARED_MEMORY), "--remount-ro", "/dev"),
            *tmpfs("/tmp", limits.temporary),
            *("--bind", str(folder), FOLDER, "--chdir", FOLDER),
        ]


def _watched(process: subprocess.Popen[bytes], limits: Limits) -> Outcome:
    """Read the output until all who could write it are gone, or time is up."""
    import selectors

    assert process.stdout is not None
    tail = Tail(limits.log)
    deadline = time.monotonic() + limits.seconds
    ended = None
    with process.stdout as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                if ended is not None:
                    raise SdistFailed(
                        "Processes of a build could not be killed.", hint="Restart this machine, then build again."
                    )
                ended, deadline = "time limit", time.monotonic() + _PATIENCE
                process.kill()
                continue
            if selector.select(left):
                data = os.read(stream.fileno(), 1 << 18)
                if not data:
                    break
                tail.write(data)
    code = process.wait()
    code = code if code >= 0 else 128 - code
    return Outcome("itself" if ended is None else "time limit", code, tail.text)


def _give_away(folder: Path) -> None:
    """Make nobody the owner of what a build writes into; the rest may be read."""
    folder.chmod(0o755)
    for top in (folder / "source", folder / "out"):
        for path, _, names in os.walk(top):
            os.chown(path, USER, USER)
            for name in names:
                os.chown(Path(path, name), USER, USER, follow_symlinks=False)


def _interpreter(folder: Path, python: str) -> str:
    """The base's own interpreter behind the environment's link to it."""
    link = folder / python.removeprefix(f"{FOLDER}/")
    return str(link.readlink()) if link.is_symlink() else python
