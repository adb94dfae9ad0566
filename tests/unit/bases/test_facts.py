from __future__ import annotations

import json
import struct
from pathlib import Path, PurePosixPath

import pytest
from packaging.version import Version

from nb2image.bases.facts import read_target
from nb2image.cache import Store
from nb2image.errors import NotAnImage
from nb2image.image.model import Image
from nb2image.layers.entry import HardLink, Link
from nb2image.target.model import Cuda
from tests.unit.image.making import files_of, image_of, layer_of

X86_64, AARCH64 = 62, 183
GNU_LOADER = "/lib64/ld-linux-x86-64.so.2"


def elf(*texts: str, machine: int = X86_64, loader: str | None = GNU_LOADER) -> bytes:
    """A 64-bit little-endian ELF file with one program header (``elf(5)``) and constants."""
    name = (loader or "").encode() + b"\0"
    kind = 3 if loader is not None else 1
    header = struct.pack("<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", kind, 4, 120, 0, 0, len(name), len(name), 1)
    return header + program + name + b"\0" + b"\0".join(text.encode() for text in texts) + b"\0"


LIBC = elf("GNU C Library (Debian GLIBC 2.36-9+deb12u13) stable release version 2.36.", loader=None)

DEBIAN: dict[str, bytes | Link | HardLink] = {
    "bin": Link("usr/bin"),
    "lib": Link("usr/lib"),
    "lib64": Link("usr/lib64"),
    "usr/bin/python3": Link("python3.11"),
    "usr/bin/python3.11": elf("3.11.2", "2.5.0", "3.40.1"),
    "usr/lib/python3.11/os.py": b"",
    "usr/lib/python3.11/site.py": b'os.path.join(prefix, "lib", "python3", "dist-packages")',
    "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": elf(loader=None),
    "usr/lib64/ld-linux-x86-64.so.2": Link("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
}


def slim(minor: str = "3.12", full: str = "3.12.7") -> dict[str, bytes | Link | HardLink]:
    """As images are laid out that compile Python into /usr/local with a shared library."""
    return {
        "lib64/ld-linux-x86-64.so.2": elf(loader=None),
        "lib/x86_64-linux-gnu/libc.so.6": LIBC,
        "usr/local/bin/python3": Link(f"python{minor}"),
        "usr/local/bin/python": Link("python3"),
        f"usr/local/bin/python{minor}": elf("nothing here"),
        f"usr/local/lib/libpython{minor}.so.1.0": elf(full, loader=None),
        f"usr/local/lib/python{minor}/os.py": b"",
        f"usr/local/lib/python{minor}/site.py": b'"site-packages"',
    }


def test_debians_python_is_read_through_merged_usr_links() -> None:
    target = read_target(image_of(files_of(DEBIAN), Env=["PATH=/bin:/usr/bin"]))
    assert target.python == Version("3.11.2")
    assert target.glibc == Version("2.36")
    assert target.interpreter == PurePosixPath("/usr/bin/python3.11")
    assert target.site_packages == PurePosixPath("/usr/local/lib/python3.11/dist-packages")
    assert target.environment["python_full_version"] == "3.11.2"


def test_a_python_in_usr_local_with_a_shared_library_comes_first() -> None:
    target = read_target(image_of(files_of(DEBIAN), files_of(slim())))
    assert target.python == Version("3.12.7")
    assert target.interpreter == PurePosixPath("/usr/local/bin/python3.12")
    assert target.site_packages == PurePosixPath("/usr/local/lib/python3.12/site-packages")


def test_the_path_of_the_config_decides() -> None:
    layers = files_of(DEBIAN), files_of(slim())
    assert read_target(image_of(*layers, Env=["PATH=/usr/bin:/usr/local/bin"])).minor == "3.11"


def test_a_virtual_environment_on_the_path_leads_to_its_base() -> None:
    venv = files_of({"opt/venv/bin/python3": Link("/usr/bin/python3.11"), "opt/venv/pyvenv.cfg": b"home = /usr/bin"})
    target = read_target(image_of(files_of(DEBIAN), venv, Env=["PATH=/opt/venv/bin:/usr/bin"]))
    assert target.interpreter == PurePosixPath("/usr/bin/python3.11")


def test_a_python_below_opt_is_found_without_the_path() -> None:
    moved = {path.replace("usr/local", "opt/conda"): content for path, content in slim().items()}
    target = read_target(image_of(files_of(moved)))
    assert target.interpreter == PurePosixPath("/opt/conda/bin/python3.12")
    assert target.site_packages == PurePosixPath("/opt/conda/lib/python3.12/site-packages")


def test_only_a_versioned_name_is_enough_and_the_newest_is_taken() -> None:
    contents = {**slim("3.9", "3.9.20"), **slim("3.10", "3.10.15")}
    del contents["usr/local/bin/python3"], contents["usr/local/bin/python"]
    assert read_target(image_of(files_of(contents))).python == Version("3.10.15")


def test_a_hard_linked_interpreter_is_read() -> None:
    contents = {**DEBIAN, "usr/bin/python3": HardLink("usr/bin/python3.11")}
    assert read_target(image_of(files_of(contents))).python == Version("3.11.2")


def test_a_wrapper_script_is_passed_over() -> None:
    shim = files_of({"usr/local/bin/python3": b"#!/bin/sh\nexec other-python\n"})
    assert read_target(image_of(files_of(DEBIAN), shim)).interpreter == PurePosixPath("/usr/bin/python3.11")


def test_a_whiteout_removes_a_python() -> None:
    removed = layer_of([("usr", None), ("usr/.wh.local", b"")])
    assert read_target(image_of(files_of(DEBIAN), files_of(slim()), removed)).minor == "3.11"


@pytest.mark.parametrize(
    ("stated", "version"),
    [("3.11.2", "3.11.2"), ("3.11.2+", "3.11.2"), ("3.11.0rc2", "3.11.0rc2"), ("3.11.15", "3.11.15")],
)
def test_every_form_of_the_version_is_read(stated: str, version: str) -> None:
    contents = {**DEBIAN, "usr/bin/python3.11": elf("3.9.1", stated, "3.40.1")}
    assert read_target(image_of(files_of(contents))).python == Version(version)


def test_a_version_that_the_linker_merged_into_the_end_of_a_path_is_read() -> None:
    contents = {**DEBIAN, "usr/bin/python3.11": elf("/opt/lib3.11", "/build/Python-3.11.7", "2.3.11.9")}
    assert read_target(image_of(files_of(contents))).python == Version("3.11.7")


def build_details(**changes: object) -> bytes:
    version = {"major": 3, "minor": 11, "micro": 4, "releaselevel": "final", "serial": 0, **changes}
    return json.dumps({"implementation": {"name": "cpython", "version": version}}).encode()


@pytest.mark.parametrize(
    ("path", "content", "version"),
    [
        ("usr/lib/python3.11/build-details.json", build_details(), "3.11.4"),
        ("usr/lib/python3.11/build-details.json", build_details(releaselevel="candidate", serial=1), "3.11.4rc1"),
        ("usr/include/python3.11/patchlevel.h", b'#define PY_VERSION          "3.11.4"\n', "3.11.4"),
        ("usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", elf("3.11.4"), "3.11.4"),
    ],
)
def test_a_program_that_states_two_versions_is_not_believed(path: str, content: bytes, version: str) -> None:
    contents = {**DEBIAN, "usr/bin/python3.11": elf("3.11.2", "3.11.3"), path: content}
    assert read_target(image_of(files_of(contents))).python == Version(version)


def test_musl_is_no_glibc() -> None:
    contents = {**slim(), "usr/local/bin/python3.12": elf(loader="/lib/ld-musl-x86_64.so.1")}
    target = read_target(image_of(files_of(contents)))
    assert target.glibc is None
    assert not any("manylinux" in tag.platform for tag in target.tags)


def without(contents: dict[str, bytes | Link | HardLink], *paths: str) -> Image:
    return image_of(files_of({path: content for path, content in contents.items() if path not in paths}))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (without(DEBIAN, "usr/lib/python3.11/os.py"), "standard library"),
        (without(DEBIAN, "usr/lib/x86_64-linux-gnu/libc.so.6"), "needs glibc"),
        (without(DEBIAN, "usr/lib64/ld-linux-x86-64.so.2"), "loader /lib64/ld-linux-x86-64.so.2 is missing"),
        (image_of(files_of({**DEBIAN, "usr/bin/python3.11": elf()})), "full version 3.11.? stands nowhere"),
        (image_of(files_of({**DEBIAN, "usr/bin/python3.11": elf()[:80]})), "damaged ELF program"),
        (image_of(files_of({**DEBIAN, "usr/bin/python3.11": b""})), "no ELF program"),
        (image_of(files_of({"usr/bin/python3": Link("pypy3.10"), "usr/bin/pypy3.10": elf()})), "called pypy3.10"),
    ],
)
def test_a_python_that_cannot_run_is_refused_with_the_reason(image: Image, reason: str) -> None:
    with pytest.raises(NotAnImage, match="has no Python") as caught:
        read_target(image)
    assert any(reason in detail for detail in caught.value.details)


