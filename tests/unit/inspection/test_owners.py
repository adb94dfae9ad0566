"""Who brought a file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb2image.inspection.document import document, file_rows
from nb2image.inspection.model import Owner
from nb2image.inspection.page import page
from nb2image.layers.entry import HardLink, Link
from tests.unit.inspection.making import SITE, dpkg, file, installed, look_into, owner

DEMO = Owner("wheel", "demo", "1.0", "/usr")
NOBODY = Owner("nobody", "nobody")


def test_a_package_has_the_files_of_its_record_wherever_they_stand() -> None:
    files = installed("demo", "1.0", {"demo/__init__.py": b"1"}, SITE, "../../../bin/demo,,5", "../../../../etc/demo,,")
    found = look_into({**files, "usr/bin/demo": b"#!/x\n", "etc/demo": b"", "etc/other": b""})
    assert {path.path: found.owners[path.owner] for path in found.files} == {
        **dict.fromkeys((*files, "usr/bin/demo", "etc/demo"), DEMO),
        "etc/other": NOBODY,
    }


def test_bytecode_is_that_of_its_sources_package() -> None:
    cache = f"{SITE}/demo/__pycache__"
    found = look_into(
        installed("demo", "1.0", {"demo/one.py": b"1"}),
        {
            f"{cache}/one.cpython-311.pyc": b"123",
            f"{cache}/one.cpython-311.opt-1.pyc": b"12",
            f"{cache}/two.x.pyc": b"1",
        },
    )
    assert owner(found, f"{cache}/one.cpython-311.pyc") == DEMO
    assert owner(found, f"{cache}/one.cpython-311.opt-1.pyc") == DEMO
    assert owner(found, f"{cache}/two.x.pyc") == NOBODY
    assert found.tallies[found.owners.index(DEMO)].bytecode == 5
    assert found.total.bytecode == 6


def test_of_two_packages_that_claim_a_file_the_one_that_states_its_size_has_it() -> None:
    found = look_into({**installed("a", "1", {"x.py": b"1"}), **installed("b", "1", {"x.py": b"22"})})
    assert owner(found, f"{SITE}/x.py").name == "b"
    both = look_into({**installed("a", "1", {"x.py": b"22"}), **installed("b", "1", {"x.py": b"22"})})
    assert owner(both, f"{SITE}/x.py").name == "a"


def test_a_debian_package_has_the_files_of_its_list_through_links_of_folders() -> None:
    found = look_into(
        {
            "lib": Link("usr/lib"),
            "usr/lib/libc.so.6": b"elf",
            **dpkg(("libc6", "2.36-9", "/.\n/lib\n/lib/libc.so.6\n/usr/gone\n"), ("empty", "1:2", "")),
        }
    )
    assert owner(found, "usr/lib/libc.so.6") == Owner("debian", "libc6", "2.36-9")
    assert owner(found, "lib") == Owner("debian", "libc6", "2.36-9")
    assert [found.owners[number].name for number in found.packages] == ["libc6", "empty"]


def test_a_package_that_was_removed_is_none() -> None:
    status = b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    found = look_into({"var/lib/dpkg/status": status, "var/lib/dpkg/info/gone.list": b"/x\n", "x": b""})
    assert owner(found, "x") == NOBODY
    assert found.packages == ()


def test_images_without_a_package_manager_list_their_packages_one_by_one() -> None:
    found = look_into(
        {
            "var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 2026a\n",
            "var/lib/dpkg/status.d/tzdata.md5sums": b"0123  usr/share/zoneinfo/UTC\n",
            "usr/share/zoneinfo/UTC": b"TZif",
        }
    )
    assert owner(found, "usr/share/zoneinfo/UTC") == Owner("debian", "tzdata", "2026a")


def test_a_python_package_that_debian_brought_is_debians() -> None:
    files = installed("demo", "1.0", {"demo.py": b""}, "usr/lib/python3/dist-packages")
    lines = "".join(f"/{path}\n" for path in files)
    found = look_into({**files, **dpkg(("python3-demo", "1.0-1", lines))})
    assert [found.owners[number].kind for number in found.packages] == ["debian"]


def test_what_a_package_carries_inside_it_is_no_package() -> None:
    inner = {f"tool/_vendor/{path}": data for path, data in installed("inner", "3", {"inner.py": b""}, "").items()}
    found = look_into(installed("tool", "1", {path.replace("//", "/"): data for path, data in inner.items()}))
    assert [found.owners[number].name for number in found.packages] == ["tool"]


def test_one_package_in_two_environments_is_two() -> None:
    found = look_into(
        {
            **installed("demo", "1.0", {"demo.py": b"1"}, "opt/a/lib/python3.11/site-packages"),
            **installed("demo", "1.0", {"demo.py": b"1"}, "srv/bundle"),
        }
    )
    assert {found.owners[number].place for number in found.packages} == {"/opt/a", "/srv/bundle"}


def test_a_package_without_a_record_has_its_metadata() -> None:
    found = look_into({f"{SITE}/demo-1.0.dist-info/METADATA": b"Name: demo\n", f"{SITE}/demo.py": b""})
    assert owner(found, f"{SITE}/demo-1.0.dist-info/METADATA") == DEMO
    assert owner(found, f"{SITE}/demo.py") == NOBODY


def test_links_have_no_size_and_say_where_they_lead() -> None:
    found = look_into({"a": b"123", "b": HardLink("a"), "c": Link("a")})
    assert [(each.kind, each.size, each.target) for each in found.files] == [
        ("file", 3, ""),
        ("hardlink", 0, "a"),
        ("symlink", 0, "a"),
    ]


def test_what_later_layers_replace_or_delete_is_hidden_and_counts_once_per_layer() -> None:
    found = look_into(
        {"a": b"1" * 10, "b": b"1" * 20, "d/x": b"1" * 40, "kept": b"1"},
        {"a": b"2" * 5, ".wh.b": b"", "d/.wh..wh..opq": b"", "d/y": b"1"},
        {"a": b"3" * 2},
    )
    assert {(each.path, each.size, each.layer, each.by) for each in found.hidden} == {
        ("a", 10, 0, 2),
        ("b", 20, 0, 1),
        ("d/x", 40, 0, 1),
        ("a", 5, 1, 2),
    }
    assert [layer.hidden for layer in found.layers] == [70, 5, 0]
    assert {each.path for each in found.files} == {"a", "d/y", "kept"}
    assert sum(layer.content for layer in found.layers) == found.total.size + 75


def test_every_file_is_in_exactly_one_part() -> None:
    found = look_into(
        {
            **installed("demo", "1.0", {"demo.py": b"12"}),
            **dpkg(("base-files", "1", "/etc/x\n")),
            "etc/x": b"1",
            "y": b"3",
        }
    )
    assert sum(part.tally.size for part in found.parts) == found.total.size
    assert sum(part.tally.files for part in found.parts) == found.total.files == len(found.files)


def test_names_that_are_no_utf_8_are_written_as_hexadecimal() -> None:
    found = look_into({"caf\udce9": b"1", "to": Link("\udcff")})
    assert file(found, "caf\\xe9").size == 1
    assert file(found, "to").target == "\\xff"


@pytest.mark.parametrize("name", ["opt/nb2image/pylock.toml", "usr/lib/os-release", f"{SITE}/a-1.dist-info/RECORD"])
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200) | st.text(alphabet='",\n\r\\=[]ab1\x00é/.', max_size=120).map(str.encode))
def test_no_content_of_any_list_breaks_an_inspection(name: str, data: bytes) -> None:
    found = look_into({name: data, f"{SITE}/a.py": b""})
    assert document(found)
    assert file_rows(found, found.files)
    assert page(found)


@settings(max_examples=100, deadline=None)
@given(status=st.text(alphabet="Package: a\n\r\x00Versiontu", max_size=150), listed=st.binary(max_size=80))
def test_no_content_of_dpkgs_database_breaks_an_inspection(status: str, listed: bytes) -> None:
    text = f"Package: a\nStatus: install ok installed\n{status}"
    found = look_into({"var/lib/dpkg/status": text.encode(), "var/lib/dpkg/info/a.list": listed})
    assert document(found)
    assert page(found)
