"""System packages over a base, from a signed archive on loopback; whole builds of a notebook with an ``apt.txt``."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from nb2image.bases.debian.archive import BadPackage
from nb2image.bases.debian.lock import SystemLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.model import Base
from nb2image.bases.packages import contents_of
from nb2image.build import Built
from nb2image.cache import Store
from nb2image.errors import BasePackagesGone, HashMismatch, NotCached, SystemPackagesUnusable
from nb2image.image.filesystem import FileSystem, read_filesystem
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.streams import layer_members
from nb2image.layers.entry import Link
from nb2image.progress import Note, Silent, Warned
from nb2image.system import add
from nb2image.system.installed import installed_in
from nb2image.system.wanted import Wanted
from tests.unit.bases.making_debs import control
from tests.unit.bases.test_debian_provider import Place, place
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import heard, machine, server
from tests.unit.world import World, wheel, world

__all__ = ["heard", "machine", "place", "server", "world"]

LIBRARY = b"\x7fELF library"
FILES = {
    "libdraw1": {
        "./lib/x86_64-linux-gnu/libdraw.so.1": LIBRARY,
        "./usr/share/doc/libdraw1/copyright": b"free\n",
        "./usr/share/doc/libdraw1/changelog.gz": b"news",
        "./usr/share/man/man3/draw.3.gz": b"page",
        "./etc/draw.conf": b"colour = red\n",
        "./var/run/draw/": None,
    },
    "draw": {"./usr/bin/": None, "./usr/bin/draw-1": b"\x7fELF", "./usr/lib/draw/": None},
}
CONTROLS = {
    "libdraw1": {
        "shlibs": b"libdraw 1 libdraw1\n",
        "conffiles": b"/etc/draw.conf\n",
        "md5sums": b"".join(
            f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {path}\n".encode()
            for path, data in (
                ("lib/x86_64-linux-gnu/libdraw.so.1", LIBRARY),
                ("usr/share/man/man3/draw.3.gz", b"page"),
            )
        ),
    },
    "draw": {
        "postinst": b"#!/bin/sh\nset -e\nupdate-alternatives --install /usr/bin/draw draw \\\n  /usr/bin/draw-1 30 "
        b"--slave /usr/share/man/man1/draw.1.gz draw.1.gz /usr/share/man/man1/draw-1.1.gz\nadduser --system draw\n"
    },
}


def offer(place: Place) -> None:
    place.archive.add(control("libdraw1", Multi_Arch="same"), FILES["libdraw1"], extra=CONTROLS["libdraw1"])
    place.archive.add(control("draw", Depends="libdraw1, bash, dpkg"), FILES["draw"], extra=CONTROLS["draw"])
    place.archive.sign()


def wanted(*names: str) -> tuple[Wanted, ...]:
    return tuple(Wanted(name, "", "apt.txt, line 1") for name in names)


def resolved(place: Place, base: Base, *names: str, **options: Any) -> add.SystemPackages:
    installed = installed_in(base, place.store)
    given = {"offline": False, "mirrors": place.mirrors, **options}
    return add.resolve(wanted(*names), installed, place.store, place.listener, **given)


def laid(place: Place, base: Base, *names: str, offline: bool = False) -> Image:
    """The base with these packages."""
    lock = resolved(place, base, *names, offline=offline).lock
    installed = installed_in(base, place.store)
    layer = add.system_layer(base, installed, lock, place.store, place.listener, offline=offline, mirrors=place.mirrors)
    return base.image.with_layers([layer])


def top(image: Image) -> set[str]:
    with layer_members(image.layers[-1]) as tar:
        return {info.name.rstrip("/") for info in tar}


def files(image: Image) -> FileSystem:
    return read_filesystem(image, lambda path: path.startswith(("var/lib/dpkg/", "etc/")))


@pytest.fixture
def base(place: Place) -> Base:
    made = place.deliver()
    offer(place)
    return made


def test_packages_are_one_layer_with_what_they_depend_on(place: Place, base: Base) -> None:
    image = laid(place, base, "draw")
    assert top(image) == {
        "etc", "etc/alternatives", "etc/alternatives/draw", "etc/draw.conf", "etc/ld.so.cache",
        "run", "run/draw", "usr", "usr/bin", "usr/bin/draw", "usr/bin/draw-1", "usr/lib", "usr/lib/draw",
        "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/libdraw.so.1", "usr/share", "usr/share/doc",
        "usr/share/doc/libdraw1", "usr/share/doc/libdraw1/copyright", "var", "var/lib", "var/lib/dpkg",
        "var/lib/dpkg/alternatives", "var/lib/dpkg/alternatives/draw", "var/lib/dpkg/info",
        "var/lib/dpkg/info/draw.list", "var/lib/dpkg/info/libdraw1:amd64.conffiles",
        "var/lib/dpkg/info/libdraw1:amd64.list", "var/lib/dpkg/info/libdraw1:amd64.md5sums", "var/lib/dpkg/status",
    }  # fmt: skip
    found = files(image)
    assert found.resolve("bin/draw") == "usr/bin/draw-1"
    assert found.read("var/lib/dpkg/alternatives/draw") == (
        b"auto\n/usr/bin/draw\ndraw.1.gz\n/usr/share/man/man1/draw.1.gz\n\n"
        b"/usr/bin/draw-1\n30\n/usr/share/man/man1/draw-1.1.gz\n\n"
    )


def test_the_database_lists_base_and_packages_and_only_files_that_are_there(place: Place, base: Base) -> None:
    before = {package.name for package in contents_of(base.image, place.store).system}
    image = laid(place, base, "draw")
    assert {package.name for package in contents_of(image, place.store).system} == before | {"draw", "libdraw1"}
    found = files(image)
    status = (found.read("var/lib/dpkg/status") or b"").decode()
    colour = hashlib.md5(b"colour = red\n", usedforsecurity=False).hexdigest()
    assert f"Conffiles:\n /etc/draw.conf {colour}\n" in status
    assert status.count("Status: install ok installed\n") == len(before) + 2
    sums = found.read("var/lib/dpkg/info/libdraw1:amd64.md5sums") or b""
    assert [line.split()[1] for line in sums.decode().splitlines()] == ["lib/x86_64-linux-gnu/libdraw.so.1"]
    listed = (found.read("var/lib/dpkg/info/libdraw1:amd64.list") or b"").decode().split()
    assert "/usr/share/man/man3/draw.3.gz" not in listed
    assert all(path == "/." or found.resolve(path[1:]) for path in listed)


def test_the_loaders_cache_has_libraries_of_both(place: Place, base: Base) -> None:
    cache = files(laid(place, base, "draw")).read("etc/ld.so.cache") or b""
    assert b"/lib/x86_64-linux-gnu/libdraw.so.1\0" in cache
    before = files(base.image).read("etc/ld.so.cache") or b""
    count = struct.Struct("<20sI")
    assert count.unpack_from(cache)[1] == count.unpack_from(before)[1] + 1


def test_what_scripts_would_do_beyond_is_said(place: Place, base: Base) -> None:
    notes: list[str] = []
    place.listener = lambda event: notes.append(event.text) if isinstance(event, Note) else None  # type: ignore[assignment]
    laid(place, base, "draw")
    assert [note for note in notes if "maintainer scripts of draw do more" in note]


def test_the_same_packages_are_found_again_without_a_network(place: Place, base: Base) -> None:
    first = laid(place, base, "draw")
    place.asked.clear()
    place.mirrors = Mirrors()
    assert laid(place, base, "draw", offline=True).digest == first.digest
    assert place.asked == []


def test_another_machine_makes_the_same_layer(place: Place, base: Base, tmp_path: Path) -> None:
    first = laid(place, base, "draw")
    place.store = Store(tmp_path / "other")
    assert laid(place, place.deliver(), "draw").digest == first.digest


def test_offline_without_a_resolution_says_how_to_keep_one(place: Place, base: Base) -> None:
    with pytest.raises(NotCached, match="Which packages draw need") as caught:
        resolved(place, base, "draw", offline=True)
    assert "apt.lock" in caught.value.hint


def test_a_kept_lock_decides_after_the_archive_has_moved_on(place: Place, base: Base, tmp_path: Path) -> None:
    kept = tmp_path / "apt.lock"
    first = resolved(place, base, "draw").lock
    kept.write_text(first.text())
    place.archive.add(control("libdraw1", "1.0-2"), FILES["libdraw1"])
    place.archive.sign()
    place.store = Store(tmp_path / "other")
    assert resolved(place, base, "draw", kept=kept, offline=True).lock == first
    assert {d.version for d in resolved(place, base, "draw").lock.packages} == {"1.0-1", "1.0-2"}


def test_a_kept_lock_for_other_packages_is_a_warning_and_with_strict_an_error(
    place: Place, base: Base, tmp_path: Path
) -> None:
    kept = tmp_path / "apt.lock"
    kept.write_text(resolved(place, base, "libdraw1").lock.text())
    with pytest.raises(SystemPackagesUnusable, match=r"apt\.lock is for other packages \(libdraw1\)"):
        resolved(place, base, "draw", kept=kept, strict=True)
    assert len(resolved(place, base, "draw", kept=kept).lock.packages) == 2
    assert [warning.text for warning in place.listener.warnings if isinstance(warning, Warned)] == [
        "apt.lock is for other packages (libdraw1); it is not used."
    ]


def test_a_package_of_the_base_that_is_too_old_is_replaced_whole(place: Place, base: Base) -> None:
    place.archive.add(control("bash", "2.0-1"), {"./usr/bin/bash": b"newer", "./usr/bin/rbash": Link("bash")})
    place.archive.add(control("newtool", Depends="bash (>= 2)"), {"./usr/bin/newtool": b""})
    place.archive.sign()
    image = laid(place, base, "newtool")
    found = read_filesystem(image, lambda path: path == "usr/bin/bash")
    assert found.read("usr/bin/bash") == b"newer"
    versions = {package.name: package.version for package in contents_of(image, place.store).system}
    assert versions["bash"] == "2.0-1"


def test_what_a_replaced_package_no_longer_brings_is_hidden(place: Place, base: Base) -> None:
    place.archive.add(control("hostname", "2.0-1"), {"./usr/bin/hostname": b"newer"})
    place.archive.add(control("newtool", Depends="hostname (>= 2)"), {"./usr/bin/newtool": b""})
    place.archive.sign()
    image = laid(place, base, "newtool")
    assert "usr/share/doc/hostname/.wh.copyright" in top(image)
    assert files(image).resolve("usr/share/doc/hostname/copyright") is None


def test_a_file_of_another_package_of_the_base_is_refused(place: Place, base: Base) -> None:
    place.archive.add(control("thief"), {"./bin/bash": b"other"})
    place.archive.sign()
    with pytest.raises(BadPackage, match="its /usr/bin/bash is that of bash in the base"):
        laid(place, base, "thief")


def test_a_package_that_is_gone_is_said_with_the_way_out(place: Place, base: Base) -> None:
    resolved(place, base, "draw")
    (place.archive.root / "debian/pool/main/draw_1.0-1.deb").unlink()
    with pytest.raises(BasePackagesGone, match=r"draw 1\.0-1 is on no mirror"):
        laid(place, base, "draw")


def test_a_package_with_another_hash_than_the_signed_one_is_refused(place: Place, base: Base) -> None:
    lock = resolved(place, base, "draw").lock
    file = place.archive.root / "debian/pool/main/draw_1.0-1.deb"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(HashMismatch, match=r"draw_1\.0-1\.deb has the hash sha256:"):
        laid(place, base, "draw")
    (draw,) = (deb for deb in lock.packages if deb.name == "draw")
    assert place.store.find("bases", draw.digest) is None
    file.write_bytes(data)
    assert "usr/bin/draw-1" in top(laid(place, base, "draw"))


def test_a_base_of_another_distribution_is_refused(place: Place) -> None:
    release = {"etc/os-release": b'ID="rocky"\nPRETTY_NAME="Rocky Linux 9.4"\n'}
    made = place.deliver()
    other = Base("other", image_of(files_of(release)), made.target, "localhost/other:1")
    with pytest.raises(SystemPackagesUnusable, match=r"come from Debian, and the base other is Rocky Linux 9\.4"):
        installed_in(other, place.store)


# -- whole builds ------------------------------------------------------------------------------------


@pytest.fixture
def notebook(world: World, place: Place, base: Base, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook beside an ``apt.txt`` and a Debian base in a layout."""
    monkeypatch.setattr(Mirrors, "of_this_machine", lambda: place.mirrors)
    world.base = world.folder / "debian"
    write_layout(base.image, ["debian:1"], world.base, Silent())
    source = world.locked(wheel("six"))
    (source.parent / "apt.txt").write_text("draw # pictures\n")
    return source


