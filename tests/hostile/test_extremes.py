"""Input of a size that few have tried, through the real command; ``tests.bench.extremes`` builds the full sizes."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from isal import igzip

from tests.bench.extremes import built, giant_wheel, heavy_notebook, locked_giant, many_packages, sparse
from tests.hostile.images import files, layers
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, world

__all__ = ["machine", "server", "world"]

SITE = "opt/kernel/lib/python3.11/site-packages/"


def large_members(layout: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of what is larger than a megabyte, by name below site-packages."""
    found = {}
    for layer in layers(layout):
        with igzip.open(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[no-untyped-call]
            for member in tar:
                if member.size > 1 << 20:
                    content = tar.extractfile(member)
                    assert content is not None
                    value = hashlib.sha256()
                    while piece := content.read(1 << 20):
                        value.update(piece)
                    found[member.name.removeprefix(SITE)] = (member.size, value.hexdigest())
    return found


def test_a_wheel_with_a_file_of_more_than_4_gb_is_built(world: World) -> None:
    """Sizes beyond 32 bits in the zip file, the gzip trailer and the tar header, in little memory."""
    path = world.folder / "giant.whl"
    expected = giant_wheel(path, sparse(), deflated=4100, stored=20, level=1)
    assert expected["giant/deflated.bin"][0] > 1 << 32
    done, document = built(world, locked_giant(world, path))
    assert large_members(world.work / "layout") == expected
    assert document["packages"][0]["size"] == path.stat().st_size
    assert done.together < 200e6
    assert world.unfinished() == []


def test_hundreds_of_packages_are_built_in_as_many_layers_as_engines_mount(world: World) -> None:
    source, made = many_packages(world, 400)
    first, document = built(world, source)
    site = files(world.work / "layout", SITE)
    assert {f"package_{n:04}-1.0.dist-info/METADATA" for n in range(400)} <= site.keys()
    assert len(document["packages"]) == 400
    assert len(document["layers"]) <= 100
    assert first.together < 300e6
    asked = len(world.server.requests)
    built(world, source)
    assert world.server.requests[asked:] == []
    assert [package["name"] for package in document["packages"]] == sorted(each.name for each in made)


def test_a_notebook_of_many_megabytes_is_built_in_a_small_multiple_of_its_size(world: World) -> None:
    small, _ = built(world, heavy_notebook(world, 0), "small")
    source = heavy_notebook(world, 40_000_000)
    large, document = built(world, source)
    assert files(world.work / "layout", "work/")["heavy.ipynb"] == source.read_bytes()
    assert document["size"] > 20_000_000
    assert large.together - small.together < 3.5 * source.stat().st_size
