"""Resolving requirements to pinned, hashed wheels, by uv (``uv pip compile``), called as a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from packaging.pylock import Pylock, PylockValidationError
from packaging.version import Version

from nb2image.errors import Unresolvable
from nb2image.index.credentials import expand, redact
from nb2image.index.settings import IndexSettings, network, resolve
from nb2image.lock.model import Lock, new_pylock
from nb2image.target.model import Target

__all__ = ["resolve_wheels"]

_GLIBCS = (17, 28, *range(31, 41))
"""Minor versions of glibc 2 that uv knows platforms for."""
_SECONDS = 600
_URL = re.compile(r"\b[a-z][a-z+]*://[^\s`'\"<>]+")


def resolve_wheels(
    requirements: Iterable[str],
    target: Target,
    settings: IndexSettings,
    lock_indexes: Sequence[str],
    source: str,
    *,
    before: datetime | None = None,
) -> Lock:
    """The newest wheels that satisfy the requirements on a target, as a lock named ``source``; its files have no URLs.

    ``before``: only files that were uploaded by then, which needs an index that tells upload times. The indexes are
    those of ``settings``; their credentials go to uv by its environment, which other users cannot read. Raises
    `Unresolvable`.
    """
    with tempfile.TemporaryDirectory(prefix="nb2image-") as folder:
        wanted, result = Path(folder, "requirements.in"), Path(folder, "pylock.toml")
        wanted.write_text("".join(f"{each}\n" for each in requirements))
        command = [
            *(_uv(), "pip", "compile", "--quiet", "--no-header", "--format=pylock.toml", f"--output-file={result}"),
            *("--only-binary=:all:", f"--python={sys.executable}", f"--python-version={target.python}"),
            f"--python-platform={_platform(target)}",
            *([f"--exclude-newer={_after(before)}"] if before else []),
            *(["--offline"] if settings.offline else []),
            str(wanted),
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                cwd=folder,
                env=_environment(settings, lock_indexes),
            )
        except subprocess.TimeoutExpired:
            raise _unresolvable(source, ()) from None
        if done.returncode:
            words = _URL.sub(lambda found: redact(found[0]), done.stderr).strip().splitlines()
            raise _unresolvable(source, tuple(words[-20:]))
        return Lock(_read(result, source), source, tuple(lock_indexes))


def _unresolvable(source: str, words: tuple[str, ...]) -> Unresolvable:
    return Unresolvable(
        f"The {source} cannot be resolved.",
        hint="The indexes may lack wheels of them, or be out of reach: --index-url and --extra-index-url name others.",
        details=words,
    )


def _uv() -> str:
    from uv import find_uv_bin

    return find_uv_bin()


def _platform(target: Target) -> str:
    minor = target.glibc.minor if target.glibc is not None else 17
    known = max((each for each in _GLIBCS if each <= minor), default=17)
    return f"{target.platform.machine}-manylinux_2_{known}"


def _after(moment: datetime) -> str:
    """The first second that is too late: what was uploaded at ``moment`` counts."""
    return (moment.astimezone(timezone.utc) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _environment(settings: IndexSettings, lock_indexes: Sequence[str]) -> dict[str, str]:
    """This process's environment with the indexes, certificates and time-outs that our own client uses."""
    kept = ("UV_CACHE_DIR", "UV_KEYRING_PROVIDER")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("UV_", "PIP_", "VIRTUAL_ENV", "CONDA_"))
    }
    how = network()
    indexes = [expand(resolve(index)) for index in settings.indexes_for(lock_indexes)]
    links = [expand(link) for link in settings.links_for(Lock(new_pylock(()), "", tuple(lock_indexes)))]
    environment |= {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    environment |= {"UV_HTTP_TIMEOUT": str(max(1, round(how.timeout)))}
    if indexes:
        # Of uv's two lists the default index is asked last.
        environment |= {"UV_INDEX": " ".join(indexes[:-1]), "UV_DEFAULT_INDEX": indexes[-1]}
    else:
        environment["UV_NO_INDEX"] = "1"
    if links:
        environment["UV_FIND_LINKS"] = ",".join(links)
    if how.cert:
        environment["SSL_CERT_FILE"] = how.cert
    if how.client_cert:
        environment["SSL_CLIENT_CERT"] = how.client_cert
    if how.trusted_hosts:
        environment["UV_INSECURE_HOST"] = " ".join(how.trusted_hosts)
    return environment


def _read(file: Path, source: str) -> Pylock:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        found = Pylock.from_dict(tomllib.loads(file.read_text("utf-8")))
    except (OSError, ValueError, PylockValidationError) as error:
        raise _unresolvable(source, (str(error),)) from error
    return new_pylock(
        replace(
            package,
            version=package.version or Version("0"),
            index=None,
            sdist=None,
            wheels=[replace(w, name=w.filename, url=None, path=None) for w in package.wheels or ()],
        )
        for package in found.packages
    )
