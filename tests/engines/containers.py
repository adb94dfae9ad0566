"""Run built images with an engine's own command line, as a user would."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.engines.daemons import Daemon

__all__ = ["run_container", "run_engine"]


def run_engine(
    engine: Daemon, *arguments: str, timeout: float = 300, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``docker`` or ``podman`` with these arguments."""
    return subprocess.run(
        [engine.name, *arguments],
        env={**os.environ, **engine.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=check,
    )


def run_container(
    engine: Daemon,
    reference: str,
    *arguments: str,
    user: str | None = None,
    read_only: bool = False,
    tmpfs: Sequence[str] = (),
    network: str | None = None,
    env: Mapping[str, str] | None = None,
    mounts: Mapping[Path, str] | None = None,
    entrypoint: str | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """``docker run --rm`` or ``podman run --rm``; the container is removed when ``timeout`` (seconds) passes, too.

    ``mounts`` maps folders of this machine to writable paths in the container; ``tmpfs`` lists paths.
    """
    name = f"nb2image-{uuid.uuid4().hex[:12]}"
    options = ["run", "--rm", "--name", name, "--pull=never"]
    if user is not None:
        options.append(f"--user={user}")
    if read_only:
        options.append("--read-only")
        if engine.name == "podman":
            # podman adds writable /tmp, /run and /dev/shm of its own otherwise; Docker does not.
            options.append("--read-only-tmpfs=false")
    options += [f"--tmpfs={path}" for path in tmpfs]
    if network is not None:
        options.append(f"--network={network}")
    options += [f"--env={key}={value}" for key, value in (env or {}).items()]
    options += [f"--volume={source}:{target}" for source, target in (mounts or {}).items()]
    if entrypoint is not None:
        options.append(f"--entrypoint={entrypoint}")
    try:
        return run_engine(engine, *options, reference, *arguments, timeout=timeout)
    except subprocess.TimeoutExpired:
        run_engine(engine, "rm", "--force", name)
        raise