def labels(built: Built) -> dict[str, str]:
    return dict(built.image.config.labels)


def test_a_build_has_the_packages_between_base_and_environments(world: World, notebook: Path) -> None:
    built = world.build(notebook)
    assert built.image.layers[1].comment == "Debian bookworm: 2 packages for draw"
    assert built.plan.system is not None
    assert labels(built)["io.nb2image.system.packages"] == "draw=1.0-1"
    assert labels(built)["io.nb2image.system.lock.digest"] == built.plan.system.lock.digest
    assert SystemLock.read(built.system_lock, "apt.lock") == built.plan.system.lock
    assert world.build(notebook, cache="other").image.digest == built.image.digest


def test_the_bill_of_materials_has_added_packages_and_who_needs_them(world: World, notebook: Path) -> None:
    document = json.loads(world.build(notebook).sbom)
    added = {
        c["name"]: {p["name"]: p["value"] for p in c["properties"]}["nb2image:added"]
        for c in document["components"]
        if c["bom-ref"].startswith("system:")
    }
    assert added == {"draw": "asked for", "libdraw1": "depended on"}
    requires = {row["ref"]: row.get("dependsOn", []) for row in document["dependencies"]}
    (draw,) = (ref for ref in requires["image"] if ref.startswith("system:"))
    assert "/draw@" in draw
    assert any("/libdraw1@" in ref for ref in requires[draw])
    assert not any(ref.startswith("system:") for ref in requires["base"])


def test_a_notebook_without_packages_to_add_stays_as_it_was(world: World, notebook: Path) -> None:
    (notebook.parent / "apt.txt").unlink()
    without = world.build(notebook)
    (notebook.parent / "apt.txt").write_text("# nothing\n")
    assert world.build(notebook).image.digest == without.image.digest
    with pytest.raises(SystemPackagesUnusable, match="nothing to lock"):
        without.system_lock  # noqa: B018  (raises)


def test_what_the_base_has_is_no_layer(world: World, notebook: Path) -> None:
    (notebook.parent / "apt.txt").write_text("bash\n")
    built = world.build(notebook)
    assert built.plan.system is not None
    assert built.plan.system.sentence() == "The base has all that was asked for: bash."
    assert labels(built)["io.nb2image.system.packages"] == "bash"


def test_a_kept_lock_makes_the_same_image_on_a_machine_without_a_mirror_index(
    world: World, notebook: Path, place: Place
) -> None:
    first = world.build(notebook)
    (notebook.parent / "apt.lock").write_bytes(first.system_lock)
    (place.archive.root / "debian/dists/bookworm/InRelease").unlink()
    assert world.build(notebook, cache="other").image.digest == first.image.digest
