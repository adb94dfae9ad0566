"""uv script locks: the graph with markers on its edges becomes one marker per package."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from packaging.version import Version

from nb2image.errors import BrokenLock, EmptyLock, UnhashedPackage, UnsupportedSource
from nb2image.lock.model import Lock, hashes_of
from nb2image.target.environment import marker_environment
from tests.unit.notebook.making import INDEX, digest, lock_of

HEAD = """\
version = 1
revision = 3
requires-python = ">=3.9"
resolution-markers = ["python_full_version >= '3.11'", "python_full_version < '3.11'"]

"""


def package(name: str, version: str = "1.0", more: str = "", source: str = f'registry = "{INDEX}"') -> str:
    file = f"https://files.example/{name}-{version}"
    return f"""
[[package]]
name = "{name}"
version = "{version}"
source = {{ {source} }}
{more}
sdist = {{ url = "{file}.tar.gz", hash = "{digest(name + version)}", size = 7 }}
wheels = [
    {{ url = "{file}-py3-none-any.whl", hash = "{digest(name)}", size = 9, upload-time = "2026-01-02T03:04:05.6Z" }},
]
"""


def manifest(*requirements: str) -> str:
    return "[manifest]\nrequirements = [" + ", ".join(f"{{ {each} }}" for each in requirements) + "]\n"


def read(folder: Path, *parts: str) -> Lock:
    return lock_of(folder, {"uv.lock": HEAD + "".join(parts)})


def chosen(lock: Lock, python: str, platform: str = "linux") -> dict[str, str]:
    environment = marker_environment(Version(python), "x86_64")
    environment["sys_platform"] = platform
    return {
        p.name: str(p.version)
        for p in lock.packages
        if p.marker is None or p.marker.evaluate(cast("dict[str, str]", environment), context="lock_file")
    }


def test_files_keep_what_the_lock_says_of_them(tmp_path: Path) -> None:
    lock = read(tmp_path, manifest('name = "a"'), package("a"))
    (found,) = lock.packages
    (wheel,) = found.wheels or ()
    assert (wheel.url, wheel.size) == ("https://files.example/a-1.0-py3-none-any.whl", 9)
    assert wheel.upload_time is not None
    assert found.sdist is not None
    assert hashes_of(found) == {digest("a"), digest("a1.0")}
    assert (found.index, lock.indexes, lock.direct) == (INDEX, (INDEX,), ("a",))
    assert (lock.source, lock.python, str(lock.pylock.requires_python)) == ('metadata["uv.lock"]', None, ">=3.9")
    lock.pylock.validate()


def test_a_script_lock_beside_the_notebook_is_read(tmp_path: Path) -> None:
    (tmp_path / "analysis.py.lock").write_text(HEAD + manifest('name = "a"') + package("a"))
    assert lock_of(tmp_path).source == "analysis.py.lock"


def test_markers_on_a_way_must_all_hold_and_one_way_is_enough(tmp_path: Path) -> None:
    lock = read(
        tmp_path,
        manifest('name = "a"', 'name = "b", marker = "sys_platform == \'win32\'"'),
        package("a", more='dependencies = [{ name = "c", marker = "python_full_version < \'3.10\'" }]'),
        package("b", more='dependencies = [{ name = "c" }]'),
        package("c", more='dependencies = [{ name = "d", marker = "sys_platform == \'win32\'" }]'),
        package("d"),
        package("unreached"),
    )
    assert chosen(lock, "3.9.2") == {"a": "1.0", "c": "1.0"}
    assert chosen(lock, "3.11.2") == {"a": "1.0"}
    assert set(chosen(lock, "3.11.2", "win32")) == {"a", "b", "c", "d"}
    markers = {str(p.name): str(p.marker) for p in lock.packages}
    assert markers["d"] == 'sys_platform == "win32"'
    assert "unreached" not in markers


def test_dependencies_in_a_circle_end(tmp_path: Path) -> None:
    lock = read(
        tmp_path,
        manifest('name = "a", marker = "os_name == \'nt\'"'),
        package("a", more='dependencies = [{ name = "b" }]'),
        package("b", more='dependencies = [{ name = "a", marker = "python_full_version < \'3.10\'" }]'),
    )
    assert [str(p.marker) for p in lock.packages] == ['os_name == "nt"'] * 2


def test_versions_of_different_resolutions_are_told_apart(tmp_path: Path) -> None:
    forks = "resolution-markers = [\"python_full_version {} '3.11'\"]"
    edges = """dependencies = [
        { name = "n", version = "1.0", marker = "python_full_version < '3.11'" },
        { name = "n", version = "2.0", marker = "python_full_version >= '3.11'" },
    ]"""
    lock = read(
        tmp_path,
        manifest('name = "n"', 'name = "a"'),
        package("a", more=edges),
        package("n", "1.0", forks.format("<") + '\ndependencies = [{ name = "s" }]'),
        package("n", "2.0", forks.format(">=") + '\ndependencies = [{ name = "s" }]'),
        package("s"),
    )
    assert chosen(lock, "3.10.1") == {"a": "1.0", "n": "1.0", "s": "1.0"}
    assert chosen(lock, "3.11.0") == {"a": "1.0", "n": "2.0", "s": "1.0"}
    assert {str(p.name): p.marker for p in lock.packages}["s"] is None


def test_an_extra_brings_its_packages_only_where_it_is_asked_for(tmp_path: Path) -> None:
    extra = '[package.optional-dependencies]\nsocks = [{ name = "s" }]\n'
    for asked, expected in (('name = "a"', {"a"}), ('name = "a", extras = ["socks"]', {"a", "s"})):
        lock = read(tmp_path, manifest(asked), package("s"), package("a"), extra)
        assert set(chosen(lock, "3.11.0")) == expected
    through = 'dependencies = [{ name = "a", extra = ["socks"] }]'
    lock = read(tmp_path, manifest('name = "b"'), package("s"), package("b", more=through), package("a"), extra)
    assert set(chosen(lock, "3.11.0")) == {"a", "b", "s"}


def test_many_resolutions_that_meet_give_short_markers(tmp_path: Path) -> None:
    minors = range(9, 15)
    parts = [manifest(*(f'name = "p{n}"' for n in range(12))), package("s")]
    for n in range(12):
        for m in minors:
            fork = f"resolution-markers = [\"python_full_version == '3.{m}.*'\"]"
            more = (
                f'{fork}\ndependencies = [{{ name = "s" }}, {{ name = "q{n}", marker = "sys_platform == \'win32\'" }}]'
            )
            parts.append(package(f"p{n}", f"{m}.0", more))
        parts.append(package(f"q{n}", more='dependencies = [{ name = "s" }]'))
    lock = read(tmp_path, *parts)
    markers = {str(p.name): str(p.marker) for p in lock.packages}
    assert max(map(len, markers.values())) < 120
    assert chosen(lock, "3.12.4", "win32") == {f"q{n}": "1.0" for n in range(12)} | {
        f"p{n}": "12.0" for n in range(12)
    } | {"s": "1.0"}


def test_a_wheel_or_archive_of_a_url_is_held_by_its_hash(tmp_path: Path) -> None:
    url = "https://files.example/v1.zip"
    archive = (
        f'[[package]]\nname = "a"\nversion = "1.0"\nsource = {{ url = "{url}" }}\nsdist = {{ hash = "{digest("")}" }}\n'
    )
    (found,) = read(tmp_path, manifest('name = "a"'), archive).packages
    assert found.archive is not None
    assert found.archive.url == url
    assert hashes_of(found) == {digest("")}


def test_a_file_with_a_foreign_name_is_passed_over_with_a_note(tmp_path: Path) -> None:
    broken = package("a").replace("a-1.0.tar.gz", "other-1.0.tar.bz2")
    lock = read(tmp_path, manifest('name = "a"'), broken)
    assert lock.packages[0].sdist is None
    assert lock.notes == ("a 1.0: the file 'https://files.example/other-1.0.tar.bz2' is passed over for its name.",)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["version = 2"], "broken TOML"),
        ([manifest('name = "a"')], "a is asked for and not locked"),
        (
            [manifest('name = "a"'), package("a", more='dependencies = [{ name = "b" }]')],
            "its dependency b is not locked",
        ),
        ([manifest('name = "a"'), package("a", more="dependencies = 3")], "a list was expected"),
        ([manifest('name = "a"'), package("a", "x.y")], "'x.y' does not pin a version"),
        ([manifest('name = "a"'), package("a").replace("size = 7", "size = -7")], "the size -7"),
        ([manifest('name = "a"'), package("a").replace("sha256:", "sha256=")], "is no hash"),
        ([manifest('name = "a", marker = "x"'), package("a")], "is no environment marker"),
        (['package = [{ name = "a" }, 3]'], "an object was expected"),
    ],
)
def test_a_broken_lock_is_refused(tmp_path: Path, parts: list[str], said: str) -> None:
    with pytest.raises(BrokenLock) as caught:
        read(tmp_path, *parts)
    assert said in caught.value.message


def test_an_unknown_version_of_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenLock, match=r"version 2 of uv\.lock is not known"):
        lock_of(tmp_path, {"uv.lock": "version = 2"})


def test_markers_that_branch_beyond_reason_are_refused(tmp_path: Path) -> None:
    parts = [manifest('name = "p0"'), package("p12")]
    for n in range(12):
        edges = ", ".join(
            f'{{ name = "p{n + 1}", marker = "platform_machine == \'{side}{n}\'" }}' for side in ("a", "b")
        )
        parts.append(package(f"p{n}", more=f"dependencies = [{edges}]"))
    with pytest.raises(BrokenLock, match="branch more than 256 times"):
        read(tmp_path, *parts)


def test_a_lock_that_nothing_asks_for_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyLock):
        read(tmp_path, manifest())


def test_a_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSource, match="locks a whole project"):
        read(tmp_path, package("a", source='virtual = "."'))


@pytest.mark.parametrize("source", ['git = "https://code.example/a?rev=1#c0"', 'directory = "../a"', 'path = "a.whl"'])
def test_a_package_from_elsewhere_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(UnsupportedSource, match=": a comes from a place"):
        read(tmp_path, manifest('name = "a"'), package("a", source=source))


def test_a_file_without_hash_makes_the_package_unhashed(tmp_path: Path) -> None:
    without = package("a").replace(f', hash = "{digest("a")}"', "")
    with pytest.raises(UnhashedPackage, match="for a"):
        read(tmp_path, manifest('name = "a"'), without)
