"""What is read of shared objects is what pyelftools reads of them, by another way: their sections."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

from nb2image.abi.elf import MAGIC, read_object


def _here() -> list[Path]:
    """Extension modules of the packages that are installed here, and the libraries that their wheels brought."""
    found = sorted(Path(sysconfig.get_path("platlib")).rglob("*.so*"))
    return [path for path in found if path.is_file() and path.read_bytes().startswith(MAGIC)]


def test_shared_objects_are_read_as_pyelftools_reads_them() -> None:
    paths = _here()
    if not paths:
        pytest.skip("no ELF files among the installed packages: this is no Linux")
    for path in paths:
        data = path.read_bytes()
        found = read_object(lambda data=data: [data], len(data))  # type: ignore[misc]
        assert found is not None, path
        with path.open("rb") as stream:
            sections = list(ELFFile(stream).iter_sections())
            dynamic = [tag for each in sections if isinstance(each, DynamicSection) for tag in each.iter_tags()]
            needed = [getattr(tag, "needed", "") for tag in dynamic if tag.entry.d_tag == "DT_NEEDED"]
            sonames = [getattr(tag, "soname", "") for tag in dynamic if tag.entry.d_tag == "DT_SONAME"]
            wanted: dict[str | None, set[str | None]] = {}
            defined = set()
            for each in sections:
                if isinstance(each, GNUVerNeedSection):
                    for library, versions in each.iter_versions():
                        wanted.setdefault(library.name, set()).update(
                            version.name for version in versions if not version["vna_flags"] & 2
                        )
                elif isinstance(each, GNUVerDefSection):
                    defined |= {next(iter(n)).name for v, n in each.iter_versions() if not v["vd_flags"] & 1}
        assert list(found.needed) == list(dict.fromkeys(needed)), path
        assert found.soname == (sonames[0] if sonames else None), path
        assert {name: set(each) for name, each in found.versions.items()} == {n: v for n, v in wanted.items() if v}
        assert set(found.defines) == defined, path
