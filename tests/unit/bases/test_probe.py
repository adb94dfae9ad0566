from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner

from nb2image.bases.probe import Probe, document, probe
from nb2image.cli.bases import bases
from nb2image.errors import NotAnImage
from nb2image.image.layout import write_layout
from nb2image.layers.entry import HardLink, Link
from nb2image.progress import Silent
from tests.unit.abi.making import shared_object
from tests.unit.bases.test_facts import DEBIAN, LIBC, elf, slim
from tests.unit.image.making import files_of, image_of, layer_of

Contents: TypeAlias = Mapping[str, "bytes | Link | HardLink"]

MUSL = elf("musl libc (x86_64)", "1.2.4", loader=None)
STATUS = b"Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12.4\n"
SYSTEM: Contents = {
    **DEBIAN,
    "etc/os-release": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
    "var/lib/dpkg/status": STATUS,
    "usr/lib/python3.11/EXTERNALLY-MANAGED": b"",
    "usr/lib/python3/dist-packages/six-1.16.0.egg-info": b"",
    "usr/local/lib/python3.11/dist-packages/pip-23.0.1.dist-info/METADATA": b"",
    "opt/app/lib/python3.11/site-packages/Flask-2.0.dist-info/RECORD": b"",
}


def probed(*contents: Contents, **execution: Any) -> Probe:
    return probe(image_of(*(files_of(each) for each in contents), **execution), "image", Silent())


def test_the_facts_of_a_debian_image() -> None:
    found = probed(SYSTEM, User="1001:0", Entrypoint=["/init", "a b"], Cmd="run", WorkingDir="/work", Env=["A=1", "B="])
    assert found.distribution is not None
    assert found.distribution.title == "Debian GNU/Linux 12 (bookworm)"
    assert found.libc is not None
    assert (found.libc.name, found.libc.version) == ("glibc", "2.36")
    (python,) = found.pythons
    assert python is found.python
    assert (python.path, python.version, python.pip) == ("/usr/bin/python3.11", "3.11.2", "23.0.1")
    assert python.site_packages == "/usr/local/lib/python3.11/dist-packages"
    assert python.externally_managed
    assert [(each.name, each.version) for each in python.distributions] == [("pip", "23.0.1"), ("six", "1.16.0")]
    assert [str(each) for each in python.folders] == [
        "/usr/local/lib/python3.11/dist-packages",
        "/usr/lib/python3/dist-packages",
    ]
    assert [(each.name, each.folder) for each in found.elsewhere] == [
        ("Flask", "/opt/app/lib/python3.11/site-packages")
    ]
    assert [(each.kind, each.packages) for each in found.databases] == [("dpkg", 1)]
    assert (found.user, found.entrypoint, found.command, found.folder) == (
        "1001:0",
        ("/init", "a b"),
        ("run",),
        "/work",
    )
    assert found.env == {"A": "1", "B": ""}
    assert (found.cuda.version, found.cuda.libraries) == (None, ())


def test_every_python_is_found_and_the_first_that_could_run_a_notebook_is_said() -> None:
    conda = {path.replace("usr/local", "opt/conda"): content for path, content in slim("3.10", "3.10.4").items()}
    broken: Contents = {
        "opt/odd/bin/python3.9": elf("3.9.1"),
        "home/u/venv/bin/python3": Link("/usr/local/bin/python3.12"),
    }
    found = probed({**conda, **broken, **slim()})
    assert [(each.path, each.version) for each in found.pythons] == [
        ("/usr/local/bin/python3.12", "3.12.7"),
        ("/opt/conda/bin/python3.10", "3.10.4"),
        ("/opt/odd/bin/python3.9", None),
    ]
    assert "standard library" in str(found.pythons[2].problem)
    assert found.python is found.pythons[0]


def test_an_upper_layer_hides_what_a_lower_one_brought() -> None:
    lower = {"usr/local/lib/python3.12/site-packages/pip-24.0.dist-info/METADATA": b"", **slim()}
    upper = {
        "usr/local/lib/python3.12/site-packages/.wh.pip-24.0.dist-info": b"",
        "usr/local/lib/libpython3.12.so.1.0": elf("3.12.9", loader=None),
    }
    (python,) = probed(lower, upper).pythons
    assert (python.pip, python.version) == (None, "3.12.9")


def test_an_alpine_image() -> None:
    found = probed(
        {
            "lib/ld-musl-x86_64.so.1": MUSL,
            "lib/libc.musl-x86_64.so.1": Link("ld-musl-x86_64.so.1"),
            "lib/apk/db/installed": b"C:Q1\nP:musl\nV:1.2.4-r2\n\nC:Q1\nP:busybox\nV:1.36\n",
            "usr/bin/python3.11": elf("3.11.6", loader="/lib/ld-musl-x86_64.so.1"),
            "usr/lib/python3.11/os.py": b"",
        }
    )
    assert found.libc is not None
    assert (found.libc.name, found.libc.version) == ("musl", "1.2.4")
    assert [(each.kind, each.packages) for each in found.databases] == [("apk", 2)]
    assert found.python is not None
    assert found.python.version == "3.11.6"


def test_an_rpm_image_says_that_there_is_a_database() -> None:
    found = probed({"var/lib/rpm/rpmdb.sqlite": b"SQLite format 3\0", "lib64/libc.so.6": LIBC})
    assert [(each.kind, each.packages) for each in found.databases] == [("rpm", None)]
    assert (found.libc is not None, found.pythons) == (True, ())


