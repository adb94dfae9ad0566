"""What ``-o`` means, and what is refused before anything is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nb2image.errors import EngineAbsent, Unwritable
from nb2image.image.names import parse_name
from nb2image.outputs import Archive, EngineLoad, Layout, Output, Report, default_tag, output_for
from nb2image.progress import Silent
from tests.unit.image.making import small_image


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("analysis.ipynb", "analysis:latest"),
        ("My Analysis (2).ipynb", "my-analysis-2:latest"),
        ("deep/in/a/folder/Report.py", "report:latest"),
        ("übersicht.ipynb", "bersicht:latest"),
        ("分析.ipynb", "notebook:latest"),
        ("_draft__v1.0_.ipynb", "draft-v1-0:latest"),
        (".ipynb", "notebook:latest"),
        ("a.ipynb.ipynb", "a-ipynb:latest"),
    ],
)
def test_a_notebooks_name_becomes_an_image_name(name: str, tag: str) -> None:
    assert default_tag(name) == tag
    assert parse_name(tag).familiar == tag


def test_the_suffix_decides(tmp_path: Path) -> None:
    (tmp_path / "existing.v1").mkdir()
    assert output_for(tmp_path / "image.tar") == Archive(tmp_path / "image.tar")
    assert output_for(tmp_path / "layout") == Layout(tmp_path / "layout")
    assert output_for(tmp_path / "existing.v1") == Layout(tmp_path / "existing.v1")


@pytest.mark.parametrize("name", ["image.zip", "image.tar.gz", "image.sif.bak", "image.TAR"])
def test_a_suffix_that_means_nothing_does_not_become_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unwritable, match="no kind of image") as caught:
        output_for(tmp_path / name)
    assert ".tar" in caught.value.hint


def test_a_name_that_is_taken_by_the_other_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(Unwritable, match="is a directory"):
        output_for(tmp_path / "folder.tar")
    with pytest.raises(Unwritable, match="is a file"):
        output_for(tmp_path / "file")


def test_an_archive_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="There is no folder"):
        Archive(tmp_path / "none" / "image.tar").check()
    Archive(tmp_path / "image.tar").check()
    assert list(tmp_path.iterdir()) == []


def test_a_layout_needs_the_folder_above_it_and_makes_its_own(tmp_path: Path) -> None:
    Layout(tmp_path / "new").check()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "new" / "deep", tmp_path / "file" / "deep"):
        with pytest.raises(Unwritable, match="There is no folder"):
            Layout(path).check()


def test_a_folder_of_other_things_is_refused_before_the_build(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(Unwritable, match="holds other files"):
        Layout(tmp_path).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    for output in (Archive(folder / "image.tar"), Layout(folder / "new"), Layout(folder)):
        with pytest.raises(Unwritable, match="cannot be written"):
            output.check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_may_not_be_entered_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        for path in (tmp_path / "closed/inner/image.tar", tmp_path / "closed/inner/layout", tmp_path / "closed/new"):
            with pytest.raises(Unwritable):
                output_for(path).check()
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize("name", ["image.tar", "layout"])
def test_what_is_written_is_where_it_says(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output: Output = output_for(Path(name))
    output.check()
    output.write(small_image(), ["lab:1"], Silent())
    assert Path(output.describe()).exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_missing_engine_shows_before_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.delenv("CONTAINER_HOST", raising=False)
    with pytest.raises(EngineAbsent, match="none"):
        EngineLoad("docker").check()


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sbom.cdx.json"
    path.write_text("old")
    report = Report(path)
    report.check()
    report.write(b"{}")
    assert path.read_bytes() == b"{}"
    gone = Report(tmp_path / "gone" / "sbom.json")
    with pytest.raises(Unwritable, match="cannot be written"):
        gone.write(b"{}")
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_could_not_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    refused = {
        "none/sbom.json": "There is no folder",
        "analysis.ipynb": "JSON document",
        "folder.json": "no regular file",
    }
    for name, words in refused.items():
        with pytest.raises(Unwritable, match=words):
            Report(tmp_path / name).check()


def test_a_report_takes_away_what_a_killed_writer_left(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from nb2image.temporary import temporary_file\n"
        "with temporary_file(pathlib.Path(sys.argv[1]), '.sbom.json.', '.partial'):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    Report(tmp_path / "sbom.json").write(b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["sbom.json"]
