"""Batch images of real notebooks, run by real engines as their users run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.engines.built import REPORT, Notebooks
from tests.engines.containers import run_container, run_engine
from tests.engines.daemons import Daemon

pytestmark = pytest.mark.network


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder that any user may write."""
    folder = tmp_path / "output"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def printed(notebook: Path) -> str:
    """What the cells of an executed notebook printed on standard output."""
    outputs = [o for cell in json.loads(notebook.read_text())["cells"] for o in cell.get("outputs", ())]
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream" and o["name"] == "stdout")


def original(notebook: Path) -> list[dict[str, Any]]:
    """The code cells, without those that papermill put in."""
    own = {"injected-parameters", "papermill-error-cell-tag"}
    cells = json.loads(notebook.read_text())["cells"]
    return [c for c in cells if c["cell_type"] == "code" and not own & set(c["metadata"].get("tags", ()))]


# -- the example -------------------------------------------------------------------------------------------------


def test_parameters_reach_the_notebook_and_its_numbers_are_right(
    engine: Daemon, notebooks: Notebooks, output: Path
) -> None:
    image = notebooks.load(engine, "anscombe-batch")
    arguments = ("-p", "dataset", "3", "-p", "samples", "500")
    done = run_container(engine, image, *arguments, mounts={output: "/output"})
    assert done.returncode == 0, done.stderr
    text = printed(output / "anscombe.ipynb")
    assert "data set 3: mean x 9.00, mean y 7.50, correlation 0.816" in text
    assert "y = 0.500 x + 3.00" in text
    assert re.search(r"slope 0\.500, 95 % of 500 bootstrap samples between 0\.\d{3} and 0\.\d{3}\n", text)
    assert text in done.stdout
    (figure,) = [
        o for c in original(output / "anscombe.ipynb") for o in c["outputs"] if "image/png" in o.get("data", ())
    ]
    assert figure["data"]["image/png"].startswith("iVBORw0KGgo")
    assert (output / "anscombe.ipynb").stat().st_uid == 1001


def test_it_runs_as_any_user_read_only_without_network_and_writes_where_told(
    engine: Daemon, notebooks: Notebooks, output: Path
) -> None:
    done = run_container(
        engine,
        notebooks.load(engine, "anscombe-batch"),
        *("/work/anscombe.ipynb", "/output/set-{dataset}.ipynb", "-p", "dataset", "2", "-p", "samples", "10"),
        user="123456:0",
        read_only=True,
        tmpfs=["/tmp", "/work"],
        network="none",
        mounts={output: "/output"},
    )
    assert done.returncode == 0, done.stderr
    assert "data set 2: mean x 9.00, mean y 7.50, correlation 0.816" in printed(output / "set-2.ipynb")
    assert (output / "set-2.ipynb").stat().st_uid == 123456
    assert [path.name for path in output.iterdir()] == ["set-2.ipynb"]


