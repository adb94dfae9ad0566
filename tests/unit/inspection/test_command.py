"""``nb2image inspect``: tables, documents, errors."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from nb2image.cli import cli
from nb2image.errors import EngineAbsent, Nb2ImageError, NotAnImage, NotInImage, Unwritable
from nb2image.image.archive import write_archive
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.read import find_image
from nb2image.layers.entry import Link
from nb2image.progress import Silent
from tests.hostile.images import files as members
from tests.unit.image.making import MemoryLayer, files_of, image_of
from tests.unit.index.plugin import machine, server
from tests.unit.inspection.making import dpkg, installed
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "inspect.schema.json").read_text())
ALPHA, BETA = wheel("alpha", files={"alpha/__init__.py": b"a" * 3000}), wheel("beta", "2.0")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["inspect", "--quiet", *map(str, arguments)])


def printed(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def document(*arguments: str | Path) -> dict[str, Any]:
    """The document, which is as its schema says."""
    found: dict[str, Any] = json.loads(printed(*arguments, "--json"))
    jsonschema.validate(found, SCHEMA)
    return found


def refused(kind: type[Nb2ImageError], *arguments: str | Path) -> str:
    """What is said of an error, which is of this kind and says what to do; nothing was printed before."""
    result = call(*arguments)
    assert isinstance(result.exception, kind), result.output
    assert result.exception.hint
    assert result.stdout == ""
    return "\n".join((str(result.exception), *result.exception.details))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A layout of an image that nb2image did not build."""
    below: dict[str, bytes | Link] = {
        "lib": Link("usr/lib"),
        "usr/lib/libc.so.6": bytes(2000),
        "usr/lib/os-release": b'PRETTY_NAME="Some Linux 1"\n',
        "data/gone": bytes(9000),
        **dpkg(("libc6", "2.36", "/lib\n/lib/libc.so.6\n")),
    }
    above = {**installed("demo", "1.0", {"demo.py": bytes(300)}), "data/.wh.gone": b""}
    image = image_of(files_of(below), files_of(above), User="joe", Entrypoint=["a"], Cmd=["b"])
    write_layout(image, ["small:1"], tmp_path / "small", Silent())
    return tmp_path / "small"


@pytest.fixture
def ours(world: World) -> Path:
    """A layout of an image that nb2image built."""
    target = world.work / "image"
    done = world.run("build", world.locked(ALPHA, BETA), "--base", world.base, "-o", f"{target}/", "-q")
    assert done.returncode == 0, done.stderr
    return target


def with_layer(layout: Path, layer: MemoryLayer, target: Path) -> Path:
    """The same image with one more layer."""
    image = find_image(layout).read()
    write_layout(image.with_layers([layer]), ["changed:1"], target, Silent())
    return target


# -- documents -----------------------------------------------------------------------------------------


def test_a_built_image_is_known_down_to_its_files(ours: Path) -> None:
    found = document(ours, "--files")
    assert found["nb2image"]["notebook"] == "analysis.ipynb"
    assert found["nb2image"]["mode"] == "jupyter"
    assert found["base"] == {"name": found["base"]["name"], "digest": found["base"]["digest"], "layers": 1}
    assert found["lock"]["exact"] is True
    assert [(row["name"], row["version"], row["file"], row["hashes"]) for row in found["lock"]["packages"]] == [
        ("alpha", "1.0", ALPHA.filename, {"sha256": ALPHA.sha256}),
        ("beta", "2.0", BETA.filename, {"sha256": BETA.sha256}),
    ]
    places = {(row["name"], row["environment"]) for row in found["packages"]}
    assert places >= {("alpha", "/opt/kernel"), ("jupyterlab", "/opt/runner"), ("ipykernel", "/opt/support")}
    found_roles = [row["role"] for row in found["layers"]]

    def roles(name: str) -> list[str]:
        assert name in found_roles
        return [name] * found_roles.count(name)

    assert found_roles == [
        "base", "runtime", *roles("runner"), *roles("support"), *roles("kernel"), "lock", "notebook",
    ]  # fmt: skip
    owners = {row["path"]: row["owner"]["kind"] for row in found["files"]}
    assert owners["/opt/kernel/lib/python3.11/site-packages/alpha/__init__.py"] == "wheel"
    assert owners["/work/analysis.ipynb"] == "notebook"
    assert owners["/opt/nb2image/pylock.toml"] == owners["/opt/kernel/bin/python"] == "nb2image"
    assert set(owners.values()) == {"wheel", "notebook", "nb2image", "base"}


def test_sizes_are_those_of_the_tars(ours: Path) -> None:
    found = document(ours, "--files")
    regular = {row["path"]: row["size"] for row in found["files"] if row["kind"] == "file"}
    there = {f"/{path}": len(data) for path, data in members(ours, "").items()}
    links = {row["path"] for row in found["files"] if row["kind"] == "hardlink"}
    assert regular == {path: size for path, size in there.items() if path not in links}
    assert found["total"]["size"] == sum(regular.values())
    assert found["size"] == sum(row["size"] for row in found["layers"])


