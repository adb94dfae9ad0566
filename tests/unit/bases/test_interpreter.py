"""The Python that compiles bytecode for a base which does not run on this machine."""

from __future__ import annotations

import platform
import sys
from pathlib import Path, PurePosixPath

import pytest
from packaging.version import Version

from nb2image.bases.interpreter import compiler_version, find_interpreter
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import BytecodeUnavailable
from nb2image.image.model import Config, Image
from nb2image.progress import Event, Warned
from nb2image.target.model import Platform, Target

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """A base of another architecture, and a PATH of one empty folder."""
    other = "amd64" if platform.machine().lower() in {"arm64", "aarch64"} else "arm64"
    target = Target(
        Platform("linux", other),
        Version(f"{MINOR}.99"),
        PurePosixPath(f"/usr/bin/python{MINOR}"),
        PurePosixPath(f"/usr/local/lib/python{MINOR}/dist-packages"),
        Version("2.36"),
    )
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return Base("foreign", Image(Config.new(target.platform)), target, "base.example/foreign:1")


def test_an_interpreter_of_this_machine_compiles_under_its_own_version(foreign: Base, tmp_path: Path) -> None:
    (tmp_path / "bin" / f"python{MINOR}").symlink_to(sys.executable)
    heard: list[Event] = []
    interpreter = find_interpreter(foreign, Store(tmp_path), heard.append)
    assert interpreter.version == platform.python_version().rstrip("+")
    assert interpreter.version != str(foreign.target.python)
    assert compiler_version(foreign, Store(tmp_path), heard.append) == interpreter.version
    assert isinstance(heard[0], Warned)
    assert interpreter.version in heard[0].text


def test_an_interpreter_of_this_machine_is_refused_where_only_the_bases_own_will_do(
    foreign: Base, tmp_path: Path
) -> None:
    (tmp_path / "bin" / f"python{MINOR}").symlink_to(sys.executable)
    heard: list[Event] = []
    with pytest.raises(BytecodeUnavailable, match=f"only by .*/python{MINOR}") as caught:
        find_interpreter(foreign, Store(tmp_path), heard.append, strict=True)
    assert "--no-bytecode" in caught.value.hint
    assert heard == []


def test_an_interpreter_of_another_minor_version_is_not_taken(foreign: Base, tmp_path: Path) -> None:
    script = tmp_path / "bin" / f"python{MINOR}"
    script.write_text("#!/bin/sh\necho 3.1.4\n")
    script.chmod(0o755)
    with pytest.raises(BytecodeUnavailable, match="does not run on this machine"):
        find_interpreter(foreign, Store(tmp_path), lambda _: None)


def test_without_any_the_ways_out_are_named(foreign: Base, tmp_path: Path) -> None:
    with pytest.raises(BytecodeUnavailable, match=f"no python{MINOR} on PATH") as caught:
        find_interpreter(foreign, Store(tmp_path), lambda _: None)
    assert "--no-bytecode" in caught.value.hint
