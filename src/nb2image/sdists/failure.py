"""One sentence on why a build failed, from the end of its log."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["lacks_compiler", "last_lines", "missing_path", "reason"]

_LINES = 20
_LONGEST = 500
_PROGRAMS = r"(?:\S*(?:gcc|g\+\+|clang|cc|c\+\+|make|cmake|ninja|gfortran|rustc|cargo|pkg-config|swig|nvcc|go))"
_COMPILER = re.compile(
    r"(?P<program>[\w.+-]*(?:gcc|g\+\+|clang|\bcc|c\+\+))'?:? ?(?:failed: )?(?:No such file|(?:command )?not found)"
    r"|unable to execute '(?P<executed>[^']+)'"
    r"|error: command '(?P<command>[^']+)' failed: No such file"
    r"|(?:fatal error|error): (?P<header>Python\.h): No such file"
    r"|Unknown compiler\(s\)|No CMAKE_C(?:XX)?_COMPILER could be found"
)
_HEADER = re.compile(r"fatal error: (?P<name>[^:\s]+): No such file or directory")
_LIBRARY = re.compile(r"cannot find -l(?P<name>\S+?):?(?:\s|$)")
_MODULE = re.compile(
    r"No package '(?P<absent>[\w.+-]+)' found|Package '?(?P<sought>[\w.+-]+)'?(?:,.*,)? (?:was )?not found"
    r"|Dependency \"(?P<dependency>[\w.+-]+)\" not found"
)
"""Of pkg-config and Meson."""
_CONFIG = re.compile(
    r"\b(?P<name>\w[\w.+]*[-_]config)'?(?: executable)?:? (?:is required|(?:command )?not found|No such file)"
)
"""Programs that say how their library is used."""
_CALL = re.compile(r'  File "')
_TOOLS = re.compile(r'  File "(?:/build/(?:worker\.py|env/)|/usr/lib/python|/usr/local/lib/python|<frozen )')


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    sentence: Callable[[re.Match[str]], str]


_RULES = (
    _Rule(_HEADER, lambda m: f"the header {m['name']} is missing"),
    _Rule(_LIBRARY, lambda m: f"the library {m['name']} is missing"),
    _Rule(_CONFIG, lambda m: f"the program {m['name']} is missing"),
    _Rule(_MODULE, lambda m: f"the library {m[m.lastgroup or 0]} is missing"),
    _Rule(
        re.compile(r"can't find Rust compiler|[Rr]ust(?: toolchain| compiler)? (?:is )?not (?:found|installed)"),
        lambda _: "it needs Rust, which no base has",
    ),
    _Rule(
        re.compile(rf"(?:command|execute|program|file or directory:)? ?'?(?P<name>{_PROGRAMS})'?(?: failed)?: "
                   r"(?:No such file or directory|command not found|not found)"),
        lambda m: f"the program {m['name']} is missing",
    ),
    _Rule(
        re.compile(r"No such file or directory: '(?P<name>[\w.+-]+)'"),
        lambda m: f"the program or file {m['name']} is missing",
    ),
    _Rule(
        re.compile(r"ModuleNotFoundError: No module named '(?P<name>[\w.]+)'"),
        lambda m: f"it imports {m['name']}, which its build requirements do not name",
    ),
    _Rule(
        re.compile(r"Temporary failure in name resolution|Network is unreachable|Name or service not known"),
        lambda _: "it wants the network while it is built, and there is none",
    ),
    _Rule(re.compile(r"Read-only file system: '(?P<name>[^']+)'"), lambda m: f"it wants to write {m['name']}"),
    _Rule(re.compile(r"^MemoryError|virtual memory exhausted", re.MULTILINE), lambda _: "its memory did not suffice"),
    _Rule(re.compile(r"\[Errno 28\]|No space left on device"), lambda _: "its disk space did not suffice"),
)  # fmt: skip


def lacks_compiler(log: str) -> bool:
    """Whether a build without a compiler failed for want of one."""
    return _COMPILER.search(_shortened(log)) is not None


def reason(log: str) -> str:
    """Why, as far as the log tells; without a full stop, to follow "cannot be built: "."""
    log = _shortened(log)
    if (found := _COMPILER.search(log)) is not None:
        if found["header"]:
            return "the headers of Python are missing"
        name = found["program"] or found["executed"] or found["command"]
        return f"it needs a compiler ({name})" if name else "it needs a compiler"
    for rule in _RULES:
        if (match := rule.pattern.search(log)) is not None:
            return rule.sentence(match)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return "its build backend says nothing"
    words = lines[-1].removeprefix("SystemExit: ").removeprefix("error: ")
    return f"its build backend says {words[:200].rstrip('.')!r}"


def missing_path(log: str) -> str | None:
    """A pattern of the paths, relative to the root, where Debian would have the file of a library that a build asked
    for and did not find; None where it failed for something else."""
    log = _shortened(log)
    if (found := _HEADER.search(log)) is not None:
        return rf"usr/include/(?:\S+/)?{re.escape(found['name'])}"
    if (found := _LIBRARY.search(log)) is not None:
        return rf"usr/lib/(?:[\w-]+/)?lib{re.escape(found['name'])}\.so"
    if (found := _CONFIG.search(log)) is not None and found["name"] != "pkg-config":
        return rf"usr/bin/{re.escape(found['name'])}"
    if (found := _MODULE.search(log)) is not None:
        return rf"usr/(?:lib|share)/(?:[\w-]+/)?pkgconfig/{re.escape(found[found.lastgroup or 0])}\.pc"
    return None


def _shortened(log: str) -> str:
    """With lines of a length at which patterns are quick, whatever the lines are."""
    return "\n".join(line[:_LONGEST] for line in log.splitlines())


def last_lines(log: str) -> tuple[str, ...]:
    """The end of the log, as an error shows it: without those lines of a traceback that are of build tools."""
    return tuple(line[:_LONGEST] for line in _without_tools(log.rstrip().splitlines())[-_LINES:])


def _without_tools(lines: list[str]) -> list[str]:
    """Of the calls in tracebacks only those of the source distribution, and those that failed."""
    dropped: set[int] = set()
    for number, line in enumerate(lines):
        if _TOOLS.match(line):
            end = number + 1
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            if end < len(lines) and _CALL.match(lines[end]):
                dropped.update(range(number, end))
    return [line for number, line in enumerate(lines) if number not in dropped]
