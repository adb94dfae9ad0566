"""Resolve the runners anew and write their locks: hashed requirements, one file per runner and Python minor.

::

    python scripts/refresh_runners.py [--python X.Y]… [RUNNER]…

uv resolves (it must be on PATH or beside this interpreter, and uses its own configured index). Of each package only
the wheel that a base with glibc 2.28 installs is kept, for x86_64 and for aarch64: so the runner is the same files on
every base, needs no compiler, and the lock names no index. Beside each support and build lock a JSON file keeps what
its packages require, so that a lock they cannot work with is refused before anything is downloaded.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import tomllib
from packaging.pylock import Package, Pylock
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from nb2image.target.environment import wheel_tags

RUNNERS = Path(__file__).parents[1] / "src/nb2image/images/runners"
PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
GLIBC = Version("2.28")


class Runner(NamedTuple):
    """What is asked for, and packages to leave out although something asks for them."""

    requirements: tuple[str, ...]
    without: tuple[str, ...] = ()
    pythons: tuple[str, ...] = PYTHONS


LOCKS = {
    # JupyterLab asks for ipykernel so that a fresh installation has a kernel; here the kernel is another environment.
    # For Python 3.8, arrow 1.4 asks for a package that has no wheel for aarch64.
    "jupyter": Runner(("jupyterlab>=4", "jupyterhub>=5", "arrow<1.4 ; python_version < '3.9'"), without=("ipykernel",)),
    "batch": Runner(("papermill>=2.6",)),
    "support": Runner(("ipykernel>=6",)),
    # The last versions that ask little of what they share with a lock of 2021 or 2022 (typing-extensions, traitlets).
    "support-older": Runner(
        ("ipykernel==6.4.*", "ipython==7.*", "jupyter-client==6.*"), pythons=("3.8", "3.9", "3.10", "3.11")
    ),
    # What source distributions are built with where no date decides; see nb2image.sdists.requirements.
    "build": Runner(
        (
            # setuptools 82 has no pkg_resources any more, which many a setup.py imports.
            *("setuptools<82", "wheel", "setuptools-scm", "pbr", "cython", "pybind11"),
            *("flit-core", "poetry-core", "hatchling", "hatch-vcs", "hatch-fancy-pypi-readme", "pdm-backend"),
        )
    ),
    # setuptools 57 is the last with use_2to3, and the last that takes every setup.py of its time as it is.
    "build-older": Runner(
        ("setuptools==57.*", "wheel==0.37.*", "setuptools-scm==6.*", "pbr==5.*", "cython==0.29.*"),
        pythons=("3.8", "3.9", "3.10", "3.11"),
    ),
}


def uv() -> str:
    """The program, beside this interpreter or on PATH."""
    return (
        shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv") or sys.exit("uv is not installed")
    )


def resolve(runner: Runner, python: str, machine: str) -> Pylock:
    """What uv resolves for this Python on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, overrides, result = (Path(folder, n) for n in ("requirements.in", "overrides.txt", "pylock.toml"))
        wanted.write_text("\n".join(runner.requirements))
        overrides.write_text("".join(f"{name} ; python_version < '0'\n" for name in runner.without))
        subprocess.run(
            [
                *(uv(), "pip", "compile", "--quiet", "--format=pylock.toml", f"--output-file={result}"),
                *("--only-binary=:all:", f"--python-version={python}"),
                *(f"--python-platform={machine}-manylinux_2_{GLIBC.minor}", f"--overrides={overrides}"),
                str(wanted),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return Pylock.from_dict(tomllib.loads(result.read_text()))


def wheel_hash(package: Package, python: str, machine: str) -> str:
    """The sha256 of the wheel that such a target installs."""
    rank = {tag: place for place, tag in enumerate(wheel_tags(Version(python), machine, GLIBC))}
    found = []
    for wheel in package.wheels or ():
        places = [rank[tag] for tag in parse_wheel_filename(wheel.filename)[3] if tag in rank]
        if places:
            found.append((min(places), wheel.hashes["sha256"]))
    if not found:
        sys.exit(f"{package.name} {package.version} has no wheel for Python {python} on {machine}, glibc {GLIBC}")
    return min(found)[1]


def lock(runner: Runner, python: str) -> str:
    """Hashed requirements that serve every machine: the same versions, the wheel of each machine."""
    rows: dict[str, list[str]] = {}
    for machine in MACHINES:
        for package in resolve(runner, python, machine).packages:
            rows.setdefault(f"{package.name}=={package.version}", []).append(wheel_hash(package, python, machine))
    if partial := sorted(pin for pin, hashes in rows.items() if len(hashes) != len(MACHINES)):
        sys.exit(f"{runner.requirements} on Python {python} resolve to other packages on another machine: {partial}")
    return "".join(
        " \\\n    ".join([pin, *(f"--hash=sha256:{value}" for value in sorted(set(hashes)))]) + "\n"
        for pin, hashes in sorted(rows.items())
    )


def requirements(file: Path, python: str) -> str:
    """JSON: what each package of a lock requires, as its wheel's metadata say (name: version and both fields)."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
                *(f"--python-version={python}", f"--python-platform={MACHINES[0]}-manylinux_2_{GLIBC.minor}"),
                *(f"--target={folder}", f"--requirements={file}"),
            ],
            check=True,
        )
        found = {
            canonicalize_name(each.name): {
                "version": each.version,
                "requires_python": each.metadata.json.get("requires_python"),
                "requires_dist": sorted(text for text in each.requires or () if "extra ==" not in text),
            }
            for each in distributions(path=[folder])
        }
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", metavar="X.Y", help=f"default: {', '.join(PYTHONS)}")
    parser.add_argument("runner", nargs="*", metavar="RUNNER", help=f"default: {', '.join(LOCKS)}")
    options = parser.parse_args(arguments)
    if unknown := set(options.runner) - LOCKS.keys():
        parser.error(f"no such runner: {', '.join(sorted(unknown))}")
    for name in options.runner or LOCKS:
        for python in options.python or LOCKS[name].pythons:
            file = RUNNERS / f"{name}-{python}.txt"
            file.write_text(lock(LOCKS[name], python))
            if name.startswith(("build", "support")):
                file.with_suffix(".json").write_text(requirements(file, python))
            print(f"{file.name}: {file.read_text().count('==')} packages")


if __name__ == "__main__":
    main()
