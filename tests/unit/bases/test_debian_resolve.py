"""The closure of dependencies."""

from __future__ import annotations

import pytest

from nb2image.bases.debian.resolve import Alternative, PackageIndex, Stanza, closure, relations
from nb2image.errors import BaseError
from tests.unit.bases.making_debs import control


def index(*stanzas: str, updates: tuple[str, ...] = ()) -> PackageIndex:
    return PackageIndex([("main", "\n".join(stanzas)), ("security", "\n".join(updates))])


def names(packages: PackageIndex, *seeds: str, omitted: tuple[str, ...] = ()) -> list[str]:
    return list(closure(packages, seeds, dict.fromkeys(omitted, "")))


def test_depends_and_pre_depends_are_followed_and_recommends_are_not() -> None:
    packages = index(
        control("a", Depends="b (>= 1.0), c:any", Pre_Depends="d", Recommends="e"),
        *(control(name) for name in "bcde"),
    )
    assert names(packages, "a") == ["a", "b", "c", "d"]


def test_the_first_alternative_that_exists_is_chosen() -> None:
    assert names(index(control("a", Depends="x | c | b"), control("b"), control("c")), "a") == ["a", "c"]


def test_an_alternative_that_is_already_chosen_satisfies() -> None:
    assert names(index(control("a", Depends="c | b"), control("b"), control("c")), "a", "b") == ["a", "b"]


def test_an_alternative_that_is_too_old_is_passed_over() -> None:
    packages = index(control("a", Depends="b (>= 2) | c"), control("b", "1.9~rc1"), control("c"))
    assert names(packages, "a") == ["a", "c"]


def test_a_virtual_package_is_provided() -> None:
    assert names(index(control("a", Pre_Depends="awk"), control("mawk", Provides="awk")), "a") == ["a", "mawk"]


def test_an_unversioned_provides_satisfies_no_versioned_relation() -> None:
    packages = index(control("a", Depends="b (>= 1)"), control("c", Provides="b"), control("d", Provides="b (= 1.2)"))
    assert names(packages, "a") == ["a", "d"]


def test_an_omitted_package_counts_as_satisfied_and_is_not_followed() -> None:
    packages = index(control("a", Depends="debconf (>= 0.5) | debconf-2.0"), control("debconf", Depends="perl"))
    assert names(packages, "a", omitted=("debconf",)) == ["a"]


def test_the_newest_version_of_all_indexes_wins() -> None:
    packages = index(control("a", "1:1.0-1"), updates=(control("a", "1:1.0-1+deb12u1"),))
    chosen = closure(packages, ["a"], {})["a"]
    assert (chosen.field("Version"), chosen.archive) == ("1:1.0-1+deb12u1", "security")
    assert closure(index(control("a", "2.0"), updates=(control("a", "2.0~rc1"),)), ["a"], {})["a"].archive == "main"


def test_circular_dependencies_end() -> None:
    assert names(index(control("a", Depends="b"), control("b", Depends="a")), "a") == ["a", "b"]


def test_an_unsatisfiable_dependency_names_both_sides() -> None:
    with pytest.raises(BaseError, match=r"a depends on b \(>= 2\) \| x, which no package"):
        names(index(control("a", Depends="b (>= 2) | x"), control("b")), "a")


def test_a_seed_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BaseError, match="The package z is not in the index"):
        names(index(control("a")), "z")


def test_relations_keep_operators_and_drop_architectures() -> None:
    assert relations("a:any (>= 1.2~), b | c (<< 3)") == [
        [Alternative("a", ">=", "1.2~")],
        [Alternative("b"), Alternative("c", "<<", "3")],
    ]
    assert relations("") == []


def test_a_folded_field_is_read_to_its_end() -> None:
    stanza = Stanza("", "Package: a\nDepends: b,\n c\nSHA256:\n 12 3 x\n 45 6 y\nVersion: 1")
    assert stanza.field("Depends") == "b,\n c"
    assert stanza.field("SHA256").splitlines() == ["12 3 x", " 45 6 y"]
    assert stanza.field("Version") == "1"
    assert stanza.field("Pre-Depends") == ""
