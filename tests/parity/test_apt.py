"""What is added to a base for a name is what ``apt-get install --no-install-recommends`` would add to it.

apt is asked about a base that has the versions of our lock, of the same package lists; nothing is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.mark import ParameterSet

from nb2image.bases.debian.lock import shipped_lock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.resolve import PackageIndex, Stanza
from nb2image.bases.debian.selection import SUITES
from nb2image.system.installed import Installed, installed_of_lock
from nb2image.system.resolve import resolve_beyond
from nb2image.system.wanted import Wanted
from nb2image.target.model import Platform

pytestmark = pytest.mark.network

NAMES = (
    "graphviz",
    "libgl1 libglib2.0-0 libxcb1",
    "libpango-1.0-0 libpangoft2-1.0-0",
    "libmagic1 libzbar0 libportaudio2",
    "libpq-dev",
    "build-essential cmake",
    "libgl1",
    "ffmpeg",
    "git",
    "gdal-bin",
    "libvips42",
    "octave",
    "r-base-core",
    "default-jre-headless",
    "texlive-latex-base pandoc",
    "nodejs npm",
    "imagemagick",
    "unixodbc-dev",
    "postgresql",
    "openmpi-bin libopenmpi-dev",
)


class Apt(NamedTuple):
    """apt's view of a base of a suite: ``options`` lead to its lists and to a status of the base's packages."""

    options: Sequence[str]
    packages: PackageIndex
    installed: Installed

    def added(self, *names: str) -> dict[str, str]:
        """What apt would install or replace, with versions."""
        command = ["apt-get", *self.options, "--simulate", "--no-install-recommends", "install", *names]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", done.stdout, re.MULTILINE))


@pytest.fixture(scope="module")
def apt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Apt:
    suite, _, architecture = request.param.partition("-")
    mirrors = Mirrors.of_this_machine()
    if shutil.which("apt-get") is None or not {"main", "security"} <= set(mirrors.bases):
        pytest.skip("there is no apt here that is configured for a mirror of Debian")
    folder: Path = tmp_path_factory.mktemp("apt")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    parts = (("main", suite), ("main", f"{suite}-updates"), ("security", f"{suite}-security"))
    rows = [f"deb [trusted=yes] {mirrors.bases[archive][0]} {part} main\n" for archive, part in parts]
    (folder / "sources.list").write_text("".join(rows))
    lock = shipped_lock(suite, Platform("linux", architecture))
    assert lock is not None
    installed = installed_of_lock(lock)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::GzipIndexes": "false",
        "APT::Sandbox::User": "",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::State::extended_states": folder / "extended_states",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    (folder / "status").write_text("")
    subprocess.run(["apt-get", *options, "-qq", "update"], capture_output=True, timeout=300, check=True)
    lists = sorted((folder / "lists").glob("*_Packages"))
    assert len(lists) == 3
    packages = PackageIndex(("main", file.read_text(encoding="utf-8")) for file in lists)
    _write_status(folder, packages, installed)
    # Read once, not at each call.
    subprocess.run(["apt-cache", *options, "gencaches"], capture_output=True, timeout=300, check=True)
    return Apt(options, packages, installed)


def _write_status(folder: Path, packages: PackageIndex, installed: Installed) -> None:
    """The base's packages and those that it does without, as installed.

    What they depend on is left away, here and in the lists: a base lacks some of it on purpose, and apt would insist.
    """
    versions = {name: each.version for name, each in installed.packages.items()}
    known = {name: stanza for name in (*versions, *installed.omitted) if (stanza := packages.get(name)) is not None}
    paragraphs = []
    for name, stanza in known.items():
        version = versions.get(name, stanza.field("Version"))
        text = re.sub(r"^Version: .*", f"Version: {version}", _without_relations(stanza.text), flags=re.MULTILINE)
        paragraphs.append(text.replace("\n", "\nStatus: install ok installed\n", 1))
    (folder / "status").write_text("\n\n".join([*paragraphs, ""]))
    there = {(name, versions.get(name, stanza.field("Version"))) for name, stanza in known.items()}
    for file in (folder / "lists").glob("*_Packages"):
        texts = file.read_text(encoding="utf-8").split("\n\n")
        file.write_text(
            "\n\n".join(_without_relations(text) if _name_and_version(text) in there else text for text in texts)
        )


def _name_and_version(text: str) -> tuple[str, str]:
    stanza = Stanza("", text)
    return stanza.field("Package"), stanza.field("Version")


def _without_relations(text: str) -> str:
    names = "Pre-Depends|Depends|Recommends|Suggests|Enhances|Conflicts|Breaks|Replaces"
    return re.sub(rf"^(?:{names}): .*\n(?: .*\n)*", "", f"{text}\n", flags=re.MULTILINE).rstrip("\n")


def cases() -> Iterator[ParameterSet]:
    """CI has time for some."""
    often = {"bookworm-amd64": NAMES[:6], "trixie-arm64": NAMES[:2]}
    for place in (f"{suite}-{architecture}" for suite in SUITES for architecture in ("amd64", "arm64")):
        for names in NAMES:
            marks = () if names in often.get(place, ()) else pytest.mark.expensive
            yield pytest.param(place, names, marks=marks, id=f"{place}-{names}")


@pytest.mark.parametrize(("apt", "names"), list(cases()), indirect=["apt"])
def test_what_is_added_is_what_apt_adds(apt: Apt, names: str) -> None:
    ours = resolve_beyond(apt.packages, [Wanted(name, "", "apt.txt") for name in names.split()], apt.installed)
    assert {name: stanza.field("Version") for name, stanza in ours.items()} == apt.added(*names.split())
