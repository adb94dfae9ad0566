"""Disks that are full and places that cannot be written: one sentence, nothing half-written, and all is well once there
is room."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from nb2image.cache import Store
from tests.hostile.places import Met, on_small_disks
from tests.reliability.kills import damaged_blobs
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]

ROOM = "size=256m"


@pytest.fixture
def source(world: World) -> Path:
    """A notebook whose wheels are written by worker processes: 9 MB that no compression makes smaller."""
    made = [wheel(f"part-{n}", files={f"part{n}.bin": random.Random(n).randbytes(3_000_000)}) for n in range(3)]
    return world.locked(*made)


def digest(world: World, source: Path) -> str:
    """Of the image of a build to which nothing happens."""
    done = world.run(
        *("build", source, "--base", world.base, "-o", world.folder / "undisturbed.tar", "--json"),
        NB2IMAGE_CACHE_DIR=str(world.folder / "undisturbed"),
    )
    assert done.returncode == 0, done.stderr
    found: str = json.loads(done.stdout)["digest"]
    return found


def met(world: World, place: Path, options: list[str], *arguments: str | Path, **variables: str) -> list[Met]:
    notes = world.folder / f"notes-{len(list(world.folder.iterdir()))}"
    command = world.command(*arguments, "--base", world.base, "--json")
    return on_small_disks(place, options, notes, command, world.work, {**world.environ, **variables})


def refusal(one: Met, *says: str) -> None:
    """One sentence of the right exit code."""
    assert one.code == 60, one.err
    assert one.out == ""
    assert one.err.count("error: ") == 1
    assert "Traceback" not in one.err
    assert "unexpectedly" not in one.err
    for text in says:
        assert text in one.err


def built(one: Met, wanted: str) -> None:
    assert one.code == 0, one.err
    assert json.loads(one.out)["digest"] == wanted


def unfinished(cache: Path) -> list[Path]:
    folder = cache / "v1" / "tmp"
    return list(folder.iterdir()) if folder.is_dir() else []


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Of a cache of 19 MB: room for nothing, in the first and the last download, in the first and the last layer.
@pytest.mark.parametrize("size", ["4k", "8m", "11m", "17m"])
def test_a_cache_without_room(world: World, source: Path, size: str) -> None:
    wanted = digest(world, source)
    full, enough = met(world, world.cache, [f"size={size}", ROOM], "build", source, "-o", "image.tar")
    refusal(full, "No space left on device", str(world.cache), "NB2IMAGE_CACHE_DIR")
    assert unfinished(full.files) == []
    assert list(damaged_blobs(Store(full.files))) == []
    built(enough, wanted)
    assert unfinished(enough.files) == []


@pytest.mark.parametrize("size", ["4k", "5m"])
@pytest.mark.parametrize("name", ["image.tar", "layout"])
def test_an_output_folder_without_room(world: World, source: Path, size: str, name: str) -> None:
    wanted = digest(world, source)
    place = world.folder / "output"
    full, enough = met(world, place, [f"size={size}", ROOM], "build", source, "-o", place / name)
    refusal(full, "No space left on device", str(place))
    assert files(full.files) == []
    built(enough, wanted)


def test_a_bill_of_materials_without_room(world: World, source: Path) -> None:
    wanted = digest(world, source)
    place = world.folder / "output"
    arguments = ("build", source, "-o", "image.tar", "--sbom", place / "sbom.json")
    full, enough = met(world, place, ["size=4k", ROOM], *arguments)
    refusal(full, "No space left on device", "sbom.json")
    assert files(full.files) == []
    built(enough, wanted)
    assert files(enough.files) == ["sbom.json"]


def test_a_folder_for_temporary_files_without_room_is_not_missed(world: World, source: Path) -> None:
    wanted = digest(world, source)
    place = world.folder / "temporary"
    (one,) = met(world, place, ["size=4k"], "build", source, "-o", "image.tar", TMPDIR=str(place))
    built(one, wanted)
    assert files(one.files) == []


def test_a_folder_for_temporary_files_without_room_for_a_packed_base(world: World, source: Path) -> None:
    packed, place = world.folder / "base.tar.gz", world.folder / "temporary"
    with gzip.open(packed, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(world.base, arcname=".")
    world.base = packed
    arguments = ("build", source, "-o", "image.tar")
    full, enough = met(world, place, ["size=4k", ROOM], *arguments, TMPDIR=str(place))
    refusal(full, "No space left on device", "TMPDIR")
    assert files(full.files) == []
    assert enough.code == 0, enough.err
    assert files(enough.files) == []


def test_a_cache_that_is_read_only(world: World, source: Path) -> None:
    wanted = digest(world, source)
    empty, room, again = met(world, world.cache, ["ro", f"rw,{ROOM}", "ro"], "build", source, "-o", "image.tar")
    refusal(empty, "Read-only file system", str(world.cache))
    built(room, wanted)
    # All that this build needs is there.
    built(again, wanted)


@pytest.mark.parametrize("name", ["image.tar", "layout"])
def test_an_output_folder_that_is_read_only(world: World, source: Path, name: str) -> None:
    wanted = digest(world, source)
    place = world.folder / "output"
    arguments = ("build", source, "-o", place / name)
    before, written, kept = met(world, place, ["ro", f"rw,{ROOM}", "ro"], *arguments)
    refusal(before, "Read-only file system", str(place))
    assert files(before.files) == []
    built(written, wanted)
    refusal(kept, "Read-only file system", str(place))
    assert files(kept.files) == files(written.files)


def test_a_notebook_in_a_read_only_folder_is_built_elsewhere(world: World, source: Path) -> None:
    wanted = digest(world, source)
    place = world.folder / "readonly"
    shutil.copytree(world.work, place)
    place.chmod(0o555)
    try:
        (one,) = met(world, world.folder / "output", [ROOM], "build", place / source.name, "-o", "image.tar")
        built(one, wanted)
    finally:
        place.chmod(0o755)


def test_places_without_permission(world: World, source: Path) -> None:
    # Without its capabilities root is an owner like any other, who has taken his own permission away.
    powerless = ["/usr/bin/setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    folders = [world.folder / name for name in ("cache", "output", "home")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o500)

    def said(output: Path, **variables: str) -> str:
        command = world.command("build", source, "--base", world.base, "-o", output)
        environ = {**world.environ, **variables}
        done = subprocess.run([*powerless, *command], cwd=world.work, env=environ, capture_output=True, text=True)
        assert done.returncode == 60, done.stderr
        assert done.stderr.count("error: ") == 1
        assert "Permission denied" in done.stderr
        return done.stderr

    try:
        assert str(world.cache) in said(world.work / "image.tar")
        assert str(world.folder / "home") in said(world.work / "image.tar", NB2IMAGE_CACHE_DIR="")
        other = str(world.folder / "other")
        for name in ("image.tar", "layout"):
            assert str(world.folder / "output") in said(world.folder / "output" / name, NB2IMAGE_CACHE_DIR=other)
        assert [list(folder.iterdir()) for folder in folders[:2]] == [[], []]
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_what_is_written_may_be_read_by_whom_the_user_lets(world: World, source: Path) -> None:
    done = world.run("build", source, "--base", world.base, "-o", "image.tar", "-o", "layout")
    assert done.returncode == 0, done.stderr
    umask = os.umask(0)
    os.umask(umask)
    for path in (world.work / "image.tar", world.work / "layout" / "index.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
