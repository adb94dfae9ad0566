"""``python -m tests.golden.processors``: the layer of fixed entries as other processors write it, one line each.

QEMU's user mode (Debian's ``qemu-user-static``) stands for the processors: those of x86-64 with fewer and with more
instructions than the one at hand, and AArch64, whose Python comes from a base and whose libdeflate from its wheel.
Leaves with 1 when one of them writes other bytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from nb2image.bases.debian import DebianProvider
from nb2image.bases.roots import unpacked_root
from nb2image.cache import Store
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.golden.entries import written
from tests.golden.hosts import ROOT

_NATIVE = ("qemu64", "Haswell", "max")
_FOREIGN = ("cortex-a53", "max")


def _aarch64(folder: Path) -> tuple[list[str], dict[str, str]]:
    """How QEMU starts the Python of an AArch64 base that has libdeflate."""
    store = Store(folder / "cache")
    provider = DebianProvider(store, platform=Platform("linux", "arm64"))
    base = provider.deliver(next(each for each in provider.candidates() if each.name == "bookworm"), Silent())
    root = unpacked_root(base.image, store)
    words = ["--python-platform", "aarch64-manylinux_2_28", "--python-version", base.target.minor, "--no-deps"]
    words += ["--target", str(folder / "site"), f"deflate=={version('deflate')}"]
    subprocess.run([sys.executable, "-m", "uv", "pip", "install", "--quiet", *words], check=True)
    program = str(root) + str(base.target.interpreter)
    environment = {"PYTHONHOME": f"{root}/usr", "PYTHONPATH": f"{folder / 'site'}:{ROOT / 'src'}:{ROOT}"}
    return ["-L", str(root), program], environment


def _runs(folder: Path) -> Iterator[tuple[list[str], Mapping[str, str]]]:
    for model in _NATIVE:
        yield ["qemu-x86_64-static", "-cpu", model, sys.executable], {}
    command, environment = _aarch64(folder)
    for model in _FOREIGN:
        yield ["qemu-aarch64-static", "-cpu", model, *command], environment


def main() -> int:
    if not (shutil.which("qemu-x86_64-static") and shutil.which("qemu-aarch64-static")):
        print("qemu-x86_64-static and qemu-aarch64-static are needed: install qemu-user-static.", file=sys.stderr)
        return 1
    expected = written().digest
    print(f"{expected} here")
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        for command, environment in _runs(Path(folder)):
            done = subprocess.run(
                [*command, "-m", "tests.golden.entries"],
                cwd=ROOT,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
                stdout=subprocess.PIPE,
                text=True,
            )
            print(f"{done.stdout.strip() or done.returncode} {command[2]}", flush=True)
            different += not done.stdout.startswith(f"{expected} ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
