"""What the batch entry point decides before and beside papermill, which is installed in images only."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from nb2image.runtime import batch

NOTHING: dict[str, Any] = {
    "notebook_path": "",
    "output_path": "",
    "kernel": None,
    "language": None,
    "cwd": None,
    "progress_bar": None,
    "log_output": False,
    "stdout_file": None,
    "stderr_file": None,
}


def chosen(**said: Any) -> dict[str, Any]:
    options = {**NOTHING, **said}
    batch.defaults(options, "reports/a.ipynb")
    return options


def test_without_arguments_the_images_notebook_goes_to_the_output_folder() -> None:
    options = chosen()
    assert options["notebook_path"] == "/opt/nb2image/source/reports/a.ipynb"
    assert options["output_path"] == "/output/a.ipynb"
    assert (options["kernel"], options["language"]) == ("python3", "python")


def test_another_input_gives_its_name_to_the_output() -> None:
    assert chosen(notebook_path="/in/b.ipynb")["output_path"] == "/output/b.ipynb"
    assert chosen(notebook_path="-")["output_path"] == "/output/notebook.ipynb"


def test_what_was_said_is_kept(tmp_path: Path) -> None:
    said = {
        "notebook_path": "in.ipynb",
        "output_path": "out.ipynb",
        "kernel": "k",
        "cwd": str(tmp_path),
        "progress_bar": True,
        "log_output": True,
    }
    options = chosen(**said)
    assert options == {**NOTHING, **said}


def test_cell_output_is_streamed_to_where_it_came_from() -> None:
    options = chosen()
    assert options["stdout_file"] is sys.stdout
    assert options["stderr_file"] is sys.stderr
    assert options["progress_bar"] is False


def test_a_notebook_that_goes_to_stdout_has_it_for_itself() -> None:
    assert chosen(output_path="-")["stdout_file"] is sys.stderr


def test_a_notebook_runs_beside_its_files_where_the_work_folder_lacks_them() -> None:
    assert not Path("/work/reports/a.ipynb").exists()
    assert chosen()["cwd"] == "/opt/nb2image/source/reports"


def test_the_kernels_sockets_stand_in_the_runtime_folder_under_a_name_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/tmp/r")
    first, second = batch.connection(), batch.connection()
    assert first["transport"] == "ipc"
    assert Path(first["connection_file"]).parent == Path("/tmp/r")
    assert first["connection_file"] != second["connection_file"]


@pytest.mark.parametrize("path", ["-", "s3://bucket/x.ipynb", "/output/{name}.ipynb"])
def test_a_place_that_only_papermill_can_judge_is_left_to_it(path: str) -> None:
    batch.check_output(path)


def test_a_new_file_in_a_writable_folder_may_be_written(tmp_path: Path) -> None:
    batch.check_output(str(tmp_path / "new" / "a.ipynb"))
    assert list((tmp_path / "new").iterdir()) == []


def test_an_output_below_a_file_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as caught:
        batch.check_output(str(tmp_path / "file" / "a.ipynb"))
    assert caught.value.code == 60
    said = capsys.readouterr().err
    assert f"{tmp_path}/file is not writable by user {os.getuid()}:" in said
    assert "/output" in said


def test_a_folder_as_output_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        batch.check_output(str(tmp_path))
    assert caught.value.code == 60
    assert f"{tmp_path}/NAME.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_the_kernel_is_there_ends_the_run(number: signal.Signals, code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        batch.Run().receive(number, None)
    assert caught.value.code == code


def executed() -> Any:
    """A notebook as papermill leaves it: parameters injected, marks around a failure."""
    v4 = nbformat.v4
    mark = {"tags": ["papermill-error-cell-tag"]}
    return v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[
            v4.new_markdown_cell("marked", metadata=mark),  # type: ignore[no-untyped-call]
            v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}, execution_count=1),  # type: ignore[no-untyped-call]
            v4.new_code_cell("a = 2", metadata={"tags": ["injected-parameters"]}, execution_count=2),  # type: ignore[no-untyped-call]
            v4.new_markdown_cell("marked", metadata=mark),  # type: ignore[no-untyped-call]
            v4.new_code_cell("1/0", execution_count=3),  # type: ignore[no-untyped-call]
            v4.new_code_cell("never"),  # type: ignore[no-untyped-call]
        ]
    )


@pytest.mark.parametrize(
    ("index", "words"),
    [(2, "the cell of the parameters"), (4, "cell 2 (In [3])"), (5, "cell 3"), (None, "the first cell")],
)
def test_a_cell_is_named_by_its_place_in_the_notebook_that_went_in(index: int | None, words: str) -> None:
    run = batch.Run()
    run.client = SimpleNamespace(nb=executed())
    run.cell = run.client.nb.cells[index] if index is not None else None
    assert run.place() == words
