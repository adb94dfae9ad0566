from __future__ import annotations

from pathlib import Path

import pytest

from nb2image.errors import SystemPackagesUnusable
from nb2image.system.wanted import Wanted, read_apt_file


def written(folder: Path, text: str) -> Path:
    file = folder / "apt.txt"
    file.write_text(text)
    return file


def test_names_are_read_one_a_line_with_comments(tmp_path: Path) -> None:
    file = written(
        tmp_path, "# for drawing\n\ngraphviz\n  libgl1 libglib2.0-0 # opencv\ngraphviz\nlibpq5=15.14-0+deb12u1\n"
    )
    assert read_apt_file(file) == (
        Wanted("graphviz", "", "apt.txt, line 3"),
        Wanted("libgl1", "", "apt.txt, line 4"),
        Wanted("libglib2.0-0", "", "apt.txt, line 4"),
        Wanted("libpq5", "15.14-0+deb12u1", "apt.txt, line 6"),
    )


@pytest.mark.parametrize("word", ["--allow-unauthenticated", "Graphviz", "a$(id)", "libgl1=", "x", "../etc"])
def test_what_is_no_name_of_a_package_is_refused_with_its_line(tmp_path: Path, word: str) -> None:
    with pytest.raises(SystemPackagesUnusable, match=r"apt\.txt, line 2: .* is no name of a Debian package"):
        read_apt_file(written(tmp_path, f"graphviz\n{word}\n"))


def test_two_versions_of_one_package_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemPackagesUnusable, match="libgl1 was asked for before, in another version"):
        read_apt_file(written(tmp_path, "libgl1=1.6.0-1\nlibgl1=1.7.0-1\n"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "apt.txt"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SystemPackagesUnusable, match="cannot be read"):
        read_apt_file(file)
