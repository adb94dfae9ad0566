"""One sentence on why a build failed, and the lines of its log that are worth showing."""

from __future__ import annotations

import re
import time

import pytest

from nb2image.sdists.failure import lacks_compiler, last_lines, missing_path, reason


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (
            "error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
            "it needs a compiler (x86_64-linux-gnu-gcc)",
        ),
        ("unable to execute 'gcc': No such file or directory", "it needs a compiler (gcc)"),
        ("sh: 1: cc: not found", "it needs a compiler (cc)"),
        ("a.c:1:10: fatal error: Python.h: No such file or directory", "the headers of Python are missing"),
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "it needs a compiler"),
        (
            "c/_cffi_backend.c:15:10: fatal error: ffi.h: No such file or directory\nerror: failed",
            "the header ffi.h is missing",
        ),
        ("/usr/bin/ld: cannot find -lxml2: No such file", "the library xml2 is missing"),
        ("Error: pg_config executable not found.", "the program pg_config is missing"),
        ("/bin/sh: 1: mysql_config: not found", "the program mysql_config is missing"),
        ("Package cairo was not found in the pkg-config search path.", "the library cairo is missing"),
        ('../meson.build:31:12: ERROR: Dependency "cairo" not found, tried pkgconfig', "the library cairo is missing"),
        ("error: can't find Rust compiler", "it needs Rust, which no base has"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "the program or file cmake is missing"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'VERSION.txt'",
            "the program or file VERSION.txt is missing",
        ),
        ("ModuleNotFoundError: No module named 'numpy'", "it imports numpy, which its build requirements do not name"),
        (
            "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
            "it wants the network while it is built, and there is none",
        ),
        ("OSError: [Errno 30] Read-only file system: '/usr/share/x'", "it wants to write /usr/share/x"),
        ("MemoryError", "its memory did not suffice"),
        ("OSError: [Errno 28] No space left on device", "its disk space did not suffice"),
        ("x\nSystemExit: error: do not use this package.", "its build backend says 'do not use this package'"),
        ("  \n", "its build backend says nothing"),
    ],
)
def test_the_reason_is_read_from_the_log(log: str, sentence: str) -> None:
    assert reason(log) == sentence


@pytest.mark.parametrize(
    ("log", "path"),
    [
        ("a.c:1:10: fatal error: libxml/tree.h: No such file or directory", "usr/include/libxml2/libxml/tree.h"),
        ("/usr/bin/ld: cannot find -lxml2: No such file", "usr/lib/x86_64-linux-gnu/libxml2.so"),
        ("Error: pg_config executable not found.", "usr/bin/pg_config"),
        ("No package 'cairo' found", "usr/lib/x86_64-linux-gnu/pkgconfig/cairo.pc"),
        ("Package 'xproto', required by 'x11', not found", "usr/share/pkgconfig/xproto.pc"),
    ],
)
def test_a_file_of_a_library_is_looked_for_where_debian_has_it(log: str, path: str) -> None:
    pattern = missing_path(log)
    assert pattern is not None
    assert re.fullmatch(pattern, path)


def test_nothing_is_looked_for_where_a_build_failed_for_something_else() -> None:
    assert missing_path("MemoryError\nwarning: pg_config found") is None


def test_only_a_missing_compiler_makes_a_build_worth_another_try_with_one() -> None:
    assert lacks_compiler("error: command 'gcc' failed: No such file or directory")
    assert not lacks_compiler("error: command 'gcc' failed with exit code 1")
    assert not lacks_compiler("fatal error: ffi.h: No such file or directory")


def test_the_calls_of_build_tools_are_left_out_and_the_compilers_words_shown() -> None:
    calls = [
        f'  File "/build/env/lib/python3.11/site-packages/setuptools/{n}.py", line {n}\n    call()' for n in range(30)
    ]
    log = "\n".join(
        [
            "a.c:15:10: fatal error: ffi.h: No such file or directory",
            "Traceback (most recent call last):",
            '  File "/build/worker.py", line 3, in _hook\n    work(backend)',
            *calls,
            '  File "setup.py", line 7, in <module>\n    setup()',
            '  File "/usr/lib/python3.11/subprocess.py", line 1, in run\n    raise SystemExit(1)',
            "SystemExit: error: command 'gcc' failed with exit code 1",
        ]
    )
    assert last_lines(log) == (
        "a.c:15:10: fatal error: ffi.h: No such file or directory",
        "Traceback (most recent call last):",
        '  File "setup.py", line 7, in <module>',
        "    setup()",
        '  File "/usr/lib/python3.11/subprocess.py", line 1, in run',
        "    raise SystemExit(1)",
        "SystemExit: error: command 'gcc' failed with exit code 1",
    )


@pytest.mark.parametrize("line", ["x", "gcc", "fatal error: ", "No such file or directory: '", "cannot find -l"])
def test_a_log_without_line_ends_is_read_quickly(line: str) -> None:
    log = line * ((64 << 10) // len(line))
    begin = time.perf_counter()
    reason(log)
    lacks_compiler(log)
    assert max(map(len, last_lines(log))) == 500
    assert time.perf_counter() - begin < 1
