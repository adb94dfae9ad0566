"""The tree of errors: each leaf has an exit code, and crosses from a worker process unharmed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image import errors
from nb2image.errors import BadWheel, LockedTwice, Nb2ImageError, NoMatchingFiles, UnusableRepository


def _leaves(kind: type[Nb2ImageError] = Nb2ImageError) -> Iterator[type[Nb2ImageError]]:
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from _leaves(each) if each.__subclasses__() else [each]


def test_every_kind_of_failure_has_an_exit_code_of_its_own() -> None:
    # These two say more precisely what another one says, to people rather than to programs.
    leaves = [kind for kind in _leaves() if kind not in {LockedTwice, UnusableRepository}]
    codes = {kind.exit_code: kind for kind in leaves}
    assert len(codes) == len(leaves)
    assert not set(codes) & {0, 1, 2, 130}


@pytest.mark.parametrize(
    "error",
    [
        BadWheel("a-1-py3-none-any.whl", "a/../b", "the path leaves the environment"),
        NoMatchingFiles("2 of 3 have no file.", hint="Choose another base.", details=("row 1", "row 2")),
    ],
)
def test_an_error_survives_being_pickled(error: Nb2ImageError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_the_documented_exit_codes_are_those_of_the_errors() -> None:
    text = (Path(__file__).parents[2] / "docs" / "automation.md").read_text()
    documented = {int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", text, re.MULTILINE) for code in row.split(",")}
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert documented == {0, 1, 2, 130, 143} | {kind.exit_code for kind in kinds}
