"""Tags and markers of a target: complete, best first, and independent of the running interpreter."""

from __future__ import annotations

import sys
from typing import cast

import pytest
from packaging.markers import Marker, default_environment
from packaging.version import Version

from nb2image.target.environment import marker_environment, wheel_tags


def tags(python: str = "3.11.2", machine: str = "x86_64", glibc: str | None = "2.36") -> list[str]:
    return [str(tag) for tag in wheel_tags(Version(python), machine, Version(glibc) if glibc else None)]


def test_the_environment_has_every_marker_variable() -> None:
    assert set(marker_environment(Version("3.11.2"), "x86_64")) == set(default_environment())


def test_markers_are_those_of_the_target() -> None:
    environment = cast("dict[str, str]", marker_environment(Version("3.9.2"), "aarch64"))
    expected = {
        "python_version == '3.9'": True,
        "python_full_version < '3.9.2'": False,
        "sys_platform == 'linux' and os_name == 'posix'": True,
        "platform_machine == 'x86_64'": False,
        "platform_python_implementation == 'CPython'": True,
    }
    assert {text: Marker(text).evaluate(environment) for text in expected} == expected


@pytest.mark.parametrize(
    "tag",
    [
        "cp311-cp311-manylinux_2_36_x86_64",
        "cp311-cp311-manylinux2014_x86_64",
        "cp311-cp311-manylinux1_x86_64",
        "cp37-abi3-manylinux_2_17_x86_64",
        "cp311-none-any",
        "py3-none-manylinux2010_x86_64",
        "py3-none-any",
        "py31-none-any",
        "cp311-cp311-linux_x86_64",
    ],
)
def test_what_fits_is_accepted(tag: str) -> None:
    assert tag in tags()


@pytest.mark.parametrize(
    "tag",
    [
        "cp311-cp311-manylinux_2_37_x86_64",
        "cp312-cp312-manylinux_2_17_x86_64",
        "cp312-abi3-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_17_aarch64",
        "cp311-cp311-musllinux_1_2_x86_64",
        "cp311-cp311-win_amd64",
        "py2-none-any",
    ],
)
def test_what_does_not_fit_is_not(tag: str) -> None:
    assert tag not in tags()


def test_a_newer_glibc_and_the_own_abi_rank_first() -> None:
    found = tags()
    ranks = [
        found.index(tag)
        for tag in (
            "cp311-cp311-manylinux_2_28_x86_64",
            "cp311-cp311-manylinux_2_17_x86_64",
            "cp311-abi3-manylinux_2_28_x86_64",
            "py3-none-any",
        )
    ]
    assert ranks == sorted(ranks)


def test_the_names_of_glibc_2_17_stand_side_by_side() -> None:
    found = tags()
    assert found.index("cp311-cp311-manylinux2014_x86_64") == found.index("cp311-cp311-manylinux_2_17_x86_64") + 1


def test_arm_has_no_manylinux_older_than_2_17() -> None:
    assert not [tag for tag in tags(machine="aarch64") if "manylinux2010" in tag or "manylinux_2_12_" in tag]


def test_without_glibc_there_is_no_manylinux() -> None:
    assert not [tag for tag in tags(glibc=None) if "manylinux" in tag]


def test_the_running_interpreter_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tags()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    assert tags() == expected