def test_a_package_that_the_lock_does_not_hold_is_foreign_and_one_that_went_is_missing(
    ours: Path, tmp_path: Path
) -> None:
    site = "opt/kernel/lib/python3.11/site-packages"
    layer = files_of({f"{site}/.wh.beta-2.0.dist-info": b"", **installed("extra", "3", {"extra.py": b"1"}, site)})
    changed = with_layer(ours, layer, tmp_path / "changed")
    lock = document(changed)["lock"]
    assert (lock["exact"], lock["missing"], lock["foreign"]) == (False, ["beta 2.0"], ["extra 3"])
    assert "/opt/kernel lacks beta 2.0; /opt/kernel holds extra 3, which it does not lock" in printed(changed)


def test_versions_that_are_equal_in_other_letters_are_equal(ours: Path, tmp_path: Path) -> None:
    lock = members(ours, "")["opt/nb2image/pylock.toml"].replace(b'version = "2.0"', b'version = "2.0.0"')
    assert b'"2.0.0"' in lock
    assert document(with_layer(ours, files_of({"opt/nb2image/pylock.toml": lock}), tmp_path / "changed"))["lock"][
        "exact"
    ]


def test_a_lock_that_cannot_be_read_is_a_finding(ours: Path, tmp_path: Path) -> None:
    changed = with_layer(ours, files_of({"opt/nb2image/pylock.toml": b"= nonsense"}), tmp_path / "changed")
    lock = document(changed)["lock"]
    assert lock["packages"] == []
    assert lock["exact"] is False
    assert "Invalid statement" in lock["problem"]
    assert "/opt/nb2image/pylock.toml cannot be read: Invalid statement" in printed(changed)


def test_an_image_of_others_is_known_by_its_packages(small: Path) -> None:
    found = document(small)
    assert (found["nb2image"], found["lock"], found["base"]["layers"]) == (None, None, None)
    assert (found["system"], found["user"], found["entrypoint"]) == ("Some Linux 1", "joe", ["a", "b"])
    assert {(row["kind"], row["name"], row["environment"]) for row in found["packages"]} == {
        ("debian", "libc6", ""),
        ("wheel", "demo", "/usr"),
    }
    assert found["hidden"] == {"files": 1, "size": 9000}
    assert "files" not in found


def test_files_of_one_package_are_listed_alone(small: Path) -> None:
    found = document(small, "--package", "Demo")
    assert {row["owner"]["name"] for row in found["files"]} == {"demo"}
    assert found["hidden"]["list"] == [{"path": "/data/gone", "size": 9000, "layer": 0, "by": 1}]


def test_the_owner_of_a_path_is_a_document(small: Path) -> None:
    found = document(small, "--owner", "/lib/libc.so.6")
    assert (found["path"], found["place"]) == ("/lib/libc.so.6", "/usr/lib/libc.so.6")
    assert found["file"]["owner"]["name"] == "libc6"
    below = document(small, "--owner", "data")
    assert (below["file"], below["owners"]) == (None, [])
    assert [row["path"] for row in below["hidden"]] == ["/data/gone"]


def test_the_document_is_utf_8_whatever_the_names(tmp_path: Path) -> None:
    layout = tmp_path / "caf\udce9"
    write_layout(image_of(files_of({"n\udcff": b"1"})), ["made:1"], layout, Silent())
    found = CliRunner().invoke(cli, ["inspect", "-q", str(layout), "--json", "--files"])
    told = json.loads(found.stdout_bytes.decode("utf-8", "strict"))
    assert told["reference"].endswith("caf\\xe9")
    assert [row["path"] for row in told["files"]] == ["/n\\xff"]
    assert json.loads(printed(layout, "--json", "--owner", "/n\udcff"))["file"]["size"] == 1


# -- where images are ----------------------------------------------------------------------------------


def same(image: Image) -> list[str]:
    return [layer.diff_id for layer in image.layers]


def test_an_archive_and_a_layout_of_one_image_are_told_alike(small: Path, tmp_path: Path) -> None:
    write_archive(find_image(small).read(), ["small:1"], tmp_path / "small.tar", Silent())
    places = {"reference", "run"}
    told = [{k: v for k, v in document(each).items() if k not in places} for each in (small, tmp_path / "small.tar")]
    assert told[0] == told[1]
    assert "docker load -i" in document(tmp_path / "small.tar")["run"]


def test_one_of_several_images_is_taken_by_its_name_and_by_its_platform(tmp_path: Path) -> None:
    layout = tmp_path / "several"
    write_layout(image_of(files_of({"one": b"1"})), ["several:1"], layout, Silent())
    write_layout(image_of(files_of({"two": b"2"}), architecture="arm64"), ["several:2"], layout, Silent())
    assert "/one" in printed(f"{layout}:1", "--files")
    assert "/two" in printed(f"{layout}:2", "--files")
    assert "/two" in printed(layout, "--platform", "linux/arm64", "--files")
    assert "several:1" in refused(NotAnImage, layout)


