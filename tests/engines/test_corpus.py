"""Notebooks of others: they build, start their kernel, import what they ask for; or are refused, and it is said why.

Their locks are of 2021, most for Python 3.8, and name an index that does not exist; their users build them with
``--python 3.9 --index-url default``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.engines.built import Notebooks, code_cell, write_notebook
from tests.engines.containers import run_container, run_engine
from tests.engines.daemons import Daemon

pytestmark = pytest.mark.network

_IMPORTS = """
import importlib, importlib.metadata, json, pathlib, sys
imported = {}
for name in %r:
    tops = {path.parts[0] for path in importlib.metadata.files(name) if path.suffix == ".py" and ".." not in path.parts}
    modules = sorted(top.removesuffix(".py") for top in tops if "-" not in top)
    for module in modules:
        importlib.import_module(module)
    imported[name] = modules
print(json.dumps({"prefix": sys.prefix, "imported": imported}))
"""


PYTHONS = {"ds108": "3.11"}
"""Of those that are not built for Python 3.9."""
UNBUILDABLE = ("sqlalchemy-utils", "thoth-ssdeep")
"""Of thoth-sdists-85pkgs: the first is gone, the second needs libfuzzy, which no base has."""
EMPTY = {"sklearn"}
"""Packages that hold nothing but the name of another, which they install."""


@pytest.mark.parametrize(
    "name",
    [
        *("ds108", "thoth-engine-boto3", "thoth-no-sources", "thoth-py39-80pkgs", "thoth-torch-gpu"),
        # 1.5 GB of wheels, and nothing that the others have not.
        pytest.param("thoth-tensorflow-torch", marks=pytest.mark.expensive),
    ],
)
def test_a_notebook_imports_what_it_asks_for(
    podman_daemon: Daemon, notebooks: Notebooks, corpus: Path, tmp_path: Path, name: str
) -> None:
    source = corpus / f"{name}.ipynb"
    direct = json.loads(json.loads(source.read_text())["metadata"]["requirements"])["packages"]
    python = PYTHONS.get(name, "3.9")
    layout = notebooks.folder / "corpus"
    notebooks.run(
        *("build", source, "--mode", "batch", "--no-bytecode", "--python", python, "--index-url", "default"),
        *("-t", name, "-o", layout, "--progress", "none", "-q"),
    )
    pull = ("pull", "--quiet", f"oci:{layout}:{name}:latest")
    pulled = run_engine(podman_daemon, *pull, timeout=900, check=True).stdout.strip()
    probe, output = tmp_path / "probe", tmp_path / "output"
    probe.mkdir()
    output.mkdir()
    output.chmod(0o777)
    cell = code_cell(_IMPORTS.strip().replace("%r", repr(sorted(direct))))
    write_notebook(probe / "probe.ipynb", {"kernelspec": {"name": "python3", "display_name": "x"}}, [cell])
    done = run_container(
        podman_daemon,
        pulled,
        *("/probe/probe.ipynb", "/output/probe.ipynb"),
        mounts={probe: "/probe", output: "/output"},
        network="none",
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('{"prefix"')]
    found = json.loads(line)
    assert found["prefix"] == "/opt/kernel"
    assert set(found["imported"]) == set(direct)
    assert {package for package, modules in found["imported"].items() if not modules} <= EMPTY
    run_engine(podman_daemon, "rmi", "--force", pulled)


@pytest.mark.parametrize(
    ("name", "options", "code", "sentence"),
    [
        ("nbrequirements-empty-lock", (), 13, "the lock lists no package."),
        # The oldest one: no wheels of its numpy or scipy for any later Python, whose sources need Fortran.
        ("nbrequirements-py36-stale", (), 31, "No base has Python 3.6 (metadata.requirements_locked)"),
        # The file that it locks is on no index any more.
        (
            "thoth-sdists-85pkgs",
            ("--python", "3.9"),
            22,
            "No file of sqlalchemy-utils 0.37.0 with a locked hash is to be had",
        ),
        # Locked by mistake for a module of its own: the package exists to fail, whoever installs it.
        ("thoth-wrong-names", ("--python", "3.9"), 42, "src-0.0.7.zip cannot be built: its build backend says"),
    ],
)
def test_a_notebook_that_cannot_be_built_is_refused_with_a_sentence(
    notebooks: Notebooks, corpus: Path, name: str, options: tuple[str, ...], code: int, sentence: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        notebooks.command(
            *("build", corpus / f"{name}.ipynb", "-o", tmp_path / "layout", "--index-url", "default"),
            *("--progress", "none", *options),
        ),
        env=notebooks.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, "Traceback" in done.stderr.partition("cannot be built")[0]) == (code, False)
    assert sentence in done.stderr
    assert "\nhint: " in done.stderr
    assert not (tmp_path / "layout").exists()


_BULLSEYE = "base      bullseye: Python 3.9, glibc 2.31, linux/amd64"
_ONLY_39 = "build with --python 3.9 if the notebook may run on it"
_ELSEWHERE = "A registry has a base that fits: --base python-3.8-slim-bookworm; it has been out of support since"
_NO_CUDA = "--gpu asks for CUDA, and no locked package uses it, as far as nb2image knows."


@pytest.mark.parametrize(
    ("name", "options", "code", "sentences"),
    [
        ("ds108", "", 0, ("base      bookworm: Python 3.11", "by pyarrow 26.0.1", "nothing that is locked uses it")),
        ("ds108", "--gpu", 35, (_NO_CUDA,)),
        ("thoth-py39-80pkgs", "", 0, (_BULLSEYE, "78 of the 80", "fits and is still mended: --base ubi9-python-3.9")),
        ("thoth-engine-boto3", "", 31, (_ELSEWHERE, "Each of the 7 locked packages has a wheel for", _ONLY_39)),
        ("thoth-engine-boto3", "--python 3.9", 0, (_BULLSEYE, "each of the 7 packages has a wheel for it")),
        ("thoth-no-sources", "--python 3.9", 0, (_BULLSEYE, "torch 1.9.1 brings CUDA 10.2", "by numpy 1.21.2")),
        ("thoth-torch-gpu", "", 31, ("Each of the 6 locked packages has a wheel for Python 3.9", _ONLY_39)),
        (
            "thoth-torch-gpu",
            "--python 3.9 --gpu",
            0,
            (_BULLSEYE, "NVIDIA driver 440.33 or newer", "the base needs none"),
        ),
        ("thoth-tensorflow-torch", "", 31, ("42 of the 46 locked packages have a wheel for Python 3.9", _ONLY_39)),
        (
            "thoth-tensorflow-torch",
            "--python 3.9",
            0,
            (_BULLSEYE, "torch 1.9.0 brings CUDA 10.2", "tensorflow 2.6.0 loads CUDA 11.2 and cuDNN 8.1 from the base"),
        ),
        ("thoth-tensorflow-torch", "--python 3.9 --gpu", 35, ("nvidia/cuda:11.2.2-cudnn8-runtime-ubuntu20.04",)),
        ("thoth-wrong-names", "", 31, ("1 of the 2 locked packages have a wheel", _ONLY_39)),
        ("thoth-sdists-85pkgs", "--python 3.9", 22, ("sqlalchemy-utils 0.37.0",)),
        (
            "nbrequirements-py36-stale",
            "",
            31,
            ("is stale", "7 of them, whose wheels are for other Pythons, may well fail"),
        ),
        ("nbrequirements-py36-stale", "--python 3.9", 0, (_BULLSEYE, "STALE", "numpy-1.17.2.zip, in a sandbox")),
        ("nbrequirements-empty-lock", "", 13, ("the lock lists no package.",)),
    ],
)
def test_the_plan_of_a_notebook_is_one_to_defend(
    notebooks: Notebooks, corpus: Path, name: str, options: str, code: int, sentences: tuple[str, ...]
) -> None:
    command = ("plan", str(corpus / f"{name}.ipynb"), "--index-url", "default", "--progress", "none", *options.split())
    done = subprocess.run(
        notebooks.command(*command),
        env=notebooks.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    assert [each for each in sentences if each not in told] == []


def test_the_rest_of_a_notebook_that_cannot_be_built_is_built(
    notebooks: Notebooks, corpus: Path, tmp_path: Path
) -> None:
    document = json.loads((corpus / "thoth-sdists-85pkgs.ipynb").read_text())
    lock = json.loads(document["metadata"]["requirements_lock"])
    for name in UNBUILDABLE:
        del lock["default"][name]
    document["metadata"]["requirements_lock"] = json.dumps(lock)
    (tmp_path / "rest.ipynb").write_text(json.dumps(document))
    done = notebooks.run(
        *("build", tmp_path / "rest.ipynb", "--mode", "batch", "--no-bytecode", "--python", "3.9"),
        *("--index-url", "default", "-o", tmp_path / "layout", "--progress", "none", "--json"),
    )
    assert len(json.loads(done.stdout)["sources"]) == 7
