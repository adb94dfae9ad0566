"""``nb2image bases`` against an archive on loopback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from nb2image.bases.debian.lock import BaseLock, ToolchainLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.cli.bases import bases
from nb2image.errors import NoMatchingBase, Unwritable
from tests.unit.bases.making_debs import Archive, fill, served


def test_the_list_shows_every_base_with_its_facts() -> None:
    result = CliRunner().invoke(bases, ["list"], catch_exceptions=False)
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()}
    assert rows["bookworm"][:3] == ["3.11", "glibc", "2.36"]
    assert rows["bookworm"][-2:] == ["2028-06-30", "Debian"]
    assert rows["python-3.8-slim-bookworm"][-3:] == ["2024-10-07", "(past)", "docker.io"]
    assert rows["cuda-12.4.1-cudnn-ubuntu22.04"][:3] == ["glibc", "2.35", "12.4.1"]


def test_one_base_is_shown_with_the_file_that_states_it() -> None:
    result = CliRunner().invoke(bases, ["show", "python-3.12-slim-trixie"], catch_exceptions=False)
    assert "reference    docker.io/library/python:3.12-slim-trixie" in result.output.splitlines()
    assert "catalogue.toml" in result.output
    told = CliRunner().invoke(bases, ["show", "trixie", "--json"], catch_exceptions=False)
    assert json.loads(told.output)["end_of_life"] == "2030-06-30"
    with pytest.raises(NoMatchingBase, match="No catalogue has a base named 'trixy'") as caught:
        CliRunner().invoke(bases, ["show", "trixy"], catch_exceptions=False)
    assert "trixie" in caught.value.hint


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    from pysequoia import Tsk

    key = Tsk.generate("Archive <archive@example.org>")
    monkeypatch.setattr("nb2image.bases.debian.release.trusted_keys", lambda: [key.extract_certificate()])
    monkeypatch.setenv("NB2IMAGE_CACHE_DIR", str(tmp_path / "cache"))
    made = Archive(tmp_path / "archive", key)
    fill(made)
    return made


def test_update_writes_a_lock_into_the_folder_given(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "locks"
    with served(archive.root) as (url, _):
        mirrors = Mirrors({"main": (f"{url}/debian",), "security": (f"{url}/debian-security",)})
        monkeypatch.setattr(Mirrors, "of_this_machine", lambda: mirrors)
        command = ["update", "bookworm", "--platform", "linux/amd64", "--output", str(folder)]
        result = CliRunner().invoke(bases, command, catch_exceptions=False)
        assert result.exit_code == 0
        # Whoever reads the old lock meanwhile reads all of it.
        written = folder / "bookworm-amd64.json"
        kept = tmp_path / "kept"
        os.link(written, kept)
        kept.write_text("old")
        again = CliRunner().invoke(bases, command, catch_exceptions=False)
        assert (again.exit_code, kept.read_text()) == (0, "old")
        (tmp_path / "file").touch()
        with pytest.raises(Unwritable, match="cannot be written"):
            CliRunner().invoke(bases, [*command[:-1], str(tmp_path / "file" / "x")], catch_exceptions=False)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    assert names == ["bookworm-amd64.json", "toolchain/bookworm-amd64.json"]
    lock = BaseLock.read(written.read_text(), "lock")
    assert lock.python == "3.11.2"
    assert ToolchainLock.read((folder / names[1]).read_text(), "lock").base == lock.digest
    assert f"{written}: Python 3.11, glibc 2.36, linux/amd64; changed: base-files" in result.output


@pytest.mark.parametrize("arguments", [["warty"], ["bookworm", "--platform", "windows/amd64"], ["--platform", "amd64"]])
def test_unknown_suites_and_platforms_are_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(bases, ["update", *arguments]).exit_code == 2
