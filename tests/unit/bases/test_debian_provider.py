"""The provider against an archive on loopback, signed by a key of the test."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from nb2image.bases.debian import provider as module
from nb2image.bases.debian.lock import BaseLock, shipped_lock, shipped_names
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.provider import DebianProvider
from nb2image.bases.debian.selection import SUITES
from nb2image.bases.debian.update import update_locks
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import (
    BadSignature,
    BaseError,
    BasePackagesGone,
    HashMismatch,
    IndexAnswered,
    IndexUnreachable,
    NotCached,
)
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.unit.bases.making_debs import Archive, control, fill, served

AMD64 = Platform("linux", "amd64")


class Place:
    """An archive that is served, mirrors that lead to it, and a store."""

    def __init__(self, archive: Archive, url: str, asked: list[str], store: Store) -> None:
        self.archive = archive
        self.url = url
        self.asked = asked
        self.store = store
        self.listener = Silent()
        self.mirrors = self.mirrors_of(url)

    @staticmethod
    def mirrors_of(*urls: str) -> Mirrors:
        return Mirrors(
            {
                "main": tuple(f"{url}/debian" for url in urls),
                "security": tuple(f"{url}/debian-security" for url in urls),
            }
        )

    def resolve(self) -> BaseLock:
        return update_locks("bookworm", AMD64, self.store, self.listener, mirrors=self.mirrors).base

    def provider(self, *, strict: bool = False, offline: bool = False) -> DebianProvider:
        return DebianProvider(self.store, platform=AMD64, strict=strict, offline=offline, mirrors=self.mirrors)

    def deliver(self, *, strict: bool = False, offline: bool = False) -> Base:
        provider = self.provider(strict=strict, offline=offline)
        (candidate,) = provider.candidates()
        return provider.deliver(candidate, self.listener)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A complete archive; its lock stands for the one that nb2image brings."""
    from pysequoia import Tsk

    key = Tsk.generate("Archive <archive@example.org>")
    monkeypatch.setattr("nb2image.bases.debian.release.trusted_keys", lambda: [key.extract_certificate()])
    monkeypatch.setattr("nb2image.bases.debian.download._PAUSE", 0.0)
    archive = Archive(tmp_path / "archive", key)
    fill(archive)
    with served(archive.root) as (url, asked):
        found = Place(archive, url, asked, Store(tmp_path / "cache"))
        lock = found.resolve()
        monkeypatch.setattr(module, "shipped_lock", lambda suite, _: lock if suite == "bookworm" else None)
        asked.clear()
        yield found


# -- resolving -------------------------------------------------------------------------------------


def test_a_suite_is_resolved_from_its_signed_index(place: Place) -> None:
    lock = place.resolve()
    assert (lock.python, lock.interpreter, lock.glibc) == ("3.11.2", "/usr/bin/python3.11", "2.36")
    assert (lock.release, lock.date) == ("12.9", "2026-11-19T02:12:54Z")
    names = [deb.name for deb in lock.packages]
    assert names == sorted(names)
    assert {"libc6", "python3.11-minimal"} <= set(names)
    assert "dpkg" not in names
    assert BaseLock.read(lock.text(), "lock") == lock


def test_a_security_fix_is_taken_from_its_own_archive(place: Place) -> None:
    place.archive.add(control("bash", "1.0-1+deb12u1"), {}, "-security")
    place.archive.sign()
    (bash,) = (deb for deb in place.resolve().packages if deb.name == "bash")
    assert (bash.version, bash.archive) == ("1.0-1+deb12u1", "security")


def test_an_index_that_somebody_else_signed_is_refused(place: Place) -> None:
    from pysequoia import Tsk

    replace(place.archive, key=Tsk.generate("Other <other@example.org>")).sign()
    with pytest.raises(BadSignature, match="no valid signature"):
        place.resolve()


@pytest.mark.parametrize(("old", "new"), [(b"12.9", b"12.8"), (b"-----BEGIN PGP SIGNED MESSAGE-----", b"")])
def test_an_index_that_was_changed_after_signing_is_refused(place: Place, old: bytes, new: bytes) -> None:
    file = place.archive.root / "debian/dists/bookworm/InRelease"
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(BadSignature):
        place.resolve()


def test_the_index_of_another_suite_is_refused(place: Place) -> None:
    folder = place.archive.root / "debian/dists"
    shutil.copy(folder / "bookworm-updates/InRelease", folder / "bookworm/InRelease")
    with pytest.raises(BadSignature, match="is that of 'bookworm-updates'"):
        place.resolve()


