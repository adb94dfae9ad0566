"""What a Debian base holds: the packages asked for, those left out on purpose, and the paths left out of the rest;
and what its compiler holds.

The standard library is whole as far as Debian's ``libpython3-stdlib`` goes. ``tkinter``, ``idlelib``, ``turtle`` and
``dbm.gnu`` need packages of their own (and an X library), ``ensurepip`` belongs to virtual environments and ``test``
to CPython's own test suite: none of them is in the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["OMITTED", "SEEDS", "SEEDS_WHERE_KNOWN", "SUITES", "TOOLCHAIN", "TOOLCHAIN_OMITTED", "is_left_out"]

SUITES = ("bullseye", "bookworm", "trixie")
"""Suites that have a lock, oldest first."""

SEEDS = (
    # The system itself: directories, users, C library with C.UTF-8, what a terminal in JupyterLab asks for.
    "base-files",
    "base-passwd",
    "libc6",
    "libc-bin",
    "ncurses-base",
    "ncurses-bin",
    "netbase",
    "tzdata",
    "ca-certificates",
    # What a cell that begins with "!" uses.
    "bash",
    "dash",
    "coreutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "mawk",
    "procps",
    "sed",
    "tar",
    # Libraries that wheels may need of the system (PEP 600), and OpenMP.
    "libgcc-s1",
    "libstdc++6",
    "libgomp1",
    # Python.
    "python3-minimal",
    "libpython3-stdlib",
)

SEEDS_WHERE_KNOWN = ("python3-distutils", "python3-lib2to3")
"""Parts of the standard library that Debian packages apart, in suites whose Python still has them."""

OMITTED: Mapping[str, str] = MappingProxyType(
    {
        "debconf": "asks questions of maintainer scripts, which are never run",
        "cdebconf": "the same in C",
        "dpkg": "installs packages; its database is there for scanners, nothing can be added by it",
        "install-info": "indexes manuals, which are left out",
        "perl-base": "runs maintainer scripts of debconf and others",
        "perl": "the same",
        "init-system-helpers": "starts services from maintainer scripts",
        "usrmerge": "converts an installed system; files are placed in merged form from the start",
        "usr-is-merged": "the mark of that conversion",
        "sysvinit-utils": "helpers of init scripts",
        "lsb-base": "the same",
        "media-types": "only python3's mailcap-based openers use it; mimetypes has its own table",
        "mime-support": "the same in bullseye",
    }
)
"""Dependencies that count as satisfied and are not installed, each with the reason."""

TOOLCHAIN = ("gcc", "g++", "libc6-dev", "make", "pkg-config", "python3-dev")
"""What building a source distribution may need of the system, beyond the base."""

TOOLCHAIN_OMITTED: Mapping[str, str] = MappingProxyType(
    {
        **OMITTED,
        "libdpkg-perl": "lets pkg-config of bullseye build for other architectures",
        "libjs-sphinxdoc": "shows documentation in a browser",
    }
)

_DROPPED = (
    "usr/share/bug/",
    "usr/share/doc-base/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/linda/",
    "usr/share/man/",
    "usr/share/menu/",
    "usr/share/pixmaps/",
    "usr/share/applications/",
)


def is_left_out(path: str) -> bool:
    """Whether a package's path (no leading ``/``, usr-merged; a directory without trailing ``/``) is documentation,
    a manual page or a translation. Copyright files stay: licences ask for them."""
    if path.startswith("usr/share/doc/"):
        # A package's folder may be a link to that of another with the same licence.
        return path.count("/") > 3 and not path.endswith("/copyright")
    if path.startswith("usr/share/locale/"):
        return path != "usr/share/locale/locale.alias"
    return f"{path}/".startswith(_DROPPED)
