"""Bases made of Debian's own packages: they run, and are what dpkg would have installed.

The files come from the mirrors that apt is configured for on this machine (``APT_CONFIG`` included); without such
mirrors, or when they do not answer, the tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.version import Version

from nb2image.bases.debian.assemble import assemble
from nb2image.bases.debian.download import fetch_packages
from nb2image.bases.debian.lock import BaseLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.provider import DebianProvider
from nb2image.bases.debian.selection import SUITES, is_left_out
from nb2image.bases.debian.tree import Tree
from nb2image.bases.debian.update import update_locks
from nb2image.bases.interpreter import find_interpreter
from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.errors import IndexUnreachable
from nb2image.layers.entry import Entry, HardLink, Link
from nb2image.layers.write import arrange
from nb2image.progress import Silent
from nb2image.target.model import Platform

pytestmark = pytest.mark.network

HOST = Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()))
VERSIONS = {"bullseye": ("3.9.", "2.31"), "bookworm": ("3.11.", "2.36"), "trixie": ("3.13.", "2.41")}


@pytest.fixture(scope="module")
def mirrors() -> Mirrors:
    found = Mirrors.of_this_machine()
    if not {"main", "security"} <= set(found.bases):
        pytest.skip("apt is configured for no mirror of Debian on this machine")
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.default() if "NB2IMAGE_CACHE_DIR" in os.environ else Store(tmp_path_factory.mktemp("cache"))


class Unpacked(NamedTuple):
    """A base and a folder that holds its files."""

    base: Base
    root: Path

    def run(self, *command: str, **env: str) -> str:
        """Run a command inside, as a plain user without a network, read-only; gives what it prints."""
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            pytest.skip("bwrap is not installed")
        options = ["--ro-bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        options += ["--unshare-all", "--uid", "1001", "--gid", "0", "--clearenv", "--setenv", "HOME", "/home/notebook"]
        for name, value in {**self.base.image.config.env, "PYTHONDONTWRITEBYTECODE": "1", **env}.items():
            options += ["--setenv", name, value]
        done = subprocess.run([bwrap, *options, *command], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str) -> Any:
        """Run code that prints one JSON document."""
        return json.loads(self.run("python3", "-W", "ignore", "-c", f"import json\n{code}"))


@pytest.fixture(scope="module", params=SUITES)
def unpacked(
    request: pytest.FixtureRequest, mirrors: Mirrors, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Unpacked]:
    provider = DebianProvider(store, platform=HOST, mirrors=mirrors)
    candidates = {candidate.name: candidate for candidate in provider.candidates()}
    if request.param not in candidates:
        pytest.skip(f"nb2image has no lock of {request.param} for {HOST}")
    try:
        base = provider.deliver(candidates[request.param], Silent())
    except IndexUnreachable as error:
        pytest.skip(f"no mirror of Debian answers: {error}")
    root = tmp_path_factory.mktemp(request.param)
    (layer,) = base.image.layers
    with layer.open() as stream:
        subprocess.run(["tar", "-xpz", "-C", str(root)], stdin=stream, check=True)
    yield Unpacked(base, root)
    shutil.rmtree(root)


def test_the_facts_are_those_of_the_running_interpreter(unpacked: Unpacked) -> None:
    code = (
        "import platform, sys, site\n"
        "facts = [platform.python_version(), platform.libc_ver()[1], sys.executable, site.getsitepackages()[0]]\n"
        "print(json.dumps(facts))"
    )
    version, glibc, executable, folder = unpacked.python(code)
    target = unpacked.base.target
    assert version == str(target.python)
    assert glibc == str(target.glibc)
    assert folder == str(target.site_packages)
    assert os.path.realpath(unpacked.root / executable.lstrip("/")) == str(unpacked.root / str(target.interpreter)[1:])
    expected = VERSIONS[unpacked.base.name]
    assert (version.startswith(expected[0]), glibc) == (True, expected[1])


# Not of this system, or packages of their own in Debian (see selection.py); ensurepip belongs to virtual environments.
ABSENT = {"tkinter", "_tkinter", "turtle", "turtledemo", "idlelib", "ensurepip", "_gdbm", "test", "antigravity", "this"}
FOREIGN = re.compile(r"nt|_?win.*|_?ms.*|_overlapped|_scproxy|_wmi|_ios_support|_android_support|_apple_support")


def test_the_whole_standard_library_imports(unpacked: Unpacked) -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        "names = getattr(sys, 'stdlib_module_names', None) or sys.builtin_module_names + tuple(\n"
        "    m.name for m in pkgutil.iter_modules([p for p in sys.path if 'dist-packages' not in p]))\n"
        f"names = set(names) - set({sorted(ABSENT)!r})\n"
        "bad = {}\n"
        "for name in sorted(names):\n"
        "    try: importlib.import_module(name)\n"
        "    except Exception as error: bad[name] = str(error)\n"
        "print(json.dumps([len(names), bad]))"
    )
    count, bad = unpacked.python(code)
    assert count > 200
    assert {name: why for name, why in bad.items() if not FOREIGN.fullmatch(name)} == {}


def test_distutils_and_lib2to3_are_there_where_python_has_them(unpacked: Unpacked) -> None:
    if unpacked.base.target.python >= Version("3.12"):
        code = "import importlib.util\nprint(json.dumps(importlib.util.find_spec('distutils') is None))"
    else:
        code = (
            "from distutils.version import LooseVersion\nimport distutils.command.build_ext, lib2to3.main\n"
            "print(json.dumps(LooseVersion('1.10') > LooseVersion('1.9')))"
        )
    assert unpacked.python(code) is True


def test_the_certificates_of_the_default_context_load(unpacked: Unpacked) -> None:
    stores = unpacked.python("import ssl\nprint(json.dumps(ssl.create_default_context().cert_store_stats()))")
    assert isinstance(stores, dict)
    assert stores["x509_ca"] > 100


def test_libraries_are_found_by_name(unpacked: Unpacked) -> None:
    code = (
        "from ctypes.util import find_library\n"
        "print(json.dumps([find_library(n) for n in ('c', 'm', 'gomp', 'stdc++', 'gcc_s', 'z')]))"
    )
    assert unpacked.python(code) == [
        "libc.so.6", "libm.so.6", "libgomp.so.1", "libstdc++.so.6", "libgcc_s.so.1", "libz.so.1",
    ]  # fmt: skip


def test_text_is_utf_8_and_zones_are_known(unpacked: Unpacked) -> None:
    assert "C.utf8" in unpacked.run("locale", "-a").replace("UTF-8", "utf8").split()
    assert unpacked.run("locale", "charmap").strip() == "UTF-8"
    command = ("date", "--date=@1782864000", "+%H:%M %Z")
    assert unpacked.run(*command).strip() == "00:00 UTC"
    assert unpacked.run(*command, TZ="Europe/Berlin").strip() == "02:00 CEST"
    code = (
        "import datetime, zoneinfo\n"
        "print(json.dumps(str(datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')))))"
    )
    assert unpacked.python(code) == "2026-07-01 00:00:00+02:00"


def test_a_shell_and_the_usual_commands_work(unpacked: Unpacked) -> None:
    script = (
        "set -e; cd /tmp; printf 'b\\na\\n' > f; sort f | head -n 1; grep -c a f; sed s/a/x/ f | tail -n 1; "
        "awk 'END {print NR}' f; find . -name f; tar -cf t f; gzip t; ls t.gz; diff f f; id -un; which ls; "
        "free > m; tput -T xterm-256color cols"
    )
    lines = unpacked.run("bash", "-c", script).splitlines()
    assert lines == ["a", "1", "x", "2", "./f", "t.gz", "notebook", "/usr/bin/ls", "80"]
    assert unpacked.run("sh", "-c", "echo $0").strip() == "sh"


def test_dpkg_finds_every_package_whole(unpacked: Unpacked) -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed")
    admin = f"--admindir={unpacked.root}/var/lib/dpkg"
    listed = subprocess.run(["dpkg-query", admin, "-W", "-f", "${db:Status-Abbrev}\n"], capture_output=True, text=True)
    (layer,) = unpacked.base.image.layers
    assert listed.stdout.splitlines() == ["ii "] * int(re.findall(r"(\d+) packages", layer.comment)[0])
    verified = subprocess.run(["dpkg", f"--root={unpacked.root}", "--verify"], capture_output=True, text=True)
    assert (verified.stdout, verified.stderr) == ("", "")


# -- mmdebstrap as the oracle ------------------------------------------------------------------------

# What maintainer scripts leave behind that an image has no use for, or that differs by nature.
STATE = re.compile(
    r"etc/(apt|systemd|rc.\.d|python3)(/.*)?|etc/(fstab|hostname|resolv\.conf)|etc/alternatives/.*\.gz"
    r"|etc/ssl/certs/[0-9a-f]{8}\.\d|var/(lib|cache|log)/apt(/.*)?|var/cache/debconf(/.*)?|var/lib/systemd(/.*)?"
    r"|var/lib/dpkg/.*|var/lib/python(/.*)?|var/lib/shells\.state|var/cache/ldconfig(/.*)?|.*/__pycache__(/.*)?|dev/.*"
)
OWN = {"etc/shadow", "etc/gshadow", "home/notebook"}
"""Only ours: shadow files, which the package passwd would make, and the home of the notebook's user."""
DIFFERENT = {
    "etc/passwd": "the notebook's user, and shadow passwords",
    "etc/group": "shadow passwords",
    "etc/ca-certificates.conf": "without the comment at its head",
    "etc/ld.so.cache": "without profiling libraries and the packages that are left out",
}


