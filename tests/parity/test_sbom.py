"""Bills of materials beside what others find: a scanner of images, Python's and dpkg's own lists in a container."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.engines.built import Notebooks
from tests.engines.containers import run_container
from tests.engines.daemons import Daemon

pytestmark = pytest.mark.network

INSIDE = "/opt/nb2image/sbom.cdx.json"
ENVIRONMENTS = ("/opt/kernel", "/opt/runner", "/opt/support")


class Described(NamedTuple):
    """An image alone in a layout, and its bill of materials as ``--sbom`` writes it."""

    layout: Path
    sbom: Path

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sbom.read_bytes())
        return found

    def packages(self, environment: str) -> list[dict[str, Any]]:
        wanted = {"name": "nb2image:environment", "value": environment}
        return [each for each in self.document["components"] if wanted in each.get("properties", ())]


@pytest.fixture(scope="module")
def described(notebooks: Notebooks, tmp_path_factory: pytest.TempPathFactory) -> Described:
    notebooks.build("anscombe-batch")
    folder = tmp_path_factory.mktemp("sbom")
    made = Described(folder / "layout", folder / "image.cdx.json")
    options = ("--offline", "--quiet", "-o", made.layout, "--sbom", made.sbom)
    notebooks.run("build", *notebooks.options("anscombe-batch"), *options)
    return made


@pytest.fixture(scope="module")
def syft() -> str:
    found = shutil.which("syft", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("syft has no wheel for this machine")
    assert found is not None, "the test extra brings syft"
    return found


def run_syft(syft: str, folder: Path, *arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_CACHE_DIR": str(folder)}
    command = [syft, *arguments, "-q", "-o", f"syft-json={folder / 'syft.json'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "syft.json").read_bytes())
    return found


def purls(document: Mapping[str, Any], **members: str) -> set[str]:
    wanted = members.items()
    return {str(row["purl"]) for row in document["artifacts"] if wanted <= {k: row[k] for k in members}.items()}


def test_syft_reads_every_package_and_the_distribution(described: Described, syft: str, tmp_path: Path) -> None:
    found = run_syft(syft, tmp_path, "convert", str(described.sbom))
    stated = {each["purl"] for each in described.document["components"] if each["type"] == "library"}
    assert len(stated) > 100
    assert purls(found) == stated
    assert (found["distro"]["id"], found["distro"]["versionID"]) == ("debian", "12")
    assert found["artifactRelationships"]


def test_syft_finds_the_same_packages_in_the_image(described: Described, syft: str, tmp_path: Path) -> None:
    found = run_syft(syft, tmp_path, "scan", f"oci-dir:{described.layout}", "--select-catalogers", "+sbom-cataloger")
    system = {each["purl"] for each in described.packages("/")}
    assert purls(found, foundBy="dpkg-db-cataloger") == system
    python = {each["purl"] for prefix in ENVIRONMENTS for each in described.packages(prefix)}
    # Without those that a package keeps in a folder of its own.
    installed = re.compile(r"/opt/(kernel|runner|support)/lib/python3\.11/site-packages/[^/]+\.dist-info/METADATA")
    places = {
        str(row["purl"]): any(installed.fullmatch(place["path"]) for place in row["locations"])
        for row in found["artifacts"]
        if row["foundBy"] == "python-installed-package-cataloger"
    }
    assert {purl for purl, place in places.items() if place} == python
    inside = {
        str(row["purl"]) for row in found["artifacts"] if any(place["path"] == INSIDE for place in row["locations"])
    }
    assert inside == system | python
    assert (found["distro"]["id"], found["distro"]["versionID"]) == ("debian", "12")


LIST = """
import importlib.metadata, json, pathlib, sys
folders = {prefix: f"{prefix}/lib/python3.11/site-packages" for prefix in sys.argv[2:]}
found = {
    prefix: sorted([each.metadata["Name"], each.version] for each in importlib.metadata.distributions(path=[folder]))
    for prefix, folder in folders.items()
}
print(json.dumps({
    "python": found,
    "version": sys.version.split()[0],
    "status": pathlib.Path("/var/lib/dpkg/status").read_text(),
    "sbom": pathlib.Path(sys.argv[1]).read_text(),
}))
"""


def test_what_runs_in_a_container_is_what_is_stated(
    podman_daemon: Daemon, notebooks: Notebooks, described: Described, tmp_path: Path
) -> None:
    image = notebooks.load(podman_daemon, "anscombe-batch")
    done = run_container(
        podman_daemon, image, "-c", LIST, INSIDE, *ENVIRONMENTS, entrypoint="/usr/bin/python3", network="none"
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert listed["sbom"] == described.sbom.read_text()
    for prefix in ENVIRONMENTS:
        stated = [(each["name"], Version(each["version"])) for each in described.packages(prefix)]
        assert stated
        assert sorted((canonicalize_name(n), Version(v)) for n, v in listed["python"][prefix]) == sorted(stated)
    (interpreter,) = (each for each in described.document["components"] if each["type"] == "platform")
    assert interpreter["version"] == listed["version"]

    (tmp_path / "status").write_text(listed["status"])
    command = ["dpkg-query", f"--admindir={tmp_path}", "-W", "-f", "${Package} ${Version} ${Architecture}\n"]
    query = subprocess.run(command, capture_output=True, text=True)
    assert query.returncode == 0, query.stderr
    arch = re.compile(r"[?&]arch=(\w+)")
    stated_debs = [(each["name"], each["version"], arch.findall(each["purl"])[0]) for each in described.packages("/")]
    assert [tuple(line.split()) for line in query.stdout.splitlines()] == sorted(stated_debs)
