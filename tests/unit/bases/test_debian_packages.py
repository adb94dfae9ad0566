"""Reading packages, and refusing those that are damaged or hostile."""

from __future__ import annotations

import gzip
import lzma
import tarfile
from collections.abc import Callable

import pytest
import zstandard

from nb2image.bases.debian.archive import BadPackage, read_deb
from nb2image.layers.entry import Entry, HardLink, Link
from tests.unit.bases.making_debs import ar, control, deb, tar


def typed(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def read(files: dict[str, bytes | Link | tarfile.TarInfo | None]) -> dict[str, Entry]:
    package = read_deb(deb(control("a"), files), "a")
    return {entry.path: entry for entry in package.entries}


def test_files_links_and_directories_come_with_their_modes() -> None:
    suid = tarfile.TarInfo()
    suid.mode, suid.uid, suid.gid = 0o4755, 1, 42
    entries = read(
        {"./": None, "./bin/": None, "./bin/a": suid, "./bin/b": Link("a"), "./bin/c": typed(b"1", "./bin/a")}
    )
    assert list(entries) == ["bin", "bin/a", "bin/b", "bin/c"]
    assert (entries["bin"].mode, entries["bin"].content) == (0o755, None)
    assert (entries["bin/a"].mode, entries["bin/a"].uid, entries["bin/a"].gid) == (0o4755, 1, 42)
    assert entries["bin/b"].content == Link("a")
    assert entries["bin/c"].content == HardLink("bin/a")


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
def test_members_of_every_compression_are_read(suffix: str, compress: Callable[[bytes], bytes]) -> None:
    members = [
        ("debian-binary", b"2.0\n"),
        (f"control.tar{suffix}", compress(tar({"./control": control("a").encode()}))),
        (f"data.tar{suffix}", compress(tar({"./etc/a": b"text"}))),
    ]
    package = read_deb(ar(members), "a")
    assert [entry.path for entry in package.entries] == ["etc/a"]
    assert package.stanza.startswith("Package: a\n")


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "./../etc/passwd", "/etc/passwd", "./usr//bin", "./usr/./bin", "./usr/a\nb", "./usr/.."]
)
def test_a_path_outside_of_the_root_or_not_in_normal_form_is_refused(path: str) -> None:
    with pytest.raises(BadPackage, match="its member"):
        read({path: b""})


def test_a_hard_link_out_of_the_root_is_refused() -> None:
    with pytest.raises(BadPackage, match="its member"):
        read({"./a": typed(b"1", "../../etc/shadow")})


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(kind: bytes) -> None:
    with pytest.raises(BadPackage, match="neither a file nor a directory nor a link"):
        read({"./dev/sda": typed(kind)})


GOOD = deb(control("a"), {"./etc/a": b"text"})


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"PK\3\4", "no ar archive"),
        (GOOD[:-20], "cut short"),
        (GOOD.replace(b"`\n", b"xx", 1), "damaged ar header"),
        (GOOD.replace(b"2.0\n", b"3.0\n", 1), "format 2"),
        (ar([("debian-binary", b"2.0\n"), ("control.tar", tar({"./control": b"Package: a\n"}))]), "0 members data.tar"),
        (ar([("debian-binary", b"2.0\n"), ("control.tar", tar({})), ("data.tar", tar({}))]), "no control file"),
        (ar([("debian-binary", b"2.0\n"), ("control.tar.xz", b"garbage"), ("data.tar", tar({}))]), "cannot be read"),
        (ar([("debian-binary", b"2.0\n"), ("control.tar.zst", b"garbage"), ("data.tar", tar({}))]), "cannot be read"),
        (ar([("debian-binary", b"2.0\n"), ("control.tar.lz", b""), ("data.tar", tar({}))]), "unknown compression"),
    ],
)
def test_a_damaged_package_is_refused_with_its_name(data: bytes, rule: str) -> None:
    with pytest.raises(BadPackage, match=f"^a.deb: .*{rule}"):
        read_deb(data, "a.deb")


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress])
def test_a_package_that_unpacks_to_far_too_much_is_refused(
    compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nb2image.bases.debian.archive._LARGEST", 20_000)
    suffix = {gzip.compress: "gz", lzma.compress: "xz"}.get(compress, "zst")
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar", tar({"./control": control("a").encode()})),
        (f"data.tar.{suffix}", compress(tar({"./zeros": bytes(30_000)}))),
    ]
    with pytest.raises(BadPackage, match="unpacks to more than 20000 bytes"):
        read_deb(ar(members), "a")
