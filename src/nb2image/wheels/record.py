"""RECORD: what a wheel says its files are, and what an installation says they became."""

from __future__ import annotations

import csv
import hashlib
import io
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import cached_property

from nb2image.errors import BadWheel
from nb2image.lock.model import STRONG_HASHES
from nb2image.wheels.archive import Member, WheelArchive

__all__ = ["Record", "row_of"]

_NEWER = "RECORD", "RECORD.jws", "RECORD.p7s"
"""Written after the hashes, so they cannot hold their own (binary distribution format, "Signed wheel files")."""


def row_of(data: bytes) -> tuple[str, str]:
    """Hash and size of a file as RECORD writes them."""
    value = urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"sha256={value}", str(len(data))


class Record:
    """The RECORD of a wheel.

    Raises `BadWheel` when it is missing, no CSV, names one file twice with different hashes, or leads out of the wheel:
    whoever uninstalls the package would remove what its rows name.
    """

    def __init__(self, archive: WheelArchive, dist_info: str) -> None:
        self._archive = archive
        self._wheel = archive.filename
        self._path = f"{dist_info}/RECORD"
        self._exempt = frozenset(f"{dist_info}/{name}" for name in _NEWER)
        member = archive.members.get(self._path)
        if member is None:
            raise BadWheel(self._wheel, self._path, "the wheel has no RECORD")
        try:
            text = archive.read(member).decode()
            self.rows = [row for row in csv.reader(text.splitlines()) if row]
        except UnicodeDecodeError:
            raise BadWheel(self._wheel, self._path, "RECORD is not UTF-8") from None
        except csv.Error as error:
            raise BadWheel(self._wheel, self._path, f"RECORD is no CSV ({error})") from None
        self._stated: dict[str, tuple[str, str]] = {}
        for row in self.rows:
            path, value, size = row if len(row) == 3 else (*row, "", "")[:3]
            if ".." in path and ".." in path.replace("\\", "/").split("/"):
                raise BadWheel(self._wheel, self._path, f"RECORD names {path!r}, which leads out of the wheel")
            if self._stated.setdefault(path, (value, size)) != (value, size):
                raise BadWheel(self._wheel, path, "RECORD names the file twice, with different hashes")

    def hash_of(self, member: Member) -> str | None:
        """The hash that the member must have, as RECORD writes it; None for RECORD itself and its signatures.

        The specification wants installation to fail for a file that RECORD does not mention or hold with sha256 or
        better. The content is checked by whoever reads it, the size here.
        """
        name = member.name
        stated = self._stated.get(name) or self._respelled.get(name)
        if stated is None:
            if name in self._exempt:
                return None
            raise BadWheel(self._wheel, name, "RECORD does not mention the file")
        value, size = stated
        if size and size != str(member.size):
            self._archive.mismatch(name, f"RECORD states {size} bytes and the archive {member.size}")
            return None
        algorithm, separator, _ = value.partition("=")
        if algorithm not in STRONG_HASHES or not separator:
            if not value and name in self._exempt:
                return None
            found = f"only a hash of {algorithm}" if separator else "no hash"
            raise BadWheel(self._wheel, name, f"RECORD holds {found} for the file; sha256 or stronger is required")
        return value.rstrip("=")

    @cached_property
    def _respelled(self) -> dict[str, tuple[str, str]]:
        """Rows by the path they mean: old tools wrote absolute paths, ``./`` and backslashes."""
        found: dict[str, tuple[str, str]] = {}
        for path, row in self._stated.items():
            meant = path.replace("\\", "/").removeprefix(".").lstrip("/")
            if found.setdefault(meant, row) != row:
                raise BadWheel(self._wheel, meant, "RECORD names the file twice, with different hashes")
        return found

    def installed(
        self,
        moved: Mapping[str, str],
        changed: Mapping[str, tuple[str, str]],
        generated: Iterable[tuple[str, str, str]],
    ) -> bytes:
        """The RECORD of the installation, byte for byte as pip writes it.

        ``moved`` gives the new path of every installed member, ``changed`` hash and size of those (by new path) that
        were rewritten, ``generated`` the rows of new files. Rows of files that were not installed stay.
        """
        pending = dict(moved)
        rows: list[tuple[str, str, str]] = []
        for row in self.rows:
            path, value, size = row if len(row) == 3 else (*row, "", "")[:3]
            path = pending.pop(path, path)
            if path in changed:
                value, size = changed[path]
            rows.append((path, value, size))
        rows.extend(generated)
        rows.extend((path, "", "") for path in pending.values())
        rows.sort()
        plain = "\r\n".join(map(",".join, rows)) + "\r\n"
        if '"' not in plain and plain.count(",") == 2 * len(rows) and len(plain.splitlines()) == len(rows):
            return plain.encode()  # nothing to quote: the same bytes, ten times as fast
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()