def test_a_packages_file_with_another_hash_is_refused(place: Place) -> None:
    file = place.archive.root / "debian/dists/bookworm/main/binary-amd64/Packages.xz"
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)
    shutil.rmtree(place.store.root)
    with pytest.raises(HashMismatch, match=r"Packages\.xz"):
        place.resolve()


def test_a_mirror_that_hides_the_security_fixes_is_refused(place: Place) -> None:
    shutil.rmtree(place.archive.root / "debian-security/dists")
    with pytest.raises(IndexAnswered, match="404"):
        place.resolve()


def test_an_index_that_should_have_been_renewed_is_warned_of(place: Place) -> None:
    before = place.resolve()
    assert place.listener.warnings == []
    replace(place.archive, valid_until="Thu, 26 Nov 2020 02:12:54 UTC").sign()
    assert place.resolve() == before
    assert "The index of bookworm was to be renewed by 2020-11-26" in place.listener.warnings[0].text


def test_an_architecture_without_index_is_an_error(place: Place) -> None:
    with pytest.raises(IndexAnswered, match="lists no main/binary-riscv64"):
        update_locks("bookworm", Platform("linux", "riscv64"), place.store, place.listener, mirrors=place.mirrors)


# -- delivering --------------------------------------------------------------------------------------


def test_a_base_is_delivered_with_its_facts(place: Place) -> None:
    base = place.deliver()
    assert base.reference == "nb2image.local/debian:bookworm-20261119"
    assert base.target.python == Version("3.11.2")
    assert str(base.target.interpreter) == "/usr/bin/python3.11"
    assert base.notes == ()
    assert base.image.config.env["LANG"] == "C.UTF-8"
    assert base.image.config.document["created"] == "2026-11-19T02:12:54Z"
    (candidate,) = place.provider().candidates()
    assert candidate.target == base.target


def test_a_base_is_the_same_on_every_machine(place: Place, tmp_path: Path) -> None:
    first = place.deliver()
    place.store = Store(tmp_path / "other")
    assert place.deliver().image.digest == first.image.digest


def test_a_base_in_the_cache_needs_no_network(place: Place) -> None:
    first = place.deliver()
    place.asked.clear()
    place.mirrors = Mirrors()
    assert place.deliver(offline=True).image.digest == first.image.digest
    assert place.asked == []


def test_a_pruned_layer_is_assembled_again(place: Place) -> None:
    (layer,) = place.deliver().image.layers
    place.store.prune(("layers",))
    with layer.open() as stream:
        assert "sha256:" + hashlib.sha256(stream.read()).hexdigest() == layer.descriptor.digest


def test_offline_without_the_packages_says_which_are_missing(place: Place) -> None:
    with pytest.raises(NotCached, match="packages of bookworm are not in the cache") as caught:
        place.deliver(offline=True)
    assert "bash 1.0-1" in caught.value.details


