"""Compilers for Debian bases, against an archive on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nb2image.bases.debian import toolchain as module
from nb2image.bases.debian.lock import BaseLock, Locks, ToolchainLock, shipped_lock, shipped_toolchain
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.selection import SUITES
from nb2image.bases.debian.toolchain import toolchain_image
from nb2image.bases.debian.update import update_locks
from nb2image.bases.facts import read_target
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import BaseError, BasePackagesGone, NoCompiler, NotCached
from nb2image.image.filesystem import read_filesystem
from nb2image.image.model import Config, Image
from nb2image.image.streams import layer_members
from nb2image.target.model import Platform
from tests.unit.bases.making_debs import control
from tests.unit.bases.test_debian_provider import AMD64, Place, place, supersede

__all__ = ["place"]


uses_shipped = pytest.mark.usefixtures("shipped")


@pytest.fixture
def shipped(place: Place, monkeypatch: pytest.MonkeyPatch) -> Locks:
    """The archive's locks stand for those that nb2image brings."""
    locks = update_locks("bookworm", AMD64, place.store, place.listener, mirrors=place.mirrors)
    monkeypatch.setattr(module, "shipped_lock", lambda suite, _: locks.base if suite == "bookworm" else None)
    monkeypatch.setattr(module, "shipped_toolchain", lambda suite, _: locks.toolchain if suite == "bookworm" else None)
    place.asked.clear()
    return locks


def made(place: Place, base: Base, *, offline: bool = False) -> Image:
    return toolchain_image(base, place.store, place.listener, offline=offline, mirrors=place.mirrors)


def names(image: Image) -> set[str]:
    with layer_members(image.layers[-1]) as tar:
        return {info.name.rstrip("/") for info in tar}


def test_the_lock_holds_only_what_the_base_has_not(shipped: Locks) -> None:
    base, toolchain = shipped
    assert {deb.name for deb in toolchain.packages} == {
        "g++", "gcc", "gcc-12", "libc6-dev", "make", "pkg-config", "python3-dev",
    }  # fmt: skip
    assert toolchain.base == base.digest
    assert ToolchainLock.read(toolchain.text(), "lock") == toolchain
    assert list(json.loads(toolchain.text())) == ["format", "suite", "architecture", "date", "base", "packages"]


def test_a_compiler_is_one_more_layer_over_the_base(place: Place, shipped: Locks) -> None:
    base = place.deliver()
    image = made(place, base)
    assert image.layers[:-1] == base.image.layers
    assert image.config == base.image.config
    added = names(image)
    assert {"usr/bin/gcc", "usr/bin/gcc-12", "usr/bin/cc", "etc/alternatives/cc", "var/lib/dpkg/status"} <= added
    assert not added & {"etc/passwd", "usr/bin/bash", "usr/share/man/man1/gcc.1.gz"}
    files = read_filesystem(image, lambda path: path == "var/lib/dpkg/status")
    assert files.resolve("bin/cc") == "usr/bin/gcc-12"
    status = files.read("var/lib/dpkg/status") or b""
    assert status.count(b"Status: install ok installed\n") == len(shipped.base.packages) + len(
        shipped.toolchain.packages
    )
    assert read_target(image) == base.target


@uses_shipped
def test_a_compiler_is_found_again_without_a_network(place: Place) -> None:
    base = place.deliver()
    first = made(place, base)
    place.asked.clear()
    place.mirrors = Mirrors()
    assert made(place, base, offline=True).digest == first.digest
    assert place.asked == []


@uses_shipped
def test_a_compiler_is_the_same_on_every_machine(place: Place, tmp_path: Path) -> None:
    first = made(place, place.deliver())
    place.store = Store(tmp_path / "other")
    assert made(place, place.deliver()).digest == first.digest


@uses_shipped
def test_offline_without_the_packages_says_which_are_missing(place: Place) -> None:
    base = place.deliver()
    with pytest.raises(NotCached, match="7 of the 7 packages of the compiler for bookworm are not in the cache"):
        made(place, base, offline=True)


@uses_shipped
def test_a_base_resolved_anew_has_the_compiler_that_fits_it(place: Place) -> None:
    place.archive.add(control("gcc-12", "1.0-2"), {"./usr/bin/gcc-12": b"newer"})
    supersede(place)
    base = place.deliver()
    assert base.notes
    files = read_filesystem(made(place, base), lambda path: path == "usr/bin/gcc-12")
    assert files.read("usr/bin/gcc-12") == b"newer"


@uses_shipped
def test_a_package_that_is_gone_is_said_with_the_way_out(place: Place) -> None:
    base = place.deliver()
    (place.archive.root / "debian/pool/main/gcc-12_1.0-1.deb").unlink()
    with pytest.raises(BasePackagesGone, match=r"gcc-12 1\.0-1 is on no mirror") as caught:
        made(place, base)
    assert "nb2image bases update" in caught.value.hint


@uses_shipped
def test_a_base_of_others_has_no_compiler(place: Place) -> None:
    base = place.deliver()
    for other in (
        replace(base, reference="registry.example/python:3.11"),
        replace(base, name="/tmp/layout"),
        replace(base, image=Image(Config.new(AMD64), base.image.layers * 2)),
    ):
        with pytest.raises(NoCompiler, match="no compiler for the base") as caught:
            made(place, other)
        assert "bookworm" in caught.value.hint


def test_a_lock_of_another_base_is_refused(place: Place, shipped: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(shipped.toolchain, base="sha256:" + "0" * 64)
    monkeypatch.setattr(module, "shipped_toolchain", lambda *_: other)
    with pytest.raises(BaseError, match="belongs to another base") as caught:
        made(place, place.deliver())
    assert "bases update bookworm" in caught.value.hint


# -- the locks that nb2image brings ------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_shipped_locks_fit_the_shipped_bases(suite: str, architecture: str) -> None:
    platform = Platform("linux", architecture)
    base, toolchain = shipped_lock(suite, platform), shipped_toolchain(suite, platform)
    assert isinstance(base, BaseLock)
    assert toolchain is not None
    assert (toolchain.suite, toolchain.architecture, toolchain.base) == (suite, architecture, base.digest)
    versions = {deb.name: deb.version for deb in (*base.packages, *toolchain.packages)}
    assert len(versions) == len(base.packages) + len(toolchain.packages)
    assert versions["libc6-dev"] == versions["libc6"]
    minor = base.target.minor
    assert versions[f"libpython{minor}-dev"] == versions[f"python{minor}-minimal"]
    assert {"gcc", "g++", "make", "pkg-config", "python3-dev", f"libpython{minor}-dev"} <= versions.keys()
    assert not {"perl", "perl-base", "dpkg", "dpkg-dev"} & versions.keys()


def test_a_broken_lock_is_refused_with_its_name(shipped: Locks) -> None:
    document = {**json.loads(shipped.toolchain.text()), "base": None, "more": 1}
    with pytest.raises(BaseError, match=r"^mine\.json is no lock of the compiler for a Debian base"):
        ToolchainLock.read(json.dumps(document), "mine.json")
