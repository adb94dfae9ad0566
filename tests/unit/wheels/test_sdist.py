"""Reading source distributions: what they are, and what is refused because somebody hostile may have written it."""

from __future__ import annotations

import os
import stat
import tarfile
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.errors import BadSdist
from nb2image.wheels.sdist import SourceDistribution, read_sdist
from tests.unit.sdists.making import IN_TREE, PKG_INFO, member, sdist, targz, written
from tests.unit.wheels.builder import Part, build_zip

SETUP = {"setup.py": b"from setuptools import setup\nsetup()\n"}


def read(folder: Path, data: bytes, filename: str = "demo-1.0.tar.gz") -> SourceDistribution:
    return read_sdist(written(folder, data, filename), filename, canonicalize_name("demo"), Version("1.0"))


def refused(folder: Path, data: bytes, filename: str = "demo-1.0.tar.gz") -> str:
    with pytest.raises(BadSdist) as caught:
        read(folder, data, filename)
    assert caught.value.exit_code == 41
    return caught.value.message


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(f"demo-1.0/{name}", type=kind, linkname=target)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_read_and_unpacked_without_its_top_folder(tmp_path: Path, kind: str) -> None:
    members = [
        member("demo-1.0/PKG-INFO", PKG_INFO),
        member("demo-1.0/setup.py", b"x", mode=0o4777, mtime=1_500_000_000, uid=7),
        member("demo-1.0/package/", type=tarfile.DIRTYPE),
        member("demo-1.0/package/module.py", b"y"),
    ]
    found = read(tmp_path, targz(members, kind), f"demo-1.0.tar.{kind}")
    (tmp_path / "out").mkdir()
    found.unpack(tmp_path / "out")
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")) == [
        *("PKG-INFO", "package", "package/module.py", "setup.py")
    ]
    status = (tmp_path / "out/setup.py").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime, status.st_uid) == (0o755, 1_500_000_000, os.getuid())


def test_a_zip_is_read_and_unpacked(tmp_path: Path) -> None:
    data = build_zip([Part("demo-1.0/PKG-INFO", PKG_INFO), Part("demo-1.0/setup.py", b"x")])
    (tmp_path / "out").mkdir()
    read(tmp_path, data, "demo-1.0.zip").unpack(tmp_path / "out")
    assert (tmp_path / "out/setup.py").read_bytes() == b"x"


def test_links_inside_are_kept(tmp_path: Path) -> None:
    data = sdist(
        SETUP | {"docs/README": b"text", "a/b/c": b""},
        link("README", "docs/README"),
        link("docs/up", "../a"),
        link("through", "docs/up/b/c"),
        link("nowhere", "not/there"),
        link("hard", "demo-1.0/docs/README", tarfile.LNKTYPE),
    )
    (tmp_path / "out").mkdir()
    read(tmp_path, data).unpack(tmp_path / "out")
    assert (tmp_path / "out/README").readlink() == Path("docs/README")
    assert (tmp_path / "out/through").resolve() == (tmp_path / "out/a/b/c").resolve()
    assert (tmp_path / "out/hard").read_bytes() == b"text"


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ([link("a", "/etc/passwd")], "the link leads out of the archive (/etc/passwd)"),
        ([link("a", "../x")], "the link leads out of the archive (../x)"),
        ([link("a/b", "../../x")], "the link leads out of the archive (../../x)"),
        # Each of them stays inside by its letters.
        ([link("a/b/c", "../.."), link("a/b/d", "c/../x")], "the link leads out of the archive (c/../x)"),
        ([link("a", "b"), link("b", "a")], "the link leads out of the archive (b)"),
        ([link("a", "."), link("a/b", "x")], "the path would be a file and a folder"),
        ([link("a", ".."), member("demo-1.0/a/b")], "the path would be a file and a folder"),
        ([link("setup.py", "x")], "the path comes twice, once as a link"),
        ([link("pyproject.toml", "x")], "the member is a link"),
        ([link("a", "x\n")], "the path has a control character or a backslash"),
        ([link("a", "demo-1.0/x", tarfile.LNKTYPE)], "it is a hard link to no file of the archive"),
        ([link("a", "other/setup.py", tarfile.LNKTYPE)], "it is a hard link to no file of the archive"),
        ([link("a", "/etc/passwd", tarfile.LNKTYPE)], "the path leads out of the archive or is not plain"),
        ([link("a", "x"), link("b", "demo-1.0/a", tarfile.LNKTYPE)], "it is a hard link to no file of the archive"),
        ([member("/etc/x")], "the path leads out of the archive or is not plain"),
        ([member("demo-1.0/../x")], "the path leads out of the archive or is not plain"),
        ([member("demo-1.0//x")], "the path leads out of the archive or is not plain"),
        ([member("demo-1.0/a\\b")], "the path has a control character or a backslash"),
        ([member("demo-1.0/a\x1b")], "the path has a control character or a backslash"),
        ([member("demo-1.0/" + "x" * 300)], "a part of the path is too long"),
        ([member("other/x")], "the files are not all below one folder"),
        ([member("x")], "the files are not all below one folder"),
        ([member("demo-1.0/a"), member("demo-1.0/a/b")], "the path would be a file and a folder"),
        ([member("demo-1.0/null", type=tarfile.CHRTYPE)], "the member is no regular file"),
        ([member("demo-1.0/pipe", type=tarfile.FIFOTYPE)], "the member is no regular file"),
        ([member("demo-1.0/../d", type=tarfile.DIRTYPE)], "the path leads out of the archive or is not plain"),
    ],
    ids=lambda value: None if isinstance(value, str) else value[-1][0].name.encode("unicode_escape").decode()[:20],
)
def test_a_hostile_member_is_refused_by_name(
    tmp_path: Path, more: list[tuple[tarfile.TarInfo, bytes]], rule: str
) -> None:
    message = refused(tmp_path, sdist(SETUP, *more))
    assert message.startswith("demo-1.0.tar.gz: ")
    assert message.endswith(f": {rule}.")


