"""Debian packages and signed archives, made for tests, and a server for them."""

from __future__ import annotations

import hashlib
import http.server
import io
import lzma
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nb2image.layers.entry import Link
from tests.unit.bases.test_facts import LIBC, elf

if TYPE_CHECKING:
    from pysequoia import Tsk

Files = Mapping[str, bytes | Link | tarfile.TarInfo | None]


def tar(files: Files, mode: int = 0o644) -> bytes:
    """A tar of these paths; None makes a directory, a TarInfo stands for itself."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.mode = mode
            body = b""
            if isinstance(content, tarfile.TarInfo):
                info = content
                info.name = path
            elif isinstance(content, Link):
                info.type, info.linkname = tarfile.SYMTYPE, content.target
            elif content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size, body = len(content), content
            archive.addfile(info, io.BytesIO(body))
    return stream.getvalue()


def ar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """An ar archive (``ar(5)``)."""
    parts = [b"!<arch>\n"]
    for name, body in members:
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}".encode()
        parts += [head, b"`\n", body, b"\n" * (len(body) % 2)]
    return b"".join(parts)


def control(name: str, version: str = "1.0-1", architecture: str = "amd64", **fields: str) -> str:
    """A control paragraph; ``fields`` with ``_`` for ``-``."""
    rows = {"Package": name, "Version": version, "Architecture": architecture, "Maintainer": "Nobody <n@example.org>"}
    rows |= {key.replace("_", "-"): value for key, value in fields.items()}
    rows["Description"] = f"the package {name}\n A longer text."
    return "".join(f"{key}: {value}\n" for key, value in rows.items())


def deb(text: str, files: Files, extra: Mapping[str, bytes] | None = None) -> bytes:
    """A package of format 2.0 with xz members; ``extra`` are further members of its control tar."""
    controls: dict[str, bytes | Link | tarfile.TarInfo | None] = {"./control": text.encode()}
    controls |= {f"./{name}": body for name, body in (extra or {}).items()}
    return ar(
        [
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz", lzma.compress(tar(controls), preset=0)),
            ("data.tar.xz", lzma.compress(tar(files), preset=0)),
        ]
    )


@dataclass
class Archive:
    """An archive of one suite with its updates and security fixes, all of amd64, under ``root``."""

    root: Path
    key: Tsk
    suite: str = "bookworm"
    date: str = "Thu, 19 Nov 2026 02:12:54 UTC"
    valid_until: str = "Thu, 26 Nov 2099 02:12:54 UTC"
    stanzas: dict[str, list[str]] = field(default_factory=dict)
    contents: bytes | None = None
    """``Contents-amd64.gz`` of the suite itself."""

    def add(self, text: str, files: Files, part: str = "", extra: Mapping[str, bytes] | None = None) -> Path:
        """Put a package into the pool; ``part``: empty, ``-updates`` or ``-security``."""
        data = deb(text, files, extra)
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and line[0] != " ")
        path = f"pool/main/{fields['Package']}_{fields['Version'].partition(':')[2] or fields['Version']}.deb"
        file = self._base(part) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        stanza = text + f"Filename: {path}\nSize: {len(data)}\nSHA256: {digest}\n"
        self.stanzas.setdefault(part, []).append(stanza)
        return file

    def sign(self) -> None:
        """Write the indexes as they are now."""
        from pysequoia import SignatureMode, sign

        for part in ("", "-updates", "-security"):
            packages = lzma.compress("\n".join(self.stanzas.get(part, [])).encode())
            folder = self._base(part) / "dists" / (self.suite + part)
            index = folder / "main/binary-amd64/Packages.xz"
            index.parent.mkdir(parents=True, exist_ok=True)
            index.write_bytes(packages)
            rows = [f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages.xz\n"]
            if self.contents is not None and not part:
                (folder / "main/Contents-amd64.gz").write_bytes(self.contents)
                digest = hashlib.sha256(self.contents).hexdigest()
                rows.append(f" {digest} {len(self.contents)} main/Contents-amd64.gz\n")
            release = (
                f"Origin: Test\nCodename: {self.suite}{part}\nVersion: 12.9\nDate: {self.date}\n"
                f"Valid-Until: {self.valid_until}\nSHA256:\n{''.join(rows)}"
            )
            signed = sign(self.key.signer(), release.encode(), mode=SignatureMode.CLEAR)
            (folder / "InRelease").write_bytes(signed)

    def _base(self, part: str) -> Path:
        return self.root / ("debian-security" if part == "-security" else "debian")


PROGRAMS: dict[str, Files] = {
    "base-files": {
        "./": None,
        "./etc/os-release": Link("../usr/lib/os-release"),
        "./usr/lib/os-release": b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "./var/run/": None,
    },
    "base-passwd": {
        "./usr/share/base-passwd/passwd.master": b"root:*:0:0:root:/root:/bin/bash\n",
        "./usr/share/base-passwd/group.master": b"root:*:0:\nmail:*:8:\n",
    },
    "bash": {"./bin/bash": elf()},
    "python3-minimal": {"./usr/bin/python3": Link("python3.11")},
    "libpython3-stdlib": {"./usr/share/doc/libpython3-stdlib/copyright": b"free\n"},
    "python3.11-minimal": {
        "./usr/bin/python3.11": elf("3.11.2"),
        "./usr/lib/python3.11/os.py": b"",
        "./usr/lib/python3.11/site.py": b'os.path.join(prefix, "lib", "python3", "dist-packages")',
    },
    "libc6": {"./lib/x86_64-linux-gnu/libc.so.6": LIBC, "./lib64/ld-linux-x86-64.so.2": elf()},
    "gcc": {"./usr/bin/gcc": Link("gcc-12"), "./usr/share/man/man1/gcc.1.gz": b""},
    "gcc-12": {"./usr/bin/gcc-12": elf(), "./etc/": None},
}

RELATIONS = {
    "python3-minimal": "python3.11-minimal (>= 3.11.2-1~), dpkg",
    "bash": "libc6 (>= 2.36)",
    "gcc": "gcc-12",
    "libc6-dev": "libc6 (= 2.36-9)",
    "python3-dev": "python3-minimal (= 3.11.2-1), libjs-sphinxdoc",
}
VERSIONS = {"python3-minimal": "3.11.2-1", "python3.11-minimal": "3.11.2-6", "libc6": "2.36-9"}


def fill(archive: Archive) -> None:
    """Add every package that a base and its compiler ask for, and some that they depend on."""
    from nb2image.bases.debian.selection import SEEDS, TOOLCHAIN

    for name in (*SEEDS, "python3.11-minimal", *TOOLCHAIN, "gcc-12"):
        depends = {"Depends": RELATIONS[name]} if name in RELATIONS else {}
        text = control(name, VERSIONS.get(name, "1.0-1"), **depends)
        archive.add(text, PROGRAMS.get(name, {f"./usr/share/doc/{name}/copyright": b"free\n"}))
    archive.sign()


@contextmanager
def served(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on loopback; gives its URL and the list of paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, address: object) -> None:
            """Clients hang up when they have found what is wrong."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
