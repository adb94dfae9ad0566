"""Reading a Debian package: an ``ar`` archive of ``debian-binary``, a control tar and a data tar (``deb(5)``)."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nb2image.errors import BaseError
from nb2image.layers.entry import BytesContent, Entry, HardLink, Link

__all__ = ["BadPackage", "Deb", "read_deb"]

_MAGIC = b"!<arch>\n"
_HEADER = 60
_LARGEST = 1 << 30  # bytes of a tar; far above any package of a base


class BadPackage(BaseError):
    """A package breaks its format or would write where it must not, although its hash is the locked one."""

    def __init__(self, package: str, rule: str) -> None:
        super().__init__(
            f"{package}: {rule}.",
            hint="The package is damaged or hostile although its hash is the locked one; choose another base.",
        )


@dataclass(frozen=True)
class Deb:
    """A package that was read. ``scripts`` and the other members of its control tar are in ``control``, by name
    (``control``, ``conffiles``, ``md5sums`` …); ``entries`` have paths as the package states them, before
    usr-merge."""

    name: str
    control: Mapping[str, bytes]
    entries: tuple[Entry, ...]

    @cached_property
    def stanza(self) -> str:
        """The paragraph of the ``control`` file, without a newline at its end."""
        return self.control["control"].decode().strip("\n")


def read_deb(data: bytes, name: str) -> Deb:
    """Read a package; ``name`` stands in messages. Raises `BadPackage`."""
    members = dict(_members(data, name))
    if not members.get("debian-binary", b"").startswith(b"2."):
        raise BadPackage(name, "is no Debian package of format 2")
    control = dict(_control(_tar(members, "control.tar", name), name))
    if "control" not in control:
        raise BadPackage(name, "has no control file")
    return Deb(name, control, tuple(_entries(_tar(members, "data.tar", name), name)))


def _members(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    if not data.startswith(_MAGIC):
        raise BadPackage(name, "is no ar archive")
    position = len(_MAGIC)
    while position < len(data):
        header = data[position : position + _HEADER]
        size = header[48:58].strip()
        if len(header) != _HEADER or header[58:] != b"`\n" or not size.isdigit():
            raise BadPackage(name, f"has a damaged ar header at byte {position}")
        position += _HEADER
        body = data[position : position + int(size)]
        if len(body) != int(size):
            raise BadPackage(name, "is cut short")
        yield header[:16].decode("ascii", "replace").strip().removesuffix("/"), body
        position += int(size) + int(size) % 2


def _tar(members: Mapping[str, bytes], stem: str, name: str) -> tarfile.TarFile:
    found = [member for member in members if member == stem or member.startswith(stem + ".")]
    if len(found) != 1:
        raise BadPackage(name, f"has {len(found)} members {stem}")
    try:
        plain = _decompressed(members[found[0]], found[0][len(stem) :])
        return tarfile.open(fileobj=io.BytesIO(plain), mode="r:")
    except (lzma.LZMAError, EOFError, OSError, zlib.error, tarfile.TarError, ValueError) as error:
        raise BadPackage(name, f"its {found[0]} cannot be read: {error}") from error


def _decompressed(data: bytes, suffix: str) -> bytes:
    if suffix == ".xz":
        with lzma.open(io.BytesIO(data)) as stream:
            plain = stream.read(_LARGEST + 1)
    elif suffix == ".gz":
        with gzip.open(io.BytesIO(data)) as stream:
            plain = stream.read(_LARGEST + 1)
    elif suffix == ".zst":
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                plain = reader.read(_LARGEST + 1)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
    elif not suffix:
        plain = data
    else:
        raise ValueError(f"unknown compression {suffix}")
    if len(plain) > _LARGEST:
        raise ValueError(f"it unpacks to more than {_LARGEST} bytes")
    return plain


def _safe(path: str, name: str) -> str:
    """A member's path relative to the root; empty for the root itself."""
    parts = path.removeprefix("./").split("/") if path != "." else []
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise BadPackage(name, f"its member {path!r} points outside the root or is not in normal form")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise BadPackage(name, f"its member {path!r} has control characters in its name")
    return "/".join(parts)


def _control(tar: tarfile.TarFile, name: str) -> Iterator[tuple[str, bytes]]:
    for member, body in _read(tar, name):
        if member.isreg():
            yield _safe(member.name, name), body


def _entries(tar: tarfile.TarFile, name: str) -> Iterator[Entry]:
    for member, body in _read(tar, name):
        path = _safe(member.name, name)
        if not path:
            continue
        mode = member.mode & 0o7777
        if member.isdir():
            yield Entry(path, mode, None, member.uid, member.gid)
        elif member.isreg():
            yield Entry(path, mode, BytesContent(body), member.uid, member.gid)
        elif member.issym():
            _check_target(member.linkname, path, name)
            yield Entry(path, 0o777, Link(member.linkname), member.uid, member.gid)
        elif member.islnk():
            yield Entry(path, mode, HardLink(_safe(member.linkname, name)), member.uid, member.gid)
        else:
            raise BadPackage(name, f"its member {path!r} is neither a file nor a directory nor a link")


def _check_target(target: str, path: str, name: str) -> None:
    if not target or "\0" in target:
        raise BadPackage(name, f"its link {path!r} has no target that a file system could hold")


def _read(tar: tarfile.TarFile, name: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    try:
        for member in tar:
            stream = tar.extractfile(member) if member.isreg() else None
            body = stream.read() if stream is not None else b""
            if len(body) != (member.size if member.isreg() else 0):
                raise BadPackage(name, f"its member {member.name!r} is cut short")
            yield member, body
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadPackage(name, f"its tar is damaged: {error}") from error
