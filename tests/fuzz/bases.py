"""What bases and registries are read from: shared objects, Debian packages, locks, catalogues, challenges."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from nb2image.abi import elf
from nb2image.bases.catalogue import read_catalogue
from nb2image.bases.debian.archive import read_deb
from nb2image.bases.debian.lock import BaseLock, SystemLock
from nb2image.errors import Nb2ImageError
from nb2image.layers.entry import Link
from nb2image.registry.reference import parse_reference
from nb2image.registry.tokens import read_challenge
from nb2image.system.wanted import read_apt_file
from tests.unit.abi.making import shared_object
from tests.unit.bases.making_debs import ar, control, deb, tar

__all__ = ["DOCUMENT_WORDS", "deb_seeds", "document_seeds", "elf_seeds", "run_deb", "run_document", "run_elf"]

# -- shared objects -----------------------------------------------------------------------------------


def run_elf(data: bytes) -> None:
    """What is read does not depend on how much of a file is kept."""
    whole = _object(data, elf.WHOLE)
    parts = _object(data, 256)
    assert parts == whole or "strewn" in str(parts), (parts, whole)
    if isinstance(whole, elf.SharedObject):
        names = (*whole.needed, *whole.rpath, *whole.runpath, *whole.defines, whole.soname or "", *whole.versions)
        assert all(name.isprintable() for name in names)


def _object(data: bytes, whole: int) -> elf.SharedObject | str | None:
    before = elf.WHOLE, elf._HEAD, elf._TAIL, elf._WINDOW
    elf.WHOLE, elf._HEAD, elf._TAIL, elf._WINDOW = (whole, 128, 128, 512) if whole < elf.WHOLE else before
    try:
        kept = elf.Kept(len(data))
        pieces = [data[start : start + 100] for start in range(0, len(data), 100)]
        for piece in pieces:
            kept.add(piece)
        return elf.read_object(lambda: pieces, len(data), kept)
    except elf.Damaged as damage:
        return str(damage)
    finally:
        elf.WHOLE, elf._HEAD, elf._TAIL, elf._WINDOW = before


def elf_seeds() -> Iterator[bytes]:
    versions = {"libc.so.6": ["GLIBC_2.4", "GLIBC_2.29"], "libm.so.6": ["GLIBC_2.2.5"]}
    yield shared_object("libc.so.6")
    yield shared_object("libGL.so.1", soname="a", rpath="$ORIGIN:/x", versions=versions, defines=["A_1", "A_2"])
    yield shared_object("libz.so.1", runpath="/opt", versions=versions, weak=["GLIBC_2.29"], gap=2000)


# -- Debian packages ------------------------------------------------------------------------------------


def run_deb(data: bytes) -> None:
    try:
        read = read_deb(data, "demo.deb")
    except Nb2ImageError:
        return
    for entry in read.entries:
        assert not entry.path.startswith("/")
        assert not {"", ".", ".."} & set(entry.path.split("/"))


def deb_seeds() -> Iterator[bytes]:
    # Uncompressed, so that changes reach what is inside; small, since a tar is padded to ten KiB.
    files: dict[str, bytes | Link | None] = {"./": None, "./usr/": None, "./usr/x": b"x", "./usr/y": Link("x")}
    inner = [("control.tar", tar({"./control": control("demo").encode()})), ("data.tar", tar(files))]
    yield ar([("debian-binary", b"2.0\n"), *((name, body[:4096]) for name, body in inner)])
    yield deb(control("demo"), {"./usr/share/demo": b"x"})
    yield deb(control("demo"), {"./": None, "./usr/": None}, {"postinst": b"#!/bin/sh\nset -e\n"})


# -- documents ------------------------------------------------------------------------------------------


def run_document(data: bytes) -> None:
    """The first byte chooses the reader."""
    kind, rest = (data or b"\0")[0] % 5, data[1:]
    text = rest.decode("utf-8", "replace")
    try:
        if kind == 0:
            challenge = read_challenge(text.splitlines())
            assert challenge is None or challenge.scheme in {"basic", "bearer"}
        elif kind == 1:
            reference = parse_reference(text)
            assert parse_reference(str(reference)) == reference
        elif kind == 2:
            BaseLock.read(rest, "base.lock")
        elif kind == 3:
            SystemLock.read(rest, "apt.lock")
        else:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "file.txt")
                file.write_bytes(rest)
                read_apt_file(file)
                read_catalogue(file)
    except Nb2ImageError:
        pass


def document_seeds() -> Iterator[bytes]:
    yield b'\0Bearer realm="https://r.example/token",service="r\\"x",scope="repository:a:pull", Basic realm=b'
    yield b"\1registry.example:5000/team/report:1.4@sha256:" + b"ab" * 32
    yield b'\2{"format": 1, "suite": "bookworm", "packages": []}'
    yield b'\3{"format": 1, "suite": "bookworm", "architecture": "amd64", "libraries": {"libGL.so.1": "libgl1"}}'
    yield b"\4libgl1=1.6.0-1 # comment\nlibglib2.0-0\n"
    yield b'\4[[base]]\nname = "a"\nreference = "r.example/a:1"\nplatforms = ["linux/amd64"]\nprovider = "registry"\n'


DOCUMENT_WORDS = (
    b"Bearer ", b"realm=", b'"', b"\\", b"://", b"@sha256:", b":latest", b"[[base]]", b'"packages"', b'"sha256"',
    b"python = ", b"glibc = ", b"digest = ", b"\xef\xbb\xbf",
)  # fmt: skip
