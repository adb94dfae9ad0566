"""Names beyond ASCII in every place that has names, and names that are no text at all."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import unicodedata
from pathlib import Path

import pytest

from tests.hostile.images import documents, files
from tests.unit.index.plugin import machine, server
from tests.unit.wheels.builder import Part, build_zip, wheel_parts
from tests.unit.world import Made, World, notebook, pylock, wheel, world

__all__ = ["machine", "server", "world"]

NFC = unicodedata.normalize("NFC", "é")
NFD = unicodedata.normalize("NFD", "é")
FOLDER = f"Ordner ünï 分析 📊 {NFC}"
NAME = f"Übersicht 分析 📈 {NFD}.ipynb"
DATA = {
    f"daten/{NFC}.csv": "composed",
    f"daten/{NFD}.csv": "decomposed",
    "daten/😀/👩‍🔬.txt": "emoji with a joiner",
    "עברית/ملف.txt": "from right to left",
    "daten/" + "長" * 80 + ".txt": "240 bytes",
    "a\u00a0b/\u2028/x.txt": "white space that ends no line",
}
SITE = "opt/kernel/lib/python3.11/site-packages/"
MEMBERS = {
    "demo/__init__.py": b"",
    f"demo/{NFC}.txt": b"composed",
    f"demo/more/{NFD}.txt": b"decomposed",
    "demo/данные/😀.json": b"{}",
    "demo/módulo.py": b"x = 1\n",
    "demo-1.0.data/data/share/ünï/日本.txt": b"data",
}


def repository(world: World, made: Made, name: str = NAME) -> Path:
    folder = world.work / FOLDER
    world.offer(made)
    notebook(folder, pylock(made, url=f"{world.server.url}/files"), name)
    for path, text in DATA.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "verknüpfung").symlink_to(f"daten/{NFD}.csv")
    return folder


def build(world: World, *arguments: str | Path, locale: str = "C.UTF-8") -> str:
    done = world.run("build", *arguments, "--base", world.base, LANG=locale, LC_ALL=locale)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX"])
def test_names_beyond_ascii_stand_in_a_layout_as_they_are(world: World, locale: str) -> None:
    folder = repository(world, wheel("demo", files=MEMBERS))
    printed = build(world, folder, "-o", "layout", "--json", locale=locale)
    layout = world.work / "layout"
    work = files(layout, "work/")
    assert work.pop(NAME) == (folder / NAME).read_bytes()
    assert {path: data.decode() for path, data in work.items()} == DATA
    site = files(layout, SITE)
    assert {path: site[path] for path in MEMBERS if ".data" not in path} == {
        path: data for path, data in MEMBERS.items() if ".data" not in path
    }
    assert files(layout, "opt/kernel/share/") == {"ünï/日本.txt": b"data"}
    assert "demo/данные/😀.json,sha256=" in site["demo-1.0.dist-info/RECORD"].decode()
    document = json.loads(printed)
    assert document["notebook"] == NAME
    config = documents(layout)[1]
    assert config["config"]["Labels"]["io.nb2image.notebook"] == NAME
    assert config["config"]["Entrypoint"][-1] == NAME


def test_the_default_archive_has_the_notebooks_name_and_loads_by_an_ascii_one(world: World) -> None:
    folder = repository(world, wheel("demo", files=MEMBERS))
    said = build(world, folder / NAME)
    archive = (folder / NAME).with_suffix(".tar")
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == ["bersicht-e:latest"]
    assert f"written to {archive} as bersicht-e:latest" in said


def test_a_notebook_of_a_repository_is_found_by_the_name_that_was_typed(world: World) -> None:
    """Two names that look alike are two notebooks, as they are to the file system."""
    folder = repository(world, wheel("demo"), f"{NFC}.ipynb")
    (folder / f"{NFD}.ipynb").write_bytes((folder / f"{NFC}.ipynb").read_bytes())
    for name in (f"{NFC}.ipynb", f"{NFD}.ipynb"):
        printed = build(world, folder, "--notebook", name, "-o", f"layout-{len(name)}", "--json")
        assert json.loads(printed)["notebook"] == name


def test_locale_and_language_leave_no_trace(world: World) -> None:
    folder = repository(world, wheel("demo", files=MEMBERS))
    digests = {
        json.loads(build(world, folder, "-o", f"layout-{number}", "--json", locale=locale))["digest"]
        for number, locale in enumerate(["C.UTF-8", "C"])
    }
    assert len(digests) == 1


# -- names that are no text ------------------------------------------------------------------------


def undecodable(folder: Path, suffix: str = "") -> Path:
    """A path in ``folder`` whose name is no UTF-8; skips where the file system holds no such name."""
    path = Path(os.fsdecode(os.fsencode(folder) + b"/b\xe4h" + suffix.encode()))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    path.unlink()
    return path


def refused(world: World, code: int, *arguments: str | Path, says: str) -> None:
    done = subprocess.run(
        world.command("build", *arguments, "--base", world.base, "-o", "layout"),
        cwd=world.work,
        env=world.environ,
        capture_output=True,
        timeout=60,
    )
    said = done.stderr.decode()  # What is printed is text, whatever the names are.
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
    assert "hint: " in said
    assert says in said
    assert not (world.work / "layout").exists()


def test_a_notebook_whose_name_is_no_text(world: World) -> None:
    path = undecodable(world.work, ".ipynb")
    world.locked(wheel("demo")).rename(path)
    refused(world, 10, path, says="The notebook has a name that is not UTF-8: b'b\\xe4h.ipynb'")
    refused(world, 10, path.name, says="not UTF-8")
    refused(world, 10, world.work, "--notebook", path.name, says="not UTF-8")


def test_a_file_of_a_repository_whose_name_is_no_text(world: World) -> None:
    folder = repository(world, wheel("demo"))
    undecodable(folder / "daten", ".csv").write_text("")
    refused(world, 19, folder, says="holds a name that is not UTF-8: b'daten/b\\xe4h.csv'")


def test_a_folder_above_whose_name_is_no_text_is_not_part_of_the_image(world: World) -> None:
    folder = undecodable(world.work)
    folder.mkdir()
    source = world.locked(wheel("demo"))
    source.rename(folder / source.name)
    for arguments in ([folder / source.name], [folder]):
        done = subprocess.run(
            world.command("build", *arguments, "--base", world.base),
            cwd=world.work,
            env=world.environ,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        assert (folder / "analysis.tar").exists()


@pytest.mark.parametrize("text", ["\ud800", "\udfff x", "a\ud83d"])
def test_lone_surrogates_in_a_notebook_reach_no_document(world: World, text: str) -> None:
    """JSON can hold what no UTF-8 can: a title is shown without it, and a kernel of that name passed over."""
    made = wheel("demo")
    world.offer(made)
    lock = pylock(made, url=f"{world.server.url}/files")
    spec = {"name": text, "display_name": text, "language": "python"}
    source = notebook(world.work, lock, title=f"Title {text}", kernelspec=spec)
    printed = build(world, source, "-o", "layout", "--json")
    assert json.loads(printed)["title"].startswith("Title")
    assert "ud8" not in printed
    assert "udf" not in printed


def test_a_lock_with_a_lone_surrogate_is_refused(world: World) -> None:
    made = wheel("demo")
    source = notebook(world.work, pylock(made, url="https://index.example") + "# \ud800\n")
    refused(world, 14, source, says="surrogate")


def test_two_members_of_a_wheel_whose_names_differ_in_normalisation_only(world: World) -> None:
    made = wheel("demo", files={f"demo/{form}.txt": b"" for form in (NFC, NFD)})
    refused(world, 40, world.locked(made), says="another Unicode normalisation")


@pytest.mark.parametrize(
    ("raw", "flags", "says"),
    [
        (b"demo/b\xe4h.txt", 0, "not ASCII and not marked as UTF-8"),
        (b"demo/b\xe4h.txt", 0x800, "the name is not UTF-8"),
        (b"demo/\xed\xa0\x80.txt", 0x800, "the name is not UTF-8"),  # a surrogate, as UTF-8 would write one
    ],
)
def test_a_member_of_a_wheel_whose_name_is_no_text(world: World, raw: bytes, flags: int, says: str) -> None:
    data = build_zip(wheel_parts(Part(raw, b"x", flags=flags)))
    refused(world, 40, world.locked(Made("demo", "1.0", data)), says=says)
