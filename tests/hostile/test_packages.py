"""Packages that get in each other's way or out of their folder, through the real command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hostile.images import files
from tests.unit.index.plugin import machine, server
from tests.unit.world import Made, World, notebook, pipfile_lock, pylock, wheel, world

__all__ = ["machine", "server", "world"]

KERNEL = "opt/kernel/"
SITE = f"{KERNEL}lib/python3.11/site-packages/"
LARGE = 5 << 20
"""Bytes that do not shrink and give a wheel a layer of its own."""


def built(world: World, *wheels: Made, below: str = KERNEL) -> tuple[dict[str, bytes], list[str]]:
    """Build these into a layout; what stands below a folder of the image, and the warnings."""
    done = world.run("build", world.locked(*wheels), "--base", world.base, "-o", "layout")
    assert done.returncode == 0, done.stderr
    warnings = [line.removeprefix("warning: ") for line in done.stderr.splitlines() if line.startswith("warning: ")]
    return files(world.work / "layout", below), warnings


# -- two wheels with one path ----------------------------------------------------------------------


def pair(one: bytes, other: bytes, *, large: bool) -> tuple[Made, Made]:
    """Two wheels that bring the same path, in one layer or in two."""
    more = {"a": {"a/big.bin": os.urandom(LARGE)}, "b": {"b/big.bin": os.urandom(LARGE)}} if large else {}
    return (
        wheel("alpha", files={"shared/data.txt": one, "a/__init__.py": b"", **more.get("a", {})}),
        wheel("beta", files={"shared/data.txt": other, "b/__init__.py": b"", **more.get("b", {})}),
    )


@pytest.mark.parametrize("large", [False, True], ids=["one layer", "two layers"])
def test_equal_files_of_two_wheels_are_silent(world: World, large: bool) -> None:
    found, warnings = built(world, *pair(b"the same", b"the same", large=large), below=SITE)
    assert found["shared/data.txt"] == b"the same"
    assert {"a/__init__.py", "b/__init__.py"} <= set(found)
    assert warnings == []


@pytest.mark.parametrize("large", [False, True], ids=["one layer", "two layers"])
@pytest.mark.parametrize("order", [1, -1], ids=["as sorted", "the other way round"])
def test_of_different_files_of_two_wheels_the_first_name_wins_whatever_the_order(
    world: World, large: bool, order: int
) -> None:
    found, warnings = built(world, *pair(b"of alpha", b"of beta!", large=large)[::order], below=SITE)
    assert found["shared/data.txt"] == b"of alpha"
    assert warnings == [
        f"alpha and beta both bring /{SITE}shared/data.txt, with different contents; that of alpha is kept."
    ]


def test_the_warning_comes_again_when_nothing_is_written_anew(world: World) -> None:
    wheels = pair(b"of alpha", b"of beta", large=False)
    assert built(world, *wheels) == built(world, *wheels)


def test_two_scripts_of_one_name_are_a_conflict_like_any_other(world: World) -> None:
    script = {"demo.data/scripts/run": b"#!python\n"}
    wheels = [
        wheel(name, files={f"{name}-1.0.data/scripts/run": next(iter(script.values())) + name.encode()})
        for name in ("beta", "alpha")
    ]
    found, warnings = built(world, *wheels)
    assert found["bin/run"] == b"#!/opt/kernel/bin/python\nalpha"
    assert len(warnings) == 1


# -- data that goes elsewhere ----------------------------------------------------------------------


def test_data_goes_into_the_environment_and_nowhere_else(world: World) -> None:
    data = {
        "share/jupyter/labextensions/demo/package.json": b"{}",
        "share/jupyter/nbextensions/demo/main.js": b"//",
        "etc/jupyter/jupyter_server_config.d/demo.json": b"{}",
        "share/man/man1/demo.1": b".TH",
        "etc/passwd": b"not the image's",
    }
    made = wheel("demo", files={f"demo-1.0.data/data/{path}": content for path, content in data.items()})
    found, warnings = built(world, made)
    assert {path: found[path] for path in data} == data
    assert warnings == []
    below_root = files(world.work / "layout", "etc/")
    assert b"not the image's" not in below_root.values()
    record = found["lib/python3.11/site-packages/demo-1.0.dist-info/RECORD"].decode()
    for path in data:
        assert f"../../../{path},sha256=" in record


def test_the_environments_own_files_are_not_replaced_by_data(world: World) -> None:
    for path in ("pyvenv.cfg", "bin/python3"):
        made = wheel("demo", files={f"demo-1.0.data/data/{path}": b"mine"})
        refused(world, made, path)


@pytest.mark.parametrize(
    "path",
    [
        "demo-1.0.data/data/../../etc/passwd",
        "demo-1.0.data/data//etc/passwd",
        "demo-1.0.data/data/share/./x",
        "demo-1.0.data/data/share/../../../../etc/cron.d/x",
        "demo-1.0.data/scripts/../../../../bin/sh",
        "demo-1.0.data/headers/..",
    ],
)
def test_data_that_leaves_its_folder_is_refused(world: World, path: str) -> None:
    refused(world, wheel("demo", files={path: b"root::0:0::/:/bin/sh"}), path)


def test_data_of_no_known_kind_is_refused(world: World) -> None:
    refused(world, wheel("demo", files={"demo-1.0.data/config/etc/x": b""}), "demo-1.0.data/config/etc/x")


def refused(world: World, made: Made, member: str) -> None:
    before = world.locked(made)
    done = world.run("build", before, "--base", world.base, "-o", "layout")
    assert done.returncode == 40, done.stderr
    assert made.filename in done.stderr
    assert member in done.stderr
    assert "Traceback" not in done.stderr
    assert not (world.work / "layout").exists()
    assert world.unfinished() == []


def test_a_file_of_one_wheel_and_a_folder_of_another_name_both(world: World) -> None:
    wheels = [wheel("alpha", files={"shared": b"file"}), wheel("beta", files={"shared/x.py": b""})]
    done = world.run("build", world.locked(*wheels), "--base", world.base, "-o", "layout")
    assert done.returncode == 49, done.stderr
    assert "alpha and beta cannot be installed together" in done.stderr
    assert not Path(world.work / "layout").exists()


# -- one package twice -----------------------------------------------------------------------------


def twice(world: World, form: str) -> Path:
    """A notebook whose lock lists ``demo`` twice, in a way that the format allows."""
    one, other = wheel("demo", "1.0"), wheel("demo", "2.0")
    world.offer(one, other)
    url = f"{world.server.url}/files"
    entries = [f'{{"version": "=={w.version}", "hashes": ["sha256:{w.sha256}"]}}' for w in (one, other)]
    pipfile = pipfile_lock(index=world.server.simple)
    if form == "pylock, two versions":
        return notebook(world.work, pylock(one, other, url=url))
    if form == "pylock, the same entry":
        return notebook(world.work, pylock(one, one, url=url))
    if form == "pylock, markers that both hold":
        first, _, second = pylock(one, other, url=url).rpartition("[[packages]]\n")
        first = first.replace('version = "1.0"\nwheels', 'version = "1.0"\nmarker = "os_name == \'posix\'"\nwheels')
        return notebook(world.work, f"{first}[[packages]]\nmarker = \"sys_platform == 'linux'\"\n{second}")
    if form == "requirements":
        lines = [f"demo=={w.version} --hash=sha256:{w.sha256}\n" for w in (one, other)]
        (world.work / "requirements.txt").write_text("".join(lines))
        return notebook(world.work, None)
    names = ("demo", "demo") if form == "Pipfile.lock, one key" else ("demo", "Demo")
    listed = ", ".join(f'"{name}": {entry}' for name, entry in zip(names, entries, strict=True))
    return notebook(world.work, None, requirements_lock=pipfile.replace('"default": {}', f'"default": {{{listed}}}'))


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("pylock, two versions", "demo is locked more than once for the same target (1.0 and 2.0)"),
        ("pylock, the same entry", "demo is locked more than once for the same target (1.0 and 1.0)"),
        ("pylock, markers that both hold", "locks demo twice for Python 3.11"),
        ("requirements", "demo is locked more than once for the same target (1.0 and 2.0)"),
        ("Pipfile.lock, one key", "'demo' stands twice in one object"),
        ("Pipfile.lock, two spellings", "demo is locked more than once for the same target (1.0 and 2.0)"),
    ],
)
def test_a_lock_that_lists_one_package_twice_is_refused(world: World, form: str, says: str) -> None:
    done = world.run("build", twice(world, form), "--base", world.base, "-o", "layout")
    assert done.returncode == 14, done.stderr
    assert says in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (world.work / "layout").exists()


def test_a_package_that_is_listed_once_for_each_platform_is_built(world: World) -> None:
    one, other = wheel("demo", "1.0"), wheel("demo", "2.0")
    world.offer(one, other)
    text = pylock(one, other, url=f"{world.server.url}/files")
    for version, system in (("1.0", "win32"), ("2.0", "linux")):
        text = text.replace(
            f'version = "{version}"\nwheels', f'version = "{version}"\nmarker = "sys_platform == \'{system}\'"\nwheels'
        )
    done = world.run("build", notebook(world.work, text), "--base", world.base, "-o", "layout")
    assert done.returncode == 0, done.stderr
    assert "demo-2.0.dist-info/METADATA" in files(world.work / "layout", SITE)
