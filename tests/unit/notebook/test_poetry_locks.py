"""poetry.lock of Poetry 1 (the graph decides) and Poetry 2 (the lock says it per package)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w
from packaging.version import Version

from nb2image.errors import BrokenLock, UnsupportedSource
from nb2image.lock.model import Freshness, Lock, hashes_of
from nb2image.target.environment import marker_environment
from tests.unit.notebook.making import INDEX, digest, lock_of


def package(name: str, version: str = "1.0", **more: Any) -> dict[str, Any]:
    files = [{"file": f"{name}-{version}.tar.gz", "hash": digest(name + version)}]
    keys = {key.replace("_", "-"): value for key, value in more.items()}
    return {"name": name, "version": version, "optional": False, "python-versions": ">=3.8", "files": files, **keys}


def read(folder: Path, packages: list[dict[str, Any]], poetry: dict[str, Any] | None = None, **metadata: Any) -> Lock:
    document = {"package": packages, "metadata": {key.replace("_", "-"): value for key, value in metadata.items()}}
    (folder / "poetry.lock").write_text(tomli_w.dumps(document))
    if poetry is not None:
        (folder / "pyproject.toml").write_text(tomli_w.dumps({"tool": {"poetry": poetry}}))
    return lock_of(folder)


def chosen(lock: Lock, python: str = "3.11.2", platform: str = "linux") -> dict[str, str]:
    environment = marker_environment(Version(python), "x86_64")
    environment["sys_platform"] = platform
    return {
        p.name: str(p.version)
        for p in lock.packages
        if p.marker is None or p.marker.evaluate(cast("dict[str, str]", environment), context="lock_file")
    }


def test_poetry_2_says_groups_and_markers_per_package(tmp_path: Path) -> None:
    source = {"type": "legacy", "url": INDEX, "reference": "own"}
    lock = read(
        tmp_path,
        [
            package("a", groups=["main", "dev"], source=source),
            package("b", groups=["main"], markers="sys_platform == 'win32'"),
            package("c", groups=["main", "dev"], markers={"main": "python_version < '3.9'", "dev": "os_name == 'nt'"}),
            package("shown", groups=["main", "dev"], markers={"main": "extra == 'pretty'"}),
            package("tool", groups=["dev"]),
            package("extra", groups=["main"], optional=True, markers="extra == 'pretty'"),
        ],
        python_versions="^3.9",
    )
    assert {p.name: str(p.marker) for p in lock.packages} == {
        "a": "None", "b": 'sys_platform == "win32"', "c": 'python_version < "3.9"',
    }  # fmt: skip
    assert lock.packages[0].index == INDEX
    assert lock.packages[1].index is None
    assert hashes_of(lock.packages[0]) == {digest("a1.0")}
    assert (lock.source, lock.indexes, lock.python) == ("poetry.lock", (INDEX,), None)
    assert str(lock.pylock.requires_python) == "<4,>=3.9"


def test_poetry_1_follows_the_graph_from_the_main_group(tmp_path: Path) -> None:
    lock = read(
        tmp_path,
        [
            package("Alpha", dependencies={"beta": {"version": "*", "markers": "sys_platform == 'win32'"}}),
            package("beta", dependencies={"alpha": "*"}),
            package("web", dependencies={"Socks": {"version": "*", "optional": True, "markers": "extra == 'socks'"}},
                    extras={"socks": ["Socks (>=1.5)"]}),
            package("socks"),
            package("rich", optional=True),
            package("pytest", dependencies={"pluggy": "*"}),
            package("pluggy"),
        ],
        {
            "dependencies": {
                "python": "^3.9", "alpha": "*", "web": {"version": "*", "extras": ["socks"], "python": "<3.12"},
                "rich": {"version": "*", "optional": True},
            },
            "group": {"dev": {"dependencies": {"pytest": "*"}}},
        },
    )  # fmt: skip
    assert set(chosen(lock)) == {"alpha", "web", "socks"}
    assert set(chosen(lock, "3.12.0")) == {"alpha"}
    assert set(chosen(lock, "3.12.0", "win32")) == {"alpha", "beta"}
    assert lock.direct == ("alpha", "web")


def test_poetry_1_takes_the_newest_of_several_versions_that_supports_the_python(tmp_path: Path) -> None:
    lock = read(
        tmp_path,
        [
            package("n", "1.0", python_versions=">=3.8"),
            package("n", "2.0", python_versions=">=3.10,<3.13"),
            package("n", "3.0", python_versions=">=3.12"),
            package("p", dependencies={"n": ">=1"}),
            package("q", dependencies={"n": "^1.0"}),
        ],
        {"dependencies": {"p": "*"}},
    )
    found = {python: chosen(lock, python)["n"] for python in ("3.9.0", "3.10.0", "3.11.9", "3.12.0", "3.13.1")}
    assert found == {"3.9.0": "1.0", "3.10.0": "2.0", "3.11.9": "2.0", "3.12.0": "3.0", "3.13.1": "3.0"}


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("^1.2", "1.3.0"),
        ("^0.2.3", "0.2.9"),
        ("~2.1", "2.1.5"),
        ("~1", "1.3.0"),
        ("2.1.*", "2.1.5"),
        ("<1 || >2.1.4,<2.2", "2.1.5"),
        (">=1 <2", "1.3.0"),
        ("1.3.0", "1.3.0"),
        ("*", "3.0"),
    ],
)
def test_poetrys_constraints_choose_among_versions(tmp_path: Path, constraint: str, expected: str) -> None:
    packages = [package("n", version) for version in ("0.2.9", "0.3.0", "1.3.0", "2.1.5", "2.2.0", "3.0")]
    assert chosen(read(tmp_path, packages, {"dependencies": {"n": constraint}})) == {"n": expected}


def test_the_files_of_old_locks_stand_in_the_metadata(tmp_path: Path) -> None:
    old = package("Old")
    del old["files"]
    files = {"Old": [{"file": "Old-1.0.tar.gz", "hash": digest("old")}]}
    lock = read(tmp_path, [old], {"dependencies": {"old": "*"}}, files=files)
    assert hashes_of(lock.packages[0]) == {digest("old")}


def test_the_standard_project_table_counts(tmp_path: Path) -> None:
    project = {"project": {"dependencies": ["a ; sys_platform == 'win32'", "b[x]>=1"]}}
    (tmp_path / "pyproject.toml").write_text(tomli_w.dumps(project))
    lock = read(tmp_path, [package("a"), package("b")])
    assert set(chosen(lock)) == {"b"}
    assert lock.direct == ("a", "b")


def test_the_content_hash_tells_a_stale_lock(tmp_path: Path) -> None:
    dependencies = {"a": "*"}
    # What Poetry hashes of a pyproject.toml without the standard project table.
    content = {"dependencies": dependencies, "source": None, "extras": None, "dev-dependencies": None}
    stated = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    packages = [package("a")]
    assert read(tmp_path, packages, {"dependencies": dependencies}, content_hash=stated).freshness == Freshness(True)
    stale = read(tmp_path, packages, {"dependencies": {"a": ">=1"}}, content_hash=stated)
    assert stale.freshness.fresh is False
    assert "pyproject.toml were changed" in stale.freshness.difference


def test_an_old_lock_means_nothing_without_its_project(tmp_path: Path) -> None:
    with pytest.raises(BrokenLock, match=r"without its pyproject\.toml"):
        read(tmp_path, [package("a")])


def test_a_package_that_is_asked_for_and_not_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenLock, match="b is asked for"):
        read(tmp_path, [package("a")], {"dependencies": {"b": "*"}})


@pytest.mark.parametrize("kind", ["git", "directory", "file", "url"])
def test_a_package_from_elsewhere_is_refused(tmp_path: Path, kind: str) -> None:
    source = {"type": kind, "url": "somewhere"}
    with pytest.raises(UnsupportedSource) as caught:
        read(tmp_path, [package("a", groups=["main"], source=source), package("b", groups=["dev"], source=source)])
    assert caught.value.details == (f"a: {kind} 'somewhere'",)
