"""The small files of packages and indexes: RECORD, METADATA, WHEEL, entry points, index pages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator

from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.errors import BadWheel
from nb2image.index.pages import NoIndexPage, read_page
from nb2image.wheels.install import install
from nb2image.wheels.metadata import read_metadata
from nb2image.wheels.record import Record
from tests.fuzz.wheels import SCHEME, opened
from tests.unit.wheels.builder import INFO, METADATA, WHEEL, Part, build_zip, wheel_parts

__all__ = [
    "METADATA_WORDS", "PAGE_WORDS", "RECORD_WORDS",
    "metadata_seeds", "page_seeds", "record_seeds",
    "run_metadata", "run_page", "run_record",
]  # fmt: skip

# -- RECORD -------------------------------------------------------------------------------------------


def run_record(data: bytes) -> None:
    """What is read is what `csv` reads; what is written is read again as the same rows."""
    parts = [*wheel_parts(Part("demo/x", b"1"))[:-1], Part(f"{INFO}/RECORD", data, method=0)]
    with opened(build_zip(parts), []) as archive:
        try:
            record = Record(archive, INFO)
        except BadWheel:
            return
        assert record.rows == [row for row in csv.reader(data.decode().splitlines()) if row]
        for member in archive.members.values():
            try:
                stated = record.hash_of(member)
            except BadWheel:
                continue
            assert stated is None or stated.partition("=")[0] in {"sha256", "sha384", "sha512"} or "=" in stated
        moved = {"demo/x": "../../../bin/x"}
        written = record.installed(moved, {"../../../bin/x": ("sha256=ab", "1")}, [("a,b\n", "c", '"')])
        rows = list(csv.reader(written.decode().splitlines(keepends=True)))
        assert all(len(row) == 3 for row in rows)
        assert ["a,b\n", "c", '"'] in rows
        assert any(row[0] == "../../../bin/x" for row in rows)
        assert rows == sorted(rows)


def record_seeds() -> Iterator[bytes]:
    yield wheel_parts(Part("demo/x", b"1"))[-1].data
    yield b'"a,b",sha256=ab,1\r\n"a""b",,\r\nc,d\ne,f,g,h\n\n'
    yield "é,sha512=x,1\n./demo/x,,\n\\demo\\x,,1\n/demo/x,md5=a,\n".encode()


RECORD_WORDS = (b"demo/x", b"sha256=", b"md5=", b"../", b'""', b"\r\n", INFO.encode(), b"RECORD", b"\xe2\x80\xa8")

# -- METADATA and its like ------------------------------------------------------------------------------


def run_metadata(data: bytes) -> None:
    """Three files, divided by NUL: METADATA, WHEEL, entry_points.txt."""
    metadata, wheel, points = (*data.split(b"\0", 2), WHEEL, b"")[:3] if b"\0" in data else (data, WHEEL, b"")
    parts = wheel_parts(Part(f"{INFO}/entry_points.txt", points), metadata=metadata, wheel=wheel)
    with opened(build_zip(parts)) as archive:
        try:
            found = read_metadata(archive)
            assert isinstance(found.version, Version)
            assert (found.requires_dist, found.requires_python) is not None
        except BadWheel:
            pass
        try:
            for entry in install(archive, SCHEME, name=canonicalize_name("demo"), version=Version("1.0")):
                entry.path.encode()
        except BadWheel:
            pass


def metadata_seeds() -> Iterator[bytes]:
    marker = b"(os_name == 'posix' or extra == 'y') and python_version < '4'"
    more = b"Requires-Python: >=3.8,<4\nRequires-Dist: a[x]>=1; " + marker
    points = b"[console_scripts]\nx = demo.y:main.z [extra]\n# no\n[gui_scripts]\nw=demo:m\n"
    yield METADATA
    yield METADATA.replace(b"\n\n", b"\n" + more + b"\n\n") + b"\0" + WHEEL + b"\0" + points
    yield b"Name: demo\nVersion: 1.0\nRequires-Dist: b @ https://files.example/b.zip\n folded\n\0Wheel-Version: 1.9"


METADATA_WORDS = (
    b"Name:", b"Version:", b"Requires-Dist:", b"Requires-Python:", b"Wheel-Version:", b"[console_scripts]", b"\n ",
    b"((", b"extra == 'x'", b" or ", b" and ", b"=?utf-8?q?a?=", b"1!0", b".post1", b"+local", b" = a:b", b"\0",
)  # fmt: skip

# -- index pages ------------------------------------------------------------------------------------------

_TYPES = ("text/html; charset=utf-8", "application/vnd.pypi.simple.v1+json", "text/html; charset=utf-16", "text/html")
_URL = "https://index.example/simple/demo/"
_WANTED = "ab" * 32
_HIDING = (b"&", b"<!", b"<?", b"</", b"<script", b"<style", b"<base")


def run_page(data: bytes) -> None:
    """The first byte chooses the content type."""
    kind = _TYPES[(data or b"\0")[0] % len(_TYPES)]
    found = []
    for wanted in (None, {_WANTED}):
        try:
            found.append(read_page(data[1:], kind, _URL, wanted))
        except NoIndexPage:
            continue
        for file in found[-1]:
            assert file.filename not in {"", ".", ".."}
            assert not set(file.filename) & {"/", "\\", "\0"}
    if len(found) == 2:
        every, some = found
        # Where markup hides markup, leaving some of it out may show or hide a file; its hash is checked all the same.
        if not any(part in data[1:].lower() for part in _HIDING):
            assert [file for file in every if _WANTED in file.hashes.values()] == [
                file for file in some if _WANTED in file.hashes.values()
            ]


def page_seeds() -> Iterator[bytes]:
    anchor = f'<a href="../demo-1-py3-none-any.whl#sha256={_WANTED}" data-yanked="x" data-requires-python="&gt;=3">'
    head = '<meta name="pypi:repository-version" content="1.0"><base href="/f/">'
    yield b"\0" + f"<!doctype html><html>{head}{anchor}x</a><!-- {anchor}y</a> --></html>".encode()
    yield b"\3" + anchor.encode()
    yield b"\2" + anchor.encode("utf-16")
    row = {
        "filename": "demo-1-py3-none-any.whl", "url": "x", "hashes": {"sha256": _WANTED}, "size": 1, "yanked": "no",
        "upload-time": "2026-01-02T03:04:05.123456Z", "requires-python": ">=3",
    }  # fmt: skip
    yield b"\1" + json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": [row]}).encode()


PAGE_WORDS = (
    b"<a href=", b"<A ", b"</a>", b"<!--", b"-->", b"#sha256=", _WANTED.encode(), b"<base href=", b"data-yanked",
    b"<script>", b"<![CDATA[", b"<?", b"&gt;", b"%2F", b"http://[", b'"files"', b'"hashes"', b'"url"', b"1e999",
    b"null",
)  # fmt: skip
