"""Whether bubblewrap can be used, and what is said where it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.progress import Silent
from nb2image.sandbox.bubblewrap import find_bubblewrap
from nb2image.sandbox.choose import Absent, choose_sandbox
from nb2image.sandbox.model import Tail, open_output

OPTIONS = "--unshare-all --perms --size --disable-userns"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    find_bubblewrap.cache_clear()
    yield
    find_bubblewrap.cache_clear()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; no engine answers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    return tmp_path


def install(programs: Path, end: str, options: str = OPTIONS) -> None:
    """A ``bwrap`` that knows these options and ends like this when it is to start something."""
    lines = ["#!/bin/sh", 'case "$1" in', "--version) echo bubblewrap 0.8.0 ;;", f"--help) echo '{options}' ;;"]
    (programs / "bwrap").write_text("\n".join([*lines, f"*) {end} ;;", "esac\n"]))
    (programs / "bwrap").chmod(0o755)


def absent(programs: Path) -> Absent:
    found = choose_sandbox(Store(programs / "cache"), Silent())
    assert isinstance(found, Absent)
    return found


def test_one_that_starts_is_used(programs: Path) -> None:
    install(programs, "exit 0")
    found = choose_sandbox(Store(programs / "cache"), Silent())
    assert not isinstance(found, Absent)
    assert found.title == "bubblewrap 0.8.0"


def test_where_there_is_none_the_package_is_named(programs: Path) -> None:
    assert absent(programs).reason == "bubblewrap is not installed, and no Docker or podman answers"
    assert absent(programs).hint == "Install it (`apt install bubblewrap`), or start Docker or podman."


def test_one_without_user_namespaces_says_what_permits_them(programs: Path) -> None:
    install(programs, "echo 'bwrap: No permissions to create a new namespace.' >&2; exit 1")
    found = absent(programs)
    assert found.reason.startswith("bubblewrap does not start (No permissions to create a new namespace), and no ")
    assert "Let ordinary users make user namespaces (sysctl kernel.unprivileged_userns_clone=1" in found.hint
    assert found.hint.endswith(", or start Docker or podman.")


def test_one_that_is_too_old_for_root_says_so(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "exit 0", "--unshare-all")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert absent(programs).reason.startswith("bubblewrap 0.8.0 is too old for root, and ")


def test_of_a_log_of_any_length_whole_last_lines_are_kept() -> None:
    tail = Tail(100)
    for number in range(1000):
        tail.write(f"line {number}\n".encode())
    lines = tail.text.splitlines()
    assert lines == [f"line {number}" for number in range(1000 - len(lines), 1000)]
    assert 5 < len(lines) < 12


def test_what_commands_a_terminal_is_left_out_of_a_log() -> None:
    tail = Tail(100)
    tail.write(b"\x1b[2Jred\x07\r\n\xff\ttab")
    assert tail.text == "[2Jred\n\ufffd\ttab"


def test_only_regular_files_of_the_output_are_opened(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").write_bytes(b"x" * 10)
    (out / "link").symlink_to("file")
    (out / "folder").mkdir()
    os.mkfifo(out / "pipe")
    (tmp_path / "beside").write_bytes(b"x")
    opened = open_output(tmp_path, "file", 10)
    assert opened is not None
    opened.close()
    assert open_output(tmp_path, "file", 9) is None
    for name in ("link", "folder", "pipe", "absent", "../beside", "..", "x" * 300):
        assert open_output(tmp_path, name, 10) is None
    out.rename(tmp_path / "elsewhere")
    out.symlink_to("elsewhere")
    assert open_output(tmp_path, "file", 10) is None
