"""Build requirements: pinned as of the lock's date where there is one, else by locks that ship, else the newest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pytest
from packaging.pylock import Package, PackageSdist, PackageWheel
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.cache import Store
from nb2image.errors import SdistFailed
from nb2image.index.settings import IndexSettings
from nb2image.lock.model import Lock, new_pylock
from nb2image.progress import Silent
from nb2image.sdists.requirements import BuildRequirement, Moment, as_of, pinned
from nb2image.target.model import Platform, Target
from tests.unit.index.server import body, json_page
from tests.unit.world import MINOR, Made, World, wheel

TARGET = Target(
    Platform(),
    Version("3.11.2"),
    PurePosixPath("/usr/bin/python3.11"),
    PurePosixPath("/usr/lib/python3/dist-packages"),
    Version("2.36"),
)
RELEASES = {"1.0": "2021-01-01T00:00:00Z", "2.0": "2021-06-01T12:00:00Z", "3.0": "2022-01-01T00:00:00Z"}
UNKNOWN = Moment(None)
MOMENT = Moment(datetime(2021, 6, 1, 12, tzinfo=timezone.utc))


@pytest.fixture(autouse=True)
def resolver_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))


def offered(world: World, name: str, *releases: tuple[Made, str | None]) -> None:
    """A project whose page tells when each file was uploaded (PEP 700), and its metadata beside it (PEP 658)."""
    rows = []
    for made, time in releases:
        row = {"filename": made.filename, "url": f"../../files/{made.filename}", "hashes": {"sha256": made.sha256}}
        rows.append({**row, "core-metadata": True, **({"upload-time": time} if time else {})})
        world.server.on(f"/files/{made.filename}", body(made.data))
        text = f"Metadata-Version: 2.1\nName: {made.name}\nVersion: {made.version}\n"
        needs = "".join(f"Requires-Dist: {each}\n" for each in made.requires)
        world.server.on(f"/files/{made.filename}.metadata", body((text + needs).encode()))
    world.server.on(f"/simple/{name}/", json_page(rows))


def shipped(world: World, name: str, *wheels: Made) -> None:
    """A build lock as those that ship."""
    lines = [f"{w.name}=={w.version} \\\n    --hash=sha256:{w.sha256}\n" for w in wheels]
    (world.runners / f"{name}-{MINOR}.txt").write_text("".join(lines))
    rows = {w.name: {"version": w.version, "requires_dist": list(w.requires), "requires_python": None} for w in wheels}
    (world.runners / f"{name}-{MINOR}.json").write_text(json.dumps(rows))


def found(
    world: World, requires: Sequence[str], moment: Moment = UNKNOWN, *, older: bool = False
) -> tuple[list[str], str]:
    """The pins, and how they were found."""
    wheels, how = pinned(
        requires,
        TARGET,
        moment,
        IndexSettings(),
        Lock(new_pylock([]), "a test"),
        Store(world.cache),
        Silent(),
        source="demo-1.0.tar.gz",
        older=older,
    )
    assert all(isinstance(each, BuildRequirement) and len(each.sha256) == 64 for each in wheels)
    return [f"{each.name}=={each.version}" for each in wheels], how


def test_the_date_of_a_lock_is_that_of_its_newest_file() -> None:
    early, late = datetime(2021, 1, 1), datetime(2021, 6, 1, 12, tzinfo=timezone.utc)
    wheels = [PackageWheel(name="a-1-py3-none-any.whl", upload_time=early, hashes={"sha256": "0" * 64})]
    sdist = PackageSdist(name="a-1.tar.gz", upload_time=late, hashes={"sha256": "0" * 64})
    package = Package(name=canonicalize_name("a"), version=Version("1"), wheels=wheels, sdist=sdist)
    assert as_of(Lock(new_pylock([package]), "a test")) == Moment(late)
    assert as_of(Lock(new_pylock([]), "a test")) == Moment(None)


def test_with_a_date_they_are_the_newest_that_were_there_then(world: World) -> None:
    offered(world, "tool", *((wheel("tool", version), time) for version, time in RELEASES.items()))
    assert found(world, ["tool"], MOMENT) == (
        ["tool==2.0"],
        "as of 2021-06-01, when the newest locked file was uploaded",
    )


def test_what_they_need_themselves_is_as_old(world: World) -> None:
    offered(world, "backend", (wheel("backend", requires=["tool>=1"]), "2021-01-01T00:00:00Z"))
    offered(world, "tool", *((wheel("tool", version), time) for version, time in RELEASES.items()))
    assert found(world, ["backend"], MOMENT)[0] == ["backend==1.0", "tool==2.0"]


def test_without_a_date_they_are_those_of_a_lock_that_ships(world: World) -> None:
    new, old = wheel("setuptools", "81.0"), wheel("setuptools", "57.5")
    for name, made in (("build", new), ("build-older", old)):
        shipped(world, name, made, wheel("other"))
    world.server.project("setuptools", {each.filename: each.data for each in (new, old)})
    assert found(world, ["setuptools"]) == (
        ["setuptools==81.0"],
        "those of nb2image's own lock build for Python 3.11",
    )
    assert found(world, ["setuptools>=40.8"], older=True)[0] == ["setuptools==57.5"]
    assert found(world, ["setuptools>=60"], older=True)[0] == ["setuptools==81.0"]


def test_an_index_that_tells_no_dates_is_as_one_without_a_date(world: World) -> None:
    made = wheel("setuptools", "81.0")
    shipped(world, "build", made)
    offered(world, "setuptools", (made, None))
    assert found(world, ["setuptools"], MOMENT)[0] == ["setuptools==81.0"]


def test_what_no_lock_ships_is_the_newest(world: World) -> None:
    shipped(world, "build", wheel("setuptools", "81.0"))
    offered(world, "tool", *((wheel("tool", version), time) for version, time in RELEASES.items()))
    assert found(world, ["tool<3"]) == (["tool==2.0"], "the newest that the index has")


def test_older_ones_keep_setuptools_with_pkg_resources(world: World) -> None:
    offered(world, "tool", (wheel("tool"), None))
    offered(world, "setuptools", (wheel("setuptools", "81.0"), None), (wheel("setuptools", "82.0"), None))
    assert found(world, ["setuptools", "tool"], older=True)[0] == ["setuptools==81.0", "tool==1.0"]
    assert found(world, ["setuptools", "tool"])[0] == ["setuptools==82.0", "tool==1.0"]


def test_a_requirement_of_another_python_is_none(world: World) -> None:
    assert found(world, ["tomli; python_version < '3.11'"]) == ([], "it needs nothing")


def test_requirements_that_nothing_satisfies_are_named(world: World) -> None:
    offered(world, "tool", (wheel("tool"), None))
    with pytest.raises(SdistFailed) as caught:
        found(world, ["tool>=9"])
    assert caught.value.message == (
        "demo-1.0.tar.gz cannot be built: its build requirements (tool>=9) have no wheels that fit "
        "Python 3.11, glibc 2.36, linux/amd64."
    )
    assert any("tool>=9" in line for line in caught.value.details)
