"""Packages merged into a file system, and what maintainer scripts would have made of it."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from nb2image.bases.debian.archive import BadPackage
from nb2image.bases.debian.assemble import assemble
from nb2image.bases.debian.selection import is_left_out
from nb2image.layers.entry import Entry, HardLink, Link
from tests.unit.bases.making_debs import Files, control, deb


def built(folder: Path, packages: Mapping[str, Files], **extra: Mapping[str, bytes]) -> dict[str, Entry]:
    files = []
    for name, content in packages.items():
        file = folder / f"{name}.deb"
        text = control(name, Multi_Arch="same") if name.startswith("lib") else control(name)
        file.write_bytes(deb(text, content, extra.get(name)))
        files.append((name, file))
    return {entry.path: entry for entry in assemble(files, "amd64")}


def text_of(entries: Mapping[str, Entry], path: str) -> str:
    content = entries[path].content
    assert content is not None
    assert not isinstance(content, (Link, HardLink))
    return b"".join(content.chunks()).decode()


def test_files_of_older_suites_are_placed_below_usr(tmp_path: Path) -> None:
    hard = tarfile.TarInfo()
    hard.type, hard.linkname = tarfile.LNKTYPE, "./bin/gunzip"
    entries = built(
        tmp_path, {"gzip": {"./bin/": None, "./bin/gunzip": b"x", "./bin/uncompress": hard, "./lib64/ld": b""}}
    )
    assert entries["bin"].content == Link("usr/bin")
    assert entries["sbin"].content == Link("usr/sbin")
    assert entries["lib64"].content == Link("usr/lib64")
    assert entries["usr/bin/uncompress"].content == HardLink("usr/bin/gunzip")
    assert text_of(entries, "usr/bin/gunzip") == "x"
    assert "bin/gunzip" not in entries


def test_links_that_a_package_brings_itself_are_taken_over(tmp_path: Path) -> None:
    entries = built(tmp_path, {"base-files": {"./bin": Link("usr/bin"), "./usr/bin/": None}, "b": {"./usr/bin/b": b""}})
    assert entries["bin"].content == Link("usr/bin")
    with pytest.raises(BadPackage, match="its /bin is no link to /usr/bin"):
        built(tmp_path, {"base-files": {"./bin": Link("/opt/bin")}})


def test_two_packages_that_disagree_about_a_file_are_refused(tmp_path: Path) -> None:
    same: Files = {"./bin/x": b"1"}
    assert "usr/bin/x" in built(tmp_path, {"a": same, "b": {"./usr/bin/x": b"1"}})
    with pytest.raises(BadPackage, match="b: its /usr/bin/x is another one than that of a"):
        built(tmp_path, {"a": same, "b": {"./usr/bin/x": b"2"}})


def test_a_file_below_a_link_of_another_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="its /etc/x/passwd lies below a file or link"):
        built(tmp_path, {"a": {"./etc/x": Link("/outside")}, "b": {"./etc/x/passwd": b""}})


def test_a_hard_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    hard = tarfile.TarInfo()
    hard.type, hard.linkname = tarfile.LNKTYPE, "./bin/none"
    with pytest.raises(BadPackage, match="its hard link /usr/bin/x leads nowhere"):
        built(tmp_path, {"a": {"./bin/x": hard}})


def test_files_lose_the_right_to_change_the_user_and_directories_keep_theirs(tmp_path: Path) -> None:
    suid, sticky = tarfile.TarInfo(), tarfile.TarInfo()
    suid.mode, sticky.mode, sticky.type = 0o6755, 0o1777, tarfile.DIRTYPE
    entries = built(tmp_path, {"a": {"./bin/su": suid, "./tmp": sticky}})
    assert entries["usr/bin/su"].mode == 0o755
    assert entries["tmp"].mode == 0o1777


def test_users_come_from_the_master_files_and_all_are_locked(tmp_path: Path) -> None:
    entries = built(
        tmp_path,
        {
            "base-passwd": {
                "./usr/share/base-passwd/passwd.master": b"root:*:0:0:root:/root:/bin/bash\n",
                "./usr/share/base-passwd/group.master": b"root:*:0:\nshadow:*:42:\n",
            }
        },
    )
    assert text_of(entries, "etc/passwd") == (
        "root:x:0:0:root:/root:/bin/bash\nnotebook:x:1001:0:notebook:/home/notebook:/bin/bash\n"
    )
    assert text_of(entries, "etc/group") == "root:x:0:\nshadow:x:42:\n"
    assert text_of(entries, "etc/shadow") == "root:*::0:99999:7:::\nnotebook:*::0:99999:7:::\n"
    assert (entries["etc/shadow"].mode, entries["etc/shadow"].gid) == (0o640, 42)
    home = entries["home/notebook"]
    assert (home.mode, home.uid, home.gid) == (0o775, 0, 0)


def test_certificates_are_joined_in_order_and_linked(tmp_path: Path) -> None:
    folder = "./usr/share/ca-certificates/mozilla"
    entries = built(
        tmp_path, {"ca-certificates": {f"{folder}/B (x).crt": b"B\n", f"{folder}/A.crt": b"A", f"{folder}/n": b""}}
    )
    assert text_of(entries, "etc/ssl/certs/ca-certificates.crt") == "A\nB\n"
    assert entries["etc/ssl/certs/B_=x=.pem"].content == Link("/usr/share/ca-certificates/mozilla/B (x).crt")
    assert entries["usr/lib/ssl/cert.pem"].content == Link("/etc/ssl/certs/ca-certificates.crt")


def test_alternatives_link_to_what_is_there(tmp_path: Path) -> None:
    entries = built(tmp_path, {"mawk": {"./usr/bin/mawk": b""}, "dash": {"./bin/dash": b""}})
    assert entries["usr/bin/awk"].content == Link("/etc/alternatives/awk")
    assert entries["etc/alternatives/awk"].content == Link("/usr/bin/mawk")
    assert entries["usr/bin/sh"].content == Link("dash")
    assert "usr/bin/which" not in entries


def test_shells_are_listed_in_both_spellings(tmp_path: Path) -> None:
    share = "./usr/share/debianutils"
    new: Files = {f"{share}/shells": b"# shells\n/bin/sh\n", f"{share}/shells.d/bash": b"/bin/bash\n"}
    assert (
        text_of(built(tmp_path, {"a": new}), "etc/shells")
        == "# shells\n/bin/sh\n/usr/bin/sh\n/bin/bash\n/usr/bin/bash\n"
    )
    old: Files = {f"{share}/shells": b"/bin/sh\n/bin/bash\n"}
    assert text_of(built(tmp_path, {"a": old}), "etc/shells") == "/bin/sh\n/bin/bash\n"


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("usr/share/man/man1/ls.1.gz", True),
        ("usr/share/man", True),
        ("usr/share/manifest", False),
        ("usr/share/doc/bash", False),
        ("usr/share/doc/bash/copyright", False),
        ("usr/share/doc/bash/changelog.gz", True),
        ("usr/share/locale/de/LC_MESSAGES/bash.mo", True),
        ("usr/share/locale/locale.alias", False),
        ("usr/lib/locale/C.utf8/LC_CTYPE", False),
        ("usr/lib/python3.11/pydoc_data/topics.py", False),
    ],
)
def test_documentation_is_left_out_and_copyright_stays(path: str, left_out: bool) -> None:
    assert is_left_out(path) is left_out


def test_the_status_file_lists_what_is_in_the_image(tmp_path: Path) -> None:
    files: Files = {
        "./": None,
        "./etc/": None,
        "./etc/a.conf": b"x\n",
        "./usr/share/man/man1/a.1.gz": b"",
        "./bin/a": b"",
    }
    extra = {"conffiles": b"/etc/a.conf\n", "md5sums": b"00  usr/share/man/man1/a.1.gz\n11  bin/a\n"}
    entries = built(tmp_path, {"libz": files, "a": {}}, libz=extra)
    assert text_of(entries, "var/lib/dpkg/info/libz:amd64.list") == "/.\n/etc\n/etc/a.conf\n/bin/a\n"
    assert text_of(entries, "var/lib/dpkg/info/libz:amd64.md5sums") == "11  bin/a\n"
    status = text_of(entries, "var/lib/dpkg/status")
    assert status.startswith("Package: a\nStatus: install ok installed\nVersion: 1.0-1\n")
    assert "\nConffiles:\n /etc/a.conf 401b30e3b8b5d629635a5c613cdb7919\nDescription: the package libz\n" in status
    assert status.endswith("\n A longer text.\n\n")


def test_dpkg_reads_the_status_file(tmp_path: Path) -> None:
    query = shutil.which("dpkg-query")
    if query is None:
        pytest.skip("dpkg-query is not installed")
    entries = built(tmp_path, {"libz": {"./bin/a": b""}, "b": {}})
    admin = tmp_path / "admin"
    for path, entry in entries.items():
        if path.startswith("var/lib/dpkg/") and entry.content is not None:
            file = admin / path.removeprefix("var/lib/dpkg/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text_of(entries, path))
    command = [query, f"--admindir={admin}", "--show", "--showformat=${binary:Package} ${Version} ${db:Status-Abbrev}|"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "b 1.0-1 ii |libz:amd64 1.0-1 ii |"


def test_ldconfig_reads_the_cache_of_the_loader(tmp_path: Path) -> None:
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin")
    if ldconfig is None:
        pytest.skip("ldconfig is not installed")
    folder = "./lib/x86_64-linux-gnu"
    files: Files = {f"{folder}/{name}": b"" for name in ("libz.so.1", "libdb-5.3.so", "libz.so.10", "liba.so.2")}
    shlibs = b"libz 1 zlib1g (>= 1)\nlibz 10 zlib\nudeb: libu 1 u\nlibdb 5.3 db\nliba 2 a\nlibgone 1 b\n"
    entries = built(tmp_path, {"libs": files}, libs={"shlibs": shlibs})
    content = entries["etc/ld.so.cache"].content
    assert content is not None
    assert not isinstance(content, (Link, HardLink))
    cache = tmp_path / "cache"
    cache.write_bytes(b"".join(content.chunks()))
    done = subprocess.run([ldconfig, "-p", "-C", str(cache)], capture_output=True, text=True, check=True)
    # The loader searches by halves, so the order matters: numbers count as numbers, the largest first.
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        "libz.so.10", "libz.so.1", "libdb-5.3.so", "liba.so.2",
    ]  # fmt: skip
    assert "=> /lib/x86_64-linux-gnu/libz.so.1\n" in done.stdout


def test_equal_packages_give_equal_entries_in_any_order(tmp_path: Path) -> None:
    packages: dict[str, Files] = {
        "b": {"./etc/": None, "./etc/b": b""},
        "base-files": {"./etc/": None},
        "a": {"./a": b"1"},
    }
    forward = built(tmp_path, packages)
    backward = built(tmp_path, dict(reversed(packages.items())))
    assert list(forward.values()) == list(backward.values())
