"""Real packages that have no wheel: planned, built by the real command, imported by a real engine."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nb2image.bases.debian import DebianProvider
from nb2image.cache import Store
from nb2image.image.layout import write_layout
from nb2image.image.read import find_image
from nb2image.progress import Silent
from nb2image.sandbox.bubblewrap import find_bubblewrap
from nb2image.target.model import Platform
from tests.engines.built import Notebooks, code_cell, write_notebook
from tests.engines.containers import run_container, run_engine
from tests.engines.daemons import Daemon, Unavailable
from tests.engines.plugin import available_value
from tests.unit.image.making import files_of

pytestmark = pytest.mark.network

SOURCES = {
    # Written for what setuptools was before 2022.
    "openshift": ("0.11.0", "bfc398aac8ad9d903b520e473290ebc35d9c9a739c8e083fde55d93288c7f67d"),
    # Has a link for its README.
    "pandocfilters": ("1.4.3", "bc63fbb50534b4b1f8ebe1860889289e8af94a23bff7445259592df25a3906eb"),
    # Does without its extension in C where there is no compiler.
    "pyrsistent": ("0.18.0", "773c781216f8c2900b42a7b638d5b517bb134ae1acbebe4d1e8f1f41ea60eb4b"),
    # Has wheels for older Pythons only, and needs a compiler.
    "python-levenshtein": ("0.12.2", "dc2395fbd148a1ab31090dd113c366695934b9e85fe5a4b2a032745efd0346f6"),
    "retrying": ("1.3.3", "08c039560a6da2fe4f2c426d0766e284d3b736e355f8dd24b37367b0bb41973b"),
    # Holds nothing but the name of another package.
    "sklearn": ("0.0", "e23001573aa194b834122d2b9562459bf5ae494a2d59ca6b8aa22c85a44c0e31"),
}
SIX = ("1.16.0", "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254")
"""A wheel that retrying imports."""
PURE = {name: SOURCES[name] for name in ("pandocfilters", "retrying", "sklearn")}
IMPORT = """
import importlib.metadata, json, sys
import Levenshtein, openshift, pandocfilters, pvectorc, pyrsistent, retrying
names = ("openshift", "pandocfilters", "pyrsistent", "python-levenshtein", "retrying", "sklearn")
print(json.dumps({
    "prefix": sys.prefix,
    "versions": {name: importlib.metadata.version(name) for name in names},
    "distance": Levenshtein.distance("kitten", "sitting"),
    "files": [Levenshtein._levenshtein.__file__, pvectorc.__file__],
    "vector": pvectorc.pvector([1, 2]).append(3).tolist(),
    "paragraph": pandocfilters.Para([])["t"],
}))
"""


def locked(folder: Path, packages: Mapping[str, tuple[str, str]]) -> Path:
    """A folder with a notebook whose lock, hashed requirements, stands beside it."""
    folder.mkdir()
    cells = [code_cell("print('hello')")]
    write_notebook(folder / "sources.ipynb", {"kernelspec": {"name": "python3", "display_name": "x"}}, cells)
    rows = [f"{name}=={version} --hash=sha256:{value}\n" for name, (version, value) in packages.items()]
    (folder / "requirements.txt").write_text("".join(rows))
    return folder


def options(folder: Path) -> list[str | Path]:
    return [folder, "--mode", "batch", "--no-bytecode", "--python", "3.11", "--index-url", "default", "--json"]


@pytest.fixture(scope="module", autouse=True)
def bubblewrap() -> None:
    def found() -> None:
        if (reason := find_bubblewrap().reason) != "":
            raise Unavailable(reason)

    available_value(found)


@pytest.fixture(scope="module")
def sources(notebooks: Notebooks) -> Path:
    return locked(notebooks.folder / "sources", {**SOURCES, "six": SIX})


@pytest.fixture(scope="module")
def built(notebooks: Notebooks, sources: Path) -> dict[str, Any]:
    """What ``build --json`` printed; the image is ``sources`` in the layout ``sdists``."""
    layout = notebooks.folder / "sdists"
    done = notebooks.run("build", *options(sources), "-t", "sources", "-o", layout, "--progress", "none")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def refused(notebooks: Notebooks, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        notebooks.command(*arguments),
        env={**notebooks.environment(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def path_without(program: str, folder: Path) -> str:
    """A PATH on which everything of this machine's is but one program."""
    folder.mkdir()
    for entry in reversed(os.get_exec_path()):
        for each in Path(entry).glob("*") if Path(entry).is_dir() else ():
            (folder / each.name).unlink(missing_ok=True)
            if each.name != program:
                (folder / each.name).symlink_to(each)
    return str(folder)


def cache_without_builds(notebooks: Notebooks, folder: Path) -> Path:
    """The session's cache as it would be if nothing had been built yet."""

    def ignored(_: str, names: list[str]) -> set[str]:
        return {"build", "build-requirements", "roots", "tmp"}.intersection(names)

    shutil.copytree(notebooks.cache, folder, copy_function=os.link, ignore=ignored)
    return folder


