"""Digests that must stay what they are: caches and registries find layers by them.

A change here is a change of the format: raise `nb2image.layers.write.WRITER` (or `nb2image.environment.INSTALLATION`,
for what a wheel becomes) with it.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from nb2image.cache import Store
from nb2image.environment import INSTALLATION, Environment, Wheel
from nb2image.layers.write import WRITER
from nb2image.progress import Silent
from nb2image.wheels.install import Scheme
from tests.golden.entries import written
from tests.unit.wheels.builder import Part, build_zip, hash_row


def test_the_layer_of_fixed_entries() -> None:
    layer = written()
    assert (WRITER, layer.digest, layer.diff_id) == (
        "2",
        "sha256:229d1d4a084976e68cccc0a00a6ba95df33bebf9aae16bfe899c2933761e8457",
        "sha256:7b0759d69380a7c911e06d4633c9a368ecf3463ba9c5cdaebc503bef61c48986",
    )


def _stored(data: bytes) -> bytes:
    """A raw deflate stream of one stored block (RFC 1951, section 3.2.4): the same on every machine."""
    return b"\x01" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data


def _wheel(folder: Path, name: str) -> tuple[Wheel, Path]:
    info = f"{name}-1.0.dist-info"
    contents = {
        f"{name}/__init__.py": b"answer = 42\n" * 300,
        f"{name}-1.0.data/scripts/{name}-tool": b"#!python\nprint(1)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: golden\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:answer\n".encode(),
    }
    record = "".join(hash_row(path, data) for path, data in contents.items()) + f"{info}/RECORD,,\n"
    contents[f"{info}/RECORD"] = record.encode()
    data = build_zip([Part(path, data, stream=_stored(data)) for path, data in contents.items()])
    path = folder / f"{name}-1.0-py3-none-any.whl"
    path.write_bytes(data)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return Wheel(canonicalize_name(name), "1.0", path.name, digest, len(data)), path


@pytest.mark.parametrize("processes", [1, 2])
def test_the_layers_of_an_environment_of_fixed_wheels(
    tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nb2image.environment._SERIAL", 0)
    made = [_wheel(tmp_path, name) for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")]
    environment = Environment(
        Store(tmp_path / "cache"), Scheme("/opt/kernel", "3.11"), [wheel for wheel, _ in made], limit=40
    )
    built = environment.build([(path.name, path) for _, path in reversed(made)], Silent(), processes)
    found = hashlib.sha256("\n".join(layer.descriptor.digest for layer in built.layers).encode()).hexdigest()
    assert (INSTALLATION, len(built.layers), found) == (
        "2",
        3,
        "7be5d94bda33dd717495c3ab2e680dc33c49c9e11194d04cacbdc7aab9bc7eb7",
    )
