"""Notebooks of others, whose packages all have wheels: they build, start their kernel, import what they ask for.

Their locks are of 2021, for Python 3.8, and name an index that does not exist; their users build them with
``--python 3.9 --index-url default``.
"""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("name", ["thoth-engine-boto3", "thoth-no-sources", "thoth-torch-gpu"])
def test_a_notebook_of_2021_imports_what_it_asks_for(
    podman_daemon: Daemon, notebooks: Notebooks, corpus: Path, tmp_path: Path, name: str
) -> None:
    source = corpus / f"{name}.ipynb"
    direct = json.loads(json.loads(source.read_text())["metadata"]["requirements"])["packages"]
    layout = notebooks.folder / "corpus"
    notebooks.run(
        *("build", source, "--mode", "batch", "--no-bytecode", "--python", "3.9", "--index-url", "default"),
        *("-t", name, "-o", layout, "--progress", "none", "-q"),
    )
    pulled = run_engine(podman_daemon, "pull", "--quiet", f"oci:{layout}:{name}:latest", check=True).stdout.strip()
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
    assert all(found["imported"].values())
    run_engine(podman_daemon, "rmi", "--force", pulled)
