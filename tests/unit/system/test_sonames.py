"""Which package has a library, from an archive on loopback."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import HashMismatch, IndexAnswered, NotCached
from nb2image.system import add
from nb2image.system.installed import installed_in
from nb2image.system.sonames import SonameIndex, packages_with_path, read_sonames
from nb2image.system.wanted import Needed, Wanted
from tests.unit.bases.making_debs import control
from tests.unit.bases.test_debian_provider import Place, place

__all__ = ["place"]

CONTENTS = """\
bin/libre.so.1                                           utils/libre
etc/apt/apt.conf.d/50x                                   admin/apt
lib/x86_64-linux-gnu/libold.so.2                         oldlibs/libold2
usr/lib/aarch64-linux-gnu/libGL.so.1                     libs/cross
usr/lib/libnss3.so                                       libs/libnss3
usr/lib/x86_64-linux-gnu/blas/libblas.so.3               libs/libblas3
usr/lib/x86_64-linux-gnu/libGL.so.1                      libs/libgl1
usr/lib/x86_64-linux-gnu/libGL.so                        libdevel/libgl-dev
usr/lib/x86_64-linux-gnu/libav.so.5                      libs/libav-extra5,libs/libav5,misc/av
usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3   libs/libopenblas0-pthread
usr/lib/x86_64-linux-gnu/private/libGL.so.1              libs/private
usr/share/libshare.so.1                                  libs/share
"""


def publish(place: Place, text: str = CONTENTS) -> None:
    place.archive.contents = gzip.compress(text.encode(), mtime=0)
    place.archive.sign()


def read(place: Place, *, offline: bool = False) -> SonameIndex:
    return read_sonames("bookworm", "amd64", place.store, place.listener, offline=offline, mirrors=place.mirrors)


def test_libraries_in_the_loaders_folders_are_found_best_package_first(place: Place) -> None:
    publish(place)
    names = ["libGL.so.1", "libGL.so", "libav.so.5", "libblas.so.3", "libold.so.2", "libnss3.so", "libno.so.1"]
    assert read(place).packages_with([*names, "libshare.so.1", "libre.so.1"]) == {
        "libGL.so.1": ("libgl1",),
        "libGL.so": ("libgl-dev",),
        "libav.so.5": ("libav5", "libav-extra5", "av"),
        "libblas.so.3": ("libblas3", "libopenblas0-pthread"),
        "libold.so.2": ("libold2",),
        "libnss3.so": ("libnss3",),
        "libno.so.1": (),
        "libshare.so.1": (),
        "libre.so.1": (),
    }


def test_the_index_is_kept_and_asked_for_once(place: Place) -> None:
    publish(place)
    first = read(place)
    place.asked.clear()
    place.mirrors = Mirrors()
    assert read(place) == read(place, offline=True) == first
    assert place.asked == []


def test_offline_without_an_index_says_what_is_missing(place: Place) -> None:
    with pytest.raises(NotCached, match="Which packages of bookworm have which libraries"):
        read(place, offline=True)


def test_a_list_that_the_release_does_not_vouch_for_is_refused(place: Place) -> None:
    publish(place)
    (place.archive.root / "debian/dists/bookworm/main/Contents-amd64.gz").write_bytes(
        gzip.compress(CONTENTS.replace("libgl1", "evil99").encode())
    )
    with pytest.raises(HashMismatch):
        read(place)


def test_a_list_that_is_no_gzip_file_is_an_error_with_a_sentence(place: Place) -> None:
    place.archive.contents = b"\x1f\x8b\x08\x00 damaged"
    place.archive.sign()
    with pytest.raises(IndexAnswered, match="list of files cannot be read"):
        read(place)


def test_a_damaged_index_in_the_cache_is_made_anew(place: Place) -> None:
    publish(place)
    first = read(place)
    records = [path for path in (place.store.root / "v1/records/sonames").rglob("*") if path.is_file()]
    assert len(records) == 2
    for path in records:
        path.write_bytes(path.read_bytes().replace(b"libgl1", b"evil99")[:-3])
    assert read(place) == first


def test_a_list_that_is_one_giant_line_is_given_up_early(place: Place) -> None:
    tracemalloc.start()
    publish(place, "a" * (1 << 28))
    tracemalloc.reset_peak()
    with pytest.raises(IndexAnswered, match="a line has more than 1048576 bytes"):
        read(place)
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()


# -- missing libraries -----------------------------------------------------------------------------


@pytest.fixture
def base(place: Place) -> Base:
    made = place.deliver()
    place.archive.add(control("libgl1", Depends="libglx0"), {"./usr/lib/x86_64-linux-gnu/libGL.so.1": b"GL"})
    place.archive.add(control("libglx0"), {"./usr/lib/x86_64-linux-gnu/libGLX.so.0": b"GLX"})
    publish(place)
    return made


OPENCV = Needed("libGL.so.1", ("opencv-python",))
NOBODY = Needed("libnobody.so.1", ("strange", "stranger"))


def resolved(place: Place, base: Base, *needed: Needed, names: tuple[str, ...] = (), kept: Path | None = None,
             offline: bool = False) -> add.SystemPackages:  # fmt: skip
    wanted = [Wanted(name, "", "apt.txt, line 1") for name in names]
    installed = installed_in(base, place.store)
    return add.resolve(
        wanted, installed, place.store, place.listener,
        needed=needed, offline=offline, kept=kept, mirrors=place.mirrors,
    )  # fmt: skip


def test_a_missing_library_brings_its_package_and_says_why(place: Place, base: Base) -> None:
    found = resolved(place, base, OPENCV)
    assert [deb.name for deb in found.lock.packages] == ["libgl1", "libglx0"]
    assert found.lock.libraries == {"libGL.so.1": "libgl1"}
    assert found.names == ("libgl1",)
    assert found.reasons() == ("opencv-python needs libGL.so.1 (added: libgl1).",)
    assert found.sentence().startswith("Debian packages are added: libgl1 and one more, ")


def test_a_library_that_no_package_has_adds_nothing_and_is_known_to_be_had_nowhere(place: Place, base: Base) -> None:
    found = resolved(place, base, NOBODY)
    assert found.lock.packages == ()
    assert found.lock.libraries == {"libnobody.so.1": ""}
    assert found.reasons() == ()


def test_a_package_that_the_list_of_files_alone_knows_is_passed_over(place: Place, base: Base) -> None:
    publish(place, "usr/lib/x86_64-linux-gnu/libGL.so.1   libs/gone,oldlibs/libgl1\n")
    found = resolved(place, base, Needed("libGL.so.1", ("vision",)))
    assert found.lock.libraries == {"libGL.so.1": "libgl1"}


def test_what_libraries_came_to_is_found_again_without_a_network(place: Place, base: Base) -> None:
    first = resolved(place, base, OPENCV, NOBODY)
    place.mirrors = Mirrors()
    assert resolved(place, base, NOBODY, OPENCV, offline=True).lock == first.lock


def test_a_kept_lock_says_which_package_has_a_library(place: Place, base: Base, tmp_path: Path) -> None:
    kept = tmp_path / "apt.lock"
    first = resolved(place, base, OPENCV, NOBODY)
    kept.write_text(first.lock.text())
    place.store = Store(tmp_path / "other")
    place.mirrors = Mirrors()
    assert resolved(place, base, OPENCV, kept=kept, offline=True).lock == first.lock
    with pytest.raises(NotCached):
        resolved(place, base, Needed("libother.so.1", ("other",)), kept=kept, offline=True)
    assert place.listener.warnings[-1].text == (
        "apt.lock does not say which package has libother.so.1; it is not used."
    )


def test_packages_are_found_by_paths_anywhere_in_the_list(place: Place) -> None:
    publish(place, CONTENTS + "usr/sbin/pg_config                    libdevel/libpq-dev,database/postgresql-common\n")

    def find(pattern: str) -> list[str]:
        return packages_with_path(pattern, "bookworm", "amd64", place.store, place.listener, mirrors=place.mirrors)

    assert find(r"usr/s?bin/pg_config") == ["libpq-dev", "postgresql-common"]
    assert find(r"bin/libre\.so\.1") == ["libre"]
    assert find(r"usr/bin/pg_conf") == []