def test_an_image_without_python_is_refused() -> None:
    with pytest.raises(NotAnImage, match="has no Python that could be used") as caught:
        read_target(image_of(files_of({"etc/motd": b"hello"})))
    assert caught.value.details == ()


def test_an_image_whose_programs_are_for_another_architecture_is_refused() -> None:
    contents = {**DEBIAN, "usr/bin/python3.11": elf("3.11.2", machine=AARCH64, loader="/lib/ld-linux-aarch64.so.1")}
    with pytest.raises(NotAnImage, match=r"for linux/amd64, and its /usr/bin/python3\.11 is for arm64"):
        read_target(image_of(files_of(contents)))


def test_facts_are_found_again_without_reading_the_layers(tmp_path: Path) -> None:
    image = image_of(files_of(DEBIAN))
    first = read_target(image, Store(tmp_path))

    class Unreadable:
        descriptor = image.layers[0].descriptor
        diff_id = image.layers[0].diff_id
        comment = image.layers[0].comment

        def open(self) -> None:
            raise AssertionError("read again")

        def file(self) -> None:
            return None

    again = Image(image.config, (Unreadable(),))  # type: ignore[arg-type]
    assert again.digest == image.digest
    assert read_target(again, Store(tmp_path)) == first


# -- CUDA ------------------------------------------------------------------------------------------------------

