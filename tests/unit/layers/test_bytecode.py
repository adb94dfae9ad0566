"""Bytecode: real .pyc files of the running Python, the same whatever the order, and what does not compile left out."""

from __future__ import annotations

import importlib.util
import marshal
import sys
import types

import pytest

from nb2image.errors import BytecodeUnavailable
from nb2image.layers.bytecode import Interpreter, cached_path, compiled
from nb2image.layers.entry import BytesContent, Entry, Link

_MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
_HERE = Interpreter((sys.executable,), (), sys.version.split()[0])


def source(path: str, text: str) -> Entry:
    return Entry(path, 0o644, BytesContent(text.encode()))


def bytecode(*entries: Entry) -> dict[str, bytes]:
    found = {}
    for entry in compiled(entries, _HERE, _MINOR):
        assert isinstance(entry.content, BytesContent)
        found[entry.path] = entry.content.data
    return found


def test_the_path_is_the_one_that_this_python_looks_at() -> None:
    assert "/" + cached_path("lib/a/b.py", _MINOR) == importlib.util.cache_from_source("/lib/a/b.py")


def test_bytecode_is_unchecked_and_runs() -> None:
    (data,) = bytecode(source("lib/m.py", "answer = 6 * 7\n")).values()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == b"\x01\0\0\0"  # PEP 552: hash-based, not checked
    code = marshal.loads(data[16:])
    assert isinstance(code, types.CodeType)
    assert code.co_filename == "/lib/m.py"
    names: dict[str, object] = {}
    exec(code, names)
    assert names["answer"] == 42


def test_what_does_not_compile_is_left_out_and_the_rest_stays() -> None:
    found = bytecode(source("a.py", "print 'old'"), source("b.py", "x = 1"), source("c.py", "\0"))
    assert [path.rpartition("/")[2].partition(".")[0] for path in found] == ["b"]


def test_only_sources_are_compiled() -> None:
    assert bytecode(source("a.txt", "x = 1"), Entry("l.py", 0o777, Link("a.py")), Entry("d.py", 0o755, None)) == {}


def test_order_makes_no_difference() -> None:
    entries = [source(f"m{i}.py", f"def f{i}(a): return {{'k', 'x{i}', 'y', None}}, a.name{i % 7}") for i in range(60)]
    assert bytecode(*entries) == bytecode(*reversed(entries))


def test_an_interpreter_that_dies_is_an_error() -> None:
    dying = Interpreter((sys.executable, "-c", "import sys; sys.exit(3)"), (), "3.0")
    with pytest.raises(BytecodeUnavailable, match=r"died at a\.py") as caught:
        list(compiled([source("a.py", "x = 1")], dying, _MINOR))
    assert "--no-bytecode" in caught.value.hint
