"""The example's wheels and Debian packages served on loopback, so that its builds need no other machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nb2image
from nb2image.bases.debian.lock import shipped_lock
from nb2image.cache import Store
from nb2image.target.model import Platform
from tests.unit.index.server import IndexServer, Reply, Request, json_page, serving

__all__ = ["EXAMPLE", "OPTIONS", "Loopback", "clean_environment", "loopback"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "anscombe.ipynb"
OPTIONS = ("--mode", "batch", "--base", "bookworm")
"""Of a build of the example that does all there is to do: bytecode too."""


@dataclass(frozen=True)
class Loopback:
    """``environ`` is that of a user who is configured for ``server``, and for nothing else."""

    server: IndexServer
    environ: dict[str, str]


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without what configures indexes, proxies and nb2image."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_", "NB2IMAGE_", "SOURCE_DATE_EPOCH")) and "proxy" not in name.lower()
    }
    # Commands import what this process imported, wherever it was started.
    kept["PYTHONPATH"] = str(Path(nb2image.__file__).parents[1])
    return {**kept, **variables}


def _stored(store: Store) -> dict[str, Any]:
    """Have the example's files in a store; returns the document of its build."""
    # Never the default archive beside the example.
    command = [sys.executable, "-m", "nb2image", "build", str(EXAMPLE), *OPTIONS, "-q", "--json", "-o", "image.tar"]
    scratch = store.scratch()
    try:
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            cwd=scratch,
            env={**os.environ, "NB2IMAGE_CACHE_DIR": str(store.root)},
        )
    finally:
        (scratch / "image.tar").unlink(missing_ok=True)
        scratch.rmdir()
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _file(path: Path) -> Reply:
    """A file in pieces, from where a range begins."""

    def reply(request: Request) -> None:
        handler, size = request.handler, path.stat().st_size
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", f'"{path.name}"')
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.send_header("Content-Length", str(size - start))
        handler.end_headers()
        with path.open("rb") as stream:
            stream.seek(start)
            while piece := stream.read(1 << 18):
                handler.wfile.write(piece)

    return reply


@contextmanager
def loopback(folder: Path, store: Store) -> Iterator[Loopback]:
    """Serve what a build of the example takes, from ``store``, which is filled as this machine is configured."""
    lock = shipped_lock("bookworm", Platform("linux", "amd64"))
    assert lock is not None
    document = _stored(store)
    home = folder / "home"
    home.mkdir()
    with serving() as server:
        for package in (*document["packages"], *document["runner"], *document["support"]):
            digest = package["hashes"]["sha256"]
            path = store.find("wheels", f"sha256:{digest}")
            assert path is not None, package["file"]
            row = {
                "filename": package["file"],
                "url": f"../../files/{package['file']}",
                "hashes": {"sha256": digest},
                "size": path.stat().st_size,
            }
            server.on(f"/simple/{package['name']}/", json_page([row]))
            server.on(f"/files/{package['file']}", _file(path))
        for deb in lock.packages:
            path = store.find("bases", deb.digest)
            assert path is not None, deb.file
            server.on("/debian/" + quote(deb.file, safe="/+~"), _file(path))
        sources = folder / "sources.list"
        suites = ("bookworm", "bookworm-security")
        sources.write_text("".join(f"deb {server.url}/debian {suite} main\n" for suite in suites))
        apt = folder / "apt.conf"
        apt.write_text(f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "{folder}/none";\n')
        environ = clean_environment(
            HOME=str(home),
            APT_CONFIG=str(apt),
            PIP_CONFIG_FILE=os.devnull,
            PIP_INDEX_URL=server.simple,
            UV_NO_CONFIG="1",
        )
        yield Loopback(server, environ)
