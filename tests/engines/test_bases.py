"""Bases of a real registry by their catalogue names, locked and moved; a CPython laid over a base that has none."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from nb2image.bases.debian.provider import DebianProvider
from nb2image.bases.roots import unpacked_root
from nb2image.cache import Store
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.progress import Silent
from nb2image.registry.client import Registry
from nb2image.registry.push import push
from nb2image.registry.reference import parse_reference
from nb2image.target.model import Platform
from tests.engines.built import EXAMPLE, Notebooks
from tests.engines.containers import run_container, run_engine
from tests.engines.daemons import Daemon
from tests.unit.image.making import files_of

pytestmark = pytest.mark.network

ENTRY = """
[[base]]
name = "site-python"
provider = "registry"
reference = "{reference}"
platforms = ["linux/amd64"]
python = "3.11"
interpreter = "/usr/bin/python3.11"
glibc = "2.36"
"""


def debian(notebooks: Notebooks, suite: str) -> Image:
    provider = DebianProvider(Store(notebooks.cache), platform=Platform())
    candidate = next(each for each in provider.candidates() if each.name == suite)
    return provider.deliver(candidate, Silent()).image


def pushed(image: Image, text: str) -> None:
    with Registry(parse_reference(text).domain) as client:
        push(image, parse_reference(text), client, Silent())


def refused(notebooks: Notebooks, *arguments: str | Path) -> str:
    done = subprocess.run(
        notebooks.command(*arguments), env=notebooks.environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    return done.stderr


def test_a_registrys_base_is_locked_and_stays_when_its_tag_moves(
    notebooks: Notebooks, registry: str, tmp_path: Path
) -> None:
    base, reference = debian(notebooks, "bookworm"), f"{registry}/site/python:3.11"
    pushed(base, reference)
    (tmp_path / "site.toml").write_text(ENTRY.format(reference=reference))
    locks = tmp_path / "locks"
    told = notebooks.run("bases", "lock", "site-python", "--catalogue", tmp_path / "site.toml", "--output", locks)
    assert f"site-python  linux/amd64  {base.digest[:19]}\n" in told.stdout
    pushed(Image(base.config.with_labels({"moved": "yes"}), base.layers), reference)

    def built(catalogue: Path, *more: str) -> dict[str, str]:
        command = ("build", EXAMPLE, "--base", "site-python", "--catalogue", catalogue, "--index-url", "default")
        output = ("-o", tmp_path / "layout", "--progress", "none", "--json")
        document = json.loads(notebooks.run(*command, *output, *more).stdout)
        assert document["base"]["reference"] == reference
        return {"base": document["base"]["digest"], "image": document["digest"]}

    locked, moved = built(locks / "locked.toml"), built(tmp_path / "site.toml")
    assert (locked["base"], moved["base"] != base.digest) == (base.digest, True)
    assert built(locks / "locked.toml", "--offline") == locked
    # Whatever the registry is asked for, nothing of it but the manifest was read for the lock.
    probed = json.loads(notebooks.run("bases", "probe", reference, "--json").stdout)
    assert probed["pythons"][0]["path"] == "/usr/bin/python3.11"


def relocatable(root: Path, archive: Path) -> None:
    """An archive of the Python that stands in the root file system of a bookworm, in the shape of relocatable ones."""

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if info.linkname.startswith("/") else info

    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(root / "usr/bin/python3.11", "python/bin/python3.11", filter=kept)
        tar.add(root / "usr/lib/python3.11", "python/lib/python3.11", filter=kept)


def test_a_notebook_runs_on_a_python_laid_over_a_base_without_one(
    notebooks: Notebooks, podman_daemon: Daemon, tmp_path: Path
) -> None:
    archive = tmp_path / "cpython-3.11.tar.gz"
    relocatable(unpacked_root(debian(notebooks, "bookworm"), Store(notebooks.cache)), archive)
    gone = ("usr/bin/.wh.python3", "usr/bin/.wh.python3.13", "usr/lib/.wh.python3.13", "usr/lib/.wh.python3")
    cuda = ("usr/local/cuda/lib64/libcudart.so.12.4.127", "usr/local/cuda/lib64/libcublas.so.12.4.5.8")
    upper = files_of(dict.fromkeys((*gone, *cuda), b""))
    write_layout(debian(notebooks, "trixie").with_layers([upper]), ["cuda:1"], tmp_path / "cuda", Silent())
    command = (
        "build",
        EXAMPLE,
        "--mode",
        "batch",
        "--no-bytecode",
        "--base",
        tmp_path / "cuda",
        "--index-url",
        "default",
    )
    output = ("-o", tmp_path / "layout", "-t", "laid", "--progress", "none", "-q")
    said = refused(notebooks, *command, *output)
    assert "has no Python that could be used as a base" in said
    assert "--python-build" in said
    assert not (tmp_path / "layout").exists()
    notebooks.run(*command, *output, "--python-build", archive)
    pulled = run_engine(
        podman_daemon, "pull", "--quiet", f"oci:{tmp_path / 'layout'}:laid:latest", timeout=900, check=True
    ).stdout.strip()
    done = run_container(podman_daemon, pulled, network="none")
    assert done.returncode == 0, done.stderr
    probed = json.loads(notebooks.run("bases", "probe", tmp_path / "layout", "--json").stdout)
    assert next(each["path"] for each in probed["pythons"] if each["problem"] is None) == "/opt/python/bin/python3.11"
    assert probed["cuda"]["version"] == "12.4.127"
    run_engine(podman_daemon, "rmi", "--force", pulled)
