"""``nb2image doctor`` reports every part and fails for those that every build needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nb2image.cli.doctor import _gpu
from nb2image.engines import nvidia


def doctor(tmp_path: Path, **variables: str) -> tuple[int, dict[str, Any]]:
    """Run on a machine that has no programs and no network settings but those given."""
    kept = {name: os.environ[name] for name in ("LANG", "PYTHONPATH") if name in os.environ}
    environ = {
        "HOME": str(tmp_path),
        "PATH": str(tmp_path / "bin"),
        "NB2IMAGE_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "DOCKER_HOST": "unix:///nowhere/docker.sock",
        **kept,
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-m", "nb2image", "doctor", "--json"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


def states(document: dict[str, Any]) -> dict[str, str]:
    return {f"{row['area']} {row['name']}": row["state"] for row in document["checks"]}


def test_a_bare_machine_is_sound(tmp_path: Path) -> None:
    code, document = doctor(tmp_path)
    found = states(document)
    assert code == 0
    assert document["ok"] is True
    assert found["Python interpreter"] == found["Cache folder"] == found["Cache links"] == "ok"
    assert found["Tools sandbox"] == found["Tools skopeo"] == found["Tools uv"] == found["Engines podman"] == "absent"
    assert all(row["purpose"].endswith(".") and row["detail"] for row in document["checks"])


def test_it_says_how_to_get_a_sandbox(tmp_path: Path) -> None:
    _, document = doctor(tmp_path)
    (row,) = [row for row in document["checks"] if row["name"] == "sandbox"]
    assert "bubblewrap" in row["detail"]
    assert row["detail"].endswith("start Docker or podman")


def test_a_dead_engine_is_broken_but_not_needed(tmp_path: Path) -> None:
    code, document = doctor(tmp_path)
    assert code == 0
    (row,) = [row for row in document["checks"] if row["name"] == "docker"]
    assert row["state"] == "broken"
    assert "No such file or directory" in row["detail"]


def test_an_index_that_does_not_answer_fails_and_shows_no_password(tmp_path: Path) -> None:
    code, document = doctor(tmp_path, PIP_NO_INDEX="0", PIP_INDEX_URL="http://someone:secret@127.0.0.1:9/simple/")
    assert code == 1
    assert document["ok"] is False
    (row,) = [row for row in document["checks"] if row["area"] == "Indexes"]
    assert row["state"] == "broken"
    assert "127.0.0.1:9" in row["name"]
    assert "secret" not in json.dumps(document)


def test_a_cache_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, document = doctor(tmp_path, NB2IMAGE_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert code == 1
    assert states(document)["Cache folder"] == "broken"


@pytest.mark.parametrize(("status", "state"), [(0, "ok"), (1, "broken")])
def test_a_tool_counts_only_if_it_works(tmp_path: Path, status: int, state: str) -> None:
    tool = tmp_path / "bin" / "skopeo"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho skopeo version 1\nexit {status}\n")
    tool.chmod(0o755)
    code, document = doctor(tmp_path)
    assert code == 0
    assert states(document)["Tools skopeo"] == state


@pytest.mark.parametrize(
    ("driver", "state", "detail"),
    [
        (None, "absent", "none is loaded"),
        ("580.65.06", "ok", "580.65.06, enough for CUDA 13.x and older"),
        ("535.183.01", "ok", "535.183.01, enough for CUDA 12.x and older"),
        ("450.36.06", "ok", "450.36.06, enough for CUDA 11.0 and older"),
        ("340.108", "ok", "340.108, older than any CUDA that nb2image knows"),
    ],
)
def test_the_driver_is_compared_with_what_cuda_needs(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, state: str, detail: str
) -> None:
    monkeypatch.setattr(nvidia, "local_driver", lambda: driver)
    (row,) = _gpu()
    assert (row.state, row.detail) == (state, detail)
