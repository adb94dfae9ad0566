"""Values of untrusted locks: every function returns what its annotation says or raises `BrokenLock`.

``where`` begins each message; it names the notebook and the place inside the lock.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from functools import lru_cache
from typing import Any

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from nb2image.errors import BrokenLock, UnsupportedSource
from nb2image.target.environment import marker_environment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "broken",
    "hashes",
    "is_name",
    "json_object",
    "mapping",
    "marker",
    "moment",
    "name",
    "optional_text",
    "parse_json",
    "parse_toml",
    "printable",
    "refuse_sources",
    "sequence",
    "shown",
    "specifiers",
    "text",
    "unique",
    "version",
]

RELOCK = "Lock the notebook again with the tool that wrote this lock."
_HASH = re.compile(r"(?P<algorithm>[a-z0-9_]+):(?P<value>[0-9a-fA-F]+)", re.ASCII)
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_ENCODINGS = 4
"""How often a value may be a JSON string inside a JSON string; one known writer encodes twice."""
_EXTRA = re.compile(
    r"""\bextra\s*(?P<op_after>==|!=)\s*["'](?P<after>[^"']*)["']"""
    r"""|["'](?P<before>[^"']*)["']\s*(?P<op_before>==|!=)\s*extra\b"""
)
_PROBE: dict[str, str | Set[str]] = {**marker_environment(Version("3.11.2"), "x86_64")}  # type: ignore[dict-item]


def broken(where: str, problem: str) -> BrokenLock:
    return BrokenLock(printable(f"{where}: {problem}").rstrip(".") + ".", hint=RELOCK)


def printable(said: str) -> str:
    """A sentence with what a lock smuggled into it (control characters, lone surrogates) made visible."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)


def shown(value: object) -> str:
    """A value from a lock in a form that is safe and short enough to print."""
    printed = ascii(value)
    return printed if len(printed) <= 80 else printed[:77] + "…"


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """The values in their order, each once."""
    return tuple(dict.fromkeys(values))


# -- documents ------------------------------------------------------------------------------------