CUDA_11: dict[str, bytes | Link | HardLink] = {
    "usr/local/cuda-11.2/targets/x86_64-linux/lib/libcudart.so.11.0": Link("libcudart.so.11.2.152"),
    "usr/local/cuda-11.2/targets/x86_64-linux/lib/libcudart.so.11.2.152": b"",
    "usr/local/cuda-11.2/targets/x86_64-linux/lib/libcublas.so.11.4.1.1043": b"",
    "usr/lib/x86_64-linux-gnu/libcudnn.so.8.1.1": b"",
}


def test_the_cuda_libraries_of_a_base_are_read_from_their_names() -> None:
    target = read_target(image_of(files_of(DEBIAN), files_of(CUDA_11)))
    assert target.cuda == Cuda(Version("11.2"), Version("8.1"))
    assert str(target).endswith("linux/amd64, CUDA 11.2, cuDNN 8.1")


def test_a_base_without_libcudart_has_no_cuda_whatever_its_variables_say() -> None:
    assert read_target(image_of(files_of(DEBIAN), Env=["CUDA_VERSION=12.4.1"])).cuda is None


def test_libcudart_alone_is_not_all_of_cuda() -> None:
    alone = {path: content for path, content in CUDA_11.items() if "cudart" in path}
    assert read_target(image_of(files_of(DEBIAN), files_of(alone))).cuda == Cuda(Version("11.2"), None, False)


def test_what_names_do_not_tell_variables_do_where_both_agree() -> None:
    short: dict[str, bytes | Link | HardLink] = {
        "opt/lib/libcudart.so.12": b"",
        "opt/lib/libcublas.so.12": b"",
        "opt/lib/libcudnn.so.9": b"",
    }
    env = ["CUDA_VERSION=12.4.1", "NV_CUDNN_VERSION=9.1.0.70-1"]
    assert read_target(image_of(files_of(DEBIAN), files_of(short), Env=env)).cuda == Cuda(
        Version("12.4"), Version("9.1")
    )
    stale = ["CUDA_VERSION=11.8.0"]
    assert read_target(image_of(files_of(DEBIAN), files_of(short), Env=stale)).cuda == Cuda(Version("12"), Version("9"))


def test_cuda_of_installed_wheels_is_no_cuda_of_the_base() -> None:
    wheel: dict[str, bytes | Link | HardLink] = {
        "usr/local/lib/python3.11/dist-packages/nvidia/cuda_runtime/lib/libcudart.so.12.4.127": b""
    }
    assert read_target(image_of(files_of(DEBIAN), files_of(wheel))).cuda is None


def test_cuda_facts_survive_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    image = image_of(files_of(DEBIAN), files_of(CUDA_11))
    assert read_target(image, store) == read_target(image, store)
    assert read_target(image, store).cuda == Cuda(Version("11.2"), Version("8.1"))
