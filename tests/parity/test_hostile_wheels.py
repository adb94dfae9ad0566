"""The tables of hostile wheels in the documents, and how uv and pip were asked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.hostile import archives, contents
from tests.parity.hostile_wheels import CASES, DOCUMENT, SUMMARY, Peers, summary, table
from tests.unit.index.server import serving
from tests.unit.wheels.builder import build_zip, wheel_parts


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what is wrong")]


def _counts(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| (.+?) \| (\d+ of \d+) \|", text, re.M))


def test_the_documents_list_every_hostile_wheel() -> None:
    """Without what uv and pip said, which only running them tells."""
    verdicts = {case.id: (False, False) for case in CASES}
    wanted = _rows(table(verdicts, ("", "")))
    told = [re.sub(r"(\| (refused|–) ){2}\|$", "| – | – |", row) for row in _rows(DOCUMENT.read_text())]
    assert told == wanted
    assert _counts(SUMMARY.read_text()).items() >= _counts(summary(verdicts, ("", ""))).items()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_uv_and_pip_install_an_honest_wheel_and_refuse_a_broken_one(tmp_path: Path) -> None:
    damaged = build_zip(wheel_parts())[:100]
    with serving() as server:
        peers = Peers(tmp_path, server)
        for tool in ("uv", "pip"):
            assert not peers.refused(tool, build_zip(wheel_parts()))
            assert peers.refused(tool, damaged)


def test_every_case_is_in_one_group_of_its_list() -> None:
    """A group that comes twice would be two headings of one table."""
    groups = [case.group for case in [*archives.CASES, *contents.CASES]]
    starts = [group for before, group in zip([None, *groups], groups, strict=False) if group != before]
    assert len(starts) == len(set(starts)), starts
