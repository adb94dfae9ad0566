"""What ``nb2image diff`` says of pairs that people compare, word for word; sizes and digests aside."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nb2image import __version__
from nb2image.cli import cli
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.progress import Silent
from tests.unit.bases.test_facts import DEBIAN, elf
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.inspection.making import dpkg
from tests.unit.world import Made, World, wheel, world

__all__ = ["machine", "server", "world"]

TEXTS = Path(__file__).parent / "texts"
ALPHA, BETA = wheel("alpha"), wheel("beta", "2.0")


def build(world: World, *wheels: Made, on: Path | None = None, cell: str = "hello", **changes: Any) -> Image:
    source = world.locked(*(wheels or (ALPHA, BETA)))
    source.write_text(source.read_text().replace("hello", cell))
    if on is not None:
        world.base = on
    return world.build(source, **changes).image


def base(world: World, name: str, python: str, *packages: tuple[str, str, str]) -> Path:
    files = {**DEBIAN, "usr/bin/python3.11": elf(python, "2.5.0", "3.40.1"), **dpkg(*packages)}
    write_layout(image_of(files_of(files), Env=["PATH=/usr/bin"]), [name], world.folder / name, Silent())
    return world.folder / name


def said(world: World, one: Image, other: Image, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, image in (("a", one), ("b", other)):
        write_layout(image, ["made:1"], world.folder / name, Silent())
    monkeypatch.chdir(world.folder)
    done = CliRunner().invoke(cli, ["diff", "-q", "a", "b"])
    assert done.exception is None, done.output
    text = re.sub(r"[0-9a-f]{12}…", "…", done.stdout.replace(__version__, "VERSION"))
    # Tables are as wide as their cells.
    return re.sub(r" {2,}", "  ", re.sub(r"[\d.,]+ (?:B|KiB|MiB)", "SIZE", text))


def matches(name: str, text: str) -> None:
    """``NB2IMAGE_WRITE_TEXTS=1`` writes what is expected: read it then."""
    file = TEXTS / f"{name}.txt"
    if os.environ.get("NB2IMAGE_WRITE_TEXTS") == "1":
        file.write_text(text)
    assert text == file.read_text()


def test_another_version_of_a_package(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = build(world), build(world, ALPHA, wheel("beta", "2.1"))
    matches("package", said(world, one, other, monkeypatch))


def test_another_cell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    matches("cell", said(world, build(world), build(world, cell="hullo"), monkeypatch))


def test_a_variable_and_a_label(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = build(world, env={"MODEL": "small"}, labels={"team": "x"})
    matches("settings", said(world, build(world), other, monkeypatch))


def test_another_base_with_another_python(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = build(world, on=base(world, "old", "3.11.2", ("libc6", "2.36-9", "/etc/a\n"), ("gone", "1", "/etc/g\n")))
    other = build(world, on=base(world, "new", "3.11.9", ("libc6", "2.36-10", "/etc/a\n")))
    matches("base", said(world, one, other, monkeypatch))


def test_another_file_of_the_same_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = build(world)
    other = build(world, ALPHA, wheel("beta", "2.0", {"beta/__init__.py": b"# other\n"}))
    matches("file", said(world, one, other, monkeypatch))