def test_a_package_with_another_hash_is_refused_and_not_kept(place: Place) -> None:
    file = place.archive.root / "debian/pool/main/bash_1.0-1.deb"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(HashMismatch, match=r"bash_1\.0-1\.deb has the hash sha256:"):
        place.deliver()
    assert place.store.find("bases", "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()) is None


def test_a_damaged_mirror_is_made_good_by_the_next(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "copy"
    shutil.copytree(place.archive.root, other)
    (place.archive.root / "debian/pool/main/bash_1.0-1.deb").write_bytes(b"damaged")
    (place.archive.root / "debian/pool/main/tar_1.0-1.deb").unlink()
    with served(other) as (url, asked):
        place.mirrors = place.mirrors_of(place.url, url)
        assert place.deliver().notes == ()
        assert sorted(asked) == ["/debian/pool/main/bash_1.0-1.deb", "/debian/pool/main/tar_1.0-1.deb"]


def test_no_mirror_that_answers_is_an_error_of_the_network(place: Place) -> None:
    place.mirrors = place.mirrors_of("http://127.0.0.1:9")
    with pytest.raises(IndexUnreachable, match=r"127\.0\.0\.1:9 cannot be reached"):
        place.deliver()


def test_the_password_of_a_mirror_is_not_said(place: Place) -> None:
    (place.archive.root / "debian/pool/main/bash_1.0-1.deb").unlink()
    place.mirrors = place.mirrors_of(place.url.replace("://", "://me:secret@"), "http://me:secret@127.0.0.1:9")
    with pytest.raises(BasePackagesGone) as gone:
        place.deliver(strict=True)
    (place.archive.root / "debian/dists/bookworm/InRelease").write_bytes(b"damaged")
    with pytest.raises(BadSignature) as damaged:
        place.resolve()
    for error in (gone.value, damaged.value):
        said = " ".join((error.message, error.hint, *error.details))
        assert "****@127.0.0.1" in said
        assert "secret" not in said


def test_no_mirror_at_all_is_an_error_of_the_network(place: Place) -> None:
    place.mirrors = Mirrors()
    with pytest.raises(IndexUnreachable, match="No mirror of Debian's main archive is known"):
        place.deliver()


def supersede(place: Place) -> None:
    """Replace a package of the archive by a newer version."""
    (place.archive.root / "debian/pool/main/bash_1.0-1.deb").unlink()
    place.archive.stanzas[""] = [text for text in place.archive.stanzas[""] if "Package: bash\n" not in text]
    place.archive.add(control("bash", "1.0-2"), {"./bin/bash": b"new"})
    place.archive.sign()


def test_a_base_whose_package_is_gone_is_resolved_anew_and_says_so(place: Place) -> None:
    before = place.deliver()
    place.store.prune(("layers", "bases", "records"))
    supersede(place)
    base = place.deliver()
    assert base.image.digest != before.image.digest
    (note,) = base.notes
    assert "bash 1.0-1 is on no mirror that answers" in note
    assert "digest differs" in note
    assert [warning.text for warning in place.listener.warnings] == [note]


def test_a_base_resolved_anew_stays_the_same_for_the_next_build(place: Place) -> None:
    supersede(place)
    first = place.deliver()
    place.asked.clear()
    assert place.deliver().image.digest == first.image.digest
    assert not any("InRelease" in path for path in place.asked)


def test_strict_forbids_another_base(place: Place) -> None:
    supersede(place)
    with pytest.raises(BasePackagesGone, match=r"bash 1\.0-1 is on no mirror"):
        place.deliver(strict=True)


def test_an_unknown_suite_is_refused(place: Place) -> None:
    (candidate,) = place.provider().candidates()
    with pytest.raises(BaseError, match="no Debian base warty"):
        place.provider().deliver(replace(candidate, name="warty"), place.listener)


# -- the locks that nb2image brings ------------------------------------------------------------------


def test_every_suite_has_a_lock_for_both_architectures() -> None:
    assert shipped_names() == sorted((suite, arch) for suite in SUITES for arch in ("amd64", "arm64"))


@pytest.mark.parametrize(
    ("suite", "python", "glibc"),
    [("bullseye", "3.9", "2.31"), ("bookworm", "3.11", "2.36"), ("trixie", "3.13", "2.41")],
)
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_shipped_locks_have_the_facts_of_their_suites(suite: str, python: str, glibc: str, architecture: str) -> None:
    lock = shipped_lock(suite, Platform("linux", architecture))
    assert lock is not None
    assert (lock.suite, lock.architecture) == (suite, architecture)
    assert lock.target.minor == python
    assert lock.target.glibc == Version(glibc)
    assert lock.size < 31_000_000
    assert all(deb.architecture in {"all", architecture} for deb in lock.packages)
    assert all(deb.file.startswith("pool/") for deb in lock.packages)
    distutils = {"python3-distutils", "python3-lib2to3"} <= {deb.name for deb in lock.packages}
    assert distutils is (suite != "trixie")


def test_candidates_need_neither_network_nor_store(tmp_path: Path) -> None:
    provider = DebianProvider(Store(tmp_path / "none"), platform=AMD64)
    assert [candidate.name for candidate in provider.candidates()] == list(SUITES)
    assert not (tmp_path / "none").exists()
    assert DebianProvider(Store(tmp_path), platform=Platform("linux", "s390x")).candidates() == []


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"python": "x"}, {"date": "today"}, {"packages": [{}]}, {"packages": 3}, {"more": 1}]
)
def test_a_broken_lock_is_refused_with_its_name(change: dict[str, object]) -> None:
    lock = shipped_lock("bookworm", AMD64)
    assert lock is not None
    document = {**json.loads(lock.text()), **change}
    with pytest.raises(BaseError, match=r"^mine\.json is no lock of a Debian base"):
        BaseLock.read(json.dumps(document), "mine.json")


def test_the_digest_of_a_lock_follows_from_its_packages_alone() -> None:
    lock = shipped_lock("bookworm", AMD64)
    assert lock is not None
    assert replace(lock, date="2027-01-01T00:00:00Z").digest == lock.digest
    assert replace(lock, packages=lock.packages[::-1]).digest == lock.digest
    assert replace(lock, packages=lock.packages[1:]).digest != lock.digest
