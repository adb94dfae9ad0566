"""Root file systems of images, unpacked as an ordinary user."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from pathlib import Path

import pytest

from nb2image.bases.roots import unpacked_root
from nb2image.cache import Store
from nb2image.errors import NotAnImage, Unwritable
from nb2image.image.model import Image
from nb2image.layers.entry import HardLink, Link
from tests.unit.bases.making_debs import tar
from tests.unit.image.making import files_of, image_of, layer_of, layer_of_tar


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def special(kind: bytes, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.mode = kind, mode
    return info


def test_a_root_holds_what_the_layers_make_together(store: Store) -> None:
    image = image_of(
        files_of({"usr/bin/tool": b"old", "usr/bin/gone": b"x", "etc/kept": b"kept"}),
        files_of({"usr/bin/tool": b"new", "usr/bin/.wh.gone": b"", "bin": Link("/usr/bin"), "x/up": Link("../etc")}),
    )
    root = unpacked_root(image, store)
    assert (root / "usr/bin/tool").read_bytes() == b"new"
    assert sorted(path.name for path in (root / "usr/bin").iterdir()) == ["tool"]
    assert (root / "bin").readlink() == Path("/usr/bin")
    assert (root / "x/up/kept").read_bytes() == b"kept"
    assert (root / "etc/kept").stat().st_mtime == 1


def test_names_of_one_file_stay_one_file(store: Store) -> None:
    image = image_of(
        layer_of([("a", b"1"), ("b", HardLink("a")), ("c", HardLink("b")), ("d", HardLink("a"))]),
        layer_of([("d", b"2"), (".wh.a", b"")]),
    )
    root = unpacked_root(image, store)
    assert sorted(path.name for path in root.iterdir()) == ["b", "c", "d"]
    assert (root / "b").read_bytes() == (root / "c").read_bytes() == b"1"
    assert (root / "b").stat().st_ino == (root / "c").stat().st_ino
    assert (root / "d").read_bytes() == b"2"


def test_everything_is_the_users_own_and_nobody_elses_to_change(store: Store) -> None:
    files = {
        "closed": special(tarfile.DIRTYPE, 0o0000),
        "tmp": special(tarfile.DIRTYPE, 0o1777),
        "su": special(tarfile.REGTYPE, 0o6777),
        "secret": special(tarfile.REGTYPE, 0o000),
        "zero": special(tarfile.CHRTYPE),
        "disk": special(tarfile.BLKTYPE),
        "pipe": special(tarfile.FIFOTYPE),
    }
    for info in files.values():
        info.uid = info.gid = 4242
    root = unpacked_root(image_of(layer_of_tar(tar(files))), store)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()}
    assert found == {"closed": 0o700, "tmp": 0o755, "su": 0o755, "secret": 0o400}
    assert {path.stat().st_uid for path in root.iterdir()} == {os.geteuid()}


def test_a_name_that_comes_twice_in_a_layer_has_its_last_content(store: Store) -> None:
    image = image_of(layer_of([("a", b"first"), ("b", HardLink("a")), ("a", b"second")]))
    assert (unpacked_root(image, store) / "a").read_bytes() == b"second"


def test_folders_to_be_mounted_over_are_made(store: Store) -> None:
    image = image_of(files_of({"proc/here": b""}))
    root = unpacked_root(image, store, points=("proc", "var/build"))
    assert (root / "proc/here").is_file()
    assert (root / "var/build").is_dir()
    assert not (unpacked_root(image, store) / "var").exists()
    with pytest.raises(NotAnImage, match="'tmp' is no folder"):
        unpacked_root(image_of(files_of({"tmp": Link("/etc")})), store, points=("tmp/x",))


def test_paths_through_links_of_other_layers_stay_inside(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    image = image_of(
        files_of({"run/old": b"", "var/run": Link("/run"), "up": Link("../../../../../../../run")}),
        layer_of([("var/run/new", b"1"), ("up/higher", b"2"), ("var/run/sub", None), ("var/run/sub/x", b"3")]),
    )
    root = unpacked_root(image, store)
    assert sorted(path.name for path in (root / "run").iterdir()) == ["higher", "new", "old", "sub"]
    assert (root / "run/sub/x").read_bytes() == b"3"


@pytest.mark.parametrize("target", ["{outside}", "../../../../../../../../../../{outside}"])
def test_nothing_is_written_through_a_link_that_leads_out(store: Store, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = image_of(layer_of([("a", Link(target.format(outside=outside))), ("a/b", b"x"), ("a/c", None)]))
    with pytest.raises(NotAnImage, match="'a/b' is in no folder"):
        unpacked_root(hostile, store)
    assert list(outside.iterdir()) == []
    file = image_of(layer_of([("a", Link(str(outside / "new"))), ("a", b"x")]))
    assert (unpacked_root(file, store) / "a").read_bytes() == b"x"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("members", [[("a", b""), ("a/b", b"x")], [("a", HardLink("none"))], [("a", HardLink("a"))]])
def test_an_image_that_is_no_tree_is_refused_and_leaves_nothing(
    store: Store, members: list[tuple[str, bytes | Link | HardLink | None]]
) -> None:
    with pytest.raises(NotAnImage):
        unpacked_root(image_of(layer_of(members)), store)
    assert not list((store.root / "v1").rglob("a"))


def big() -> Image:
    return image_of(files_of({"file": bytes(1 << 16)}))


def test_a_full_disk_is_said_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("nb2image.bases.roots.shutil.copyfileobj", full)
        with pytest.raises(Unwritable, match="No space left on device"):
            unpacked_root(big(), store)
    assert not list((store.root / "v1").rglob("file"))
    assert (unpacked_root(big(), store) / "file").stat().st_size == 1 << 16


def test_a_root_is_unpacked_once_and_marked_as_used(store: Store) -> None:
    root = unpacked_root(big(), store)
    inode = (root / "file").stat().st_ino
    os.utime(root, (0, 0))
    assert unpacked_root(big(), store) == root
    assert (root / "file").stat().st_ino == inode
    assert store.prune(("bases",), older_than=60).files == 0
    os.utime(root, (0, 0))
    assert store.prune(("bases",), older_than=60).files == 1
    assert not root.exists()