class Facts(NamedTuple):
    kind: str
    mode: int
    uid: int
    gid: int
    content: bytes | str


def our_facts(entries: list[Entry]) -> dict[str, Facts]:
    by_path = {entry.path: entry for entry in arrange(entries)}
    facts = {}
    for path, entry in by_path.items():
        content = entry.content
        while isinstance(content, HardLink):
            content = by_path[content.path].content
        if content is None:
            facts[path] = Facts("directory", entry.mode, entry.uid, entry.gid, b"")
        elif isinstance(content, Link):
            facts[path] = Facts("link", 0, 0, 0, content.target)
        else:
            facts[path] = Facts("file", entry.mode, entry.uid, entry.gid, b"".join(content.chunks()))
    return facts


def their_facts(archive: Path) -> dict[str, Facts]:
    facts = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            if member.isdir():
                facts[path] = Facts("directory", member.mode, member.uid, member.gid, b"")
            elif member.issym():
                facts[path] = Facts("link", 0, 0, 0, member.linkname)
            elif member.isreg() or member.islnk():
                stream = tar.extractfile(member)
                assert stream is not None
                facts[path] = Facts("file", member.mode, member.uid, member.gid, stream.read())
    return facts


def owned(facts: Mapping[str, Facts], names: set[str]) -> set[str]:
    """Paths that only packages other than ``names`` own."""
    paths: dict[bool, set[str]] = {True: set(), False: set()}
    for path, fact in facts.items():
        match = re.fullmatch(r"var/lib/dpkg/info/([^/:]+)(?::\w+)?\.list", path)
        if match and isinstance(fact.content, bytes):
            paths[match[1] in names].update(Tree().merged(p.lstrip("/")) for p in fact.content.decode().splitlines())
    return paths[False] - paths[True]


