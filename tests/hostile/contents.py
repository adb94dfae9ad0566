"""Wheels whose archive is sound and whose content lies: RECORD, METADATA, WHEEL, entry points, ``.data``."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from functools import partial

from tests.hostile.cases import Case, from_part, from_parts
from tests.unit.wheels.builder import INFO, METADATA, WHEEL, Part, build_zip, wheel_parts

__all__ = ["CASES"]

RECORD = f"{INFO}/RECORD"
DATA = "demo-1.0.data"

# -- RECORD ----------------------------------------------------------------------------------------------------


def hashed(data: bytes, algorithm: str = "sha256") -> str:
    return urlsafe_b64encode(hashlib.new(algorithm, data).digest()).decode().rstrip("=")


def edited(part: Part, old: str, new: str) -> bytes:
    """A wheel with one more member, and a RECORD in which something was replaced."""
    parts = wheel_parts(part)
    record = parts[-1].data.decode()
    assert old in record
    parts[-1] = Part(RECORD, record.replace(old, new).encode())
    return build_zip(parts)


def other_record(record: bytes) -> bytes:
    return build_zip([*wheel_parts()[:-1], Part(RECORD, record)])


ONE = Part("demo/x", b"1")
LONG = Part("demo/x", b"12345" * 1000)

RECORDS = [
    Case("RECORD", "missing", RECORD, "no RECORD", lambda: build_zip(wheel_parts()[:-1])),
    *(
        Case("RECORD", title, member, rule, partial(edited, part, old, new))
        for title, part, old, new, member, rule in [
            ("a file that it does not mention", ONE, "demo/x,", "demo/y,", "demo/x", "does not mention"),
            ("a file of another hash", ONE, hashed(b"1"), hashed(b"2"), "demo/x", "another sha256"),
            ("METADATA of another hash", ONE, hashed(METADATA), hashed(b"2"), f"{INFO}/METADATA", "another sha256"),
            ("WHEEL of another hash", ONE, hashed(WHEEL), hashed(b"2"), f"{INFO}/WHEEL", "another sha256"),
            ("a file of another size", LONG, ",5000", ",5001", "demo/x", "RECORD states 5001 bytes"),
            ("no hash", ONE, f"sha256={hashed(b'1')},1", ",", "demo/x", "no hash"),
            ("no algorithm", ONE, f"sha256={hashed(b'1')}", hashed(b"1"), "demo/x", "no hash"),
            ("a hash of no length", ONE, f"sha256={hashed(b'1')}", "sha256=", "demo/x", "another sha256"),
            *(
                (f"only {name}", ONE, f"sha256={hashed(b'1')}", f"{name}={hashed(b'1', name)}", "demo/x", "only a hash")
                for name in ("md5", "sha1", "sha224")
            ),
            ("one file with two hashes", ONE, "demo/x,", "demo/x,sha256=abc,1\ndemo/x,", "demo/x", "twice"),
            ("one file in two spellings", ONE, "demo/x,", "./demo/x,sha256=abc,1\n/demo/x,", "demo/x", "twice"),
            ("a row that leads out", ONE, "demo/x,", "../../../../etc/passwd,,\ndemo/x,", RECORD, "leads out"),
            ("a row with backslashes that leads out", ONE, "demo/x,", "..\\..\\x,,\ndemo/x,", RECORD, "leads out"),
        ]
    ),
    Case("RECORD", "not UTF-8", RECORD, "RECORD is no", partial(other_record, b"\xff\xfe")),
    Case("RECORD", "an endless field", RECORD, "RECORD is no", partial(other_record, b'"' + b"x" * 140_000)),
]  # fmt: skip

# -- METADATA, WHEEL, .dist-info -------------------------------------------------------------------------------


def with_metadata(metadata: bytes | None) -> bytes:
    return build_zip(wheel_parts(metadata=metadata))


def with_wheel(wheel: bytes | None) -> bytes:
    return build_zip(wheel_parts(wheel=wheel))


HEAD = b"Metadata-Version: 2.1\n"
METADATAS = [
    *(
        Case("METADATA and WHEEL", f"METADATA {title}", f"{INFO}/METADATA", rule, partial(with_metadata, text))
        for title, text, rule in [
            ("missing", None, "missing"),
            ("not UTF-8", b"\xff", "not UTF-8"),
            ("without version", HEAD + b"Name: demo\n", "no version"),
            ("with a version that is none", HEAD + b"Name: demo\nVersion: one\n", "no version"),
            ("of another version", HEAD + b"Name: demo\nVersion: 2.0\n", "METADATA says demo 2.0"),
            ("of another package", HEAD + b"Name: other\nVersion: 1.0\n", "METADATA says other 1.0"),
            ("without name", HEAD + b"Version: 1.0\n", "METADATA says"),
            ("with two names", HEAD + b"Name: demo\nName: other\nVersion: 1.0\n", "two lines 'Name'"),
            ("with two versions", HEAD + b"Name: demo\nVersion: 1.0\nVersion: 2.0\n", "two lines 'Version'"),
            ("with a version of 5,000 digits",
             HEAD + b"Name: demo\nVersion: 1." + b"9" * 5000 + b"\n", "thousand digits"),
            ("that requires a version of 5,000 digits",
             HEAD + b"Name: demo\nVersion: 1.0\nRequires-Dist: x==1." + b"9" * 5000 + b"\n", "thousand digits"),
        ]
    ),
    *(
        Case("METADATA and WHEEL", f"WHEEL {title}", f"{INFO}/WHEEL", rule, partial(with_wheel, text))
        for title, text, rule in [
            ("missing", None, "missing"),
            ("not UTF-8", b"\xff", "not UTF-8"),
            ("without version", b"Generator: x\n", "no version"),
            ("with a version that is none", b"Wheel-Version: one\n", "no version"),
            ("of a later format", WHEEL.replace(b"1.0", b"2.0"), "only 1.x"),
        ]
    ),
    Case(".dist-info and .data", "a .dist-info folder of another package", "other-1.0.dist-info", "not one of demo",
         lambda: build_zip(wheel_parts(info="other-1.0.dist-info"))),
    from_parts(".dist-info and .data", "two .dist-info folders", None, "several .dist-info",
               Part("x-1.dist-info/WHEEL", WHEEL)),
    from_parts(".dist-info and .data", "two .dist-info folders of one package", None, "several .dist-info",
               Part("Demo-1.0.dist-info/METADATA", METADATA)),
    Case(".dist-info and .data", "no .dist-info folder", None, "no .dist-info",
         lambda: build_zip([Part("demo.py", b"1")])),
    Case(".dist-info and .data", "no members at all", None, "no .dist-info", lambda: build_zip([])),
]  # fmt: skip

# -- .data -----------------------------------------------------------------------------------------------------

OWN = "the environment's own"
DATAS = [
    *(
        from_part(".dist-info and .data", f"{title} ({name})", rule, Part(name, b"1"))
        for title, name, rule in [
            ("a category that is none", f"{DATA}/evil/x", "none of .data's folders"),
            ("a file instead of a category", f"{DATA}/scripts", "none of .data's folders"),
            ("no category", f"{DATA}/x", "none of .data's folders"),
            ("over the interpreter", f"{DATA}/scripts/python", OWN),
            ("over the interpreter", f"{DATA}/scripts/python3.11", OWN),
            ("over the interpreter", f"{DATA}/data/bin/python3", OWN),
            ("over the interpreter, as a folder", f"{DATA}/data/bin/python/x", OWN),
            ("over the interpreter", f"{DATA}/data/bin/pypy3", OWN),
            ("a file instead of bin", f"{DATA}/data/bin", OWN),
            ("a file instead of lib", f"{DATA}/data/lib", OWN),
            ("over the configuration", f"{DATA}/data/pyvenv.cfg", OWN),
            ("over its own METADATA", f"{DATA}/purelib/{INFO}/METADATA", "into a .dist-info folder"),
            ("over its own RECORD", f"{DATA}/platlib/{INFO}/RECORD", "into a .dist-info folder"),
            ("over another's METADATA", f"{DATA}/purelib/other-1.dist-info/METADATA", "into a .dist-info folder"),
            ("a .data folder of another package", "other-1.0.data/scripts/x", "not the one that belongs"),
            ("a .data folder of another version", "demo-2.0.data/purelib/x.py", "not the one that belongs"),
        ]
    ),
    from_parts(".dist-info and .data", "a file where another needs a folder",
               "opt/kernel/lib/python3.11/site-packages/demo/y", "a file and a folder",
               Part("demo/y/z", b"1"), Part(f"{DATA}/purelib/demo/y", b"1")),
]  # fmt: skip

# -- entry points ----------------------------------------------------------------------------------------------

POINTS = f"{INFO}/entry_points.txt"
SCRIPTS = [
    from_part("entry points", f"{title}{mark}", rule, Part(POINTS, f"[{group}]\n{line}\n".encode()))
    for title, line, rule in [
        ("python", "python = demo:main", "the environment's interpreter"),
        ("python3", "python3 = demo:main", "the environment's interpreter"),
        ("Python3.11", "Python3.11 = demo:main", "the environment's interpreter"),
        ("pypy3", "pypy3 = demo:main", "the environment's interpreter"),
        ("../x", "../x = demo:main", "outside the scripts folder"),
        ("a/b", "a/b = demo:main", "outside the scripts folder"),
        ("a\\b", "a\\b = demo:main", "outside the scripts folder"),
        ("..", ".. = demo:main", "outside the scripts folder"),
        ("no name", "= demo:main", "outside the scripts folder"),
        ("a name of two words", "a b = demo:main", "outside the scripts folder"),
        ("a whiteout", ".wh.python = demo:main", "outside the scripts folder"),
        ("a name of 256 bytes", "n" * 256 + " = demo:main", "outside the scripts folder"),
        ("no function", "x = demo", "no module and function"),
        ("a statement", "x = demo:main; import os", "no module and function"),
        ("a call", "x = demo:main(1)", "no module and function"),
        ("two colons", "x = demo:a:b", "no module and function"),
        ("no reference", "x =", "no object reference"),
        ("a bare word", "x", "no object reference"),
    ]
    for group, mark in [("console_scripts", ""), ("gui_scripts", " (graphical)")]
] + [
    from_part("entry points", "not UTF-8", "not UTF-8", Part(POINTS, b"[console_scripts]\n\xff = demo:main\n")),
]  # fmt: skip

CASES = [*RECORDS, *METADATAS, *DATAS, *SCRIPTS]