def test_a_plan_lists_what_will_be_built_before_anything_is(notebooks: Notebooks, sources: Path) -> None:
    arguments = ("plan", *options(sources)[:-1], "--progress", "none")
    text = notebooks.run(*arguments).stdout
    lines = [line for line in text.splitlines() if line.strip().startswith("build ")]
    assert len(lines) == len(SOURCES)
    # The lock holds no wheel of it that would tell.
    assert "pyrsistent-0.18.0.tar.gz, in a sandbox; whether with a compiler shows after its download" in text
    document = json.loads(notebooks.run(*arguments, "--json").stdout)
    assert {row["name"] for row in document["sources"]} == set(SOURCES)
    assert not any("wheel" in row for row in document["sources"])


def test_they_are_built_and_what_they_came_to_is_recorded(built: dict[str, Any], notebooks: Notebooks) -> None:
    rows = {row["name"]: row for row in built["sources"]}
    assert {name: row["hashes"]["sha256"] for name, row in rows.items()} == {n: v[1] for n, v in SOURCES.items()}
    assert rows["python-levenshtein"]["wheel"]["file"].endswith("-cp311-cp311-linux_x86_64.whl")
    assert rows["retrying"]["wheel"]["file"] == "retrying-1.3.3-py3-none-any.whl"
    # Compiled ones have a compiler, which is never shipped; the others need none.
    assert rows["python-levenshtein"]["built_in"] != built["base"]["digest"]
    assert rows["retrying"]["built_in"] == built["base"]["digest"]
    for row in rows.values():
        requirements = {each["name"] for each in row["build_requires"]}
        assert {"setuptools"} <= requirements <= {"packaging", "setuptools", "wheel"}
        assert all(len(each["hashes"]["sha256"]) == 64 for each in row["build_requires"])
        assert row["sandbox"].startswith("bubblewrap ")
    again = json.loads(
        notebooks.run(
            *("build", *options(notebooks.folder / "sources"), "--offline", "--progress", "none"),
            *("-t", "sources", "-o", notebooks.folder / "sdists"),
        ).stdout
    )
    assert again["digest"] == built["digest"]
    assert all(row["cached"] for row in again["sources"])


@pytest.mark.usefixtures("built")
def test_an_image_of_built_packages_is_verified_and_a_changed_extension_is_found(
    notebooks: Notebooks, tmp_path: Path
) -> None:
    layout = notebooks.folder / "sdists"
    said = notebooks.run("verify", f"{layout}:sources", "--index-url", "default", "--offline", "-q").stdout
    assert "holds exactly the 7 packages that its lock names, unmodified." in said
    image = find_image(f"{layout}:sources").read()
    place = "opt/kernel/lib/python3.11/site-packages/Levenshtein/_levenshtein.cpython-311-x86_64-linux-gnu.so"
    write_layout(image.with_layers([files_of({place: b"\x7fELF evil"})]), ["evil:1"], tmp_path / "evil", Silent())
    done = refused(notebooks, "verify", tmp_path / "evil", "--index-url", "default", "--offline", "-q")
    assert done.returncode == 81
    assert f"altered /{place}" in done.stdout


@pytest.mark.usefixtures("built")
def test_what_was_built_is_imported(podman_daemon: Daemon, notebooks: Notebooks) -> None:
    layout = notebooks.folder / "sdists"
    pulled = run_engine(podman_daemon, "pull", "--quiet", f"oci:{layout}:sources:latest", check=True).stdout.strip()
    done = run_container(podman_daemon, pulled, "-c", IMPORT, entrypoint="/opt/kernel/bin/python", network="none")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["prefix"], found["distance"], found["vector"], found["paragraph"]) == (
        *("/opt/kernel", 3, [1, 2, 3]),
        "Para",
    )
    assert found["versions"] == {name: version for name, (version, _) in SOURCES.items()}
    assert all(file.startswith("/opt/kernel/") and file.endswith(".so") for file in found["files"])
    lock = run_container(
        podman_daemon,
        pulled,
        *("-c", "import pathlib; print(*(p.read_text() for p in pathlib.Path('/opt').glob('*/pylock.toml')))"),
        entrypoint="/opt/kernel/bin/python",
    ).stdout
    for name, (_, digest) in SOURCES.items():
        assert f'name = "{name}"' in lock
        assert digest in lock
    compiler = ("gcc", "--version")
    assert run_container(podman_daemon, pulled, *compiler[1:], entrypoint=compiler[0]).returncode != 0
    run_engine(podman_daemon, "rmi", "--force", pulled)


