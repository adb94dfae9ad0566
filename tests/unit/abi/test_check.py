from __future__ import annotations

from collections.abc import Mapping

from nb2image.abi.base import Library, Provided
from nb2image.abi.check import Findings, Installed, find_missing
from nb2image.abi.elf import Machine, SharedObject
from nb2image.abi.report import tell
from nb2image.abi.rules import Opened, Optional, Rules
from nb2image.progress import Event, Note, Silent

AMD64 = Machine(64, "X86_64")
SITE = "/opt/kernel/lib/python3.11/site-packages"
LIB = "/usr/lib/x86_64-linux-gnu"
BASE = Provided(
    AMD64,
    (LIB,),
    {
        f"{LIB}/libc.so.6": Library("libc.so.6", ("GLIBC_2.2.5", "GLIBC_2.36")),
        f"{LIB}/libz.so.1": Library("libz.so.1", ()),
        "/usr/local/cuda/lib64/libcublas.so.12": Library("libcublas.so.12", ()),
    },
)
NO_RULES = Rules("", (), ())


def installed(
    path: str,
    *needed: str,
    soname: str | None = None,
    runpath: tuple[str, ...] = (),
    versions: Mapping[str, tuple[str, ...]] | None = None,
    machine: Machine = AMD64,
    wheel: str = "demo-1-cp311-cp311-linux_x86_64.whl",
) -> Installed:
    found = SharedObject(machine, soname, needed, (), runpath, versions or {}, ())
    return Installed(wheel.partition("-")[0], "1", wheel, path, f"{SITE}/{path}", found)


def check(*objects: Installed, rules: Rules = NO_RULES) -> Findings:
    packages = sorted({(each.package, each.version, each.filename) for each in objects})
    return find_missing(objects, packages, BASE, "3.11", rules)


def test_a_library_that_nothing_has_is_missing_with_wheel_and_file() -> None:
    (row,) = check(installed("demo/_c.so", "libGL.so.1", "libz.so.1")).missing
    assert (row.soname, row.versions, row.found, row.certain) == ("libGL.so.1", (), None, True)
    assert row.needed_by == (("demo-1-cp311-cp311-linux_x86_64.whl", "demo/_c.so"),)


def test_a_library_too_old_is_missing_by_the_versions_it_lacks() -> None:
    wanted = {"libc.so.6": ("GLIBC_2.2.5", "GLIBC_2.38")}
    (row,) = check(installed("demo/_c.so", "libc.so.6", versions=wanted)).missing
    assert (row.versions, row.found) == (("GLIBC_2.38",), f"{LIB}/libc.so.6")


def test_versions_of_a_library_that_defines_none_are_not_insisted_on() -> None:
    assert not check(installed("demo/_c.so", "libz.so.1", versions={"libz.so.1": ("ZLIB_1.2",)})).missing


def test_libraries_beside_the_object_and_in_sibling_wheels_are_found() -> None:
    rows = check(
        installed("demo/_c.so", "libfoo-1234.so.1", "libcudart.so.12", runpath=("$ORIGIN/../demo.libs",)),
        installed("demo.libs/libfoo-1234.so.1", soname="libfoo-1234.so.1"),
        installed("nvidia/cuda_runtime/lib/libcudart.so.12", soname="libcudart.so.12", wheel="nvidia-1-py3-none-x.whl"),
    )
    assert not rows.missing


def test_a_folder_of_the_base_is_found_by_an_absolute_path_only() -> None:
    assert check(installed("demo/_c.so", "libcublas.so.12")).missing
    assert not check(installed("demo/_c.so", "libcublas.so.12", runpath=("/usr/local/cuda/lib64",))).missing


def test_the_driver_is_the_hosts_and_never_missing() -> None:
    found = check(installed("demo/_c.so", "libcuda.so.1", "libnvidia-ml.so.1"))
    assert not found.missing
    assert [row.soname for row in found.driver] == ["libcuda.so.1", "libnvidia-ml.so.1"]


def test_objects_of_other_processors_and_other_pythons_need_nothing() -> None:
    assert not check(
        installed("demo/_c.cpython-39-x86_64-linux-gnu.so", "libGL.so.1"),
        installed("demo/attach_x86.so", "libGL.so.1", machine=Machine(32, "386")),
        installed("demo/plugin.so", "libpython3.9.so.1.0"),
    ).missing