@pytest.mark.parametrize(
    ("info", "rule"),
    [
        (b"Name: demo\nVersion: 2.0\n", "it says that it is demo 2.0, and the lock demo 1.0"),
        (b"Name: other\nVersion: 1.0\n", "it says that it is other 1.0, and the lock demo 1.0"),
        (b"Name: demo\nVersion: x y\n", "it says that it is demo x y, and the lock demo 1.0"),
        (b"", "it says that it is ? ?, and the lock demo 1.0"),
    ],
)
def test_metadata_of_something_else_are_refused(tmp_path: Path, info: bytes, rule: str) -> None:
    assert refused(tmp_path, sdist({**SETUP, "PKG-INFO": info})) == f"demo-1.0.tar.gz: 'PKG-INFO': {rule}."


def test_an_archive_without_metadata_or_a_way_to_build_is_refused(tmp_path: Path) -> None:
    assert "nothing says how to build it" in refused(tmp_path, sdist({}))
    missing = refused(tmp_path, targz([member("demo-1.0/setup.py")]))
    assert "'PKG-INFO': the file is missing" in missing
    assert "it holds no file" in refused(tmp_path, targz([]))


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (b"[build-system]\n", "its table build-system has no requires (PEP 518)"),
        (b"[build-system\n", "it is no TOML"),
        (b"\xff", "it is no TOML"),
        (b"build-system = 1\n", "its build-system is no table"),
        (b"[build-system]\nrequires = [1]\n", "its requires is no list of strings"),
        (b"[build-system]\nrequires = ['==']\n", "'==' is no requirement"),
        (b"[build-system]\nrequires = ['x @ file:///etc']\n", "the build requirement x comes from a URL"),
        (b"[build-system]\nrequires = []\nbuild-backend = 'a; b'\n", "its build-backend is no module and object"),
        (
            b"[build-system]\nrequires = []\nbuild-backend = 'b'\nbackend-path = ['../x']\n",
            "its backend-path '../x' leads out of the source tree",
        ),
    ],
)
def test_a_build_system_that_says_nothing_usable_is_refused(tmp_path: Path, table: bytes, rule: str) -> None:
    assert refused(tmp_path, sdist({"pyproject.toml": table})) == f"demo-1.0.tar.gz: 'pyproject.toml': {rule}."


def test_the_build_system_is_that_of_pyproject_or_setuptools(tmp_path: Path) -> None:
    own = read(tmp_path, sdist({"pyproject.toml": IN_TREE})).build_system
    assert own == ((), "backend", (".",), False)
    for files in (SETUP, {**SETUP, "pyproject.toml": b"[tool.x]\n"}):
        legacy = read(tmp_path, sdist(files)).build_system
        assert legacy == (("setuptools>=40.8.0", "wheel"), "setuptools.build_meta:__legacy__", (), True)


@pytest.mark.parametrize(
    ("path", "compiled"),
    [
        *(("src/fast.c", True), ("fast.PYX", True), ("lib.rs", True), ("module.py", False)),
        *(("tests/probe.c", False), ("docs/x.cpp", False), ("include/x.h", False)),
    ],
)
def test_sources_for_a_compiler_are_noticed(tmp_path: Path, path: str, compiled: bool) -> None:
    found = read(tmp_path, sdist({**SETUP, path: b""}))
    assert found.compiled == (path if compiled else None)


def test_a_setup_that_needs_older_setuptools_is_noticed(tmp_path: Path) -> None:
    for text in (b"setup(use_2to3=True)", b"import pkg_resources"):
        assert read(tmp_path, sdist({"setup.py": text})).older_setuptools
    assert not read(tmp_path, sdist(SETUP)).older_setuptools


@pytest.mark.parametrize("cut", [0, 5, 60, 200])
def test_a_truncated_archive_is_refused(tmp_path: Path, cut: int) -> None:
    refused(tmp_path, sdist({**SETUP, "data": os.urandom(5000)})[:cut])


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, b"PK", "demo-1.0.zip").startswith("demo-1.0.zip: ")


def test_another_format_is_refused(tmp_path: Path) -> None:
    assert "in no format that source distributions have" in refused(tmp_path, b"x", "demo-1.0.egg")


def test_a_bomb_is_refused_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nb2image.wheels.sdist._MOST_BYTES", 128 << 20)
    bomb = sdist(SETUP, *(member(f"demo-1.0/{n}", bytes(16 << 20)) for n in range(9)))
    tracemalloc.start()
    try:
        assert "it unpacks to more than" in refused(tmp_path, bomb)
        # tarfile inflates 10 KiB at once, which come to 10 MiB at most, and copies them twice.
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nb2image.wheels.sdist._MOST_MEMBERS", 10)
    many: Mapping[str, bytes] = {str(number): b"" for number in range(20)}
    assert "it has more than 10 members" in refused(tmp_path, sdist({**SETUP, **many}))
