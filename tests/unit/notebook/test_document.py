"""What is a notebook, and what is said of what is none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nb2image.errors import AmbiguousNotebook, ForeignLanguage, NotANotebook
from nb2image.notebook.document import read_notebook
from tests.unit.notebook.making import document, write

SCRIPT = """# ---
# jupyter:
#   kernelspec:
#     display_name: Own
#     language: python
#     name: own
# ---

# %% [markdown]
# # Tides

# %% tags=["parameters"]
n = 1

# %%
# %matplotlib inline
print(n)
"""


def test_a_notebook_is_read_with_its_bytes_as_they_stand(tmp_path: Path) -> None:
    metadata = {"kernelspec": {"name": "own", "language": "python"}, "language_info": {"version": "3.11.2"}}
    path = write(tmp_path, metadata)
    read = read_notebook(path)
    assert (read.file, read.root, read.name, read.raw) == (path, None, "analysis.ipynb", path.read_bytes())
    assert (read.kernel_name, read.language_version, read.document_name) == ("own", "3.11.2", "analysis.ipynb")
    assert read.document == document(metadata)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "marked.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert read_notebook(path).document == document()


@pytest.mark.parametrize(
    ("metadata", "source", "title"),
    [
        ({"title": "Tides"}, "# Other", "Tides"),
        ({}, ["Some text\n", "## *Tides* of <b>Brest</b> ##\n"], "*Tides* of Brest"),
        ({"title": 5}, "no heading", "analysis"),
        ({"title": "a\x1b[31m\ud800\nb"}, "", "a [31m b"),
    ],
)
def test_the_title_is_one_printable_line(tmp_path: Path, metadata: dict[str, Any], source: Any, title: str) -> None:
    path = tmp_path / "analysis.ipynb"
    cells = [{"cell_type": "code", "source": "# Not a heading"}, {"cell_type": "markdown", "source": source}]
    path.write_text(json.dumps(document(metadata, cells)))
    assert read_notebook(path).title == title


def test_what_is_printable_does_not_depend_on_the_unicode_of_this_python(tmp_path: Path) -> None:
    new, control = "Herz \N{WHITE HEART SUIT}\U0001fa77", "a\U00013439b"  # characters of Unicode 15, so of Python 3.12
    read = read_notebook(write(tmp_path, {"title": control, "kernelspec": {"display_name": new}}))
    assert (read.title, read.kernel_title) == ("a b", new)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b'{"nbformat": 4,\n]', "line 2, column 1"),
        (b"\xff\xfe", "byte 0 is 0xff"),
        (b"[]", "an object was expected"),
        (b"{}", "no 'nbformat' number"),
        (b'{"nbformat": true}', "no 'nbformat' number"),
        (b'{"nbformat": 5, "metadata": {}, "cells": []}', "format 5"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "'cells' is a required property"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": [], "cells": []}', "is not of type 'object'"),
        (b'{"nbformat": 4, "metadata": {}, "cells": [1]}', "no sound notebook"),
        (b'{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code", "source": 3}]}', "no sound notebook"),
        (b'{"nbformat": 3, "worksheets": 3}', "cannot be upgraded"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"nbformat": ' + b"4" * 5000 + b"}", "not usable JSON"),
    ],
)
def test_what_is_no_notebook_is_refused_with_the_place(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "broken.ipynb"
    path.write_bytes(content)
    with pytest.raises(NotANotebook) as caught:
        read_notebook(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_missing_file_and_a_pipe_are_no_notebooks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name, said in (("none.ipynb", "no file"), ("pipe.ipynb", "not a regular file")):
        with pytest.raises(NotANotebook, match=said):
            read_notebook(tmp_path / name)


@pytest.mark.parametrize(
    "metadata",
    [
        {"kernelspec": {"language": "R", "name": "ir"}, "language_info": {"name": "python"}},
        {"language_info": {"name": "julia"}},
    ],
)
def test_a_notebook_of_another_language_is_refused_by_its_name(tmp_path: Path, metadata: dict[str, Any]) -> None:
    with pytest.raises(ForeignLanguage, match=r"for (R|julia), not for Python"):
        read_notebook(write(tmp_path, metadata))


@pytest.mark.parametrize("metadata", [{}, {"kernelspec": 3}, {"kernelspec": {"language": "Python"}}])
def test_a_notebook_that_names_no_language_is_python(tmp_path: Path, metadata: dict[str, Any]) -> None:
    assert read_notebook(write(tmp_path, metadata)).metadata == metadata


def test_a_notebook_of_format_3_is_upgraded_and_kept_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "old.ipynb"
    cell = {"cell_type": "code", "language": "python", "collapsed": False, "input": "n = 1", "outputs": []}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    path.write_text(json.dumps(old))
    read = read_notebook(path)
    assert read.document["nbformat"] == 4
    assert [each["source"] for each in read.document["cells"]] == ["n = 1"]
    assert read.raw == path.read_bytes()


def test_a_percent_script_becomes_the_same_notebook_every_time(tmp_path: Path) -> None:
    path = tmp_path / "tides.py"
    path.write_text(SCRIPT)
    read = read_notebook(path)
    assert read.raw == read_notebook(path).raw
    assert (read.script, read.name, read.document_name) == (SCRIPT.encode(), "tides.py", "tides.ipynb")
    assert (read.title, read.kernel_name) == ("Tides", "own")
    assert json.loads(read.raw) == read.document
    markdown, parameters, code = read.document["cells"]
    assert markdown["cell_type"] == "markdown"
    assert parameters["metadata"] == {"tags": ["parameters"]}
    assert code["source"] == "%matplotlib inline\nprint(n)"


def test_a_script_without_header_gets_a_kernel_and_one_without_cells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text("# %%\n1\n")
    assert read_notebook(path).kernel_name == "python3"
    path.write_text("print(1)\n")
    with pytest.raises(NotANotebook, match="without a cell marker"):
        read_notebook(path)


def test_a_script_with_a_broken_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text("# ---\n# jupyter:\n#   kernelspec:\n#     name: k\n# ---\n# %%\n1\n")
    with pytest.raises(NotANotebook, match="display_name"):
        read_notebook(path)


def test_the_only_notebook_of_a_repository_is_found(tmp_path: Path) -> None:
    write(tmp_path, name="work/tides.ipynb")
    write(tmp_path, name="work/.ipynb_checkpoints/tides-checkpoint.ipynb")
    write(tmp_path, name="drafts/old.ipynb")
    (tmp_path / ".dockerignore").write_text("drafts\n")
    read = read_notebook(tmp_path)
    assert (read.root, read.name, read.file) == (tmp_path, "work/tides.ipynb", tmp_path / "work/tides.ipynb")


def test_of_several_notebooks_one_must_be_named(tmp_path: Path) -> None:
    for name in ("b.ipynb", "a/c.ipynb"):
        write(tmp_path, name=name)
    with pytest.raises(AmbiguousNotebook) as caught:
        read_notebook(tmp_path)
    assert caught.value.details == ("a/c.ipynb", "b.ipynb")
    assert read_notebook(tmp_path, notebook="a/c.ipynb").name == "a/c.ipynb"
    assert read_notebook(tmp_path, notebook="a/../b.ipynb").name == "b.ipynb"
    assert read_notebook(tmp_path, notebook=str(tmp_path / "b.ipynb")).name == "b.ipynb"


def test_a_repository_without_notebook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousNotebook, match="holds no notebook"):
        read_notebook(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [("none.ipynb", "no file"), ("../x.ipynb", "not inside"), ("sub", "a directory"), (".", "a directory")],
)
def test_a_name_that_is_no_notebook_of_the_repository_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    write(tmp_path, name="x.ipynb")
    with pytest.raises(NotANotebook, match=said):
        read_notebook(tmp_path / "root", notebook=name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_notebook_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, name="closed/n.ipynb")
    path.chmod(0)
    with pytest.raises(NotANotebook, match="cannot be read: Permission denied"):
        read_notebook(path)
    path.parent.chmod(0)
    try:
        with pytest.raises(NotANotebook, match="cannot be read: Permission denied"):
            read_notebook(path)
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("name", [os.fsdecode(b"n\xff.ipynb"), ".wh.n.ipynb"])
def test_a_notebook_whose_name_no_image_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    try:
        write(tmp_path, None, name)
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    for path, member in ((tmp_path / name, None), (tmp_path, name)):
        with pytest.raises(NotANotebook, match="has a name that"):
            read_notebook(path, notebook=member)


def test_a_notebook_cannot_be_named_inside_a_file(tmp_path: Path) -> None:
    with pytest.raises(NotANotebook, match="is no directory"):
        read_notebook(write(tmp_path), notebook="b.ipynb")