def test_an_unwritable_output_is_refused_before_anything_runs(
    engine: Daemon, notebooks: Notebooks, tmp_path: Path
) -> None:
    folder = tmp_path / "output"
    folder.mkdir(mode=0o755)
    done = run_container(engine, notebooks.load(engine, "anscombe-batch"), user="123456:0", mounts={folder: "/output"})
    assert (done.returncode, done.stdout) == (60, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("nb2image: /output is not writable by user 123456:0: mount a folder that is ")
    read_only = run_container(engine, notebooks.load(engine, "anscombe-batch"), read_only=True, tmpfs=["/tmp", "/work"])
    assert (read_only.returncode, read_only.stdout) == (60, "")
    assert read_only.stderr.startswith("nb2image: /output is not writable by user 1001:0: ")


def test_a_notebook_is_built_and_run_in_one_go(engine: Daemon, notebooks: Notebooks, tmp_path: Path) -> None:
    notebooks.load(engine, "anscombe-batch")  # so that only its tag is new
    arguments = ("--quiet", *notebooks.options("anscombe-batch"), "-p", "dataset", "4", "-p", "samples", "10")
    done = notebooks.run("run", *arguments, engine=engine, cwd=tmp_path)
    assert "data set 4: mean x 9.00, mean y 7.50, correlation 0.817" in done.stdout
    assert "correlation 0.817" in printed(tmp_path / "output/anscombe.ipynb")
    assert (tmp_path / "output/anscombe.ipynb").stat().st_uid == os.getuid()


# -- a repository ------------------------------------------------------------------------------------------------


def test_the_files_of_a_repository_come_along(engine: Daemon, notebooks: Notebooks, output: Path) -> None:
    image = notebooks.load(engine, "repository")
    done = run_container(engine, image, "-p", "action", "tool", mounts={output: "/output"})
    assert done.returncode == 0, done.stderr
    text = printed(output / "report.ipynb")
    assert "total 42 link values.csv\n" in text
    assert "tool 0o775\n" in text
    assert "tool says hello\n" in text
    files = [".dockerignore", "data/latest.csv", "data/values.csv", "helpers/__init__.py", "report.ipynb", "tool.sh"]
    assert f"files {files}\n" in text


def test_an_empty_volume_over_the_work_folder_is_filled(
    engine: Daemon, notebooks: Notebooks, output: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    (work / "data/values.csv").write_text("mine,7\n")
    for folder in (work, work / "data"):
        folder.chmod(0o777)
    mounts = {output: "/output", work: "/work"}
    done = run_container(engine, notebooks.load(engine, "repository"), "-p", "action", "tool", mounts=mounts)
    assert done.returncode == 0, done.stderr
    text = printed(output / "report.ipynb")
    assert "total 7 link values.csv\n" in text
    assert "tool says hello\n" in text
    assert (work / "data/values.csv").read_text() == "mine,7\n"
    assert not (work / "secret.txt").exists()


def test_parameters_come_raw_as_yaml_and_from_files(
    engine: Daemon, notebooks: Notebooks, output: Path, tmp_path: Path
) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input/parameters.yaml").write_text("c: {x: 1}\n")
    done = run_container(
        engine,
        notebooks.load(engine, "repository"),
        *("-r", "a", "007", "-y", "b: [1, two]", "-f", "/input/parameters.yaml", "-p", "d", "1.5"),
        mounts={output: "/output", tmp_path / "input": "/input"},
    )
    assert done.returncode == 0, done.stderr
    assert "parameters ['007', [1, 'two'], {'x': 1}, 1.5]\n" in printed(output / "report.ipynb")


def test_a_failing_cell_is_told_and_the_partial_notebook_is_left(
    engine: Daemon, notebooks: Notebooks, output: Path
) -> None:
    image = notebooks.load(engine, "repository")
    done = run_container(engine, image, "-p", "action", "fail", mounts={output: "/output"})
    assert done.returncode == 1
    assert 'raise ValueError("for a reason")' in done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert re.fullmatch(
        r"nb2image: cell 4 \(In \[\d\]\) failed: ValueError: for a reason", done.stderr.splitlines()[-1]
    )
    cells = original(output / "report.ipynb")
    assert ["".join(c["source"]) for c in cells] == list(REPORT)
    assert "total 42" in printed(output / "report.ipynb")
    assert [o["ename"] for o in cells[3]["outputs"]] == ["ValueError"]
    assert (cells[4]["execution_count"], cells[4]["outputs"]) == (None, [])


def test_a_stopped_run_leaves_the_notebook_as_far_as_it_got(engine: Daemon, notebooks: Notebooks, output: Path) -> None:
    name = f"nb2image-{uuid.uuid4().hex[:12]}"
    options = ("--name", name, "--pull=never", f"--volume={output}:/output")
    command = [engine.name, "run", *options, notebooks.load(engine, "repository"), "-p", "action", "wait"]
    environment = {**os.environ, **engine.environment}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert any(line == "waiting\n" for line in process.stdout)
            run_engine(engine, "stop", name, check=True)
            _, said = process.communicate(timeout=30)
        finally:
            run_engine(engine, "rm", "--force", name)
    assert process.returncode == 143, said
    sentence = (
        r"nb2image: stopped by SIGTERM in cell 4 \(In \[\d\]\); the notebook so far is in /output/report\.ipynb\."
    )
    assert re.fullmatch(sentence, said.splitlines()[-1])
    cells = original(output / "report.ipynb")
    assert ["".join(c["source"]) for c in cells] == list(REPORT)
    assert printed(output / "report.ipynb").endswith("waiting\n")
    assert cells[4]["outputs"] == []


def test_output_is_streamed_while_the_cell_runs(engine: Daemon, notebooks: Notebooks, output: Path) -> None:
    options = ("--rm", "--pull=never", f"--volume={output}:/output")
    command = [engine.name, "run", *options, notebooks.load(engine, "repository"), "-p", "action", "answer"]
    environment = {**os.environ, **engine.environment}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        # Without the line the cell waits for ever; with this, the test fails instead.
        giving_up = threading.Timer(120, (output / "answer").touch)
        giving_up.start()
        assert any(line == "question\n" for line in process.stdout)
        assert not (output / "answer").exists()
        giving_up.cancel()
        (output / "answer").touch()
        rest = process.stdout.read()
    assert process.returncode == 0
    assert rest.endswith("answered\nthe end\n")


# -- a hundred packages ------------------------------------------------------------------------------------------

# What a plain virtual environment with the locked packages, installed by uv, prints for n = 5000, seed = 3.
COEFFICIENTS = "coefficients [ 1.  -2.   0.5]\n"
DESCRIPTION = """\
             a        b        c        y
count  5000.00  5000.00  5000.00  5000.00
mean     -0.00    -0.01     0.03     0.03
std       1.00     1.01     0.99     2.29
min      -3.63    -3.54    -3.65    -8.05
25%      -0.70    -0.70    -0.66    -1.55
50%      -0.01    -0.00     0.03     0.03
75%       0.68     0.67     0.70     1.59
max       4.04     3.89     3.29     8.84
"""

IMPORT_ALL = """
import importlib, json, sys
from importlib.metadata import packages_distributions, version
modules = {}
for module, names in packages_distributions().items():
    for name in names:
        modules.setdefault(name, []).append(module)
found = {}
for name in sys.argv[1:]:
    for module in modules[name]:
        imported = importlib.import_module(module)
        (place,) = getattr(imported, "__path__", None) or [imported.__file__]
        assert place.startswith("/opt/kernel/lib/"), (module, place)
    found[name] = version(name)
print(json.dumps(found))
"""


def test_a_hundred_packages_compute_what_they_compute_elsewhere(
    engine: Daemon, notebooks: Notebooks, output: Path
) -> None:
    image = notebooks.load(engine, "ds108")
    done = run_container(engine, image, "-p", "n", "5000", "-p", "seed", "3", mounts={output: "/output"}, timeout=900)
    assert done.returncode == 0, done.stderr
    assert printed(output / "ds108.ipynb") == COEFFICIENTS + DESCRIPTION


def test_the_kernel_imports_every_direct_dependency(engine: Daemon, notebooks: Notebooks, corpus: Path) -> None:
    metadata = json.loads((corpus / "ds108.ipynb").read_text())["metadata"]
    direct = list(json.loads(metadata["requirements"])["packages"])
    locked = json.loads(metadata["requirements_lock"])["default"]
    done = run_container(
        engine,
        notebooks.load(engine, "ds108"),
        *("-c", IMPORT_ALL, *direct),
        entrypoint="/opt/kernel/bin/python",
        user="123456:0",
        read_only=True,
        tmpfs=["/tmp"],
        network="none",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: locked[name]["version"].removeprefix("==") for name in direct}
