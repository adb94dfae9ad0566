"""Which files of a repository come along."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from nb2image.errors import UnusableRepository
from nb2image.image.archive import write_archive
from nb2image.image.layout import write_layout
from nb2image.notebook.repository import repository_files
from nb2image.progress import Event, Note, Silent
from tests.unit.image.making import small_image


def make(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


def paths(root: Path) -> list[str]:
    return [each.path for each in repository_files(root)]


def test_files_come_sorted_without_what_never_belongs(tmp_path: Path) -> None:
    make(tmp_path, "b.py", "a/x.py", "a-b.py", ".git/config", "a/__pycache__/x.pyc", ".hidden")
    make(tmp_path, "a/.ipynb_checkpoints/n.ipynb", ".venv/pyvenv.cfg", ".venv/bin/python", "venv/data.csv")
    assert paths(tmp_path) == [".hidden", "a-b.py", "a/x.py", "b.py", "venv/data.csv"]


def test_the_git_file_of_a_worktree_stays_behind(tmp_path: Path) -> None:
    make(tmp_path, ".git", "x")
    assert paths(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("# data\n\ndata\n", ["a/data/x.csv", "a/keep.txt", "x.md"]),
        ("**/data\n", ["a/keep.txt", "x.md"]),
        ("**/*.csv\n!a/data/x.csv\n", ["a/data/x.csv", "a/keep.txt", "x.md"]),
        ("*\n!**/*.txt\n", ["a/keep.txt"]),
        ("a\n!a/data\n", ["a/data/x.csv", "data/y.csv", "x.md"]),
        ("**/data\n!**/x.csv\n", ["a/data/x.csv", "a/keep.txt", "x.md"]),
        ("/x.md\n./data/../data/\n", ["a/data/x.csv", "a/keep.txt"]),
        ("?.md\na/[k-l]*\n", ["a/data/x.csv", "data/y.csv"]),
    ],
)
@pytest.mark.parametrize("name", [".dockerignore", ".s2iignore"])
def test_ignore_files_follow_docker(tmp_path: Path, rules: str, left: list[str], name: str) -> None:
    make(tmp_path, "a/data/x.csv", "a/keep.txt", "data/y.csv", "x.md")
    (tmp_path / name).write_text(rules)
    assert [each for each in paths(tmp_path) if each != name] == left


def test_what_one_of_two_ignore_files_names_stays_behind(tmp_path: Path) -> None:
    make(tmp_path, "a", "b", "c")
    (tmp_path / ".dockerignore").write_text("a\n!b\n.*\n")
    (tmp_path / ".s2iignore").write_text("b\n")
    assert paths(tmp_path) == ["c"]


def test_a_pattern_that_means_nothing_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a\n[z-a]\n")
    with pytest.raises(UnusableRepository, match=r"line 2: the pattern '\[z-a\]'"):
        paths(tmp_path)


def test_an_executable_file_is_told_apart(tmp_path: Path) -> None:
    make(tmp_path, "run", "read")
    (tmp_path / "run").chmod(0o744)
    assert [(each.path, each.executable) for each in repository_files(tmp_path)] == [("read", False), ("run", True)]


@pytest.mark.parametrize(
    ("link", "target", "kept"),
    [
        ("a/link", "../x", "../x"),
        ("link", "a", "a"),
        ("link", "nowhere", "nowhere"),
        ("a/link", "{root}/x", "../x"),
        ("link", "../{name}/x", "x"),
        ("link", "link", "link"),
    ],
)
def test_a_link_inside_the_root_stays_a_relative_link(tmp_path: Path, link: str, target: str, kept: str) -> None:
    root = tmp_path / "repository"
    make(root, "x", "a/y")
    (root / link).symlink_to(target.format(root=root, name=root.name))
    found = {each.path: each.link for each in repository_files(root)}
    assert found == {"x": None, "a/y": None, link: kept}


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "../repository-2/x", "a/../../outside"])
def test_a_link_that_leaves_the_root_is_refused_by_name(tmp_path: Path, target: str) -> None:
    root = tmp_path / "repository"
    make(root, "a/y")
    (root / "a" / "link").symlink_to(target if target.startswith("/") else "../" + target)
    with pytest.raises(UnusableRepository, match="a/link is a symbolic link that leads out"):
        paths(root)
    (root / ".dockerignore").write_text("a/link\n")
    assert paths(root) == [".dockerignore", "a/y"]


def test_a_pipe_is_left_out_with_a_note(tmp_path: Path) -> None:
    make(tmp_path, "x")
    os.mkfifo(tmp_path / "pipe")
    events: list[Event] = []
    assert [each.path for each in repository_files(tmp_path, events.append)] == ["x"]
    assert [event.text for event in events if isinstance(event, Note)] == [
        "pipe is neither a file nor a link and is left out."
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_a_directory_that_may_not_be_read_is_refused_unless_ignored(tmp_path: Path) -> None:
    make(tmp_path, "x", "secret/y")
    (tmp_path / "secret").chmod(0)
    try:
        with pytest.raises(UnusableRepository, match="secret cannot be listed"):
            paths(tmp_path)
        (tmp_path / ".dockerignore").write_text("secret\n.*\n")
        assert paths(tmp_path) == ["x"]
    finally:
        (tmp_path / "secret").chmod(0o700)


@pytest.mark.parametrize("name", [".wh.x", "a/.wh..wh..opq", "a/.wh.b/c"])
def test_a_name_that_would_delete_files_of_the_image_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(UnusableRepository, match="means a deletion"):
        paths(tmp_path)
    (tmp_path / ".dockerignore").write_text("**/.wh.*\n.dockerignore\n")
    assert paths(tmp_path) == []


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_text("")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    with pytest.raises(UnusableRepository, match=r"\\\\xff|not UTF-8"):
        paths(tmp_path)


def notes(root: Path, *outputs: Path) -> tuple[list[str], list[str]]:
    """The paths that come along, and what is said of those that do not."""
    heard: list[Event] = []
    found = [each.path for each in repository_files(root, heard.append, outputs=outputs)]
    return found, [event.text for event in heard if isinstance(event, Note)]


def test_images_that_builds_left_do_not_come_along_and_are_named_once(tmp_path: Path) -> None:
    make(tmp_path, "x", "images/note.txt")
    write_layout(small_image(), ["lab:1"], tmp_path / "images" / "layout", Silent())
    write_archive(small_image(), ["lab:1"], tmp_path / "lab.tar", Silent())
    assert notes(tmp_path) == (
        ["images/note.txt", "x"],
        ["Images that were built do not come along: images/layout/, lab.tar."],
    )


def test_an_image_that_an_ignore_file_names_is_not_mentioned(tmp_path: Path) -> None:
    make(tmp_path, "x")
    write_archive(small_image(), ["lab:1"], tmp_path / "lab.tar", Silent())
    (tmp_path / ".dockerignore").write_text("*.tar\n.dockerignore\n")
    assert notes(tmp_path) == (["x"], [])


def test_what_this_build_writes_does_not_come_along_and_is_not_mentioned(tmp_path: Path) -> None:
    make(tmp_path, "x", "report.tar", "layout/y")
    write_archive(small_image(), ["lab:1"], tmp_path / "lab.tar", Silent())
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    outputs = (tmp_path / "lab.tar", tmp_path / "elsewhere" / "report.tar", tmp_path / "layout")
    assert notes(tmp_path, *outputs) == (["elsewhere", "x"], [])


def test_archives_of_other_things_come_along(tmp_path: Path) -> None:
    make(tmp_path, "data/blobs/x", "data/readme")
    for name, folder in (("empty.tar", "data/blobs"), ("data.tar", "data")):
        with tarfile.open(tmp_path / name, "w") as tar:
            tar.add(tmp_path / folder, arcname="." if folder == "data" else "blobs")
    (tmp_path / "text.tar").write_text("no tar")
    (tmp_path / "nothing.tar").write_bytes(b"")
    found, said = notes(tmp_path)
    assert {"data.tar", "empty.tar", "nothing.tar", "text.tar"} <= set(found)
    assert said == []
