"""Looking for a secret in every byte of a folder: in files as they lie there, unpacked, and as logins are sent."""

from __future__ import annotations

import base64
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

__all__ = ["found_in", "traces"]

_DEEPEST = 4
"""Archives in archives: a wheel in a layer in a tar, and one to spare."""


def _spellings(secret: str) -> list[bytes]:
    """The secret and what its base64 looks like wherever it begins among other bytes (RFC 4648, section 4)."""
    found = [secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()]
    for before in range(3):
        coded = base64.b64encode(bytes(before) + secret.encode())
        # The characters at either end depend on the neighbours too.
        found.append(coded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6])
    return found


def _gunzipped(data: bytes) -> Iterator[bytes]:
    """What a gzip file of any number of members holds, as far as it can be read."""
    pieces = []
    while data.startswith(b"\x1f\x8b"):
        stream = zlib.decompressobj(31)
        try:
            pieces.append(stream.decompress(data))
        except zlib.error:
            break
        data = stream.unused_data
    yield b"".join(pieces)


def _unpacked(data: bytes) -> Iterator[bytes]:
    """The contents of what is compressed or an archive. A tar holds its files as they are."""
    if data.startswith(b"\x1f\x8b"):
        yield from _gunzipped(data)
    elif data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif data.startswith(b"\xfd7zXZ\0"):
        yield lzma.decompress(data)
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        yield zstandard.ZstdDecompressor().decompressobj().decompress(data)
    elif data[257:262] == b"ustar":
        # A file that is compressed shows its magic only where it begins.
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                if member.isfile() and (stream := tar.extractfile(member)) is not None:
                    yield stream.read()


def _forms(data: bytes, depth: int = _DEEPEST) -> Iterator[bytes]:
    yield data
    if depth:
        for inside in _unpacked(data):
            yield from _forms(inside, depth - 1)


def found_in(data: bytes, secrets: Iterable[str]) -> set[str]:
    """Those of the secrets that stand anywhere in some bytes."""
    wanted = {secret: _spellings(secret) for secret in secrets}
    return {
        secret
        for form in _forms(data)
        for secret, spellings in wanted.items()
        if any(spelling in form for spelling in spellings)
    }


def traces(folder: Path, secrets: Iterable[str]) -> dict[str, set[str]]:
    """Which files below a folder hold which secrets, in their names or contents."""
    secrets, found = list(secrets), {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        data = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        if inside := found_in(data, secrets) | found_in(name.encode(), secrets):
            found[name] = inside
    return found