def test_an_engines_container_builds_the_same_image(
    docker_daemon: Daemon, notebooks: Notebooks, built: dict[str, Any], tmp_path: Path
) -> None:
    cache = cache_without_builds(notebooks, tmp_path / "cache")
    done = refused(
        notebooks,
        *("build", *options(notebooks.folder / "sources"), "-t", "sources", "-o", tmp_path / "layout"),
        *("--progress", "none"),
        NB2IMAGE_CACHE_DIR=str(cache),
        PATH=path_without("bwrap", tmp_path / "bin"),
        **docker_daemon.environment,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert all(row["sandbox"].startswith("Docker ") and not row["cached"] for row in document["sources"])
    assert document["digest"] == built["digest"]


def test_without_a_sandbox_the_plan_says_what_to_install(notebooks: Notebooks, sources: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = refused(
        notebooks,
        *("plan", *options(sources)),
        *("--progress", "none"),
        PATH=str(tmp_path / "empty"),
        DOCKER_HOST=f"unix://{tmp_path}/nothing.sock",
    )
    assert done.returncode == 30
    assert "bubblewrap is not installed, and no Docker or podman answers" in done.stderr
    assert "Install it (`apt install bubblewrap`), or start Docker or podman." in done.stderr


def test_never_means_that_nothing_is_built(notebooks: Notebooks, sources: Path) -> None:
    done = refused(notebooks, "build", *options(sources), "--build-sdists", "never", "--progress", "none")
    assert done.returncode == 30
    assert "6 of 7 locked packages have no file that" in done.stderr
    assert "which --build-sdists never forbids to build." in done.stderr


@pytest.mark.usefixtures("built")
def test_a_base_of_ones_own_builds_what_needs_no_compiler_and_says_so_of_the_rest(
    notebooks: Notebooks, tmp_path: Path
) -> None:
    provider = DebianProvider(Store(notebooks.cache), platform=Platform())
    base = provider.deliver(next(c for c in provider.candidates() if c.name == "bookworm"), Silent())
    write_layout(base.image, ["own:1"], tmp_path / "own", Silent())
    more = ("--base", tmp_path / "own", "-o", tmp_path / "layout", "--progress", "none")
    pure = refused(notebooks, "build", *options(locked(tmp_path / "pure", {**PURE, "six": SIX})), *more)
    assert pure.returncode == 0, pure.stderr
    only = {"python-levenshtein": SOURCES["python-levenshtein"]}
    # What was built on the same base with a compiler would be taken.
    cache = str(cache_without_builds(notebooks, tmp_path / "cache"))
    done = refused(notebooks, "build", *options(locked(tmp_path / "compiled", only)), *more, NB2IMAGE_CACHE_DIR=cache)
    assert done.returncode == 42
    assert (
        "python-Levenshtein-0.12.2.tar.gz cannot be built: it needs a compiler (x86_64-linux-gnu-gcc)." in done.stderr
    )
    assert "Build on one of these (bullseye, bookworm, trixie), or lock versions that have wheels." in done.stderr


def test_for_another_processor_only_pure_packages_are_built(notebooks: Notebooks, tmp_path: Path) -> None:
    machine = {"x86_64": "arm64"}.get(platform.machine(), "amd64")
    more = ("--platform", f"linux/{machine}", "-o", tmp_path / "layout", "--progress", "none")
    pure = refused(notebooks, "build", *options(locked(tmp_path / "pure", {**PURE, "six": SIX})), *more)
    assert pure.returncode == 0, pure.stderr
    document = json.loads(pure.stdout)
    assert {row["wheel"]["file"].rpartition("-")[2] for row in document["sources"]} == {"any.whl"}
    assert document["base"]["digest"] not in {row["built_in"] for row in document["sources"]}
    only = {"python-levenshtein": SOURCES["python-levenshtein"]}
    done = refused(notebooks, "build", *options(locked(tmp_path / "compiled", only)), *more)
    assert done.returncode == 42
    assert f"compiled code for linux/{machine} can only be built on such a machine." in done.stderr


PSYCOPG2 = {"psycopg2": ("2.9.13", "d36784fc2dae69523ba4b79c7d1d1b4d6e83e87836874f111262f4db940b16a6")}


def test_an_apt_file_names_what_a_build_needs(podman_daemon: Daemon, notebooks: Notebooks) -> None:
    """psycopg2 asks ``pg_config``, a program of libpq-dev, how it is to be compiled."""
    folder = locked(notebooks.folder / "psycopg2", PSYCOPG2)
    without = refused(notebooks, "build", *options(folder), "-o", folder / "never.tar")
    assert without.returncode == 42
    assert "psycopg2-2.9.13.tar.gz cannot be built: the program pg_config is missing." in without.stderr
    assert "libpq-dev" in without.stderr.partition("hint: ")[2]
    (folder / "apt.txt").write_text("libpq-dev\n")
    layout = notebooks.folder / "psycopg2-layout"
    notebooks.run("build", *options(folder), "-t", "psycopg2", "-o", layout, "--progress", "none")
    pulled = run_engine(podman_daemon, "pull", "--quiet", f"oci:{layout}:psycopg2:latest", check=True).stdout.strip()
    code = "import psycopg2; print(psycopg2.__libpq_version__ > 150000)"
    done = run_container(podman_daemon, pulled, "-c", code, entrypoint="/opt/kernel/bin/python", network="none")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    run_engine(podman_daemon, "rmi", "--force", pulled)