def test_starting_the_python_of_a_base_leaves_its_folder_as_it_was(unpacked: Unpacked, tmp_path: Path) -> None:
    """Whatever it writes there makes the folder a damaged one, which the next build makes again."""
    store, base = Store(tmp_path), unpacked.base
    assert find_interpreter(base, store, Silent()).version == str(base.target.python)
    root = store.root_of(base.image.digest)
    assert not list(root.rglob("__pycache__"))


def test_a_base_is_what_dpkg_installs(mirrors: Mirrors, store: Store, tmp_path: Path) -> None:
    program = shutil.which("mmdebstrap")
    if program is None or HOST.architecture != "amd64":
        pytest.skip("mmdebstrap is not installed, or this is no amd64 machine")
    try:
        lock = update_locks("bookworm", HOST, store, Silent(), mirrors=mirrors).base
    except IndexUnreachable as error:
        pytest.skip(f"no mirror of Debian answers: {error}")
    names = {deb.name for deb in lock.packages}
    archive = tmp_path / "theirs.tar"
    include = ",".join(sorted(names | {"dpkg", "debconf", "perl-base", "usr-is-merged"}))
    command = [program, "--quiet", "--variant=custom", f"--include={include}"]
    command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", '--aptopt=Acquire::Check-Valid-Until "false"']
    main, security = mirrors.bases["main"][0], mirrors.bases["security"][0]
    sources = [(main, "bookworm"), (main, "bookworm-updates"), (security, "bookworm-security")]
    lines = [f"deb {url} {suite} main" for url, suite in sources]
    done = subprocess.run([*command, "bookworm", str(archive), *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    ours = our_facts(entries_of(lock, store, mirrors))
    theirs = their_facts(archive)
    extra = owned(theirs, names)
    missing = {
        p for p in theirs.keys() - ours.keys() if p != "." and not (p in extra or is_left_out(p) or STATE.fullmatch(p))
    }
    assert missing == set()
    assert {p for p in ours.keys() - theirs.keys() if not STATE.fullmatch(p)} == OWN
    differing = {p for p in ours.keys() & theirs.keys() if ours[p] != theirs[p] and not p.startswith("var/lib/dpkg/")}
    assert differing == set(DIFFERENT)
    assert stanzas(ours) == {name: text for name, text in stanzas(theirs).items() if name in names}


def entries_of(lock: BaseLock, store: Store, mirrors: Mirrors) -> list[Entry]:
    return assemble(fetch_packages(lock, store, mirrors, Silent()), lock.architecture)


def stanzas(facts: Mapping[str, Facts]) -> dict[str, set[str]]:
    """The fields of every installed package; their order is free."""
    content = facts["var/lib/dpkg/status"].content
    assert isinstance(content, bytes)
    found = {}
    for paragraph in content.decode().split("\n\n"):
        if paragraph.strip():
            fields = set(re.split(r"\n(?! )", paragraph.strip("\n")))
            (name,) = (field.removeprefix("Package: ") for field in fields if field.startswith("Package: "))
            found[name] = fields
    return found
