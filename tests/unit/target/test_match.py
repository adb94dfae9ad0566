"""Selecting files and matching a base: the best wheel, the right base, and reasons a person can act on."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import PurePosixPath

import pytest
from packaging.markers import Marker
from packaging.pylock import Package, PackageSdist, PackageWheel
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.bases.model import Candidate
from nb2image.errors import LockedTwice, NoMatchingBase, NoMatchingFiles
from nb2image.lock.model import Lock, new_pylock
from nb2image.target.match import Wishes, match
from nb2image.target.model import Platform, Target
from nb2image.target.select import nearest, offers, select


def target(python: str = "3.11.2", glibc: str = "2.36", architecture: str = "amd64") -> Target:
    minor = ".".join(python.split(".")[:2])
    return Target(
        Platform("linux", architecture),
        Version(python),
        PurePosixPath(f"/usr/bin/python{minor}"),
        PurePosixPath("/usr/lib/python3/dist-packages"),
        Version(glibc),
    )


def candidate(name: str, python: str, glibc: str, size: int = 30_000_000) -> Candidate:
    return Candidate(name, target(python, glibc), size, "for a test")


CANDIDATES = (
    candidate("bullseye", "3.9.2", "2.31"),
    candidate("bookworm", "3.11.2", "2.36"),
    candidate("trixie", "3.13.5", "2.41"),
)


def package(
    name: str,
    *tags: str,
    version: str = "1.0",
    sdist: bool = False,
    marker: str | None = None,
    requires_python: str | None = None,
) -> Package:
    wheels = [
        PackageWheel(name=f"{name.replace('-', '_')}-{version}-{tag}.whl", hashes={"sha256": "0" * 64}) for tag in tags
    ]
    return Package(
        name=canonicalize_name(name),
        version=Version(version),
        wheels=wheels or None,
        sdist=PackageSdist(name=f"{name}-{version}.tar.gz", hashes={"sha256": "1" * 64}) if sdist else None,
        marker=Marker(marker) if marker else None,
        requires_python=SpecifierSet(requires_python) if requires_python else None,
    )


def lock(*packages: Package, python: str | None = None) -> Lock:
    return Lock(new_pylock(packages), "Pipfile.lock", python=python)


def chosen(*packages: Package, on: Target | None = None) -> list[str]:
    return [wheel.filename for _, wheel in select(lock(*packages), on or target()).chosen]


def test_the_wheel_with_the_best_tag_wins() -> None:
    tags = ("py3-none-any", "cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_28_x86_64", "cp37-abi3-any")
    assert chosen(package("a", *tags)) == ["a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"]


def test_of_two_builds_the_later_one_wins() -> None:
    found = chosen(package("a", "2-py3-none-any", "10-py3-none-any", "py3-none-any"))
    assert found == ["a-1.0-10-py3-none-any.whl"]


def test_a_wheel_of_another_architecture_is_not_taken() -> None:
    both = package("a", "cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_17_aarch64")
    assert chosen(both, on=target(architecture="arm64")) == ["a-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"]


def test_a_marker_of_another_platform_excludes_the_package() -> None:
    selection = select(lock(package("a", "py3-none-any", marker="sys_platform == 'win32'")), target())
    assert (selection.chosen, selection.skipped, selection.complete) == ((), ("a",), True)


def test_one_of_two_versions_for_different_pythons_is_taken() -> None:
    old = package("a", "py3-none-any", version="1.0", marker="python_version < '3.10'")
    new = package("a", "py3-none-any", version="2.0", marker="python_version >= '3.10'")
    assert chosen(old, new) == ["a-2.0-py3-none-any.whl"]


def test_two_versions_for_one_python_are_refused() -> None:
    with pytest.raises(LockedTwice, match=r"locks a twice for Python 3\.11.*1\.0 and 2\.0"):
        select(lock(package("a", "py3-none-any"), package("a", "py3-none-any", version="2.0")), target())


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (package("a", sdist=True), "only a source distribution"),
        (package("a", "cp39-cp39-manylinux_2_17_x86_64"), "no wheel for Python 3.11 on linux/amd64"),
        (package("a", "cp311-cp311-manylinux_2_39_x86_64"), "its wheels need glibc ≥ 2.39"),
        (package("a", "py3-none-any", requires_python=">=3.12"), "needs Python >=3.12"),
    ],
)
def test_a_miss_says_why(missing: Package, reason: str) -> None:
    (miss,) = select(lock(missing), target()).misses
    assert miss.reason == reason


def test_what_the_lock_offers_is_summed_up() -> None:
    one = package(
        "a",
        *(f"cp{v}-cp{v}-manylinux_2_17_x86_64" for v in (36, 37, 38, 310)),
        "cp36-cp36m-macosx_10_9_x86_64",
        "cp36-cp36m-win_amd64",
        sdist=True,
    )
    assert offers(one) == "cp36: Windows, macOS; cp36–cp38 cp310: glibc 2.17 x86_64; source distribution"


def test_the_nearest_target_satisfies_the_most_and_names_its_glibc() -> None:
    found = nearest(
        lock(
            package("a", "cp39-cp39-manylinux_2_27_x86_64", "cp38-cp38-manylinux_2_17_x86_64"),
            package("b", "cp39-cp39-manylinux_2_12_x86_64"),
            package("c", "py3-none-any"),
        ),
        target(),
    )
    assert str(found) == "Python 3.9 on glibc ≥ 2.27 would satisfy all 3"


def test_the_base_with_the_python_of_the_lock_is_chosen_with_reasons() -> None:
    found = match(lock(package("a", "py3-none-any"), python="3.11"), CANDIDATES, Wishes())
    assert found.candidate.name == "bookworm"
    assert found.reasons == (
        "Pipfile.lock asks for Python 3.11, and it has 3.11.2",
        "each of the 1 packages has a wheel for it (glibc 2.36)",
    )
    assert {row.name: row.reason for row in found.rows}["trixie"] == "Python 3.13, and Pipfile.lock asks for 3.11"


def test_of_two_bases_of_one_python_the_newer_glibc_then_the_smaller_wins() -> None:
    candidates = (
        candidate("old", "3.11.1", "2.31", 1),
        candidate("large", "3.11.1", "2.36", 200),
        candidate("small", "3.11.1", "2.36", 100),
    )
    assert match(lock(package("a", "py3-none-any"), python="3.11"), candidates, Wishes()).candidate.name == "small"


def test_a_base_that_lacks_a_wheel_gives_way_to_one_that_does_not() -> None:
    candidates = (candidate("old", "3.11.1", "2.31"), candidate("new", "3.11.1", "2.41"))
    locked = lock(package("a", "cp311-cp311-manylinux_2_39_x86_64"), python="3.11")
    assert match(locked, candidates, Wishes()).candidate.name == "new"


def test_another_python_is_never_taken_silently_and_the_one_that_would_do_is_named() -> None:
    locked = lock(package("a", "cp38-cp38-any", "cp39-cp39-manylinux_2_17_x86_64"), python="3.8")
    with pytest.raises(NoMatchingBase, match=r"No base has Python 3\.8 \(Pipfile\.lock\)") as caught:
        match(locked, CANDIDATES, Wishes())
    assert "--python 3.9" in caught.value.hint


def test_packages_that_another_python_has_no_wheel_of_are_told_with_the_doubt() -> None:
    locked = lock(package("a", "cp38-cp38-linux_x86_64", sdist=True), package("b", "py3-none-any"), python="3.8")
    with pytest.raises(NoMatchingBase) as caught:
        match(locked, CANDIDATES[:1], Wishes(build_sdists=True))
    assert caught.value.hint.startswith(
        "1 of the 2 locked packages have a wheel for Python 3.9, and 1 would be built from source distributions "
        "(compiling 1 of them, whose wheels are for other Pythons, may well fail): build with --python 3.9 "
    )


def test_a_python_that_no_notebook_can_be_started_on_is_said_and_no_image_with_it_asked_for() -> None:
    with pytest.raises(NoMatchingBase) as caught:
        match(lock(package("a", "py3-none-any"), python="3.8"), CANDIDATES, Wishes(pythons=("3.9", "3.10", "3.11")))
    assert caught.value.message.endswith("nb2image starts notebooks on Python 3.9 to 3.11 only.")
    assert "--base" not in caught.value.hint


def test_of_two_pythons_equally_near_the_one_whose_base_is_mended_is_named() -> None:
    past = replace(CANDIDATES[0], end_of_life=date(2026, 8, 31))
    with pytest.raises(NoMatchingBase) as caught:
        match(
            lock(package("a", "py3-none-any"), python="3.10"), (past, CANDIDATES[1]), Wishes(today=date(2026, 11, 21))
        )
    assert "build with --python 3.11 " in caught.value.hint


REMOTE = (
    candidate("registry.example/python:3.10-old", "3.10.0", "2.31"),
    candidate("registry.example/python:3.10", "3.10.0", "2.36"),
    candidate("registry.example/python:3.11", "3.11.0", "2.41"),
)


def test_a_base_that_a_registry_has_is_named_where_none_here_has_the_python() -> None:
    with pytest.raises(NoMatchingBase) as caught:
        match(lock(package("a", "py3-none-any"), python="3.10"), CANDIDATES, Wishes(), None, lambda: REMOTE)
    assert caught.value.hint.startswith(
        "A registry has a base that fits: --base registry.example/python:3.10. Each of the 1 locked packages"
    )


def test_a_base_that_a_registry_has_is_named_where_the_glibc_here_is_too_old() -> None:
    locked = lock(package("a", "cp311-cp311-manylinux_2_39_x86_64"), python="3.11")
    with pytest.raises(NoMatchingFiles) as caught:
        match(locked, CANDIDATES, Wishes(), None, lambda: REMOTE)
    assert caught.value.hint.startswith("A registry has a base that fits: --base registry.example/python:3.11. ")


def test_bases_of_registries_are_told_of_and_not_taken() -> None:
    found = match(lock(package("a", "py3-none-any"), python="3.11"), CANDIDATES, Wishes(), None, lambda: REMOTE)
    assert [row.name for row in found.rows] == ["bookworm", "registry.example/python:3.11", "bullseye", "trixie"]
    assert (found.rows[1].reason.startswith("would do; it is in a registry"), found.rows[1].lacks) == (True, "")


def test_instead_of_a_base_that_nobody_mends_one_of_a_registry_is_proposed() -> None:
    old = replace(CANDIDATES[1], end_of_life=date(2026, 8, 31))
    locked = lock(package("a", "py3-none-any"), python="3.11")
    found = match(locked, (old,), Wishes(today=date(2026, 11, 21)), None, lambda: REMOTE)
    assert found.warnings == (
        "bookworm has been out of support since 2026-08-31: nobody mends its security faults. "
        "A registry has a base that fits and is still mended: --base registry.example/python:3.11.",
    )


def test_where_no_python_would_do_the_packages_in_the_way_are_named() -> None:
    locked = lock(package("a", "py3-none-any"), package("b", sdist=True), python="3.8")
    with pytest.raises(NoMatchingBase) as caught:
        match(locked, CANDIDATES, Wishes())
    assert "lacks a wheel for b" in caught.value.hint


def test_the_python_asked_for_counts_more_than_the_locks() -> None:
    locked = lock(package("a", "py3-none-any"), python="3.8")
    assert match(locked, CANDIDATES, Wishes(python="3.13")).candidate.name == "trixie"


def test_a_lock_without_python_gets_the_newest_base_that_suits_it() -> None:
    locked = lock(package("a", "cp311-cp311-manylinux_2_17_x86_64", "cp39-cp39-manylinux_2_17_x86_64"))
    assert match(locked, CANDIDATES, Wishes()).candidate.name == "bookworm"


def test_requires_python_of_a_lock_limits_the_bases() -> None:
    locked = lock(package("a", "py3-none-any"))
    limited = replace(locked, pylock=replace(locked.pylock, requires_python=SpecifierSet("<3.12,>=3.10")))
    assert match(limited, CANDIDATES, Wishes()).candidate.name == "bookworm"


def test_a_package_without_a_wheel_is_built_only_when_that_is_allowed() -> None:
    locked = lock(package("old", sdist=True), package("new", "py3-none-any"))
    assert [miss.name for miss in select(locked, target()).misses] == ["old"]
    allowed = select(locked, target(), build_sdists=True)
    assert allowed.complete
    assert [source.sdist.filename for source in allowed.sources] == ["old-1.0.tar.gz"]
    assert [chosen.package.name for chosen in allowed.chosen] == ["new"]


def test_a_wheel_goes_before_a_source_distribution() -> None:
    allowed = select(lock(package("both", "py3-none-any", sdist=True)), target(), build_sdists=True)
    assert (len(allowed.chosen), allowed.sources) == (1, ())


def test_a_source_distribution_that_no_strong_hash_holds_is_not_built() -> None:
    weak = replace(package("old", sdist=True), sdist=PackageSdist(name="old-1.0.tar.gz", hashes={"md5": "0" * 32}))
    allowed = select(lock(weak), target(), build_sdists=True)
    assert (allowed.sources, [miss.name for miss in allowed.misses]) == ((), ["old"])


def test_a_source_distribution_for_another_python_is_not_built() -> None:
    allowed = select(lock(package("old", sdist=True, requires_python="<3.9")), target(), build_sdists=True)
    assert [miss.reason for miss in allowed.misses] == ["needs Python <3.9"]


def test_a_package_with_wheels_for_other_platforms_looks_compiled() -> None:
    locked = lock(package("c", "cp311-cp311-win_amd64", sdist=True), package("pure", sdist=True))
    found = {each.package.name: each.looks for each in select(locked, target(), build_sdists=True).sources}
    assert found == {"c": "compiled", "pure": "unknown"}


def test_a_base_that_has_every_wheel_goes_before_one_that_builds() -> None:
    bases = (candidate("old", "3.11.2", "2.31"), candidate("new", "3.11.2", "2.41"))
    newer = package("p", "cp311-cp311-manylinux_2_35_x86_64", sdist=True)
    found = match(lock(newer, python="3.11"), bases, Wishes(build_sdists=True))
    assert (found.candidate.name, found.selection.sources) == ("new", ())
    only = match(lock(newer, python="3.11"), bases[:1], Wishes(build_sdists=True))
    assert len(only.selection.sources) == 1
    assert "1 can be built from source distributions" in " ".join(only.reasons)


def test_what_may_not_be_built_is_said_with_the_option() -> None:
    with pytest.raises(NoMatchingFiles) as caught:
        match(lock(package("old", sdist=True), python="3.11"), CANDIDATES, Wishes())
    assert "old: only source distributions, which --build-sdists never forbids to build." in caught.value.hint


def test_missing_files_are_a_table_with_a_row_for_each_package() -> None:
    locked = lock(
        package("good", "py3-none-any"),
        package("pandas", "cp38-cp38-manylinux_2_17_x86_64", "cp39-cp39-manylinux_2_17_x86_64"),
        package("sklearn", sdist=True),
        python="3.11",
    )
    with pytest.raises(NoMatchingFiles, match="2 of 3 locked packages have no file") as caught:
        match(locked, CANDIDATES, Wishes())
    rows = caught.value.details
    assert [row.split()[:2] for row in rows[1:3]] == [["pandas", "1.0"], ["sklearn", "1.0"]]
    assert rows[3].startswith("the target accepts: cp311")
    assert "Python 3.9 on glibc ≥ 2.17 would satisfy 2 of 3 (not sklearn)" in caught.value.hint


def test_the_nearest_target_is_one_that_can_be_started_and_counts_what_can_be_built() -> None:
    found = nearest(
        lock(
            package("a", "cp38-cp38-manylinux_2_17_x86_64", "cp39-cp39-manylinux_2_17_x86_64"), package("b", sdist=True)
        ),
        target(),
        ("3.9", "3.10"),
        build_sdists=True,
    )
    assert str(found) == "Python 3.9 on glibc ≥ 2.17 would satisfy all 2, 1 of them from source distributions"


def test_where_the_usual_platform_would_do_that_is_said() -> None:
    locked = lock(package("a", "cp311-cp311-manylinux_2_17_x86_64"), python="3.11")
    arm = Candidate("bookworm", target(architecture="arm64"), 1, "for a test")
    with pytest.raises(NoMatchingFiles) as caught:
        match(locked, (arm,), Wishes())
    assert caught.value.hint == "For linux/amd64 each of the packages has a file: build with --platform linux/amd64."


@pytest.mark.parametrize("tag", ["cp311-cp311-manylinux_2_17_x86_64", "py3-none-any"])
def test_a_base_that_was_asked_for_and_does_not_fit_names_the_one_that_does(tag: str) -> None:
    with pytest.raises(NoMatchingBase) as caught:
        match(lock(package("a", tag), python="3.11"), CANDIDATES, Wishes(base="bullseye"))
    assert caught.value.hint.startswith("The base bookworm fits: leave --base bullseye out. ")


def test_a_base_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(NoMatchingBase, match="no base named 'woody'") as caught:
        match(lock(package("a", "py3-none-any")), CANDIDATES, Wishes(base="woody"))
    assert "bookworm, bullseye, trixie" in caught.value.hint
