"""Which support packages go beside a lock, and which locks they cannot live with."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.errors import SupportConflict
from nb2image.images import runner_lock, support_locks, support_requirements
from nb2image.lock.model import hashes_of
from nb2image.target.environment import marker_environment
from nb2image.target.support import SupportPackage, check_support

PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
SHIPPED = [(python, name) for python in PYTHONS for name in support_locks(python)]
ENVIRONMENT = marker_environment(Version("3.11.2"), "x86_64")
SUPPORT = (
    SupportPackage(
        "ipykernel", Version("7.1.0"), ("traitlets>=5.4.0", "comm>=0.1", "appnope; sys_platform == 'darwin'")
    ),
    SupportPackage(
        "comm", Version("0.2.3"), ("typing_extensions>=4; python_version < '3.10'", 'pytest; extra == "test"')
    ),
    SupportPackage("traitlets", Version("5.14.3"), (), ">=3.8"),
)


def needed(**locked: str) -> tuple[str, ...]:
    return check_support({name: Version(version) for name, version in locked.items()}, SUPPORT, ENVIRONMENT)


def test_a_lock_with_ipykernel_gets_nothing() -> None:
    assert needed(ipykernel="4.0", traitlets="4.0") == ()


def test_a_lock_without_any_of_them_gets_all_that_the_markers_ask_for() -> None:
    assert needed(numpy="2.0") == ("comm", "ipykernel", "traitlets")


def test_what_the_lock_brings_is_not_installed_again() -> None:
    assert needed(traitlets="5.9.0") == ("comm", "ipykernel")


def test_a_locked_version_that_is_too_old_is_refused_with_both_names() -> None:
    with pytest.raises(SupportConflict) as caught:
        needed(traitlets="4.3.3")
    assert "ipykernel 7.1.0 needs traitlets>=5.4.0, the lock holds traitlets 4.3.3" in caught.value.message
    assert "Lock ipykernel" in caught.value.hint


def test_every_conflict_is_told() -> None:
    with pytest.raises(SupportConflict) as caught:
        needed(traitlets="4.3.3", comm="0.0.1")
    assert len(caught.value.details) == 1
    assert "traitlets" in caught.value.details[0] or "comm" in caught.value.details[0]


def test_a_locked_pre_release_counts_by_its_version() -> None:
    assert needed(traitlets="6.0.0rc1") == ("comm", "ipykernel")


def test_names_are_compared_in_their_normal_form() -> None:
    assert check_support({"IPyKernel": Version("6.0")}, SUPPORT, ENVIRONMENT) == ()


def test_a_support_package_for_another_python_is_refused() -> None:
    support = (SupportPackage("ipykernel", Version("9.0"), (), ">=3.12"),)
    with pytest.raises(SupportConflict, match=r"ipykernel 9\.0 needs Python >=3\.12, the base has 3\.11\.2"):
        check_support({}, support, ENVIRONMENT)


@pytest.mark.parametrize(("python", "name"), SHIPPED)
def test_the_shipped_support_packages_are_complete_for_each_python(python: str, name: str) -> None:
    shipped = support_requirements(name, python)
    environment = marker_environment(Version(f"{python}.2"), "aarch64")
    assert set(check_support({}, shipped, environment)) <= {package.name for package in shipped}
    locked = {package.name: package.version for package in runner_lock(name, python).packages}
    assert {package.name: package.version for package in shipped} == locked


@pytest.mark.parametrize(("python", "name"), SHIPPED)
def test_the_shipped_support_packages_fit_each_other(python: str, name: str) -> None:
    shipped = {package.name: package for package in support_requirements(name, python)}
    variables = {**marker_environment(Version(f"{python}.2"), "x86_64"), "extra": ""}
    for package in shipped.values():
        for requirement in map(Requirement, package.requires_dist):
            if requirement.marker is None or requirement.marker.evaluate(variables):  # type: ignore[arg-type]
                assert requirement.specifier.contains(shipped[canonicalize_name(requirement.name)].version)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("name", "package"), [("jupyter", "jupyterlab"), ("jupyter", "jupyterhub"), ("batch", "papermill")]
)
def test_each_runner_is_locked_with_hashes_and_names_no_index(name: str, package: str, python: str) -> None:
    lock = runner_lock(name, python)
    assert package in {each.name for each in lock.packages}
    assert lock.indexes == ()
    assert all(1 <= len(hashes_of(each)) <= 2 for each in lock.packages)


@pytest.mark.parametrize("python", PYTHONS)
def test_no_kernel_hides_in_the_runner(python: str) -> None:
    for name in ("jupyter", "batch"):
        assert "ipykernel" not in {each.name for each in runner_lock(name, python).packages}
