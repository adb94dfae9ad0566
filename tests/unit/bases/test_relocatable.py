"""A relocatable CPython as a layer: its facts, and archives that are none or mean harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from nb2image.bases.relocatable import read_build
from nb2image.build import build
from nb2image.cache import Store
from nb2image.errors import BadPythonBuild, HashMismatch, IndexAnswered, NoMatchingBase, NotAnImage, NotCached
from nb2image.image.layout import write_layout
from nb2image.layers.entry import HardLink, Link
from nb2image.plan import Request, make_plan
from nb2image.progress import Silent
from tests.unit.abi.making import shared_object
from tests.unit.bases.test_facts import CUDA_11, DEBIAN, elf
from tests.unit.image.making import Members, files_of, image_of, tar_of
from tests.unit.index.plugin import machine, server
from tests.unit.index.server import IndexServer
from tests.unit.world import World, wheel, world

__all__ = ["machine", "server", "world"]


def members(minor: str = "3.11", glibc: int = 17, *texts: str) -> list[tuple[str, bytes | Link | HardLink | None]]:
    return [
        (f"python/bin/python{minor}", elf(f"{minor}.7", "GLIBC_2.2.5", f"GLIBC_2.{glibc}", *texts)),
        ("python/bin/python3", Link(f"python{minor}")),
        (f"python/lib/python{minor}/os.py", b"# os"),
        (f"python/lib/python{minor}/__pycache__/os.pyc", b"old"),
        (f"python/lib/python{minor}/copy.py", HardLink(f"python/lib/python{minor}/os.py")),
    ]


def archive(folder: Path, contents: Members, name: str = "python.tar.gz") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(tar_of(contents), mtime=0))
    return folder / name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def layer(found: object) -> list[str]:
    stream = found.layer.open()  # type: ignore[attr-defined]
    with stream, tarfile.open(fileobj=io.BytesIO(gzip.decompress(stream.read()))) as tar:
        return tar.getnames()


def test_facts_and_files_of_a_build(tmp_path: Path, store: Store) -> None:
    found = read_build(str(archive(tmp_path, members())), store)
    assert (str(found.python), str(found.glibc), str(found.platform)) == ("3.11.7", "2.17", "linux/amd64")
    assert sorted(layer(found)) == [
        "opt",
        "opt/python",
        "opt/python/bin",
        "opt/python/bin/python3",
        "opt/python/bin/python3.11",
        "opt/python/lib",
        "opt/python/lib/python3.11",
        "opt/python/lib/python3.11/copy.py",
        "opt/python/lib/python3.11/os.py",
    ]


def test_the_layer_follows_from_the_files_alone(tmp_path: Path) -> None:
    plain = archive(tmp_path, members())
    other = tmp_path / "other.tar.zst"
    other.write_bytes(zstandard.ZstdCompressor().compress(tar_of([*members()[:4], *members()[4:]])))
    one = read_build(str(plain), Store(tmp_path / "a")).layer
    two = read_build(str(other), Store(tmp_path / "b")).layer
    assert one.descriptor == two.descriptor


HOSTILE: dict[str, list[tuple[str, bytes | Link | HardLink | None]]] = {
    "traversal": [("python/../../etc/passwd", b"x")],
    "absolute path": [("/etc/passwd", b"x")],
    "a second folder": [("etc/passwd", b"x")],
    "absolute link": [("python/lib/x", Link("/etc"))],
    "link that leads out": [("python/lib/x", Link("../../y"))],
    "hard link to nothing": [("python/lib/x", HardLink("python/lib/y"))],
    "hard link that leads out": [("python/lib/x", HardLink("python/../../../etc/passwd"))],
    "a path twice": [("python/lib/x", b""), ("python/lib/x", b"")],
    "a file below a file": [("python/lib/x", b""), ("python/lib/x/y", b"")],
    "a file below a link": [("python/lib/x", Link("python3.11")), ("python/lib/x/y", b"")],
    "a second Python": [("python/bin/python3.12", elf("3.12.1"))],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused(tmp_path: Path, store: Store, case: str) -> None:
    with pytest.raises(BadPythonBuild) as caught:
        read_build(str(archive(tmp_path / "in", [*members(), *HOSTILE[case]])), store)
    assert "python.tar.gz" in caught.value.message
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["python.tar.gz"]
    assert not list(store.root.glob("v1/tmp/*"))


def test_devices_and_what_is_no_build_are_refused(tmp_path: Path, store: Store) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("python/null")
        info.type = tarfile.CHRTYPE
        tar.addfile(info)
    (tmp_path / "device").write_bytes(out.getvalue())
    (tmp_path / "text").write_bytes(b"hello" * 500)
    (tmp_path / "cut").write_bytes(archive(tmp_path, members()).read_bytes()[:-40])
    archive(tmp_path, [("python/bin/pip", b"")], "empty")
    archive(tmp_path, [*members()[2:], ("python/bin/python3.11", b"#!/bin/sh")], "script")
    archive(tmp_path, [*members()[2:], ("python/bin/python3.11", elf("3.11.7"))], "static")
    for name in ("device", "text", "cut", "empty", "script", "static", "absent"):
        with pytest.raises(BadPythonBuild, match=name):
            read_build(str(tmp_path / name), store)


def test_a_build_comes_from_an_address_with_its_hash_only(tmp_path: Path, server: IndexServer, store: Store) -> None:
    data = archive(tmp_path, members()).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    server.project("python", {"python.tar.gz": data})
    url = f"{server.url}/files/python.tar.gz"
    with pytest.raises(BadPythonBuild, match="has no hash"):
        read_build(url, store)
    with pytest.raises(HashMismatch):
        read_build(f"{url}#sha256={'0' * 64}", store)
    with pytest.raises(IndexAnswered, match="404"):
        read_build(f"{url}x#sha256={digest}", store)
    with pytest.raises(NotCached):
        read_build(f"{url}#sha256={digest}", store, offline=True)
    assert str(read_build(f"{url}#sha256={digest}", store).python) == "3.11.7"
    assert str(read_build(f"{url}#sha256={digest}", store, offline=True).python) == "3.11.7"
    with pytest.raises(HashMismatch):
        read_build(f"{tmp_path / 'python.tar.gz'}#sha256={'0' * 64}", store)


@pytest.mark.parametrize(
    ("runpath", "fits"),
    [("/root/build/lib", False), (None, False), ("$ORIGIN/../lib", True), ("${ORIGIN}/../lib", True)],
)
def test_a_program_that_finds_its_library_in_one_folder_only_is_refused(
    tmp_path: Path, store: Store, runpath: str | None, fits: bool
) -> None:
    # What a build with --enable-shared is: a small program, and all of Python in a library.
    shared = shared_object("libpython3.11.so.1.0", runpath=runpath, versions={"libc.so.6": ["GLIBC_2.17"]})
    contents = [("python/bin/python3.11", shared), *members()[1:]]
    contents += [("python/lib/libpython3.11.so.1.0", elf("3.11.7", "GLIBC_2.17", loader=None))]
    given = str(archive(tmp_path, contents))
    if fits:
        assert str(read_build(given, store).python) == "3.11.7"
    else:
        with pytest.raises(BadPythonBuild, match=r"looks for libpython3\.11\.so\.1\.0 in .*, and not beside itself"):
            read_build(given, store)


def bare_base(folder: Path, **changes: bytes | Link | HardLink) -> Path:
    """A layout of an image with CUDA and glibc, and without Python."""
    contents = {path: content for path, content in DEBIAN.items() if "python" not in path}
    write_layout(image_of(files_of({**contents, **CUDA_11, **changes})), ["cuda:1"], folder / "cuda", Silent())
    return folder / "cuda"


def test_a_base_without_python_takes_the_build_and_keeps_its_cuda(world: World) -> None:
    given = str(archive(world.folder, members()))
    base = str(bare_base(world.folder))
    source = world.locked(wheel("first"))
    with pytest.raises(NotAnImage, match="no Python") as caught:
        build(Request(source, base=base), Store(world.cache), Silent())
    assert "--python-build" in caught.value.hint
    built = build(Request(source, base=base, python_build=given), Store(world.cache), Silent())
    assert str(built.plan.target) == "Python 3.11, glibc 2.36, linux/amd64, CUDA 11.2, cuDNN 8.1"
    assert str(built.plan.target.interpreter) == "/opt/python/bin/python3.11"


def test_a_catalogued_base_without_python_takes_the_build(world: World) -> None:
    given = str(archive(world.folder, members()))
    bare_base(world.folder)
    catalogue = world.folder / "catalogue.toml"
    catalogue.write_text(
        '[[base]]\nname = "cuda"\nprovider = "layout"\nreference = "cuda"\nplatforms = ["linux/amd64"]\n'
        'glibc = "2.36"\ncuda = "11.2"\ncudnn = "8.1"\n'
    )
    request = Request(world.locked(wheel("first")), base="cuda", catalogues=(catalogue,), python_build=given)
    built = build(request, Store(world.cache), Silent())
    assert (built.base.name, str(built.plan.target.cuda)) == ("cuda", "CUDA 11.2, cuDNN 8.1")
    with pytest.raises(NoMatchingBase, match="The base cuda has no Python") as caught:
        build(replace(request, python_build=None), Store(world.cache), Silent())
    assert "--python-build" in caught.value.hint


def test_an_image_is_built_on_the_base_with_the_build(world: World) -> None:
    given = str(archive(world.folder, members()))
    built = world.build(world.locked(wheel("first")), python_build=given)
    target = built.plan.target
    assert (str(target.python), str(target.interpreter)) == ("3.11.7", "/opt/python/bin/python3.11")
    assert built.image.config.env["PATH"].split(":").index("/opt/python/bin") >= 0
    again = world.build(world.locked(wheel("first")), python_build=given, cache="other")
    assert built.image.digest == again.image.digest


def test_a_build_for_a_newer_glibc_than_any_base_is_refused(world: World) -> None:
    given = str(archive(world.folder, members("3.11", 40)))
    with pytest.raises(NoMatchingBase, match=r"glibc 2\.40 or newer"):
        world.build(world.locked(wheel("first")), python_build=given)


def test_auto_takes_a_debian_base_with_the_build(world: World) -> None:
    given = str(archive(world.folder, members("3.11", 39)))
    made = make_plan(Request(world.locked(wheel("first")), python_build=given), Store(world.cache), Silent())
    assert made.match.candidate.name == "trixie"
