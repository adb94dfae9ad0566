"""Marker environment and wheel tags of a target that is not the running interpreter."""

from __future__ import annotations

from packaging.markers import Environment
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.version import Version

__all__ = ["marker_environment", "wheel_tags"]

# Aliases that PEP 600 keeps for the older names of a glibc floor: PEP 599, PEP 571, PEP 513.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def marker_environment(python: Version, machine: str) -> Environment:
    """A complete PEP 508 environment of CPython ``python`` on Linux; kernel release and version are left
    empty, since an image does not decide them."""
    return {
        "implementation_name": "cpython",
        "implementation_version": str(python),
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": str(python),
        "python_version": f"{python.major}.{python.minor}",
        "sys_platform": "linux",
    }


def _platforms(machine: str, glibc: Version | None) -> list[str]:
    platforms = []
    if glibc is not None:
        # manylinux1 and manylinux2010 were defined for x86 only; PEP 599 names 2.17 as the floor of the others.
        floor = 5 if machine in {"x86_64", "i686"} else 17
        for minor in range(glibc.minor, floor - 1, -1):
            platforms.append(f"manylinux_2_{minor}_{machine}")
            if minor in _LEGACY:
                platforms.append(f"{_LEGACY[minor]}_{machine}")
    platforms.append(f"linux_{machine}")
    return platforms


def wheel_tags(python: Version, machine: str, glibc: Version | None) -> tuple[Tag, ...]:
    """Tags of CPython ``python`` on a Linux ``machine`` with ``glibc``, best first (PEP 425, PEP 600)."""
    version = (python.major, python.minor)
    interpreter = f"cp{python.major}{python.minor}"
    platforms = _platforms(machine, glibc)
    return (
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, interpreter, platforms),
    )