def parse_json(value: str, where: str) -> Any:
    try:
        return json.loads(value, object_pairs_hook=lambda pairs: _object(pairs, where))
    except json.JSONDecodeError as error:
        raise broken(where, f"broken JSON, {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError:
        raise broken(where, "JSON that is nested too deeply") from None
    except ValueError as error:  # An integer of thousands of digits.
        raise broken(where, f"unusable JSON, {error}") from error


def _object(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """RFC 8259 (section 4) leaves open which of two equal names counts; in a lock they may be two versions."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise broken(where, f"{shown(twice)} stands twice in one object")
    return found


def json_object(value: object, where: str) -> dict[str, Any]:
    """An object that may stand as such, as a JSON string, or as a JSON string of a JSON string."""
    for _ in range(_ENCODINGS):
        if not isinstance(value, str):
            break
        value = parse_json(value, where)
    return mapping(value, where)


def parse_toml(value: str, where: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(value)
    except tomllib.TOMLDecodeError as error:
        raise broken(where, f"broken TOML, {error}") from error
    except RecursionError:
        raise broken(where, "TOML that is nested too deeply") from None
    except ValueError as error:  # An integer of thousands of digits.
        raise broken(where, f"unusable TOML, {error}") from error
    return document


# -- containers and scalars -----------------------------------------------------------------------


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else "a date")


def mapping(value: object, where: str) -> dict[str, Any]:
    """An object; absent (None) gives an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise broken(where, f"an object was expected, there is {_kind(value)}")
    return value


def sequence(value: object, where: str) -> Sequence[Any]:
    """A list; absent (None) gives an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise broken(where, f"a list was expected, there is {_kind(value)}")
    return value


def text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise broken(where, f"a string was expected, there is {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise broken(where, f"{shown(value)} is not text: a lone surrogate") from None
    return value


def optional_text(value: object, where: str) -> str | None:
    return None if value is None or value == "" else text(value, where)


# -- packaging ------------------------------------------------------------------------------------


def name(value: object, where: str) -> NormalizedName:
    """A normalised project name."""
    try:
        return canonicalize_name(text(value, where), validate=True)
    except InvalidName as error:
        raise broken(where, f"{shown(value)} is no package name") from error


def is_name(value: str) -> bool:
    try:
        canonicalize_name(value, validate=True)
    except InvalidName:
        return False
    return True


def version(value: object, where: str) -> Version:
    """A version, written ``1.2``, ``==1.2`` or ``===1.2``."""
    written = text(value, where)
    try:
        return Version(written.strip().lstrip("=").strip())
    except InvalidVersion as error:
        raise broken(where, f"{shown(written)} does not pin a version") from error
    except ValueError as error:  # A part of thousands of digits.
        raise broken(where, f"{shown(written)} is no version") from error


def specifiers(value: object, where: str) -> SpecifierSet | None:
    written = optional_text(value, where)
    if written is None:
        return None
    try:
        return SpecifierSet(written)
    except (InvalidSpecifier, ValueError) as error:
        raise broken(where, f"{shown(written)} is no version specifier") from error


def marker(value: object, where: str, *, lock_file: bool = False, extra: str = "") -> Marker | None:
    """A marker that can be evaluated; absent (None, empty) gives None.

    No format but PEP 751 (``lock_file``) chooses extras when it is installed, so in the others what a marker says
    of ``extra`` is decided here: it is ``extra`` and nothing else.
    """
    written = optional_text(value, where)
    if written is None:
        return None
    try:
        return _parsed(written, lock_file, extra)
    except InvalidMarker as error:
        raise broken(where, f"{shown(written)} is no environment marker") from error
    except (UndefinedComparison, UndefinedEnvironmentName, RecursionError, ValueError) as error:
        raise broken(where, f"the environment marker {shown(written)} cannot be evaluated") from error


@lru_cache(maxsize=1024)
def _parsed(written: str, lock_file: bool, extra: str) -> Marker:
    parsed = Marker(written)
    if not lock_file and "extra" in written:
        parsed = Marker(_EXTRA.sub(lambda found: _decided(found, extra), str(parsed)))
    parsed.evaluate(_PROBE, context="lock_file" if lock_file else "requirement")
    return parsed


def _decided(found: re.Match[str], extra: str) -> str:
    same = canonicalize_name(found["after"] or found["before"] or "") == canonicalize_name(extra)
    equal = "==" in (found["op_after"], found["op_before"])
    return "python_version >= '0'" if same == equal else "python_version < '0'"


def hashes(values: object, where: str) -> tuple[str, ...]:
    """``algorithm:hex`` strings, each once, in lower case. Weak algorithms stay; `hashes_of` passes them over."""
    return unique(one_hash(value, where) for value in sequence(values, where))


def one_hash(value: object, where: str) -> str:
    written = text(value, where)
    found = _HASH.fullmatch(written)
    if found is None or len(found["value"]) != _DIGITS.get(found["algorithm"], len(found["value"])):
        raise broken(where, f"{shown(written)} is no hash")
    return written.lower()


def moment(value: object, where: str) -> datetime | None:
    """A point in time, which TOML may hold as such and JSON only as text."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        # Python 3.10 does not read the "Z" of RFC 3339.
        return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*|[zZ]$", _iso, text(value, where)))
    except ValueError as error:
        raise broken(where, f"{shown(value)} is no date") from error


def _iso(found: re.Match[str]) -> str:
    return found[1].ljust(7, "0") if found[1] else "+00:00"


def refuse_sources(where: str, refused: Mapping[str, str]) -> None:
    """Raise `UnsupportedSource` when ``refused`` (package: where it comes from) names any."""
    if not refused:
        return
    rows = tuple(f"{package}: {origin}" for package, origin in sorted(refused.items()))
    names = ", ".join(sorted(refused))
    raise UnsupportedSource(
        f"{where}: {names} {'comes' if len(refused) == 1 else 'come'} from a place that no hash of the lock can hold.",
        hint="Publish each as a wheel, name it as a package of an index, and lock again; "
        "local modules can come along as files of a notebook repository.",
        details=rows,
    )
