"""Catalogue files: what they state, what is wrong with them, and how their bases take part in a build."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from nb2image.bases.catalogue import SHIPPED, read_catalogue, read_catalogues
from nb2image.bases.debian.lock import shipped_lock
from nb2image.bases.debian.selection import SUITES
from nb2image.build import build
from nb2image.cache import Store
from nb2image.config import config_files
from nb2image.errors import BadCatalogue, NoMatchingBase
from nb2image.image.layout import write_layout
from nb2image.layers.entry import Link
from nb2image.plan import Request, make_plan
from nb2image.progress import Event, Silent, Warned
from nb2image.target.model import Platform
from tests.unit.bases.test_facts import slim
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]

AMD64 = Platform()

ENTRY = """\
# A comment.
[[base]]
name = "lab"
provider = "registry"
reference = "registry.example/lab/python:1"
platforms = ["linux/amd64"]
python = "3.12"
glibc = "2.36"
end_of_life = 2028-10-31
size = 1000
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """A user without a configuration, on a machine without one."""
    monkeypatch.delenv("NB2IMAGE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("nb2image.config._SITE", tmp_path / "etc" / "config.toml")
    return tmp_path


def written(folder: Path, text: str, name: str = "catalogue.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_the_shipped_catalogue_agrees_with_the_locks_of_debian_bases() -> None:
    entries = {entry.name: entry for entry in read_catalogue(SHIPPED)}
    assert {entry.name for entry in entries.values() if entry.provider == "debian"} == set(SUITES)
    for suite in SUITES:
        for platform in entries[suite].platforms:
            lock = shipped_lock(suite, Platform("linux", platform.partition("/")[2]))
            stated = entries[suite].target(Platform("linux", platform.partition("/")[2]))
            assert lock is not None
            assert stated is not None
            assert (stated.minor, stated.glibc, stated.interpreter) == (
                lock.target.minor,
                lock.target.glibc,
                lock.target.interpreter,
            )


def test_an_entry_becomes_a_target() -> None:
    entry = next(entry for entry in read_catalogue(SHIPPED) if entry.name == "python-3.12-slim-trixie")
    target = entry.target(AMD64)
    assert target is not None
    assert (str(target), str(target.interpreter)) == (
        "Python 3.12, glibc 2.41, linux/amd64",
        "/usr/local/bin/python3.12",
    )
    assert entry.target(Platform("linux", "riscv64")) is None
    cuda = next(entry for entry in read_catalogue(SHIPPED) if entry.name.startswith("cuda-12.4"))
    assert (cuda.target(AMD64), cuda.cuda, cuda.cudnn) == (None, "12.4.1", "9.1")


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('name = "lab"', 'name = "My Lab"', 3, "name must be a name of small letters"),
        ('name = "lab"\n', "", 2, "name is missing"),
        ('"registry"', '"dockerhub"', 4, "provider must be debian, registry or layout, and is 'dockerhub'"),
        ("lab/python:1", "lab/Python:1", 5, "reference is no image reference"),
        ("lab/python:1", "lab/python@sha256:12", 5, "reference has a digest that is no sha256"),
        ('["linux/amd64"]', '["amd64"]', 6, "platforms must be a list of platforms such as linux/amd64"),
        ('["linux/amd64"]', '"linux/amd64"', 6, "platforms must be a list of platforms"),
        ('"3.12"', "3.12", 7, "python must be a version such as 3.12 or 3.12.4"),
        ('"3.12"', '"2.7"', 7, "python must be a version"),
        ('glibc = "2.36"', 'glibc = "new"', 8, "glibc must be a version such as 2.36"),
        ('glibc = "2.36"\n', "", 3, "name needs either glibc or musl"),
        ("2028-10-31", '"2028-10-31"', 9, "end_of_life must be a date such as 2028-10-31, without quotes"),
        ("1000", "true", 10, "size must be a number of bytes"),
        ("size =", "sise =", 10, "sise is not known"),
        ("[[base]]", "[[bases]]", 2, "bases is not known"),
        ("end_of_life = 2028-10-31\n", 'interpreter = "bin"\n', 9, "interpreter must be an absolute path"),
    ],
)
def test_an_error_names_file_line_and_key(home: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in ENTRY
    file = written(home, ENTRY.replace(old, new))
    with pytest.raises(BadCatalogue) as caught:
        read_catalogue(file)
    assert caught.value.message.startswith(f"{file}, line {line}: {said}")
    assert caught.value.exit_code == 57


def test_the_line_is_that_of_the_wrong_table(home: Path) -> None:
    file = written(home, ENTRY + ENTRY.replace("lab", "lab2").replace('"2.36"', '"x"'))
    with pytest.raises(BadCatalogue, match="line 18: glibc"):
        read_catalogue(file)


def test_one_name_twice_in_a_file_is_refused(home: Path) -> None:
    with pytest.raises(BadCatalogue, match="line 13: name 'lab' is there twice"):
        read_catalogue(written(home, ENTRY + ENTRY))


@pytest.mark.parametrize("text", ["[[base]", "base = 1\n", "base = [1]\n", "\x00", "a = " + "[" * 5000])
def test_what_is_no_catalogue_is_refused(home: Path, text: str) -> None:
    with pytest.raises(BadCatalogue):
        read_catalogue(written(home, text))


def test_bytes_that_are_no_text_a_folder_and_nothing_are_refused(home: Path) -> None:
    (home / "bytes").write_bytes(b"\xff\xfe")
    for path in (home / "bytes", home, home / "nothing"):
        with pytest.raises(BadCatalogue, match=str(path)):
            read_catalogue(path)


def test_later_catalogues_replace_entries_of_earlier_ones(home: Path) -> None:
    site = written(home / "etc", ENTRY.replace("lab", "site") + ENTRY, "site.toml")
    written(home / "etc", 'catalogue = ["site.toml"]\n', "config.toml")
    user = written(home / "config" / "nb2image", ENTRY.replace('"3.12"', '"3.10"'), "user.toml")
    written(home / "config" / "nb2image", 'catalogue = ["user.toml"]\n', "config.toml")
    named = written(home, ENTRY.replace('"lab"', '"bookworm"'), "named.toml")
    found = read_catalogues([named])
    assert (found.entry("site").where, found.entry("lab").where) == (str(site), str(user))
    assert (found.entry("lab").python, found.entry("bookworm").provider) == ("3.10", "registry")


def test_a_configuration_that_the_environment_names_is_the_only_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(home / "config" / "nb2image", 'catalogue = ["nothing.toml"]\n', "config.toml")
    monkeypatch.setenv("NB2IMAGE_CONFIG", str(written(home, "", "mine.toml")))
    assert config_files() == (home / "mine.toml",)
    read_catalogues()
    monkeypatch.setenv("NB2IMAGE_CONFIG", str(home / "absent.toml"))
    with pytest.raises(BadCatalogue, match=r"absent\.toml cannot be read"):
        read_catalogues()


@pytest.mark.parametrize(
    ("text", "said"),
    [("\nindex = 1\n", "line 2: index is not known"), ('catalogue = "x"\n', "line 1: catalogue must be a list")],
)
def test_an_error_of_the_configuration_names_its_line(home: Path, text: str, said: str) -> None:
    file = written(home / "config" / "nb2image", text, "config.toml")
    with pytest.raises(BadCatalogue, match=f"{file}, {said}"):
        read_catalogues()


# -- in a build -----------------------------------------------------------------------------------------------

LAYOUT = """\
[[base]]
name = "lab"
provider = "layout"
reference = "lab-base"
platforms = ["linux/amd64"]
python = "3.11"
glibc = "{glibc}"
end_of_life = {end}
"""


def lab(world: World, minor: str = "3.11", glibc: str = "2.36", end: date = date(2100, 1, 1)) -> Path:
    """A catalogue with one base, whose Python has the minor version ``minor``."""
    layer = files_of({**slim(minor, f"{minor}.9"), "usr/local/bin/python3": Link(f"python{minor}")})
    write_layout(image_of(layer, Env=["PATH=/usr/local/bin"]), ["lab:1"], world.folder / "lab-base", Silent())
    return written(world.folder, LAYOUT.format(glibc=glibc, end=end))


def test_a_base_of_a_catalogue_is_built_on_by_its_name(world: World) -> None:
    source = world.locked(wheel("first"))
    events: list[Event] = []
    built = build(Request(source, base="lab", catalogues=(lab(world),)), Store(world.cache), events.append)
    # What the base really holds, and not what the catalogue states, is in the image.
    assert (str(built.plan.target.python), built.base.name) == ("3.11.9", "lab")
    assert not [event for event in events if isinstance(event, Warned)]


def test_other_things_equal_debian_comes_first(world: World) -> None:
    source = world.locked(wheel("first"))
    made = make_plan(Request(source, catalogues=(lab(world),)), Store(world.cache), Silent())
    assert made.match.candidate.name == "bookworm"
    assert {row.name for row in made.match.rows} >= {"lab", "bookworm"}


def test_a_base_past_its_end_of_life_is_taken_with_a_warning(world: World) -> None:
    events: list[Event] = []
    request = Request(world.locked(wheel("first")), base="lab", catalogues=(lab(world, end=date(2020, 1, 1)),))
    build(request, Store(world.cache), events.append)
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "lab has been out of support since 2020-01-01" in warned.text
    (told,) = make_plan(request, Store(world.cache), Silent()).match.warnings
    assert told == warned.text


def test_a_base_that_is_another_than_its_catalogue_states_is_refused(world: World) -> None:
    request = Request(world.locked(wheel("first")), base="lab", catalogues=(lab(world, glibc="2.40"),))
    with pytest.raises(NoMatchingBase, match=r"turned out to be .* glibc 2\.36") as caught:
        build(request, Store(world.cache), Silent())
    assert "catalogue" in caught.value.hint


def test_a_base_without_python_is_refused_by_its_name(world: World) -> None:
    request = Request(world.locked(wheel("first")), base="cuda-12.4.1-cudnn-ubuntu22.04")
    with pytest.raises(NoMatchingBase, match="has no Python") as caught:
        make_plan(request, Store(world.cache), Silent())
    assert caught.value.hint.startswith("Lay one over it with --python-build, or add one to it as docs/gpu.md shows")
