"""``python -m tests.parity.real_wheels FOLDER…``: nothing that people published is refused as hostile.

Every wheel below the folders, whatever its name (a cache of nb2image holds them under their digests), is read and
installed as far as its directory, its RECORD and its metadata go. Contents are not read: that is what builds do.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from nb2image.errors import WheelError
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.install import Scheme, install
from nb2image.wheels.metadata import read_metadata

SCHEME = Scheme("/opt/kernel", "3.11")


def wheels(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith(".dist-info/WHEEL") and name.count("/") == 1 for name in archive.namelist()):
                    yield path


def main() -> None:
    seen: set[tuple[str, str, int]] = set()
    refused = edited = 0
    for path in (path for folder in sys.argv[1:] for path in wheels(Path(folder))):
        mismatches: list[str] = []
        try:
            with WheelArchive(path, mismatches=mismatches) as archive:
                metadata = read_metadata(archive)
                key = metadata.name, str(metadata.version), path.stat().st_size
                if key in seen:
                    continue
                seen.add(key)
                list(install(archive, SCHEME, name=metadata.name, version=metadata.version))
        except WheelError as error:
            refused += 1
            print(f"refused: {error}")
        edited += bool(mismatches)
    print(f"{len(seen)} wheels, {refused} refused, {edited} with files that RECORD states another size or hash of")
    sys.exit(refused > 0)


if __name__ == "__main__":
    main()