def test_cuda_is_read_from_environment_and_libraries_but_not_from_wheels() -> None:
    libraries: Contents = {
        "usr/local/cuda-12.4/lib64/libcudart.so.12": Link("libcudart.so.12.4.127"),
        "usr/local/cuda-12.4/lib64/libcudart.so.12.4.127": b"",
        "usr/lib/x86_64-linux-gnu/libcudnn.so.9.1.0": b"",
        "usr/lib/python3/dist-packages/nvidia/lib/libcublas.so.12": b"",
        "opt/v/lib/python3.11/site-packages/nvidia/lib/libcublas.so.12": b"",
    }
    stated = probed(
        libraries, Env=["CUDA_VERSION=12.4.1", "NV_CUDNN_VERSION=9.1.0.70-1", "NVIDIA_REQUIRE_CUDA=cuda>=12"]
    )
    assert (stated.cuda.version, stated.cuda.cudnn, stated.cuda.driver) == ("12.4.1", "9.1.0.70", "cuda>=12")
    assert stated.cuda.libraries == (
        "/usr/lib/x86_64-linux-gnu/libcudnn.so.9.1.0",
        "/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127",
    )
    bare = probed(libraries).cuda
    assert (bare.version, bare.cudnn, bare.driver) == ("12.4.127", "9.1.0", None)


def test_shared_libraries_are_told_with_their_newest_symbol_versions() -> None:
    folder = "usr/lib/x86_64-linux-gnu"
    found = probed(
        {
            **SYSTEM,
            f"{folder}/libc.so.6": shared_object("libc.so.6", defines=["GLIBC_2.4", "GLIBC_2.36", "GLIBC_PRIVATE"]),
            f"{folder}/libstdc++.so.6": Link("libstdc++.so.6.0.30"),
            f"{folder}/libstdc++.so.6.0.30": shared_object(
                "libstdc++.so.6", defines=["GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "CXXABI_1.3", "CXXABI_1.3.13"]
            ),
            "opt/vendor/libvendor.so.1": shared_object("libvendor.so.1"),
            "opt/hidden/libhidden.so.1": shared_object("libhidden.so.1"),
            "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n",
            "etc/ld.so.conf.d/vendor.conf": b"/opt/vendor\n",
            f"{folder}/libtext.so": b"INPUT(-lvendor)",
        }
    )
    assert found.libraries.sonames == ("libc.so.6", "libstdc++.so.6", "libstdc++.so.6.0.30", "libvendor.so.1")
    assert found.libraries.versions == {"GLIBC": "GLIBC_2.36", "GLIBCXX": "GLIBCXX_3.4.30", "CXXABI": "CXXABI_1.3.13"}
    assert document(found, "x")["libraries"] == {
        "sonames": list(found.libraries.sonames),
        "versions": dict(found.libraries.versions),
    }


def test_a_library_of_an_upper_layer_counts_and_one_that_is_deleted_does_not() -> None:
    place = "usr/lib/libone.so.1"
    found = probed({place: shared_object("libone.so.1")}, {"usr/lib/.wh.libone.so.1": b""})
    assert found.libraries.sonames == ()
    found = probed({place: b"text"}, {place: shared_object("libone.so.1")})
    assert found.libraries.sonames == ("libone.so.1",)


def test_a_python_of_another_architecture_is_told_and_not_used() -> None:
    found = probed({"usr/bin/python3.11": elf("3.11.2", machine=183), "usr/lib/python3.11/os.py": b""})
    assert found.python is None
    assert "linux/amd64" in str(found.pythons[0].problem)


def test_an_image_of_nothing() -> None:
    found = probe(image_of(), "image", Silent())
    assert (found.pythons, found.libc, found.distribution, found.databases) == ((), None, None, ())


def test_a_damaged_layer_is_refused() -> None:
    layer = files_of(SYSTEM)
    broken = type(layer)(layer.descriptor, layer.diff_id, layer.data[:-9])
    with pytest.raises(NotAnImage):
        probe(image_of(broken), "image", Silent())


def test_names_that_are_no_utf8_come_out_as_json() -> None:
    odd = "opt/v/lib/python3.11/site-packages/a\udcff-1.0.dist-info/METADATA"
    found = probe(image_of(layer_of([(odd, b"")]), Env=["X=\x1b[31m"]), "image", Silent())
    made = document(found, "image")
    assert json.loads(json.dumps(made, ensure_ascii=False).encode())["elsewhere"][0]["name"] == "a\\xff"


def test_the_command_shows_a_table_and_a_document(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_layout(image_of(files_of(SYSTEM), Env=["X=\x1b[31m"]), ["base:1"], layout, Silent())
    shown = CliRunner().invoke(bases, ["probe", str(layout), "--packages", "-q"], catch_exceptions=False)
    lines = shown.output.splitlines()
    assert "Python        3.11.2 at /usr/bin/python3.11, pip 23.0.1" in lines
    assert "C library     glibc 2.36" in lines
    assert "  six 1.16.0  /usr/lib/python3/dist-packages" in lines
    assert "\x1b" not in shown.output
    told = CliRunner().invoke(bases, ["probe", f"{layout}:base:1", "--json", "-q"], catch_exceptions=False)
    made = json.loads(told.output)
    assert made["platform"] == "linux/amd64"
    assert made["pythons"][0]["version"] == "3.11.2"
    assert made["libc"] == {"name": "glibc", "version": "2.36"}


def test_an_image_without_python_is_said_to_be_no_base(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_layout(image_of(files_of({"lib/ld-musl-x86_64.so.1": MUSL})), ["base:1"], layout, Silent())
    shown = CliRunner().invoke(bases, ["probe", str(layout), "-q"], catch_exceptions=False)
    assert "none: this image cannot be a base" in shown.output
    assert "musl 1.2.4; wheels for manylinux do not install on it" in shown.output
