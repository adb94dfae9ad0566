"""The bill of materials of whole images, offline: what it names, what it keeps to itself, when it stays."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from nb2image import __version__
from nb2image.build import Built
from nb2image.cache import Store
from nb2image.image.layout import write_layout
from nb2image.progress import Silent
from nb2image.sbom.components import _roots
from tests.unit.bases.test_facts import DEBIAN
from tests.unit.bases.test_packages import OS_RELEASE, STATUS
from tests.unit.image.making import files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.test_build import files_of as files_in
from tests.unit.world import World, notebook, pylock, wheel, world

__all__ = ["machine", "server", "world"]

BETA = wheel("beta", "2.0+local", metadata="License-Expression: mit\n")
ALPHA = wheel(
    "alpha", requires=["Beta[fast]>=1", 'comm; extra == "never"'], metadata="License-Expression: MIT OR Zlib\n"
)
LOCKED = (ALPHA, BETA)


def document(built: Built) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(built.sbom)
    return found


def component(built: Built, ref: str) -> dict[str, Any]:
    (found,) = (each for each in document(built)["components"] if each["bom-ref"] == ref)
    return dict(found)


def requires(built: Built) -> dict[str, list[str]]:
    return {row["ref"]: row.get("dependsOn", []) for row in document(built)["dependencies"]}


def properties(value: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["value"] for row in value["properties"]}


def debian(world: World) -> None:
    """Give the world's base packages."""
    world.base = world.folder / "debian"
    files = {**DEBIAN, "var/lib/dpkg/status": STATUS, "etc/os-release": OS_RELEASE}
    write_layout(image_of(files_of(files), Env=["PATH=/usr/bin"]), ["base:1"], world.base, Silent())


def test_it_is_valid_and_in_the_image(world: World) -> None:
    debian(world)
    built = world.build(world.locked(*LOCKED))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(built.sbom.decode()) is None
    path = built.image.config.labels["io.nb2image.sbom"]
    assert built.image.annotations["io.nb2image.sbom"] == path
    assert files_in(built.image)[path.lstrip("/")] == built.sbom


def test_the_library_reads_back_what_it_says(world: World) -> None:
    debian(world)
    read = Bom.from_json(data=json.loads(world.build(world.locked(*LOCKED)).sbom))  # type: ignore[attr-defined]
    assert {c.name for c in read.components} >= {"alpha", "beta", "jupyterlab", "libc6", "debian", "analysis.ipynb"}
    assert read.metadata.component is not None
    assert read.metadata.component.name == "analysis"


def test_a_package_is_named_with_its_wheel_its_licence_and_its_environment(world: World) -> None:
    built = world.build(world.locked(*LOCKED))
    alpha = component(built, "kernel:pkg:pypi/alpha@1.0")
    assert alpha["purl"] == "pkg:pypi/alpha@1.0"
    assert (alpha["name"], alpha["version"]) == ("alpha", "1.0")
    assert alpha["hashes"] == [{"alg": "SHA-256", "content": ALPHA.sha256}]
    assert alpha["licenses"] == [{"expression": "MIT OR Zlib", "acknowledgement": "declared"}]
    assert properties(alpha) == {"nb2image:environment": "/opt/kernel", "nb2image:wheel": ALPHA.filename}
    beta = component(built, "kernel:pkg:pypi/beta@2.0%2Blocal")
    assert beta["licenses"] == [{"license": {"id": "MIT", "acknowledgement": "declared"}}]
    folders = [properties(c)["nb2image:environment"] for c in document(built)["components"] if c["type"] == "library"]
    assert {folder: folders.count(folder) for folder in folders} == {
        "/opt/kernel": 2,
        "/opt/runner": 2,
        "/opt/support": 2,
    }


def test_one_package_in_two_environments_is_named_twice(world: World) -> None:
    built = world.build(world.locked(wheel("jupyterlab", "4.0")))
    found = [properties(c)["nb2image:environment"] for c in document(built)["components"] if c["name"] == "jupyterlab"]
    assert found == ["/opt/kernel", "/opt/runner"]


