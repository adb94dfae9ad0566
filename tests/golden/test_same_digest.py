"""One input, one digest: whatever the cache, the folder, the user, their settings, the number of processes and the
Python that nb2image runs on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.engines.plugin import available_value
from tests.golden.hosts import NEWEST, OLDEST, USER
from tests.golden.inputs import INPUTS
from tests.golden.place import OWN, PLAIN, Conditions, Place

pytestmark = pytest.mark.network

_EXAMPLE = Path(__file__).parents[2] / "examples" / "anscombe.ipynb"

_LOCALES = {
    "utf-8": {"LC_ALL": "C.UTF-8"},
    "C": {"LC_ALL": "C", "LANG": "C"},
    # Python takes the encoding of the locale C for one that the user did not mean, unless it is told.
    "ascii": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
_DIMENSIONS: dict[str, Sequence[str]] = {
    "input": tuple(INPUTS),
    "host": (OWN, OLDEST, NEWEST, PLAIN),
    "cache": ("cold", "warm"),
    "folder": ("work", "two words/Übung"),
    "umask": ("022", "077", "000"),
    "zone": ("UTC", "Asia/Tokyo", "America/St_Johns"),
    "locale": tuple(_LOCALES),
    "seed": ("0", "77", "random"),
    "workers": ("1", "4"),
}


def _pairwise(dimensions: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Rows in which every value of a dimension meets every value of each other one; each row takes the values that
    cover most of what is still missing."""
    pairs = itertools.combinations(dimensions.items(), 2)
    missing = {frozenset(((a, x), (b, y))) for (a, xs), (b, ys) in pairs for x in xs for y in ys}
    rows = []
    while missing:
        row = dict(min(sorted(pair) for pair in missing))
        for name in sorted(dimensions.keys() - row.keys()):

            def covered(value: str, name: str = name) -> int:
                return sum(frozenset((each, (name, value))) in missing for each in row.items())  # noqa: B023

            row[name] = max(dimensions[name], key=covered)
        missing -= {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}
        rows.append(row)
    return rows


@pytest.mark.parametrize("row", _pairwise(_DIMENSIONS), ids=lambda row: "-".join(row[name] for name in _DIMENSIONS))
def test_conditions_leave_no_trace(place: Place, row: dict[str, str]) -> None:
    available_value(lambda: place.python(row["host"]))
    conditions = Conditions(
        host=row["host"],
        warm=row["cache"] == "warm",
        umask=int(row["umask"], 8),
        workers=int(row["workers"]),
        folder=row["folder"],
        environment={"TZ": row["zone"], "PYTHONHASHSEED": row["seed"], **_LOCALES[row["locale"]]},
    )
    built = place.build(row["input"], conditions)
    expected = place.images[row["input"]]
    assert [f"{layer['digest']} {layer['comment']}" for layer in built["layers"]] == expected["layers"]
    assert built["digest"] == expected["digest"]


@pytest.fixture(scope="module")
def caches(place: Place) -> Mapping[str, Path]:
    """Caches of this user and of an ordinary one: cold for the first kind of image, with its base for the second."""
    made = {host: place.world.folder / f"example-cache-{number}" for number, host in enumerate((OWN, PLAIN))}
    for path in made.values():
        path.mkdir()
    return made


def _build_example(
    place: Place, folder: str, host: str, cache: Path, mode: str, umask: int, **environment: str
) -> dict[str, Any]:
    own = place.world.folder / folder
    own.mkdir()
    notebook = Path(shutil.copy(_EXAMPLE, own))
    identity: dict[str, Any] = {}
    # Other users cannot see this user's configuration of pip.
    variables = {**os.environ, "NB2IMAGE_CACHE_DIR": str(cache), **environment}
    if host == PLAIN:
        variables["HOME"] = str(own)
        for path in (cache, own, notebook):
            os.chown(path, USER, USER)
        identity = {"user": USER, "group": USER, "extra_groups": []}
    words = ["build", notebook.name, "--mode", mode, "--output", "layout", "--json", "--quiet"]
    done = subprocess.run(
        [place.python(host), "-m", "nb2image", *words],
        cwd=own,
        env=variables,
        umask=umask,
        capture_output=True,
        text=True,
        **identity,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize(("mode", "other"), [("jupyter", OLDEST), ("batch", NEWEST)])
def test_the_example_has_one_digest(place: Place, caches: Mapping[str, Path], mode: str, other: str) -> None:
    """With a real base and real wheels; the batch image has bytecode. Own Python, another one on the same cache, and
    an ordinary user with nothing but one processor."""
    user = PLAIN if os.geteuid() == 0 else OWN
    available_value(lambda: [place.python(host) for host in (other, user)])
    first = _build_example(place, mode, OWN, caches[OWN], mode, 0o022)
    again = _build_example(
        place, f"{mode} again", other, caches[OWN], mode, 0o077, TZ="Asia/Tokyo", PYTHONHASHSEED="random"
    )
    settings = {"TZ": "America/St_Johns", "LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "77"}
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(everything)[:1])
    try:
        cold = _build_example(place, f"{mode} of another", user, caches[PLAIN], mode, 0o077, **settings)
    finally:
        os.sched_setaffinity(0, everything)
    layers = [[(layer["comment"], layer["digest"]) for layer in built["layers"]] for built in (first, again, cold)]
    assert layers[0] == layers[1] == layers[2]
    assert first["digest"] == again["digest"] == cold["digest"]
    assert any("bytecode" in comment for comment, _ in layers[0]) == (mode == "batch")
