"""``nb2image verify``: images as they were built, and images that someone changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from nb2image.cli import cli
from nb2image.errors import NotVerified
from nb2image.image.archive import write_archive
from nb2image.image.filesystem import content, members
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.read import find_image
from nb2image.layers.entry import HardLink, Link
from nb2image.progress import Silent
from tests.unit.image.making import files_of
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, pylock, wheel, world

__all__ = ["machine", "server", "world"]

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "verify.schema.json").read_text())
ALPHA, BETA = wheel("alpha"), wheel("beta", "2.0")
MODULE = "opt/kernel/lib/python3.11/site-packages/alpha/__init__.py"


@pytest.fixture
def built(world: World) -> Path:
    return build(world, world.locked(ALPHA, BETA))


def build(world: World, source: Path, **changes: Any) -> Path:
    target = world.work / "image"
    write_layout(world.build(source, **changes).image, ["image:1"], target, Silent())
    return target


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["verify", "-q", *map(str, arguments)])


def verified(world: World, image: Path, *options: str | Path) -> dict[str, Any]:
    """The document of an image that is as it should be."""
    done = call(image, "--base", world.base, "--json", *options)
    assert done.exception is None, done.output
    return document(done)


def document(done: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def refused(world: World, image: Path, *options: str | Path) -> dict[str, list[tuple[str, str]]]:
    """What is wrong with an image, by check."""
    done = call(image, "--base", world.base, "--json", *options)
    assert isinstance(done.exception, NotVerified), done.output
    found = document(done)
    assert found["holds"] is False
    assert found["sentence"] == done.exception.message
    return {
        check["name"]: [(each["what"], each["name"]) for each in check["findings"]]
        for check in found["checks"]
        if check["holds"] is False
    }


def changed(world: World, image: Image) -> Path:
    target = world.work / "changed"
    write_layout(image, ["changed:1"], target, Silent())
    return target


def with_file(image: Image, path: str, data: bytes) -> Image:
    """The image with one file's content changed in its own layer."""
    layers = list(image.layers)
    for number, layer in enumerate(layers):
        found: dict[str, bytes | Link | HardLink] = {}
        for name, info, tar in members(layer):
            if info.isreg():
                found[name] = content(tar, info, layer)
            elif info.issym():
                found[name] = Link(info.linkname)
            elif info.islnk():
                found[name] = HardLink(info.linkname)
        if path in found:
            layers[number] = files_of({**found, path: data})
            return replace(image, layers=tuple(layers))
    raise AssertionError(path)


# -- as they should be ---------------------------------------------------------------------------------------


def test_an_image_that_nobody_changed_holds_what_its_lock_names(world: World, built: Path) -> None:
    found = verified(world, built)
    assert "holds exactly the 2 packages that its lock names" in found["sentence"]
    assert {check["name"] for check in found["checks"] if check["holds"] is None} == {"notebook"}


def test_an_image_is_verified_against_its_notebook(world: World, built: Path) -> None:
    found = verified(world, built, "--notebook", world.work / "analysis.ipynb")
    assert all(check["holds"] for check in found["checks"])


@pytest.mark.parametrize("options", [{}, {"env": {"MODEL": "small"}, "labels": {"a.b": "c"}}])
def test_an_image_is_rebuilt_bit_for_bit(world: World, options: dict[str, Any]) -> None:
    image = build(world, world.locked(ALPHA, BETA), **options)
    found = verified(world, image, "--rebuild")
    assert found["sentence"].endswith("rebuilt bit for bit.")
    assert found["added"] == ({"env MODEL": "small", "label a.b": "c"} if options else {})


def test_an_image_of_another_date_is_rebuilt_with_that_date(world: World) -> None:
    verified(world, build(world, world.locked(ALPHA), epoch=1_700_000_000), "--rebuild")


def test_an_image_of_a_lock_beside_the_notebook_is_verified_by_the_lock_in_the_image(world: World) -> None:
    world.offer(ALPHA, BETA)
    source = world.locked(name="analysis.ipynb")
    notebook = json.loads(source.read_text())
    del notebook["metadata"]["pylock.toml"]
    source.write_text(json.dumps(notebook))
    (world.work / "pylock.toml").write_text(pylock(ALPHA, BETA, url=f"{world.server.url}/files"))
    image = build(world, source)
    verified(world, image, "--rebuild")
    verified(world, image, "--rebuild", "--notebook", source)


def test_an_image_of_a_repository_is_verified(world: World) -> None:
    (world.work / "repo").mkdir()
    source = world.locked(ALPHA).rename(world.work / "repo" / "analysis.ipynb")
    (source.parent / "data").mkdir()
    (source.parent / "data" / "rows.csv").write_text("1,2\n")
    (source.parent / "latest").symlink_to("data/rows.csv")
    image = build(world, source.parent)
    verified(world, image, "--rebuild")
    verified(world, image, "--rebuild", "--notebook", source.parent)