def test_who_needs_whom_starts_at_the_image(world: World) -> None:
    debian(world)
    graph = requires(world.build(world.locked(*LOCKED)))
    assert graph["notebook"] == ["kernel:pkg:pypi/alpha@1.0"]
    assert graph["kernel:pkg:pypi/alpha@1.0"] == ["kernel:pkg:pypi/beta@2.0%2Blocal"]
    assert graph["support:pkg:pypi/ipykernel@7.0"] == ["support:pkg:pypi/comm@0.2"]
    assert graph["image"] == [
        "base",
        "notebook",
        "runner:pkg:pypi/jupyterlab@4.0",
        "runner:pkg:pypi/lab-helper@1.0",
        "support:pkg:pypi/ipykernel@7.0",
    ]
    reached: set[str] = set()
    waiting = ["image"]
    while waiting:
        each = waiting.pop()
        if each not in reached:
            reached.add(each)
            waiting += graph.get(each, [])
    assert reached == {*graph, "distribution"}


def test_circles_are_reached_too() -> None:
    graph = {"a": ["b"], "b": ["a", "c"], "c": [], "d": ["c"]}
    assert list(_roots(graph)) == ["d", "a"]


def test_the_base_is_named_with_its_packages(world: World) -> None:
    debian(world)
    built = world.build(world.locked(ALPHA, BETA))
    base = component(built, "base")
    assert (base["type"], base["version"]) == ("container", built.base.image.digest)
    assert base["name"] == built.base.reference
    system = component(built, "distribution")
    assert (system["type"], system["name"], system["version"]) == ("operating-system", "debian", "12")
    purl = "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12&upstream=glibc"
    assert component(built, f"base:{purl}")["purl"] == purl
    graph = requires(built)
    python = "base:pkg:deb/debian/python3.11-minimal@3.11.2-6?arch=amd64&distro=debian-12&upstream=python3.11"
    assert graph["python"] == [python]
    assert "purl" not in component(built, "python")
    assert f"base:{purl}" in graph[python]
    assert "compositions" not in document(built)


def test_a_base_whose_packages_are_unknown_says_so(world: World) -> None:
    built = world.build(world.locked(ALPHA, BETA))
    assert document(built)["compositions"] == [{"aggregate": "incomplete", "assemblies": ["base"]}]
    assert component(built, "python")["purl"] == "pkg:generic/python@3.11.2"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(built.sbom.decode()) is None


def test_the_notebook_is_a_file_and_what_came_along_stays_unnamed(world: World) -> None:
    source = world.locked(ALPHA, BETA)
    (world.work / "customers.csv").write_text("1,2\n")
    built = world.build(world.work)
    found = component(built, "notebook")
    assert found["type"] == "file"
    assert found["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(source.read_bytes()).hexdigest()}]
    assert properties(found) == {"nb2image:path": "/work/analysis.ipynb"}
    assert b"customers" not in built.sbom


def test_a_script_stands_beside_its_notebook(world: World) -> None:
    world.offer(BETA)
    (world.work / "report.py").write_text("# %%\nprint(1)\n")
    (world.work / "pylock.toml").write_text(pylock(BETA, url=f"{world.server.url}/files"))
    built = world.build(world.work / "report.py")
    assert component(built, "script")["name"] == "report.py"
    assert component(built, "notebook")["name"] == "report.ipynb"
    assert requires(built)["notebook"] == ["kernel:pkg:pypi/beta@2.0%2Blocal", "script"]


def test_the_header_says_what_made_it_of_what(world: World) -> None:
    built = world.build(world.locked(ALPHA, BETA), mode="batch", bytecode=False, epoch=1_700_000_000)
    found = document(built)
    assert found["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert found["metadata"]["tools"]["components"] == [
        {"type": "application", "name": "nb2image", "version": __version__}
    ]
    image = found["metadata"]["component"]
    assert image["type"] == "container"
    assert properties(image) == {
        "nb2image:lock.digest": built.plan.lock.digest,
        "nb2image:mode": "batch",
        "nb2image:platform": "linux/amd64",
    }
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", found["serialNumber"]
    )


def test_the_serial_number_follows_from_the_content(world: World) -> None:
    source = world.locked(ALPHA, BETA)
    one, same = world.build(source), world.build(source, cache="another")
    assert one.sbom == same.sbom
    source.write_bytes(source.read_bytes().replace(b"hello", b"other"))
    other = world.build(source)
    assert document(one)["serialNumber"] != document(other)["serialNumber"]


def test_the_order_of_a_lock_and_its_place_leave_no_trace(world: World) -> None:
    world.offer(*LOCKED)
    url = f"{world.server.url}/files"
    one = document(world.build(notebook(world.folder / "one", pylock(ALPHA, BETA, url=url))))
    other = document(world.build(notebook(world.folder / "other", pylock(BETA, ALPHA, url=url)), cache="another"))
    # The notebooks differ, since the lock stands in them.
    assert [c for c in one["components"] if c["type"] != "file"] == [
        c for c in other["components"] if c["type"] != "file"
    ]
    assert one["dependencies"] == other["dependencies"]


