"""Images on other bases: what a build there gives, bit for bit, with the layers of the old one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nb2image.cli import cli
from nb2image.errors import Nb2ImageError, UnfitBase
from nb2image.image.archive import write_archive
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.read import find_image
from nb2image.layers.entry import HardLink, Link
from nb2image.progress import Silent
from tests.unit.abi.making import shared_object
from tests.unit.bases.test_facts import DEBIAN, elf, slim
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.inspection.making import dpkg
from tests.unit.world import Made, World, wheel, world

__all__ = ["machine", "server", "world"]

ALPHA, BETA = wheel("alpha"), wheel("beta", "2.0")
Files = Mapping[str, "bytes | Link | HardLink"]

PATCHED: Files = {**DEBIAN, "etc/patched": b"", **dpkg(("libc6", "2.36-10", "/etc/patched\n"))}
BASES: dict[str, tuple[Files, ...]] = {
    "a patched one": (PATCHED,),
    "one of a later Python 3.11": ({**DEBIAN, "usr/bin/python3.11": elf("3.11.9", "2.5.0", "3.40.1")},),
    "one whose Python stands elsewhere": (slim("3.11", "3.11.9"),),
    "one of two layers": (DEBIAN, {"etc/more": b""}),
    "one that says its distribution": (
        {**PATCHED, "etc/os-release": b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian"\n'},
    ),
}


def base(world: World, *layers: Files, **config: Any) -> Path:
    path = world.folder / "new-base"
    config = {"Env": ["PATH=/usr/local/bin:/usr/bin"], **config}
    write_layout(image_of(*(files_of(each) for each in layers), **config), ["new:2"], path, Silent())
    return path


def build(world: World, on: Path | None = None, *wheels: Made, **changes: Any) -> Image:
    if on is not None:
        world.base = on
    return world.build(world.locked(*(wheels or (ALPHA, BETA))), **changes).image


def stored(world: World, image: Image) -> Path:
    write_layout(image, ["image:1"], world.work / "image", Silent())
    return world.work / "image"


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["rebase", "-q", *map(str, arguments)])


def rebased(world: World, source: Path, on: Path) -> Image:
    target = world.work / "rebased"
    done = call(source, "--base", on, "-o", f"{target}/")
    assert done.exception is None, done.output
    return find_image(target).read()


def refused(world: World, source: Path, on: Path, kind: type[Nb2ImageError] = UnfitBase) -> str:
    done = call(source, "--base", on, "-o", f"{world.work}/rebased/")
    assert isinstance(done.exception, kind), done.output
    assert done.exception.hint
    assert not (world.work / "rebased").exists()
    return "\n".join((done.exception.message, *done.exception.details))


@pytest.mark.parametrize("kind", list(BASES))
def test_a_rebased_image_is_what_a_build_on_that_base_gives(world: World, kind: str) -> None:
    source = stored(world, build(world, env={"MODEL": "small"}, labels={"a.b": "c"}))
    on = base(world, *BASES[kind])
    new = rebased(world, source, on)
    expected = build(world, on, env={"MODEL": "small"}, labels={"a.b": "c"})
    assert json.loads(new.config_bytes) == json.loads(expected.config_bytes)
    assert new.manifest_bytes == expected.manifest_bytes


def test_layers_that_the_base_does_not_decide_are_kept_byte_for_byte(world: World) -> None:
    old = build(world)
    new = rebased(world, stored(world, old), base(world, PATCHED))
    assert [layer.descriptor for layer in new.layers[1:-1]] == [layer.descriptor for layer in old.layers[1:-1]]
    assert new.layers[0].descriptor != old.layers[0].descriptor


def test_the_bill_of_materials_lists_the_packages_of_the_new_base(world: World) -> None:
    source = stored(world, build(world))
    assert rebased(world, source, base(world, PATCHED)).layers
    done = world.run("diff", source, world.work / "rebased", "--json", "-q")
    found = json.loads(done.stdout)
    assert [(row["name"], row["before"], row["after"]) for row in found["packages"]] == [("libc6", None, "2.36-10")]
    changed = {row["name"] for row in found["files"]["owners"]}
    assert changed <= {"libc6", "nb2image", "base"}


def test_a_rebased_image_is_verified_and_rebased_back(world: World) -> None:
    old = build(world)
    source = stored(world, old)
    on, before = base(world, *BASES["one whose Python stands elsewhere"]), world.base
    assert rebased(world, source, on).digest != old.digest
    done = CliRunner().invoke(cli, ["verify", "-q", str(world.work / "rebased"), "--base", str(on), "--rebuild"])
    assert done.exception is None, done.output
    again = world.work / "again"
    assert call(world.work / "rebased", "--base", before, "-o", f"{again}/").exception is None
    assert find_image(again).read().digest == old.digest


def test_an_archive_is_rebased(world: World) -> None:
    on = base(world, PATCHED)
    write_archive(build(world), ["image:1"], world.work / "old.tar", Silent())
    new = rebased(world, world.work / "old.tar", on)
    assert new.digest == build(world, on).digest


def test_another_minor_version_of_python_is_refused(world: World) -> None:
    text = refused(world, stored(world, build(world)), base(world, slim()))
    assert "are those of Python 3.11" in text


def test_an_older_glibc_than_a_wheel_needs_is_refused(world: World) -> None:
    image = build(world, None, wheel("native"))
    path = "opt/kernel/lib/python3.11/site-packages/native-1.0.dist-info/WHEEL"
    layer = files_of({path: b"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_36_x86_64\n"})
    source = stored(world, image.with_layers([layer]))
    old = elf("GNU C Library (Debian GLIBC 2.31-1) stable release version 2.31.", loader=None)
    text = refused(world, source, base(world, {**DEBIAN, "usr/lib/x86_64-linux-gnu/libc.so.6": old}))
    assert "native-1.0 is for manylinux_2_36_x86_64" in text


# -- shared libraries ----------------------------------------------------------------------------------------

THING = "usr/lib/x86_64-linux-gnu/libthing.so.1"
NATIVE = wheel(
    "native",
    files={
        "native/_native.so": shared_object("libthing.so.1", versions={"libthing.so.1": ["THING_2"]}),
        "native/plugins/seldom.so": shared_object("libseldom.so.1"),
    },
)


def thing(*versions: str) -> Files:
    return {**DEBIAN, THING: shared_object(soname="libthing.so.1", defines=versions)}


def native(world: World, below: Files) -> Path:
    """An image of the wheel that needs the library, on a base of these files."""
    return stored(world, build(world, base(world, below), NATIVE))


def test_a_library_that_the_new_base_lacks_is_refused_with_its_wheel(world: World) -> None:
    source = native(world, thing("THING_1", "THING_2"))
    text = refused(world, source, base(world, PATCHED))
    assert "lacks 1 shared library that packages in" in text
    assert "native 1.0: native/_native.so needs libthing.so.1, which neither the wheels nor the base" in text


def test_a_symbol_version_that_the_new_base_lacks_is_refused(world: World) -> None:
    source = native(world, thing("THING_1", "THING_2"))
    text = refused(world, source, base(world, thing("THING_1")))
    assert f"native/_native.so needs THING_2 of libthing.so.1, and /{THING} of the base" in text


def test_a_library_that_was_missing_before_is_a_warning(world: World) -> None:
    source = native(world, DEBIAN)
    done = world.run("rebase", source, "--base", base(world, PATCHED), "-o", f"{world.work}/rebased/")
    assert done.returncode == 0
    assert "needs libthing.so.1" in done.stderr
    assert "It was missing on the image's own base, too." in done.stderr


def test_a_library_that_only_a_plugin_needs_is_no_reason_to_refuse(world: World) -> None:
    seldom = {**thing("THING_2"), "usr/lib/x86_64-linux-gnu/libseldom.so.1": shared_object(soname="libseldom.so.1")}
    source = native(world, seldom)
    done = world.run("rebase", source, "--base", base(world, thing("THING_2")), "-o", f"{world.work}/rebased/", "-q")
    assert done.returncode == 0, done.stderr


def test_a_folder_that_a_variable_of_the_image_names_is_searched(world: World) -> None:
    place = {**DEBIAN, "opt/libs/libthing.so.1": shared_object(soname="libthing.so.1", defines=["THING_2"])}
    image = build(world, base(world, place, Env=["PATH=/usr/bin", "LD_LIBRARY_PATH=/opt/libs"]), NATIVE)
    source = stored(world, image)
    assert rebased(world, source, base(world, {**place, "etc/patched": b""})).config.env["LD_LIBRARY_PATH"]
    assert call(source, "--base", base(world, PATCHED), "-o", f"{world.work}/other/").exit_code != 0


def test_a_newer_library_serves(world: World) -> None:
    source = native(world, thing("THING_2"))
    assert rebased(world, source, base(world, thing("THING_2", "THING_3"))).layers


def test_a_library_that_somebody_put_into_the_image_counts_as_it_stands_there(world: World) -> None:
    image = build(world, base(world, thing("THING_1", "THING_2")), NATIVE)
    path = "opt/kernel/lib/python3.11/site-packages/added.so"
    other = shared_object("libother.so.2")
    source = stored(world, image.with_layers([files_of({path: other})]))
    on = base(world, thing("THING_2"))
    done = world.run("rebase", source, "--base", on, "-o", f"{world.work}/rebased/")
    assert done.returncode == 0
    assert "a file of no package: added.so needs libother.so.2" in done.stderr


def test_a_base_of_too_many_layers_is_refused(world: World) -> None:
    on = base(world, DEBIAN, *({f"etc/layer-{n}": b""} for n in range(99)))
    assert "engines mount 100" in refused(world, stored(world, build(world)), on)


def test_an_image_that_nb2image_did_not_build_is_refused(world: World) -> None:
    assert "does not say which of its layers" in refused(world, world.base, base(world, PATCHED))


def test_a_broken_bill_of_materials_is_refused_in_a_sentence(world: World) -> None:
    layer = files_of({"opt/nb2image/sbom.cdx.json": b"{"})
    source = stored(world, build(world).with_layers([layer]))
    assert "is none that nb2image wrote" in refused(world, source, base(world, PATCHED), Nb2ImageError)


def test_where_the_image_goes_must_be_said(world: World) -> None:
    done = call(stored(world, build(world)), "--base", world.base)
    assert done.exit_code == 2
    assert "-o PATH, --load or --push" in done.output
