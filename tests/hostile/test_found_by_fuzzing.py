"""What `python -m tests.fuzz` found outside of wheels; hostile wheels that it found are among the cases of wheels."""

from __future__ import annotations

import gzip
import io
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from nb2image.errors import BadWheel, NotAnImage, NotANotebook
from nb2image.image.filesystem import read_filesystem
from nb2image.image.model import Descriptor
from nb2image.image.names import parse_name
from nb2image.image.read import stored_images
from nb2image.index.pages import NoIndexPage, read_page
from nb2image.layers.entry import Entry, Link
from nb2image.layers.write import write_layer
from nb2image.notebook.document import read_notebook
from nb2image.wheels.archive import WheelArchive
from nb2image.wheels.metadata import read_metadata
from tests.unit.image.making import LAYER_TAR, MemoryLayer, image_of, sha256
from tests.unit.wheels.builder import METADATA, build_zip, save, wheel_parts

PAGE = "https://index.example/simple/demo/"
WANTED = "ab" * 32


@pytest.mark.parametrize("text", ["<![CDA[", "<![x", "<!a[<!b"])
def test_a_declaration_that_is_none_is_no_crash(text: str) -> None:
    """Some Pythons' `html.parser` raises AssertionError: then it is no page, otherwise one without files."""
    with suppress(NoIndexPage):
        assert read_page(text.encode(), "text/html", PAGE) == ()


@pytest.mark.parametrize("quote", ['"', "'"])
def test_an_anchor_inside_an_attribute_is_part_of_it(quote: str) -> None:
    link = f'<a title={quote}<a href="x-1.tar.gz#sha256={"cd" * 32}">{quote} href="demo-1.tar.gz#sha256={WANTED}">'
    every = read_page(link.encode(), "text/html", PAGE)
    some = read_page(link.encode(), "text/html", PAGE, {WANTED})
    assert [f for f in every if WANTED in f.hashes.values()] == [f for f in some if WANTED in f.hashes.values()]


@pytest.mark.parametrize(
    "header", ["a: [", "\ta: 1", "a: *x", "a: !!python/name:os.system x", "- a\n#   b: c", "? \x01"]
)
def test_a_percent_header_that_is_no_yaml_is_refused(tmp_path: Path, header: str) -> None:
    script = tmp_path / "n.py"
    script.write_text(f"# ---\n# jupyter:\n#   {header}\n# ---\n# %%\n1\n")
    with pytest.raises(NotANotebook, match="header of the percent script is no YAML"):
        read_notebook(script)


@pytest.mark.parametrize("repository", ["library/localhost/x", "a.b/x", "localhost/x"])
def test_a_familiar_name_never_means_another_registry(repository: str) -> None:
    name = parse_name(f"docker.io/{repository}")
    assert parse_name(name.familiar) == name
    assert name.familiar == f"docker.io/{repository}:latest"


def test_a_requirement_of_a_thousand_brackets_is_refused(tmp_path: Path) -> None:
    brackets = b"(" * 3000
    more = b"Version: 1.0\nRequires-Dist: x; " + brackets + b"os_name == 'a'" + brackets.replace(b"(", b")")
    data = build_zip(wheel_parts(metadata=METADATA.replace(b"Version: 1.0", more)))
    with WheelArchive(save(tmp_path, data)) as archive:
        found = read_metadata(archive)
        with pytest.raises(BadWheel, match="Requires-Dist is"):
            assert found.requires_dist


def _endless_record() -> bytes:
    """A tar whose pax header announces a record longer than any file."""
    records = b"99999999999999999999 path=x\n"
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    file = tarfile.TarInfo("etc/motd").tobuf(tarfile.USTAR_FORMAT)
    return info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0") + file + bytes(1024)


def test_an_endless_pax_record_is_no_crash(tmp_path: Path) -> None:
    """`tarfile` of some Pythons raises OverflowError: then it is no image; others pass over it."""
    raw = _endless_record()
    layer = MemoryLayer(Descriptor.of(LAYER_TAR, raw), sha256(raw), raw)
    with suppress(NotAnImage):
        assert read_filesystem(image_of(layer)).children("") == ["etc"]
    archive = tmp_path / "image.tar"
    archive.write_bytes(raw)
    with pytest.raises(NotAnImage):
        list(stored_images(archive))


def test_a_long_path_with_a_long_link_keeps_its_path() -> None:
    """The path fits into a ustar header, split; the link does not."""
    path = "n" * 98 + "/b/link"
    out = io.BytesIO()
    write_layer([Entry(path, 0o777, Link("t" * 101))], out.write)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(out.getvalue()))) as tar:
        info = tar.getmembers()[-1]
        assert (info.name, info.linkname) == (path, "t" * 101)
