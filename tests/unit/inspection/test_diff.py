"""``nb2image diff``: what differs between two images, as a table, a document and an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from click.testing import CliRunner, Result

from nb2image.cli import cli
from nb2image.errors import ImagesDiffer
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.layers.entry import HardLink, Link
from nb2image.progress import Silent
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.inspection.making import dpkg, installed
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "diff.schema.json").read_text())


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["diff", "--quiet", *map(str, arguments)], standalone_mode=False)


def document(one: Path, other: Path, *options: str) -> dict[str, Any]:
    result = call(one, other, "--json", *options)
    assert result.exception is None, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def stored(path: Path, image: Image) -> Path:
    write_layout(image, ["made:1"], path, Silent())
    return path


def changes(found: dict[str, Any]) -> dict[str, str]:
    return {row["path"]: row["change"] for row in found["files"]["list"]}


def test_an_image_is_the_same_as_itself(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", image_of(files_of({"a": b"1"})))
    assert document(one, one)["same"] is True
    result = call(one, one, "--exit-code")
    assert result.exception is None
    assert "are the same image" in result.stdout


def test_packages_files_and_configuration_that_differ_are_named(tmp_path: Path) -> None:
    one = image_of(
        files_of(dpkg(("libc6", "2.36-9", "/etc/x\n"))),
        files_of(installed("demo", "1.0", {"demo.py": b"1\n"})),
        Env=["A=1", "GONE=x"],
        User="joe",
    )
    other = image_of(
        files_of(dpkg(("libc6", "2.36-10", "/etc/x\n"))),
        files_of(installed("demo", "1.1", {"demo.py": b"2\n", "new.py": b""})),
        Env=["A=2"],
        User="joe",
    )
    found = document(stored(tmp_path / "one", one), stored(tmp_path / "other", other), "--files")
    assert [(row["kind"], row["name"], row["before"], row["after"]) for row in found["packages"]] == [
        ("debian", "libc6", "2.36-9", "2.36-10"),
        ("wheel", "demo", "1.0", "1.1"),
    ]
    settings = {row["name"]: (row["before"], row["after"]) for row in found["configuration"]}
    assert settings == {"env A": ("1", "2"), "env GONE": ("x", None)}
    site = "/usr/lib/python3.11/site-packages"
    assert changes(found)[f"{site}/demo.py"] == "changed"
    assert changes(found)[f"{site}/new.py"] == "added"
    assert changes(found)[f"{site}/demo-1.0.dist-info/RECORD"] == "removed"
    demo = next(row for row in found["files"]["owners"] if row["name"] == "demo")
    assert (demo["added"], demo["removed"], demo["changed"]) == (3, 2, 1)


def test_a_changed_byte_of_a_file_as_long_as_before_is_found(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", image_of(files_of({"a": b"1", "b": b"same"})))
    other = stored(tmp_path / "other", image_of(files_of({"a": b"2", "b": b"same"})))
    assert changes(document(one, other, "--files")) == {"/a": "changed"}


def test_a_file_that_a_layer_on_top_replaces_is_compared_with_that_of_the_layer_of_both(tmp_path: Path) -> None:
    below = files_of({"a": b"1", "b": b"2"})
    one = stored(tmp_path / "one", image_of(below))
    other = stored(tmp_path / "other", image_of(below, files_of({"a": b"1", "b": b"3"})))
    found = document(one, other, "--files")
    assert changes(found) == {"/b": "changed"}
    assert len(found["layers"]["shared"]) == 1
    assert len(found["layers"]["after"]) == 1


def test_a_whiteout_removes_and_a_link_that_leads_elsewhere_is_changed(tmp_path: Path) -> None:
    below = files_of({"a": b"1", "l": Link("a")})
    one = stored(tmp_path / "one", image_of(below))
    other = stored(tmp_path / "other", image_of(below, files_of({".wh.a": b"", "l": Link("b")})))
    assert changes(document(one, other, "--files")) == {"/a": "removed", "/l": "changed"}


def test_a_hard_link_is_the_file_that_it_names(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", image_of(files_of({"a": b"1", "b": HardLink("a")})))
    other = stored(tmp_path / "other", image_of(files_of({"a": b"1", "b": b"1"})))
    assert changes(document(one, other, "--files")) == {}


def test_layers_in_another_order_are_a_difference(tmp_path: Path) -> None:
    a, b = files_of({"a": b"1"}), files_of({"b": b"1"})
    one, other = stored(tmp_path / "one", image_of(a, b)), stored(tmp_path / "other", image_of(b, a))
    found = document(one, other, "--files")
    assert found["same"] is False
    assert (changes(found), found["layers"]["before"]) == ({}, [])
    result = call(one, other)
    assert "the order of layers" in result.stdout


def test_images_that_differ_have_an_exit_code_of_their_own_when_it_is_asked_for(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", image_of(files_of({"a": b"1"})))
    other = stored(tmp_path / "other", image_of(files_of({"a": b"2"})))
    assert call(one, other).exception is None
    assert isinstance(call(one, other, "--exit-code").exception, ImagesDiffer)


def test_two_builds_share_what_their_notebooks_share(world: World) -> None:
    alpha, beta = wheel("alpha"), wheel("beta", "2.0")
    images = []
    for name, locked in (("one", [alpha, beta]), ("other", [alpha, wheel("beta", "2.1")])):
        target = world.work / name
        done = world.run("build", world.locked(*locked), "--base", world.base, "-o", f"{target}/", "-q")
        assert done.returncode == 0, done.stderr
        images.append(target)
    found = document(images[0], images[1])
    assert [(row["environment"], row["name"], row["before"], row["after"]) for row in found["packages"]] == [
        ("/opt/kernel", "beta", "2.0", "2.1")
    ]
    assert [(row["name"], row["before"], row["after"]) for row in found["lock"]] == [
        ("beta", "2.0 (beta-2.0-py3-none-any.whl)", "2.1 (beta-2.1-py3-none-any.whl)")
    ]
    assert found["base"] == []
    assert "runner" in {layer["role"] for layer in found["layers"]["shared"]}
    done = world.run("diff", images[0], images[1], "--exit-code", "-q")
    assert done.returncode == 80
    assert "1 Python package (1 changed), the lock, " in done.stdout