def test_this_pythons_library_is_missing_where_the_interpreter_has_none() -> None:
    (row,) = check(installed("demo/_c.so", "libpython3.11.so.1.0")).missing
    assert row.soname == "libpython3.11.so.1.0"


def test_what_only_plugins_need_is_uncertain() -> None:
    found = check(
        installed("qt/plugins/platforms/libqxcb.so", "libQtXcb.so.5", "libxcb-icccm.so.4"),
        installed("qt/lib/libQtXcb.so.5", "libxcb-image.so.0", soname="libQtXcb.so.5"),
        installed("qt/QtGui.abi3.so", "libQtGui.so.5"),
        installed("qt/lib/libQtGui.so.5", "libGL.so.1", soname="libQtGui.so.5"),
    )
    assert {row.soname: row.certain for row in found.missing} == {
        "libGL.so.1": True,
        "libxcb-icccm.so.4": False,
        "libxcb-image.so.0": False,
    }


def test_a_library_that_a_package_opens_itself_is_known_by_a_rule() -> None:
    rules = Rules("", (Opened("demo", ">=1", ("libmagic.so.1",), "demo/loader.py", True, "seen"),), ())
    packages = [("demo", "1", "demo-1-py3-none-any.whl")]
    (row,) = find_missing([], packages, BASE, "3.11", rules).missing
    assert (row.soname, row.why, row.needed_by[0][1]) == ("libmagic.so.1", "seen", "demo/loader.py")
    assert not find_missing([], [("demo", "0.9", "x")], BASE, "3.11", rules).missing
    bundled = installed("demo_data/libmagic_x86_64.so")
    assert not find_missing([bundled], packages, BASE, "3.11", rules).missing
    sibling = installed("demo_binary.libs/libmagic-1a2b.so.1", wheel="demo-binary-1-py3-none-x.whl")
    assert not find_missing([sibling._replace(package="demo-binary")], packages, BASE, "3.11", rules).missing
    strange = sibling._replace(package="demo2-binary")
    assert find_missing([strange], packages, BASE, "3.11", rules).missing


def test_an_object_that_its_package_can_do_without_is_uncertain() -> None:
    rules = Rules("", (), (Optional("demo", "demo/tbbpool.*", "tried in turn"),))
    (row,) = check(installed("demo/tbbpool.cpython-311-x86_64-linux-gnu.so", "libtbb.so.12"), rules=rules).missing
    assert not row.certain


def test_a_library_that_its_package_seldom_loads_is_there_for_nobody_else() -> None:
    rules = Rules("", (), (Optional("demo", "demo/libGL.so.1", "where a variable is set"),))
    own = installed("demo/libGL.so.1", "libglapi.so.0", soname="libGL.so.1")
    found = check(installed("demo/_c.so", "libGL.so.1"), own, rules=rules).missing
    assert {row.soname: row.certain for row in found} == {"libGL.so.1": True, "libglapi.so.0": False}
    beside = installed("demo/_c.so", "libGL.so.1", runpath=("$ORIGIN",))
    assert [row.soname for row in check(beside, own, rules=rules).missing] == ["libglapi.so.0"]


def test_what_is_seldom_needed_is_one_note() -> None:
    rules = Rules("", (), (Optional("demo", "demo/attach.so", "put into another process"),))
    wanted = {"libc.so.6": ("GLIBC_2.38",)}
    found = check(installed("demo/attach.so", "libc.so.6", versions=wanted), rules=rules)
    events: list[Event] = []
    tell(found, "bookworm", events.append, strict=True)
    assert [event.text for event in events if isinstance(event, Note)] == [
        "a newer libc.so.6 is missing, too; only what packages load on demand, such as plugins, needs that."
    ]
    assert len(events) == 1


def test_what_to_do_is_said_once_for_all_that_nothing_has() -> None:
    found = check(installed("demo/_c.so", "libGL.so.1", "libEGL.so.1"))
    silent = Silent()
    tell(found, "bookworm", silent, strict=False, besides="Debian bookworm", hint="Do without.")
    assert [event.hint for event in silent.warnings] == ["", "Do without."]
    assert silent.warnings[0].text == (
        "demo-1-cp311-cp311-linux_x86_64.whl: demo/_c.so needs libEGL.so.1, which neither the wheels nor the base "
        "bookworm nor any package of Debian bookworm has."
    )
