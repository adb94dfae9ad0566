"""What METADATA of wheels says of licences and of other packages."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from packaging.pylock import PackageSdist
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.cache import Store
from nb2image.environment import Wheel
from nb2image.sbom.components import wheels_part
from nb2image.sbom.wheels import About, about, required
from nb2image.target.environment import marker_environment
from tests.unit.index.plugin import store
from tests.unit.world import Made, wheel

__all__ = ["store"]

MARKERS = marker_environment(Version("3.11.2"), "x86_64")


def unasked(names: Collection[str]) -> None:
    raise AssertionError(f"{names} were asked for")


def stored(store: Store, made: Made) -> Wheel:
    with store.writing("wheels") as writing:
        writing.write(made.data)
        writing.commit()
    return Wheel(canonicalize_name(made.name), made.version, made.filename, f"sha256:{made.sha256}", len(made.data))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("License-Expression: MIT AND Zlib\nLicense: other\n", [{"expression": "MIT AND Zlib"}]),
        ("License-Expression: mit\n", [{"license": {"id": "MIT"}}]),
        ("License: Apache-2.0\n", [{"license": {"id": "Apache-2.0"}}]),
        ("License: BSD 3-Clause\n", [{"license": {"name": "BSD 3-Clause"}}]),
        (
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n",
            [{"license": {"name": "MIT License"}}],
        ),
        (
            "License: Copyright\n        Permission is granted\nClassifier: License :: OSI Approved :: BSD License\n",
            [{"license": {"name": "BSD License"}}],
        ),
        (
            "Classifier: License :: OSI Approved\nClassifier: License :: B\nClassifier: License :: A\n",
            [{"license": {"name": "A"}}, {"license": {"name": "B"}}],
        ),
        ("Classifier: Topic :: Other\n", None),
    ],
)
def test_a_licence_is_what_metadata_declares(store: Store, lines: str, expected: list[dict[str, Any]] | None) -> None:
    one = stored(store, wheel("alpha", metadata=lines))
    facts = about([one], store, unasked)
    part = wheels_part("/opt/kernel", [one], facts, {"alpha": ()}, {})
    found = part["components"][0].get("licenses")
    for row in found or ():
        assert (row.get("license") or row).pop("acknowledgement") == "declared"
    assert found == expected


def test_a_wheel_that_was_built_names_its_source_distribution(store: Store) -> None:
    alpha, beta = stored(store, wheel("alpha")), stored(store, wheel("beta"))
    sdist = PackageSdist(
        name="alpha-1.0.tar.gz", path="x", hashes={"sha512": "b" * 128, "md5": "c" * 32, "sha256": "a" * 64}
    )
    requires = {"alpha": (), "beta": ()}
    part = wheels_part("/opt/kernel", [alpha, beta], about([alpha, beta], store, unasked), requires, {"alpha": sdist})
    built, other = part["components"]
    assert built["hashes"] == [{"alg": "SHA-256", "content": alpha.digest.partition(":")[2]}]
    (ancestor,) = built["pedigree"]["ancestors"]
    assert ancestor["purl"] == "pkg:pypi/alpha@1.0?file_name=alpha-1.0.tar.gz"
    assert ancestor["hashes"] == [
        {"alg": "SHA-256", "content": "a" * 64},
        {"alg": "SHA-512", "content": "b" * 128},
    ]
    assert "pedigree" not in other


def test_a_wheel_is_read_once(store: Store) -> None:
    one = stored(store, wheel("alpha", requires=["beta"]))
    first = about([one], store, unasked)
    store.drop("wheels", one.digest)
    assert about([one], store, unasked) == first


def needs(**packages: list[str]) -> dict[str, set[str]]:
    return required({name: About(None, [], requires) for name, requires in packages.items()}, MARKERS)


def test_markers_decide_who_is_needed() -> None:
    found = needs(a=['b; sys_platform == "win32"', 'c; python_version >= "3.8"'], b=[], c=[])
    assert found == {"a": {"c"}, "b": set(), "c": set()}


def test_an_extra_counts_where_another_package_asks_for_it() -> None:
    lines = ['c; extra == "fast"', 'd; extra == "slow"']
    assert needs(a=["B[fast]"], b=lines, c=[], d=[])["b"] == {"c"}
    assert needs(b=lines, c=[], d=[])["b"] == set()


def test_an_extra_that_shows_late_still_counts() -> None:
    found = needs(z=['b[fast]; extra == "more"'], a=["z[more]"], b=['c; extra == "fast"'], c=[])
    assert found == {"a": {"z"}, "z": {"b"}, "b": {"c"}, "c": set()}


def test_a_package_that_asks_for_itself_needs_nobody() -> None:
    assert needs(a=['a[x]; extra == "all"', "a"]) == {"a": set()}


def test_what_cannot_be_read_is_passed_over() -> None:
    assert needs(a=["b (>dev)", "not a requirement at all", "c>=1.*"], b=[], c=[]) == {
        "a": set(),
        "b": set(),
        "c": set(),
    }
