"""No image makes an inspection fail otherwise than by `NotAnImage`."""

from __future__ import annotations

import contextlib
import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from nb2image.cli import inspection as tables
from nb2image.errors import NotAnImage, NotInImage
from nb2image.image.model import Image
from nb2image.inspection.document import document, file_rows, ownership_document
from nb2image.inspection.page import page
from nb2image.inspection.queries import ownership
from nb2image.layers.entry import HardLink, Link
from tests.unit.image.making import MemoryLayer, image_of, layer_of
from tests.unit.inspection.making import look

_PARTS = (
    *(
        "a",
        "b",
        "..",
        ".",
        "",
        "\n",
        "é",
        "\udcff",
        "\u202e",
        ".wh.a",
        ".wh.",
        ".wh..wh..opq",
        "__pycache__",
        "a.x.pyc",
    ),
    *("opt", "nb2image", "kernel", "pylock.toml", "usr", "lib", "etc", "os-release", "site-packages", "python3.11"),
    *("var", "dpkg", "info", "status", "a.list", "x-1.dist-info", "RECORD", "METADATA", "-.dist-info"),
)
_WORDS = (
    "a,,1\n",
    "../../x,,\n",
    '"',
    "Package: a\nStatus: x installed\n",
    "\n",
    "[[packages]]\n",
    "\r",
    "/opt/a\n",
    "\0",
)
paths = st.lists(st.sampled_from(_PARTS), min_size=1, max_size=6).map("/".join)
contents = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.lists(st.sampled_from(_WORDS), max_size=6).map(lambda words: "".join(words).encode()),
    paths.map(Link),
    paths.map(HardLink),
)
odd_layers = st.lists(st.tuples(paths, contents), max_size=10).map(layer_of)


@settings(max_examples=120, deadline=None)
@given(layers=st.lists(odd_layers, min_size=1, max_size=3), ours=st.booleans(), path=paths)
def test_an_odd_image_is_told_or_refused(layers: list[MemoryLayer], ours: bool, path: str) -> None:
    image = image_of(*layers)
    if ours:
        image = Image(image.config.with_labels({"io.nb2image.version": "1"}), image.layers)
    try:
        found = look(image)
    except NotAnImage:
        return
    for told in (document(found), file_rows(found, found.files)):
        json.dumps(told, ensure_ascii=False).encode()
    page(found).encode()
    assert sum(part.tally.files for part in found.parts) == len(found.files)
    hidden = sum(file.size for file in found.hidden)
    assert sum(layer.content for layer in found.layers) == found.total.size + hidden
    with contextlib.redirect_stdout(io.StringIO()) as out:
        tables.print_summary(found, every=True)
        tables.print_layers(found)
        tables.print_files(found, found.files)
        with contextlib.suppress(NotInImage):
            answer = ownership(found, path)
            tables.print_ownership(found, answer)
            json.dumps(ownership_document(found, answer), ensure_ascii=False).encode()
    assert out.getvalue().replace("\n", "").isprintable()