def test_an_archive_is_verified(world: World) -> None:
    target = world.work / "image.tar"
    write_archive(world.build(world.locked(ALPHA)).image, ["image:1"], target, Silent())
    verified(world, target, "--rebuild")


# -- tampered with -------------------------------------------------------------------------------------------


def test_one_changed_byte_in_a_package_is_found(world: World, built: Path) -> None:
    image = find_image(built).read()
    data = b"#" + f"# alpha {ALPHA.version}\n".encode() * 20
    tampered = with_file(image, MODULE, data[:-1])
    assert refused(world, changed(world, tampered))["kernel"] == [("altered", f"/{MODULE}")]


def test_an_extra_pth_file_is_found(world: World, built: Path) -> None:
    path = "opt/kernel/lib/python3.11/site-packages/evil.pth"
    tampered = find_image(built).read().with_layers([files_of({path: b"import os\n"})])
    wrong = refused(world, changed(world, tampered))
    assert wrong["kernel"] == [("extra", f"/{path}")]
    assert set(wrong) == {"kernel", "layers"}


def test_a_file_that_a_layer_on_top_deletes_is_found(world: World, built: Path) -> None:
    folder, _, name = MODULE.rpartition("/")
    tampered = find_image(built).read().with_layers([files_of({f"{folder}/.wh.{name}": b""})])
    assert refused(world, changed(world, tampered))["kernel"] == [("missing", f"/{MODULE}")]


def test_a_changed_file_of_the_base_is_found(world: World, built: Path) -> None:
    tampered = find_image(built).read().with_layers([files_of({"etc/profile": b"evil\n"})])
    assert refused(world, changed(world, tampered))["rest"] == [("extra", "/etc/profile")]


def test_another_lock_in_the_image_is_found(world: World, built: Path) -> None:
    image = find_image(built).read()
    path = "opt/nb2image/pylock.toml"
    layer = files_of({path: pylock(ALPHA, url="https://index.example").encode()})
    wrong = refused(world, changed(world, image.with_layers([layer])))
    assert wrong["lock"] == [("altered", f"/{path}")]


def test_another_notebook_is_found(world: World, built: Path) -> None:
    source = world.work / "analysis.ipynb"
    source.write_text(source.read_text().replace("hello", "hullo"))
    wrong = refused(world, built, "--notebook", source)
    assert ("altered", "/work/analysis.ipynb") in wrong["notebook"]
    assert "kernel" not in wrong


def test_a_notebook_that_was_changed_in_the_image_is_found_without_the_original(world: World, built: Path) -> None:
    image = find_image(built).read()
    other = (world.work / "analysis.ipynb").read_bytes().replace(b"hello", b"hullo")
    layer = files_of({"work/analysis.ipynb": other, "opt/nb2image/source/analysis.ipynb": other})
    wrong = refused(world, changed(world, image.with_layers([layer])))
    assert wrong["bill of materials"] == [("altered", "/opt/nb2image/sbom.cdx.json")]


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD", "PATH", "JUPYTER_PATH"])
def test_a_variable_that_changes_what_is_loaded_is_found(world: World, built: Path, name: str) -> None:
    image = find_image(built).read()
    tampered = image.with_config(image.config.with_env({name: "/evil"}))
    wrong = refused(world, changed(world, tampered))
    assert [each[1] for each in wrong["configuration"]] == [f"env {name}"]


def test_another_user_and_entry_point_are_found(world: World, built: Path) -> None:
    image = find_image(built).read()
    tampered = image.with_config(image.config.with_execution(User="0", Entrypoint=["/bin/sh"]))
    wrong = refused(world, changed(world, tampered))
    assert [each[1] for each in wrong["configuration"]] == ["entry point", "user"]


def test_another_base_is_found(world: World, built: Path) -> None:
    image = find_image(built).read()
    layers = (files_of({"etc/other": b""}), *image.layers[1:])
    assert "base" in refused(world, changed(world, replace(image, layers=layers)))


def test_an_image_that_nb2image_did_not_build_is_refused_in_a_sentence(world: World) -> None:
    done = call(world.base)
    assert isinstance(done.exception, NotVerified)
    assert "does not say what it was built from" in done.exception.message


def test_a_base_that_nb2image_does_not_bring_is_asked_for(world: World, built: Path) -> None:
    done = world.run("verify", built, "-q")
    assert done.returncode == 81
    assert "--base PATH" in done.stderr
