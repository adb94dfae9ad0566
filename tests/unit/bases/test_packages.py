"""What a base holds, read from the databases of its packages."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nb2image.bases.facts import read_target
from nb2image.bases.packages import Contents, Distribution, PythonPackage, SystemPackage, contents_of
from nb2image.cache import Store
from nb2image.layers.entry import HardLink, Link
from tests.unit.bases.test_facts import DEBIAN
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import store

__all__ = ["store"]

OS_RELEASE = b'# a comment\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
STATUS = b"""\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u10
Description: GNU C Library
 Version: of a folded line
 .
 More.

Package: python3.11-minimal
Status: install ok installed
Architecture: amd64
Source: python3.11 (3.11.2-6)
Version: 3.11.2-6
Pre-Depends: libc6 (>= 2.36)
Depends: media-types | mime-support, awk, missing

Package: mawk
Status: install ok installed
Architecture: amd64
Version: 1.3.4
Provides: awk, other (= 1)

Package: media-types
Status: hold ok installed
Architecture: all
Version: 10.0

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 1
"""


def contents(store: Store, files: Mapping[str, bytes | Link | HardLink]) -> Contents:
    return contents_of(image_of(files_of(files)), store)


def test_the_packages_that_are_installed_are_found(store: Store) -> None:
    found = contents(store, {"var/lib/dpkg/status": STATUS})
    assert found.complete
    assert found.system == (
        SystemPackage("libc6", "2.36-9+deb12u10", "amd64", "glibc", "2.36-9+deb12u10", ()),
        SystemPackage("mawk", "1.3.4", "amd64", "mawk", "1.3.4", (), "awk, other (= 1)"),
        SystemPackage("media-types", "10.0", "all", "media-types", "10.0", ()),
        SystemPackage(
            "python3.11-minimal",
            "3.11.2-6",
            "amd64",
            "python3.11",
            "3.11.2-6",
            ("libc6:amd64", "mawk:amd64", "media-types:all"),
        ),
    )


def test_one_name_of_two_architectures_is_two_packages(store: Store) -> None:
    paragraph = "Package: {}\nStatus: install ok installed\nArchitecture: {}\nVersion: 1\nDepends: {}\n\n"
    rows = [("libc6", "amd64", ""), ("libc6", "i386", ""), ("a", "amd64", "libc6"), ("b", "i386", "libc6:any")]
    found = contents(store, {"var/lib/dpkg/status": "".join(paragraph.format(*row) for row in rows).encode()})
    assert {package.key: package.requires for package in found.system} == {
        "a:amd64": ("libc6:amd64",),
        "b:i386": ("libc6:i386",),
        "libc6:amd64": (),
        "libc6:i386": (),
    }


def test_a_folder_of_one_file_per_package_is_read_as_well(store: Store) -> None:
    folder = "var/lib/dpkg/status.d"
    files = {
        f"{folder}/tzdata": b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
        f"{folder}/tzdata.md5sums": b"x",
    }
    found = contents(store, files)
    assert [package.key for package in found.system] == ["tzdata:all"]
    assert found.complete


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OS_RELEASE, Distribution("debian", "12", "Debian GNU/Linux 12 (bookworm)")),
        (b"ID=debian\n", Distribution("debian", "", "debian")),
        (b"NAME=nothing\n", None),
    ],
)
def test_the_distribution_names_itself(store: Store, text: bytes, expected: Distribution | None) -> None:
    files: dict[str, bytes | Link | HardLink] = {
        "usr/lib/os-release": text,
        "etc/os-release": Link("../usr/lib/os-release"),
    }
    assert contents(store, files).distribution == expected


def test_python_packages_that_no_package_of_debian_brought_are_found(store: Store) -> None:
    metadata = b"Metadata-Version: 2.1\nName: %s\nVersion: 1.0\n\nName: of the description\n"
    files = {
        "var/lib/dpkg/status": STATUS,
        "usr/local/lib/python3.11/site-packages/pip-1.0.dist-info/METADATA": metadata % b"pip",
        "usr/local/lib/python3.11/site-packages/old.egg-info/PKG-INFO": metadata % b"old",
        "usr/local/lib/python3.11/site-packages/older.egg-info": metadata % b"older",
        "usr/local/lib/python3.11/site-packages/bare-1.0.dist-info/METADATA": b"",
        "usr/local/lib/python3.11/site-packages/pip/_vendor/inner-1.0.dist-info/METADATA": metadata % b"inner",
        "usr/lib/python3/dist-packages/six-1.0.egg-info/PKG-INFO": metadata % b"six",
    }
    folder = "/usr/local/lib/python3.11/site-packages"
    names = ("old", "older", "pip")
    assert contents(store, files).python == tuple(PythonPackage(name, "1.0", folder) for name in names)


def test_a_base_without_a_database_is_known_to_be_unknown(store: Store) -> None:
    found = contents(store, {"lib/apk/db/installed": b"P:musl\n"})
    assert (found.system, found.complete) == ((), False)


def test_bytes_that_are_no_text_do_no_harm(store: Store) -> None:
    found = contents(store, {"var/lib/dpkg/status": b"Package: a\nVersion: 1\xff\nStatus:\n\n\x00\n\nVersion: 2\n"})
    assert found.system == ()


def test_reading_the_facts_of_a_base_notes_its_packages_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_of(
        files_of({**DEBIAN, "var/lib/dpkg/status": STATUS, "etc/os-release": OS_RELEASE}), Env=["PATH=/usr/bin"]
    )
    read_target(image, store)
    known = contents_of(image, store)
    assert len(known.system) == 4
    assert known.distribution is not None
    monkeypatch.setattr("nb2image.bases.packages.read_filesystem", None)
    assert contents_of(image, store) == known