@pytest.mark.parametrize("name", ["nothing.tar", "./nothing", "no/thing/", "nothing here", ""])
def test_a_place_without_an_image_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (name or ".") in refused(NotAnImage, name)


def test_a_name_needs_an_engine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine / "bin"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{machine}/none.sock")
    said = refused(EngineAbsent, "team/team/report:1")
    assert "docker" in said.lower()


def test_files_that_are_no_images_are_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n")
    assert "is no tar archive" in refused(NotAnImage, tmp_path / "text")
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(small, "etc")
    assert "is no image archive" in refused(NotAnImage, tmp_path / "root.tar")
    assert "is no OCI layout" in refused(NotAnImage, tmp_path)


def test_a_damaged_layer_is_named_and_nothing_is_written(small: Path, tmp_path: Path) -> None:
    layer = document(small)["layers"][1]["digest"]
    blob = small / "blobs" / "sha256" / layer.partition(":")[2]
    blob.write_bytes(blob.read_bytes()[:-9])
    assert layer.partition(":")[2] in refused(NotAnImage, small, "--html", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


# -- tables --------------------------------------------------------------------------------------------


def test_the_summary_says_what_an_image_is_and_what_takes_the_space(ours: Path) -> None:
    text = printed(ours)
    assert text.startswith(
        "JupyterLab with analysis.ipynb: Python 3.11.2 on linux/amd64 and the 2 packages that it locks."
    )
    assert "\nRun it with: podman run" in text
    assert re.search(r"^lock      2 packages of metadata\S+; /opt/kernel holds exactly these$", text, re.MULTILINE)
    assert re.search(r"^alpha +1\.0 +/opt/kernel +\d +\d\.\d KiB$", text, re.MULTILINE)


def test_only_the_largest_packages_are_listed_unless_all_are_asked_for(tmp_path: Path) -> None:
    many: dict[str, bytes] = {}
    for number in range(25):
        many |= installed(f"p{number:02}", "1", {f"p{number:02}.py": bytes(100 * number + 1)})
    write_layout(image_of(files_of(many)), ["many:1"], tmp_path / "many", Silent())
    short, long = printed(tmp_path / "many"), printed(tmp_path / "many", "--packages")
    assert "p24 " in short
    assert "p04 " not in short
    assert "and 5 smaller ones of " in short
    assert "p00 " in long
    assert "smaller" not in long


def test_layers_are_listed_from_the_bottom_up(small: Path) -> None:
    rows = printed(small, "--layers").splitlines()
    assert rows[0].split() == ["layer", "files", "stored", "tar", "hidden", "what"]
    assert [row.split()[0] for row in rows[1:]] == ["1", "2"]
    assert "8.8 KiB" in rows[1]


def test_the_owner_of_a_file_is_said_in_words(small: Path) -> None:
    said = printed(small, "--owner", "lib/libc.so.6")
    assert said.startswith("/usr/lib/libc.so.6 (2.0 KiB) is of Debian's libc6 2.36.\nIt stands in layer 1")
    assert printed(small, "--owner", "/data") == (
        "/data is not to be seen in a container.\nLayer 2 hides /data/gone of layer 1 (8.8 KiB).\n"
    )
    assert "Below /usr:" in printed(small, "--owner", "/usr/")


def test_what_an_image_does_not_have_is_an_error(small: Path) -> None:
    assert "has no file /etc/nothing" in refused(NotInImage, small, "--owner", "/etc/nothing")
    said = refused(NotInImage, small, "--package", "libc")
    assert "has no package 'libc'" in said
    assert "libc6" in said


def test_control_characters_and_marks_of_direction_are_written_out(tmp_path: Path) -> None:
    name = "a\x1b[31m\u202egnp.exe\n"
    image = image_of(files_of({f"srv/{name}": b"1", **installed("x\x1b", "\u2066", {})}), User=name)
    write_layout(image, ["made:1"], tmp_path / "made", Silent())
    for options in ([], ["--layers"], ["--files"], ["--packages"], ["--owner", "/srv"]):
        text = printed(tmp_path / "made", *options)
        assert not {c for c in "\x1b\u202e\u2066" if c in text}
    assert "/srv/a\\x1b[31m\\u202egnp.exe\\n" in printed(tmp_path / "made", "--files")


# -- the page ------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_refers_to_nothing(small: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert printed(small, "--html", page) == f"written to {page}\n"
    text = page.read_text()
    assert re.findall(r"(?:src|href|url|action)\s*[=(]\s*[\"']?([^\"')\s>]+)", text.partition("<script")[0]) == [
        "data:,"
    ]
    assert "default-src 'none'" in text


def test_a_page_that_cannot_be_written_leaves_nothing(small: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert "it is a directory" in refused(Unwritable, small, "--html", tmp_path)
    assert "No such file" in refused(Unwritable, small, "--html", tmp_path / "nowhere" / "page.html")
    assert sorted(tmp_path.iterdir()) == before


def test_an_equal_image_has_an_equal_page(small: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        printed(small, "--html", tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
