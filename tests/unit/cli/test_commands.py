"""What the commands print, for people and for programs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from nb2image import __version__
from nb2image.cache import ROOMS, Store
from nb2image.cli import cli
from nb2image.cli.build import run_command
from nb2image.cli.run import _for_container
from nb2image.outputs import Archive, EngineLoad, Layout, Output
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, notebook, wheel, world

__all__ = ["machine", "server", "world"]

ALPHA, BETA = wheel("alpha"), wheel("beta", "2.0")


def commands(group: click.Group, *names: str) -> list[tuple[str, ...]]:
    context = click.Context(group, **cli.context_settings)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*names, name))
        if isinstance(command, click.Group):
            found += commands(command, *names, name)
    return found


def options_of(words: tuple[str, ...]) -> list[str]:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command, **cli.context_settings), word)
        assert found is not None
        command = found
    return [name for item in command.params if isinstance(item, click.Option) for name in item.opts]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("words", commands(cli), ids=" ".join)
def test_the_help_of_a_command_names_each_of_its_options(words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: cli {' '.join(words)}")
    for option in options_of(words):
        assert option in result.stdout


def test_the_short_help_option_works_everywhere() -> None:
    for words in ([], ["build"], ["plan"], ["cache", "prune"]):
        assert call(*words, "-h").stdout.startswith("Usage: cli")


def test_every_command_is_listed() -> None:
    assert call("--help").stdout.count("\n  ") >= 6
    for name in ("build", "plan", "run", "bases", "cache", "doctor"):
        assert f"  {name} " in call("--help").stdout


@pytest.mark.parametrize("start", [["-m", "nb2image"], ["-c", "from nb2image.cli import main; main()"]])
def test_the_version_is_printed(start: list[str], tmp_path: Path) -> None:
    command = [sys.executable, *start, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"nb2image {__version__}\n", "")


@pytest.mark.parametrize("misplaced", [["--mode", "batch"], ["-p", "n", "3", "--python=3.11"], ["--no-bytecode"]])
def test_an_option_of_run_after_the_notebook_is_refused(misplaced: list[str], tmp_path: Path) -> None:
    notebook = tmp_path / "report.ipynb"
    notebook.write_text("{}")
    result = call("run", str(notebook), *misplaced)
    assert result.exit_code == 2
    assert "report.ipynb, where everything is for the container" in result.stderr


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (("-p", "n", "3"), ("-p", "n", "3")),
        (("--", "-p", "n", "3"), ("-p", "n", "3")),
        (("--", "--mode", "x"), ("--mode", "x")),
        (("--engine", "noop", "-"), ("--engine", "noop", "-")),
    ],
)
def test_what_follows_the_notebook_is_for_the_container(given: tuple[str, ...], passed: tuple[str, ...]) -> None:
    assert _for_container("report.ipynb", given, built=True) == passed


def test_an_images_arguments_are_its_own() -> None:
    assert _for_container("tool:1", ("--output", "--mode"), built=False) == ("--output", "--mode")


# -- plan ------------------------------------------------------------------------------------------


def plan(world: World, *arguments: str) -> Result:
    return call("plan", world.locked(ALPHA, BETA), "--base", str(world.base), "--progress", "none", *arguments)


def test_a_plan_is_one_document(world: World) -> None:
    result = plan(world, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["notebook"] == "analysis.ipynb"
    assert document["mode"] == "jupyter"
    assert document["lock"]["source"] == 'metadata["pylock.toml"]'
    assert document["lock"]["digest"].startswith("sha256:")
    assert document["base"]["python"] == "3.11.2"
    assert document["base"]["glibc"] == "2.36"
    assert document["base"]["reasons"]
    assert [row["chosen"] for row in document["base"]["considered"]] == [True]
    assert [(row["name"], row["version"], row["file"]) for row in document["packages"]] == [
        ("alpha", "1.0", ALPHA.filename),
        ("beta", "2.0", BETA.filename),
    ]
    assert {row["name"] for row in document["runner"]} == {"jupyterlab", "lab-helper"}
    assert {row["name"] for row in document["support"]} == {"ipykernel", "comm"}
    assert document["bytecode"] is False


def test_a_plan_downloads_no_package(world: World) -> None:
    assert plan(world).exit_code == 0
    assert [path for path in world.server.paths() if path.startswith("/files/")] == []


def test_a_plan_reads_as_a_page(world: World) -> None:
    page = plan(world).stdout
    assert page.startswith("notebook  analysis.ipynb (analysis)\n")
    assert "kernel    2 wheels" in page
    assert "support   2 wheels" in page
    assert "alpha 1.0" not in page
    assert f"alpha 1.0  {ALPHA.filename}" in plan(world, "-v").stdout


def test_credentials_of_an_index_are_not_shown(world: World) -> None:
    source = notebook(
        world.work,
        None,
        requirements_lock=json.dumps(
            {
                "_meta": {
                    "hash": {"sha256": "0" * 64},
                    "pipfile-spec": 6,
                    "requires": {"python_version": "3.11"},
                    "sources": [{"name": "main", "url": world.server.with_login("joe:hunter2"), "verify_ssl": True}],
                },
                "default": {"alpha": {"version": "==1.0", "hashes": [f"sha256:{ALPHA.sha256}"]}},
                "develop": {},
            }
        ),
    )
    world.offer(ALPHA)
    for arguments in (["--json"], ["-v"], ["--progress", "json"]):
        result = call("plan", source, "--base", world.base, *arguments)
        assert result.exit_code == 0, result.output
        assert "hunter2" not in result.output


# -- build -----------------------------------------------------------------------------------------


def test_a_build_is_one_document(world: World) -> None:
    source = world.locked(ALPHA)
    result = call("build", source, "--base", world.base, "--json", "-q", "-o", world.work / "out", "-t", "lab:1")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["tags"] == ["lab:1"]
    assert document["outputs"] == [f"{world.work}/out/"]
    assert document["size"] == sum(row["size"] for row in document["layers"])
    assert {row["comment"] for row in document["layers"]} >= {"alpha==1.0", "notebook analysis.ipynb"}
    assert document["conflicts"] == []
    assert {"read", "match", "base", "environments", "assemble", "write"} <= set(document["seconds"])
    assert document["base"]["digest"].startswith("sha256:")
    index = json.loads((world.work / "out" / "index.json").read_bytes())
    assert [row["digest"] for row in index["manifests"]] == [document["digest"]]


def test_without_an_output_an_archive_stands_beside_the_notebook(world: World) -> None:
    source = world.locked(ALPHA, name="My Analysis.ipynb")
    result = call("build", source, "--base", world.base, "--progress", "none")
    assert result.exit_code == 0, result.output
    archive = world.work / "My Analysis.tar"
    assert archive.is_file()
    digest, written, run = result.stdout.splitlines()
    assert digest.startswith("sha256:")
    assert written == f"written to {archive} as my-analysis:latest"
    assert shlex.quote(str(archive)) in run


def test_several_outputs_and_tags_hold_one_image(world: World) -> None:
    source = world.locked(ALPHA)
    outputs = ["-o", str(world.work / "image.tar"), "-o", str(world.work / "layout")]
    result = call("build", source, "--base", world.base, "--json", "-q", *outputs, "-t", "one", "-t", "two:2")
    document = json.loads(result.stdout)
    names = {
        row["annotations"]["org.opencontainers.image.ref.name"]
        for row in json.loads((world.work / "layout" / "index.json").read_bytes())["manifests"]
    }
    assert names == {"one:latest", "two:2"}
    with tarfile.open(world.work / "image.tar") as archive:
        stream = archive.extractfile("index.json")
        assert stream is not None
        digests = {row["digest"] for row in json.load(stream)["manifests"]}
    assert digests == {document["digest"]}
    assert document["outputs"] == [str(world.work / "image.tar"), f"{world.work}/layout/"]


def test_quiet_prints_nothing(world: World) -> None:
    result = call("build", world.locked(ALPHA), "--base", world.base, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("output", "mode", "command"),
    [
        (
            Archive(Path("my image.tar")),
            "jupyter",
            "docker load -i 'my image.tar' && docker run --rm -p 127.0.0.1:8888:8888 lab:1",
        ),
        (Layout(Path("out")), "jupyter", "podman run --rm -p 127.0.0.1:8888:8888 oci:out:lab:1"),
        (
            Archive(Path("a.tar")),
            "batch",
            'docker load -i a.tar && mkdir -p output && docker run --rm -u "$(id -u):0" -v "$PWD/output:/output" lab:1',
        ),
    ],
    ids=["archive", "layout", "batch"],
)
def test_the_command_that_runs_the_image_fits_its_output(
    output: Output, mode: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert run_command([output], "lab:1", mode) == command


@pytest.mark.parametrize(("uid", "user"), [(0, '"$(id -u):0"'), (1000, "0:0")])
def test_a_batch_image_writes_as_the_user_of_a_rootless_podman(
    uid: int, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: uid)
    assert f"podman run --rm -u {user} -v" in run_command([Layout(Path("out"))], "lab:1", "batch")


def test_the_command_prefers_an_output_that_needs_no_loading() -> None:
    command = run_command([Archive(Path("a.tar")), Layout(Path("out"))], "lab:1", "jupyter")
    assert command.startswith("podman run ")
    assert EngineLoad().prepare() is None


# -- cache -----------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three files of 1000 bytes in each room: of a hundred days ago, of ten, of today."""
    monkeypatch.setenv("NB2IMAGE_CACHE_DIR", str(tmp_path / "cache"))
    store = Store.default()
    for number, room in enumerate(("wheels", "bases", "layers")):
        for days in (100, 10, 0):
            with store.writing(room) as writing:  # type: ignore[arg-type]
                writing.write(f"{number} {days}".encode().ljust(1000))
                path = writing.commit()
            then = path.stat().st_mtime - days * 86400
            os.utime(path, (then, then))
    store.put_record("layer", "ab" * 32, {})
    return store


