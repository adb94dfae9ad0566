"""Compilers of Debian bases compile what Python's own build tools ask them to, and the base runs what they made."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nb2image.bases.debian import DebianProvider, Mirrors, toolchain_image
from nb2image.bases.debian.selection import SUITES
from nb2image.bases.model import Base
from nb2image.bases.roots import unpacked_root
from nb2image.cache import Store
from nb2image.engines.client import Engine
from nb2image.engines.load import load
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.read import read_layout
from nb2image.progress import Silent
from nb2image.target.model import Platform
from tests.engines.containers import run_container
from tests.engines.daemons import Daemon, Unavailable, private_folder, require
from tests.engines.plugin import available_value

HOST = Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()))
USER = 1000
"""An ordinary user, whether or not this machine has a name for it."""

COMPILE = """
import json, os, shlex, subprocess, sysconfig
os.chdir("/work")
open("plain.c", "w").write('''
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
static PyObject *root(PyObject *self, PyObject *args) {
    double x;
    return PyArg_ParseTuple(args, "d", &x) ? PyFloat_FromDouble(sqrt(x)) : NULL;
}
static PyMethodDef methods[] = {{"root", root, METH_VARARGS, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "plain", NULL, -1, methods};
PyMODINIT_FUNC PyInit_plain(void) { return PyModule_Create(&module); }
''')
open("plus.cpp", "w").write('''
#include <Python.h>
#include <algorithm>
#include <string>
#include <vector>
static PyObject *sorted(PyObject *self, PyObject *args) {
    const char *text;
    if (!PyArg_ParseTuple(args, "s", &text)) return NULL;
    std::string copy(text);
    std::vector<char> letters(copy.begin(), copy.end());
    std::sort(letters.begin(), letters.end());
    return PyUnicode_FromStringAndSize(letters.data(), letters.size());
}
static PyMethodDef methods[] = {{"sorted", sorted, METH_VARARGS, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "plus", NULL, -1, methods};
PyMODINIT_FUNC PyInit_plus(void) { return PyModule_Create(&module); }
''')
var = sysconfig.get_config_var
suffix = var("EXT_SUFFIX")
for name, source, compiler, linker in (
    ("plain", "plain.c", var("CC"), var("LDSHARED")), ("plus", "plus.cpp", var("CXX"), var("LDCXXSHARED"))
):
    flags = shlex.split(f"{compiler} {var('CFLAGS')} {var('CCSHARED')}")
    subprocess.check_call([*flags, "-I", sysconfig.get_path("include"), "-c", source, "-o", name + ".o"])
    subprocess.check_call([*shlex.split(linker), name + ".o", "-o", name + suffix])
rule = "made: ; @cc --version > made; c++ --version >> made"
subprocess.check_call(["make", "--silent", "--eval", rule])
flags = subprocess.check_output(["pkg-config", "--cflags", "python3"], text=True).split()
print(json.dumps({"pkg-config": flags, "include": sysconfig.get_path("include"), "made": os.path.getsize("made") > 0}))
"""
IMPORT = "import sys; sys.path[:0] = ['/work']; import plain, plus; print(plain.root(2.25), plus.sorted('hello'))"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that the ordinary user may enter. ``NB2IMAGE_TEST_CACHE`` names a cache to keep between sessions."""
    with private_folder("toolchain") as made:
        made.chmod(0o755)
        yield made


@pytest.fixture(scope="module")
def packages(folder: Path) -> Store:
    kept = os.environ.get("NB2IMAGE_TEST_CACHE")
    return Store(Path(kept) if kept else folder / "cache")


def delivered(packages: Store, suite: str) -> Base:
    mirrors = Mirrors.of_this_machine()

    def deliver() -> Base:
        if not {"main", "security"} <= set(mirrors.bases):
            raise Unavailable("apt is configured for no mirror of Debian on this machine")
        provider = DebianProvider(packages, platform=HOST, mirrors=mirrors)
        return provider.deliver(next(c for c in provider.candidates() if c.name == suite), Silent())

    return available_value(deliver)


def with_compiler(base: Base, packages: Store) -> Image:
    return toolchain_image(base, packages, Silent(), offline=False)


def as_user(function: Callable[[], object]) -> None:
    """Call a function as the ordinary user, in a process of its own."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            function()
            code = 0
        except BaseException as error:  # noqa: BLE001 (the process ends here, whatever happened)
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0


def sandboxed(root: Path, work: Path, *command: str) -> str:
    """Run a command as the ordinary user in a read-only root, without a network."""
    options = ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    options += ["--bind", str(work), "/work", "--unshare-all", "--die-with-parent", "--clearenv"]
    options += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LC_ALL", "C.UTF-8"]
    done = subprocess.run(
        ["bwrap", *options, *command],
        user=USER, group=USER, extra_groups=[], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("suite", SUITES)
def test_an_ordinary_user_compiles_in_an_unpacked_root(packages: Store, folder: Path, suite: str) -> None:
    available_value(lambda: require("bwrap"))
    base = delivered(packages, suite)
    image = with_compiler(base, packages)
    own = folder / suite
    work = own / "work"
    work.mkdir(parents=True)
    for path in (own, work):
        os.chown(path, USER, USER)
    # A layout is what the user may read, wherever the cache of whoever started the tests is.
    for name, made in (("compiler", image), ("base", base.image)):
        write_layout(made, ["made:1"], folder / f"{suite}-{name}", Silent())

    def unpack() -> None:
        for name in ("compiler", "base"):
            made = read_layout(folder / f"{suite}-{name}")
            (own / name).symlink_to(unpacked_root(made, Store(own / "cache"), points=("work",)))

    as_user(unpack)
    found = json.loads(sandboxed(own / "compiler", work, "python3", "-c", COMPILE))
    assert found["include"] in {flag.removeprefix("-I") for flag in found["pkg-config"]}
    assert found["made"]
    assert sandboxed(own / "compiler", work, "python3", "-c", IMPORT) == "1.5 ehllo\n"
    assert sandboxed(own / "base", work, "python3", "-c", IMPORT) == "1.5 ehllo\n"


@pytest.mark.parametrize("engine_daemon", ["docker"], indirect=True)
def test_a_container_compiles(engine: Daemon, connected: Engine, packages: Store, folder: Path) -> None:
    image = with_compiler(delivered(packages, "bookworm"), packages)
    work = folder / "docker"
    work.mkdir()
    work.chmod(0o777)
    load(connected, image, ["compiler:1"], Silent())
    for code, expected in ((COMPILE, '"made": true}\n'), (IMPORT, "1.5 ehllo\n")):
        done = run_container(
            engine, "compiler:1", "python3", "-c", code, user="4321:0", network="none", mounts={work: "/work"}
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(expected)
