"""What maintainer scripts would have made, made from the packages' own templates.

Each function names the package whose ``postinst`` it stands for, and works on the tree alone. Left undone on purpose:
services (``/etc/rc*.d``), bytecode (a layer of its own, made later), the hash-named links in ``/etc/ssl/certs``
(OpenSSL's default file ``/usr/lib/ssl/cert.pem`` is the whole bundle).
"""

from __future__ import annotations

import posixpath
import re

from nb2image.bases.debian.tree import Tree
from nb2image.layers.entry import Link

__all__ = ["HOME", "UID", "apply", "trust_certificates"]

UID = 1001
"""User ID of ``notebook``; its group is 0, as platforms that choose a random user ID expect."""
HOME = "home/notebook"


def apply(tree: Tree) -> None:
    """Bring the tree into the state of a configured system."""
    _base_files(tree)
    _users(tree)
    _defaults(tree)
    _alternatives(tree)
    _shells(tree)
    trust_certificates(tree)
    _time_zone(tree)
    _python(tree)


def _base_files(tree: Tree) -> None:
    for template, path in (
        ("dot.profile", "root/.profile"),
        ("dot.bashrc", "root/.bashrc"),
        ("profile", "etc/profile"),
        ("motd", "etc/motd"),
    ):
        _copy(tree, f"usr/share/base-files/{template}", path)
    for folder in ("mnt", "srv", "opt", "etc/opt", "var/opt", "media", "run", "var/spool", "var/cache", "var/log"):
        tree.directory(folder)
    tree.directory("run/lock", 0o1777)
    tree.directory("var/mail", 0o2775, gid=8)
    tree.link("var/spool/mail", "../mail")
    tree.link("var/run", "/run")
    tree.link("var/lock", "/run/lock")
    for name in ("bin", "etc", "games", "include", "lib", "sbin", "share", "share/man", "share/ca-certificates", "src"):
        tree.directory(f"usr/local/{name}")
    tree.link("usr/local/man", "share/man")
    for name, mode in (("wtmp", 0o664), ("lastlog", 0o664), ("btmp", 0o660)):
        tree.file(f"var/log/{name}", b"", mode, gid=43)
    if "etc/dpkg/origins/debian" in tree:
        tree.link("etc/dpkg/origins/default", "debian")


def _users(tree: Tree) -> None:
    """base-passwd's master files, with shadow passwords as the package passwd would split them off: all locked."""
    users = (tree.read("usr/share/base-passwd/passwd.master") or b"").decode().splitlines()
    groups = (tree.read("usr/share/base-passwd/group.master") or b"").decode().splitlines()
    users.append(f"notebook:*:{UID}:0:notebook:/{HOME}:/bin/bash")
    names = [line.split(":")[0] for line in users]
    tree.file("etc/passwd", "".join(re.sub(r"^([^:]*):[^:]*", r"\1:x", line) + "\n" for line in users))
    tree.file("etc/group", "".join(re.sub(r"^([^:]*):[^:]*", r"\1:x", line) + "\n" for line in groups))
    # An empty day of the last change (shadow(5)) keeps the file free of the time of assembly.
    tree.file("etc/shadow", "".join(f"{name}:*::0:99999:7:::\n" for name in names), 0o640, gid=42)
    tree.file("etc/gshadow", "".join(f"{line.split(':')[0]}:*::\n" for line in groups), 0o640, gid=42)
    tree.directory(HOME, 0o775)


def _defaults(tree: Tree) -> None:
    """libc-bin, readline-common and netbase."""
    _copy(tree, "usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf")
    _copy(tree, "usr/share/readline/inputrc", "etc/inputrc")
    tree.file(
        "etc/hosts",
        "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n"
        "ff02::1\t\tip6-allnodes\nff02::2\t\tip6-allrouters\n\n",
    )
    tree.file("etc/networks", "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n\n")


def _alternatives(tree: Tree) -> None:
    """mawk, debianutils, tar and procps, and of a compiler gcc, g++ and cpp; manual pages are not there, so neither are
    their alternatives."""
    for path, provider in (
        ("usr/bin/awk", "usr/bin/mawk"),
        ("usr/bin/nawk", "usr/bin/mawk"),
        ("usr/bin/which", "usr/bin/which.debianutils"),
        ("usr/sbin/rmt", "usr/sbin/rmt-tar"),
        ("usr/bin/w", "usr/bin/w.procps"),
        ("usr/bin/cc", "usr/bin/gcc"),
        ("usr/bin/c89", "usr/bin/c89-gcc"),
        ("usr/bin/c99", "usr/bin/c99-gcc"),
        ("usr/bin/c++", "usr/bin/g++"),
        ("usr/lib/cpp", "usr/bin/cpp"),
    ):
        if provider in tree and path not in tree:
            name = posixpath.basename(path)
            tree.link(f"etc/alternatives/{name}", f"/{provider}")
            tree.link(path, f"/etc/alternatives/{name}")
    if "usr/bin/sh" not in tree and "usr/bin/dash" in tree:
        tree.link("usr/bin/sh", "dash")


def _shells(tree: Tree) -> None:
    """debianutils: bullseye has one list; later suites add each shell's own list, and every merged path."""
    template = "usr/share/debianutils/shells"
    lines = (tree.read(template) or b"").decode().splitlines()
    folder = tree.below(f"{template}.d")
    for path in (template, *(entry.path for entry in folder)) if folder else ():
        for line in (tree.read(path) or b"").decode().splitlines():
            shell = line.partition("#")[0].strip()
            for spelling in (shell, "/" + tree.merged(shell.lstrip("/"))) if shell else ():
                if spelling not in lines:
                    lines.append(spelling)
    if lines:
        tree.file("etc/shells", "".join(f"{line}\n" for line in lines))


def trust_certificates(tree: Tree) -> None:
    """ca-certificates, as update-ca-certificates(8) does: every certificate is trusted, in order of its path."""
    folder = "usr/share/ca-certificates"
    found = [entry.path for entry in tree.below(folder) if entry.path.endswith(".crt")]
    bundle = bytearray()
    for path in found:
        data = tree.read(path) or b""
        bundle += data if data.endswith(b"\n") else data + b"\n"
        name = posixpath.basename(path).removesuffix(".crt")
        name = re.sub(r"[ ,]", "_", re.sub(r"[()]", "=", name))
        tree.link(f"etc/ssl/certs/{name}.pem", f"/{path}")
    tree.file("etc/ssl/certs/ca-certificates.crt", bytes(bundle))
    tree.file("etc/ca-certificates.conf", "".join(path[len(folder) + 1 :] + "\n" for path in found))
    # bullseye's openssl relies on hash-named links instead.
    if "usr/lib/ssl/cert.pem" not in tree:
        tree.link("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt")


def _time_zone(tree: Tree) -> None:
    tree.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
    tree.file("etc/timezone", "Etc/UTC\n")


def _python(tree: Tree) -> None:
    """python3.X-minimal: the configuration that a link of the library leads to, and the folder of local packages."""
    for entry in tree.below("usr/lib"):
        match = re.fullmatch(r"usr/lib/(python3\.\d+)/sitecustomize\.py", entry.path)
        if match and isinstance(entry.content, Link):
            target = entry.content.target.lstrip("/")
            if target not in tree:
                tree.file(target, "# Empty sitecustomize.py to avoid a dangling symlink\n")
            tree.directory(f"usr/local/lib/{match[1]}/dist-packages")


def _copy(tree: Tree, source: str, path: str) -> None:
    data = tree.read(source)
    if data is not None and path not in tree:
        tree.file(path, data)
