"""pip is the oracle: whatever base is chosen, pip with the tags of that base takes the very files that were selected.

The wheels are made up, with the names of those of real releases. They state no Requires-Python, which pip compares with
the Python that runs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.pylock import Package
from packaging.utils import parse_wheel_filename

from nb2image.bases.model import Candidate
from nb2image.target.match import Match
from tests.unit.target.catalogue import BASES
from tests.unit.target.test_choices import CASES, matched


def wheel(filename: str) -> bytes:
    """A wheel of no module."""
    name, version, _, tags = parse_wheel_filename(filename)
    info = f"{'-'.join(filename.split('-')[:2])}.dist-info"
    lines = "".join(f"Tag: {tag}\n" for tag in sorted(map(str, tags)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\n{lines}")
        archive.writestr(f"{info}/RECORD", "")
    return stream.getvalue()


def _batches() -> Iterator[tuple[Candidate, dict[str, tuple[Package, str]]]]:
    """For each base what was chosen for it, in as few sets as have each package in one version only."""
    waiting: dict[str, list[dict[str, tuple[Package, str]]]] = {}
    for python, pins, wish, expected, _ in CASES:
        if expected not in {each.name for each in BASES} or wish == "build":
            continue
        found: Match = matched(pins, python, wish)
        files: dict[str, tuple[Package, str]] = {
            package.name: (package, file.filename) for package, file in found.selection.chosen
        }
        for batch in waiting.setdefault(expected, []):
            if all(batch.get(name, (None, file))[1] == file for name, (_, file) in files.items()):
                batch.update(files)
                break
        else:
            waiting[expected].append(files)
    for each in BASES:
        for batch in waiting.get(each.name, ()):
            yield each, batch


BATCHES = list(_batches())


@pytest.mark.parametrize(("base", "files"), BATCHES, ids=[f"{base.name}-{len(files)}" for base, files in BATCHES])
def test_pip_takes_the_selected_files(base: Candidate, files: dict[str, tuple[Package, str]], tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    lines = []
    for package, _ in files.values():
        hashes = []
        for offered in package.wheels or ():
            data = wheel(offered.filename)
            (tmp_path / "wheels" / offered.filename).write_bytes(data)
            hashes.append(f"--hash=sha256:{hashlib.sha256(data).hexdigest()}")
        lines.append(f"{package.name}=={package.version} {' '.join(hashes)}\n")
    (tmp_path / "requirements.txt").write_text("".join(lines))
    target = base.target
    platforms = dict.fromkeys(tag.platform for tag in target.tags if tag.platform != "any")
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--quiet", "--no-deps", "--no-index"]
    command += ["--ignore-installed", "--require-hashes", "--only-binary", ":all:", "--report", "-"]
    command += ["--find-links", str(tmp_path / "wheels"), "--target", str(tmp_path / "target")]
    command += ["--implementation", "cp", "--python-version", str(target.python)]
    for platform in platforms:
        command += ["--platform", platform]
    command += ["-r", str(tmp_path / "requirements.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken = {row["download_info"]["url"].rpartition("/")[2] for row in json.loads(done.stdout)["install"]}
    assert taken == {file for _, file in files.values()}
