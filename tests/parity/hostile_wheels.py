"""What pip and uv make of every hostile wheel: ``python -m tests.parity.hostile_wheels`` writes the tables of the docs.

Each wheel is offered by an index on loopback, with its hash, and installed into a fresh virtual environment by the pip
and the uv of this environment, without dependencies and without caches. bubblewrap keeps everything but that folder
read-only. "Refused" is an exit code other than 0; nb2image's column is what the tests demand.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.hostile import archives, contents
from tests.hostile.cases import Case
from tests.unit.index.server import IndexServer, serving, sha256
from tests.unit.wheels.builder import FILENAME, build_zip, wheel_parts

__all__ = ["CASES", "DOCUMENT", "SUMMARY", "Verdict", "summary", "table"]

CASES = [*archives.CASES, *contents.CASES]
DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = DOCS / "hostile-wheels.md"
SUMMARY = DOCS / "reliability.md"
MARKS = "<!-- hostile wheels: begin -->", "<!-- hostile wheels: end -->"

HEAD = """\
# Hostile wheels

Every one is refused by nb2image, with the wheel, the member and a rule of these words; those whose hash or size is
another than RECORD's only with `--strict`. Written by `python -m tests.parity.hostile_wheels`; a dash: installed.
"""

Verdict = tuple[bool, bool]
"""Whether uv and whether pip refuse."""


class Peers:
    """Installs wheels with uv and pip, into ``folder``, which is all that they can write to."""

    def __init__(self, folder: Path, server: IndexServer) -> None:
        self._folder = folder
        self._server = server
        self._fresh = folder / "fresh"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self._fresh], check=True)
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
        found = importlib.util.find_spec("pip")
        assert found is not None
        pip = str(Path(str(found.origin)).parent)
        python = str(folder / "environment/bin/python")
        common = ("--require-hashes", "--no-deps", "--index-url", server.simple)
        self._commands: dict[str, Sequence[str]] = {
            "uv": (uv, "pip", "install", "--python", python, "--no-config", "--no-cache", *common),
            "pip": (python, pip, "--isolated", "--disable-pip-version-check", "install", "--no-cache-dir", *common),
        }

    def refused(self, tool: str, data: bytes) -> bool:
        """Whether the tool's exit code is another than 0."""
        self._server.project("demo", {FILENAME: data})
        requirements = self._folder / "requirements.txt"
        requirements.write_text(f"demo==1.0 --hash=sha256:{sha256(data)}\n")
        environment = self._folder / "environment"
        shutil.copytree(self._fresh, environment, symlinks=True)
        try:
            done = subprocess.run(
                ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--bind", *[str(self._folder)] * 2,
                 "--die-with-parent", "--chdir", str(self._folder), *self._commands[tool], "-r", str(requirements)],
                env={**os.environ, "HOME": str(self._folder), "TMPDIR": str(self._folder), "NO_PROXY": "127.0.0.1"},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        finally:
            shutil.rmtree(environment)
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        print(f"    {tool} {done.returncode}: {said[-1] if said else ''}"[:300], file=sys.stderr, flush=True)
        return done.returncode != 0


def judged(peers: Peers, cases: Iterable[Case]) -> dict[str, Verdict]:
    honest = build_zip(wheel_parts())
    for tool in ("uv", "pip"):
        if peers.refused(tool, honest):
            raise SystemExit(f"{tool} refuses an honest wheel")
    found = {}
    for case in cases:
        print(case.id, file=sys.stderr)
        data = case.make()
        found[case.id] = peers.refused("uv", data), peers.refused("pip", data)
    return found


def version(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return " ".join(said.split()[:2])


def summary(verdicts: Mapping[str, Verdict], peers: tuple[str, str]) -> str:
    """Counts by group, and in all."""
    groups: dict[str, list[Verdict]] = {}
    for case in CASES:
        groups.setdefault(case.group, []).append(verdicts[case.id])
    rows = [f"| refused, of the wheels about | nb2image | {peers[0]} | {peers[1]} |", "|---|---:|---:|---:|"]
    for group, found in [*groups.items(), ("**all**", [verdicts[case.id] for case in CASES])]:
        count = len(found)
        rows.append(f"| {group} | {count} of {count} | {sum(uv for uv, _ in found)} | {sum(pip for _, pip in found)} |")
    return "\n".join(rows)


def table(verdicts: Mapping[str, Verdict], peers: tuple[str, str]) -> str:
    """Every wheel, with what nb2image says of it."""
    lines = HEAD.splitlines()
    group = None
    for case in CASES:
        if case.group != group:
            group = case.group
            head = f"| what is wrong | the rule says | {peers[0]} | {peers[1]} |"
            lines += ["", f"## {group}", "", head, "|---|---|---|---|"]
        told = " | ".join("refused" if refused else "–" for refused in verdicts[case.id])
        lines.append(f"| {_plain(case.title)} | {_plain(case.rule)} | {told} |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return re.sub(r"([\\|*_`<])", r"\\\1", text)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hostile-wheels-") as name, serving() as server:
        verdicts = judged(Peers(Path(name), server), CASES)
    uv = str(Path(sys.executable).parent / "uv")
    versions = version(uv, "--version"), version(sys.executable, "-m", "pip", "--version")
    DOCUMENT.write_text(table(verdicts, versions))
    text = SUMMARY.read_text()
    begin, end = (text.index(mark) for mark in MARKS)
    SUMMARY.write_text(text[:begin] + f"{MARKS[0]}\n\n{summary(verdicts, versions)}\n\n" + text[end:])


if __name__ == "__main__":
    main()