def left(store: Store) -> dict[str, int]:
    return {usage.room: usage.files for usage in store.usage() if usage.room in (*ROOMS, "records")}


def test_the_path_of_the_cache_is_printed(store: Store) -> None:
    assert call("cache", "path").stdout == f"{store.root}\n"


def test_what_the_cache_holds_is_shown(store: Store) -> None:
    lines = call("cache", "info").stdout.splitlines()
    assert lines[0] == str(store.root)
    assert lines[1].split() == ["wheels", "3", "files", "2.9", "KiB"]
    assert lines[-1].split()[:3] == ["total", "10", "files"]
    document = json.loads(call("cache", "info", "--json").stdout)
    assert document["path"] == str(store.root)
    assert document["rooms"]["layers"] == {"files": 3, "bytes": 3000}


def test_an_empty_cache_is_shown_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NB2IMAGE_CACHE_DIR", str(tmp_path / "none"))
    assert call("cache", "info").stdout.splitlines()[-1].split() == ["total", "0", "files", "0", "B"]
    assert call("cache", "prune", "--all").stdout == "removed 0 files, 0 B\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "remaining"),
    [
        (["--layers"], {"wheels": 3, "bases": 3, "layers": 0, "records": 1}),
        (["--layers", "--wheels"], {"wheels": 0, "bases": 3, "layers": 0, "records": 1}),
        (["--bases", "--older-than", "50"], {"wheels": 3, "bases": 2, "layers": 3, "records": 1}),
        (["--older-than", "9.5"], {"wheels": 1, "bases": 1, "layers": 1, "records": 1}),
        (["--all"], {"wheels": 0, "bases": 0, "layers": 0, "records": 0}),
        (["--max-size", "4k"], None),
        (["--max-size", "0"], {"wheels": 0, "bases": 0, "layers": 0, "records": 1}),
        (["--max-size", "1G"], {"wheels": 3, "bases": 3, "layers": 3, "records": 1}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_pruning_removes_what_was_named(store: Store, arguments: list[str], remaining: dict[str, int] | None) -> None:
    result = call("cache", "prune", *arguments)
    assert result.exit_code == 0
    if remaining is None:  # Four files of 1000 bytes fit into four KiB.
        assert sum(left(store).values()) - left(store)["records"] == 4
    else:
        assert left(store) == remaining


def test_pruning_asks_what(store: Store) -> None:
    result = call("cache", "prune")
    assert result.exit_code == 2
    assert "say what to prune" in result.stderr
    assert sum(left(store).values()) == 10


@pytest.mark.parametrize(
    ("text", "size"),
    [("500", 500), ("1k", 1024), ("1.5KiB", 1536), ("500M", 500 << 20), ("10G", 10 << 30), ("2 TB", 2 << 40)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    from nb2image.cli.cache import cache, prune

    parameter = next(item for item in prune.params if item.name == "max_size")
    assert parameter.process_value(click.Context(cache), text) == size


@pytest.mark.parametrize("text", ["much", "-1", "1X", "", "1e9", "GB"])
def test_other_sizes_are_refused(store: Store, text: str) -> None:
    result = call("cache", "prune", "--max-size", text)
    assert result.exit_code == 2
    assert "500M or 10G" in result.stderr
    assert sum(left(store).values()) == 10


def test_pruning_older_than_a_negative_time_is_refused(store: Store) -> None:
    assert call("cache", "prune", "--older-than", "-1").exit_code == 2
    assert sum(left(store).values()) == 10
