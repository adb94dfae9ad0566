"""Home, names and the work folder, for users and volumes that no image can foresee."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nb2image.runtime import prepare


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A path below which nobody, root included, can make a folder."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "below"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "pkg").mkdir(parents=True)
    (folder / "a.ipynb").write_text("image")
    (folder / "pkg/run.sh").write_text("#!/bin/sh")
    (folder / "pkg/run.sh").chmod(0o775)
    (folder / "pkg/link").symlink_to("run.sh")
    (folder / "folder-link").symlink_to("pkg")
    return folder


def test_a_writable_home_is_kept(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path)}
    prepare.environment(variables)
    assert variables["HOME"] == str(tmp_path)


@pytest.mark.parametrize("home", ["", "/", "relative"])
def test_a_home_that_is_none_is_replaced_by_a_private_folder(home: str, temporary: Path) -> None:
    variables = {"HOME": home}
    prepare.environment(variables)
    assert variables["HOME"] == str(temporary / f"home-{os.getuid()}")
    assert stat.S_IMODE(Path(variables["HOME"]).stat().st_mode) == 0o700


def test_a_home_that_cannot_be_written_is_replaced(blocked: Path, temporary: Path) -> None:
    variables = {"HOME": str(blocked)}
    prepare.environment(variables)
    assert Path(variables["HOME"]).parent == temporary


def test_a_folder_that_another_put_in_the_way_is_not_used_as_home(temporary: Path, tmp_path: Path) -> None:
    (temporary / f"home-{os.getuid()}").symlink_to(tmp_path)
    variables: dict[str, str] = {}
    prepare.environment(variables)
    assert not Path(variables["HOME"]).is_symlink()
    assert Path(variables["HOME"]).parent == temporary


def test_folders_of_the_host_that_cannot_be_written_are_forgotten(blocked: Path, tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(blocked), "MPLCONFIGDIR": str(tmp_path / "kept")}
    prepare.environment(variables)
    assert "XDG_CACHE_HOME" not in variables
    assert variables["MPLCONFIGDIR"] == str(tmp_path / "kept")


def test_packages_of_the_users_home_and_a_foreign_python_are_shut_out(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path), "PYTHONHOME": "/host", "JUPYTER_PATH": "/host"}
    prepare.environment(variables)
    assert variables["PYTHONNOUSERSITE"] == "1"
    assert "PYTHONHOME" not in variables
    assert variables["JUPYTER_PATH"] == "/opt/nb2image/jupyter"


def test_a_user_without_a_passwd_entry_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    variables = {"HOME": str(tmp_path)}
    prepare.environment(variables)
    assert variables["USER"] == variables["LOGNAME"] == "notebook"


def test_without_any_temporary_folder_one_sentence_says_what_to_mount(
    monkeypatch: pytest.MonkeyPatch, blocked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(blocked))
    with pytest.raises(SystemExit) as caught:
        prepare.environment({})
    assert caught.value.code == 60
    assert "--tmpfs /tmp" in capsys.readouterr().err


def test_closed_standard_streams_are_opened() -> None:
    code = (
        "import os; os.close(0); os.close(2)\n"
        "from nb2image.runtime import prepare; prepare.environment(); print([os.fstat(n).st_rdev for n in (0, 2)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    null = os.stat(os.devnull).st_rdev  # noqa: PTH116
    assert done.stdout.strip() == str([null, null])


def test_an_empty_work_folder_is_filled(source: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    prepare.seed(str(source), str(work))
    assert (work / "a.ipynb").read_text() == "image"
    assert stat.S_IMODE((work / "pkg/run.sh").stat().st_mode) == 0o775
    assert (work / "pkg/link").readlink() == Path("run.sh")
    assert (work / "folder-link").readlink() == Path("pkg")
    assert {path.name for path in work.iterdir()} == {"a.ipynb", "pkg", "folder-link"}


def test_a_file_that_is_there_is_never_overwritten(source: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.ipynb").write_text("user")
    (work / "pkg").mkdir()
    prepare.seed(str(source), str(work))
    assert (work / "a.ipynb").read_text() == "user"
    assert (work / "pkg/run.sh").exists()


def test_a_work_folder_that_cannot_be_filled_is_told_once_and_no_failure(
    source: Path, blocked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.seed(str(source), str(blocked))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be copied" in said


def test_a_long_temporary_path_makes_kernels_use_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/tmp/nb2image-4294967295/runtime")
    assert prepare.transport() == "ipc"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/scratch/" + "x" * 60)
    assert prepare.transport() == "tcp"
