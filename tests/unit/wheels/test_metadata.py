from __future__ import annotations

from pathlib import Path

import pytest

from nb2image.errors import BadWheel
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.metadata import WheelMetadata, read_metadata
from tests.unit.wheels.builder import build_zip, save, wheel_parts

FULL = """\
Metadata-Version: 2.1
Name: Demo_Package
Version: 1.0.0
Summary: with ünicode
License: several
        lines
        
        and a blank one
Requires-Python: >=3.9, <4
Requires-Dist: numpy (>=1.0)
Requires-Dist: tornado>=6 ; python_version < "3.13" and
        extra == "web"
Provides-Extra: web

Name: not this one
Requires-Dist: nor-this
"""  # noqa: W293


def read(folder: Path, text: str) -> WheelMetadata:
    with WheelArchive(save(folder, build_zip(wheel_parts(metadata=text.encode())))) as archive:
        return read_metadata(archive)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_headers_count_and_the_description_does_not(tmp_path: Path, line_end: str) -> None:
    found = read(tmp_path, FULL.replace("\n", line_end))
    assert (found.name, str(found.version)) == ("demo-package", "1.0.0")
    assert [requirement.name for requirement in found.requires_dist] == ["numpy", "tornado"]
    assert str(found.requires_dist[1].marker) == 'python_version < "3.13" and extra == "web"'
    assert "3.9" in found.requires_python
    assert "3.8" not in found.requires_python


def test_a_wheel_may_require_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, "Name: demo\nVersion: 1\n")
    assert found.requires_dist == ()
    assert "2.7" in found.requires_python


def test_requirements_that_are_invalid_are_refused_when_asked_for(tmp_path: Path) -> None:
    found = read(tmp_path, "Name: demo\nVersion: 1\nRequires-Dist: numpy >\nRequires-Python: three\n")
    with pytest.raises(BadWheel, match="Requires-Dist is invalid"):
        _ = found.requires_dist
    with pytest.raises(BadWheel, match="Requires-Python is invalid"):
        _ = found.requires_python
