from __future__ import annotations

from collections.abc import Mapping

import pytest

from nb2image.bases.debian.resolve import PackageIndex
from nb2image.errors import SystemPackagesUnusable
from nb2image.system.installed import Installed, InstalledPackage
from nb2image.system.resolve import resolve_beyond
from nb2image.system.wanted import Wanted
from tests.unit.bases.making_debs import control

BASE = {"libc6": "2.36-9", "libgcc-s1": "12-1"}


def index(*stanzas: str) -> PackageIndex:
    return PackageIndex([("main", "\n".join([control("libc6", "2.36-9"), *stanzas]))])


def added(
    packages: PackageIndex, *names: str, base: Mapping[str, str] = BASE, provides: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Names and versions of what is added to a base for these names (``name=version``)."""
    installed = {
        name: InstalledPackage(version, "amd64", (provides or {}).get(name, "")) for name, version in base.items()
    }
    wanted = [Wanted(*name.partition("=")[::2], "apt.txt, line 1") for name in names]
    found = resolve_beyond(packages, wanted, Installed("bookworm", "amd64", installed))
    return {name: stanza.field("Version") for name, stanza in found.items()}


def test_what_the_base_has_is_not_added() -> None:
    packages = index(control("tool", Depends="libc6 (>= 2.30), libtool"), control("libtool", Depends="libgcc-s1"))
    assert added(packages, "tool") == {"libtool": "1.0-1", "tool": "1.0-1"}
    assert added(packages, "libc6") == {}


def test_what_a_package_of_the_base_provides_is_not_added() -> None:
    packages = index(control("tool", Depends="awk"), control("gawk", Provides="awk"))
    assert added(packages, "tool") == {"gawk": "1.0-1", "tool": "1.0-1"}
    assert added(packages, "tool", base={**BASE, "mawk": "1"}, provides={"mawk": "awk"}) == {"tool": "1.0-1"}


def test_alternatives_that_are_satisfied_come_before_the_first() -> None:
    packages = index(control("tool", Depends="first | second"), control("first"), control("second"))
    assert added(packages, "tool") == {"first": "1.0-1", "tool": "1.0-1"}
    assert added(packages, "tool", "second") == {"second": "1.0-1", "tool": "1.0-1"}


def test_a_package_that_is_too_old_in_the_base_is_renewed_with_all_of_its_source() -> None:
    packages = index(
        control("libfoo", "2-1", Source="foo"), control("foo-bin", "2-1", Source="foo"), control("bar", "2-1"),
        control("tool", Depends="libfoo (>= 2)"),
    )  # fmt: skip
    base = {**BASE, "libfoo": "1-1", "foo-bin": "1-1", "bar": "1-1"}
    assert added(packages, "tool", base=base) == {"foo-bin": "2-1", "libfoo": "2-1", "tool": "1.0-1"}


def test_a_mirror_that_is_behind_the_base_is_refused() -> None:
    packages = index(control("libfoo", "1-1"), control("tool", Depends="libfoo (= 1-1)"))
    with pytest.raises(SystemPackagesUnusable, match="has libfoo 2-1, newer than the 1-1"):
        added(packages, "tool", base={**BASE, "libfoo": "2-1"})


def test_a_name_with_a_typing_error_gets_near_ones() -> None:
    with pytest.raises(
        SystemPackagesUnusable, match=r"apt\.txt, line 1: Debian bookworm has no package grapviz"
    ) as caught:
        added(index(control("graphviz")), "grapviz")
    assert caught.value.hint == "Did you mean graphviz?"


def test_a_name_of_before_the_64_bit_time_transition_is_understood() -> None:
    packages = index(
        control("libglib2.0-0t64", "2.84-1", Provides="libglib2.0-0 (= 2.84-1)"),
        control("libglib-fork", Provides="libglib2.0-0"),
    )
    assert added(packages, "libglib2.0-0") == {"libglib2.0-0t64": "2.84-1"}


def test_a_name_that_several_provide_is_refused_with_them() -> None:
    packages = index(control("exim", Provides="mta"), control("postfix", Provides="mta"))
    with pytest.raises(SystemPackagesUnusable, match="mta is no package of Debian bookworm") as caught:
        added(packages, "mta")
    assert "exim, postfix" in caught.value.hint


def test_a_version_that_the_index_has_not_is_refused_with_the_one_it_has() -> None:
    packages = index(control("tool", "2-1"))
    assert added(packages, "tool=2-1") == {"tool": "2-1"}
    with pytest.raises(SystemPackagesUnusable, match="has tool 2-1 and not 1-1"):
        added(packages, "tool=1-1")


def test_packages_that_conflict_are_refused_by_name() -> None:
    packages = index(control("one", Conflicts="other"), control("two", Provides="other"))
    assert added(packages, "one") == {"one": "1.0-1"}
    with pytest.raises(SystemPackagesUnusable, match="one and two cannot both be installed"):
        added(packages, "one", "two")


def test_a_dependency_that_nothing_satisfies_is_named() -> None:
    with pytest.raises(SystemPackagesUnusable, match=r"tool depends on libc6 \(>= 9\), which no package"):
        added(index(control("tool", Depends="libc6 (>= 9)")), "tool")


def test_packages_that_only_configure_are_left_out_unless_the_base_has_dpkg() -> None:
    packages = index(control("tool", Depends="debconf, perl"), control("debconf"), control("perl"))
    assert added(packages, "tool") == {"perl": "1.0-1", "tool": "1.0-1"}
    assert set(added(packages, "tool", base={**BASE, "dpkg": "1.21"})) == {"debconf", "perl", "tool"}