def test_neither_index_nor_user_nor_folder_is_told(world: World) -> None:
    debian(world)
    world.environ["PIP_INDEX_URL"] = world.server.with_login("someone:secret")
    path = world.work / "sbom.json"
    done = world.run("build", world.locked(*LOCKED), "--base", world.base, "--sbom", path, "-o", world.work / "layout")
    assert done.returncode == 0, done.stderr
    data = path.read_bytes()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    for word in ("secret", "someone", world.server.url, str(world.folder), "127.0.0.1"):
        assert word.encode() not in data


def test_the_option_writes_the_bytes_that_are_in_the_image(world: World) -> None:
    source = world.locked(*LOCKED)
    done = world.run("build", source, "--base", world.base, "--sbom", "bill.cdx.json", "-o", "layout")
    assert done.returncode == 0, done.stderr
    assert "bill of materials written to bill.cdx.json" in done.stdout
    built = world.build(source)
    assert (world.work / "bill.cdx.json").read_bytes() == built.sbom
    refused = world.run("build", source, "--base", world.base, "--sbom", source)
    assert refused.returncode == 60
    assert "analysis.ipynb would be a JSON document" in refused.stderr


def test_a_bill_of_materials_in_the_repository_does_not_come_along(world: World) -> None:
    world.locked(*LOCKED)
    path = world.work / "bill.cdx.json"
    first = world.build(world.work, outputs=(path,))
    path.write_bytes(first.sbom)
    assert world.build(world.work, outputs=(path,)).image.digest == first.image.digest


def test_what_the_cache_lost_is_read_again(world: World) -> None:
    source = world.locked(*LOCKED)
    first = world.build(source)
    for kind in ("sbom", "about", "base-packages"):
        for record in (world.cache / "v1/records" / kind).rglob("*"):
            if record.is_file():
                record.unlink()
    Store(world.cache).drop("wheels", f"sha256:{ALPHA.sha256}")
    asked = len(world.server.requests)
    assert world.build(source).sbom == first.sbom
    assert len(world.server.requests) == asked + 1


def test_a_wheel_that_the_disk_damaged_is_fetched_again(world: World) -> None:
    source = world.locked(*LOCKED)
    first = world.build(source)
    for kind in ("sbom", "about"):
        for record in (world.cache / "v1/records" / kind).rglob("*"):
            if record.is_file():
                record.unlink()
    path = Store(world.cache).path("wheels", f"sha256:{ALPHA.sha256}")
    path.chmod(0o644)
    path.write_bytes(b"\0" * len(ALPHA.data))
    assert world.build(source).sbom == first.sbom
    assert path.read_bytes() == ALPHA.data


def test_a_changed_notebook_writes_only_what_names_it(world: World) -> None:
    source = world.locked(*LOCKED)
    world.build(source)
    records = {path for path in (world.cache / "v1/records").rglob("*") if path.is_file()}
    source.write_bytes(source.read_bytes().replace(b"hello", b"other"))
    world.build(source)
    new = {path for path in (world.cache / "v1/records").rglob("*") if path.is_file()} - records
    assert [path.relative_to(world.cache / "v1/records").parts[0] for path in new] == ["layer"]


def test_a_title_in_any_script_is_the_images_name(world: World) -> None:
    world.offer(*LOCKED)
    lock = pylock(*LOCKED, url=f"{world.server.url}/files")
    built = world.build(notebook(world.work, lock, "分析.ipynb", title="分析"))
    assert document(built)["metadata"]["component"]["name"] == "分析"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(built.sbom.decode()) is None
    assert Path(properties(component(built, "notebook"))["nb2image:path"]).name == "分析.ipynb"


def test_a_changed_notebook_waits_for_no_library_of_bills_of_materials(world: World) -> None:
    source = world.locked(*LOCKED)
    command = world.command("build", source, "--base", world.base, "-o", "layout")
    libraries = "sorted({'cyclonedx', 'packageurl'} & sys.modules.keys())"
    command[2] = f"import atexit, sys; atexit.register(lambda: print({libraries}))\n{command[2]}"
    lines = []
    for text in (b"hello", b"other"):
        source.write_bytes(source.read_bytes().replace(b"hello", text))
        done = subprocess.run(command, cwd=world.work, env=world.environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout.splitlines()[-1])
    assert lines == ["['cyclonedx', 'packageurl']", "[]"]
