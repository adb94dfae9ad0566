"""Where archives are looked for."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from nb2image.bases.debian.mirrors import Mirrors, apt_sources

MOMENT = datetime(2026, 11, 19, 2, 12, 54, tzinfo=timezone.utc)


def found(folder: Path, **files: str) -> list[tuple[str, str]]:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return list(apt_sources("", str(folder)))


def test_one_line_sources_are_read(tmp_path: Path) -> None:
    text = (
        "# deb http://old.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main contrib # here\n"
        "deb http://a.example/debian bookworm-updates main\n"
        "deb-src http://src.example/debian bookworm main\n"
        "deb http://s.example/debian-security bookworm-security main\n"
        "deb https://tools.example/apt bookworm stable\n"
        "deb https://other.example/apt/ stable-tools main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
    )
    assert found(tmp_path, a_list=text) == [
        ("main", "http://a.example/debian"),
        ("main", "http://a.example/debian"),
        ("security", "http://s.example/debian-security"),
    ]


def test_deb822_sources_are_read(tmp_path: Path) -> None:
    text = (
        "# a comment\nTypes: deb deb-src\nURIs: http://a.example/debian\n http://b.example/debian\n"
        "Suites: trixie trixie-backports\nComponents: main\nSigned-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://off.example/debian\nSuites: sid\nComponents: main\nEnabled: no\n\n"
        "Types: deb\nURIs: http://a.example/security\nSuites: trixie-security\nComponents: main\n"
    )
    assert set(found(tmp_path, a_sources=text)) == {
        ("main", "http://a.example/debian"),
        ("main", "http://b.example/debian"),
        ("security", "http://a.example/security"),
    }


def test_a_list_of_mirrors_is_followed(tmp_path: Path) -> None:
    mirrors = tmp_path / "mirrors.txt"
    mirrors.write_text("# near\nhttps://near.example/debian priority:1\nftp://far.example/debian\n")
    source = f"deb mirror+file:{mirrors} bookworm main\n"
    assert found(tmp_path, a_list=source) == [("main", "https://near.example/debian")]


def test_sources_of_other_distributions_are_no_mirrors(tmp_path: Path) -> None:
    assert found(tmp_path, a_list="deb http://u.example/ubuntu noble main universe\n") == []


def test_unreadable_sources_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.list").write_bytes(b"\xff\xfe\x00")
    assert list(apt_sources(str(tmp_path / "none"), str(tmp_path))) == []


def test_apt_itself_is_asked_for_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "apt-config"
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    program.write_text(
        f"#!/bin/sh\necho \"sources='{tmp_path}/sources.list'\"\necho \"http='http://p.example:3142'\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    mirrors = Mirrors.of_this_machine()
    assert mirrors.bases == {"main": ("http://a.example/debian",)}
    assert mirrors.proxies == {"http": "http://p.example:3142"}


def test_without_apt_the_snapshots_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mirrors = Mirrors.of_this_machine()
    assert mirrors.bases == {}
    assert len(mirrors.places("main", MOMENT)) == 2


def test_mirrors_come_before_the_snapshots_of_the_next_day_and_of_the_day() -> None:
    mirrors = Mirrors({"security": ("http://a.example/s",)}, {}, "http://old.example/{archive}/{time}/")
    assert mirrors.places("security", MOMENT) == [
        "http://a.example/s/",
        "http://old.example/debian-security/20261120T021254Z/",
        "http://old.example/debian-security/20261119T021254Z/",
    ]
