"""The page of ``nb2image inspect --html`` in a real browser."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nb2image.layers.entry import Link
from tests.browser.chromium import Tab
from tests.browser.conftest import Page
from tests.unit.image.making import files_of, image_of, layer_of

DESKTOP, PHONE = (1280, 900), (390, 844)

_TILES = """
[...document.querySelectorAll("#map .tile")].map((tile, n, all) => {
  const box = tile.getBoundingClientRect();
  const map = document.getElementById("map").getBoundingClientRect();
  return [tile.dataset.name, Number(tile.dataset.size), box.left - map.left, box.top - map.top, box.width, box.height,
    tile.classList.contains("inner") ? all.findIndex((other) => other.node === tile.node.parent) : -1];
})
"""


class Tile(NamedTuple):
    """An area of the map: CSS pixels from the map's corner. ``parent`` is the number of the tile around it, or -1."""

    name: str
    size: int
    x: float
    y: float
    width: float
    height: float
    parent: int

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def tiles(tab: Tab) -> list[Tile]:
    return [Tile(*row) for row in tab.run(_TILES)]


def outer(tab: Tab) -> list[Tile]:
    return [tile for tile in tiles(tab) if tile.parent == -1]


def crumbs(tab: Tab) -> list[str]:
    found = tab.run('[...document.querySelectorAll("#crumbs button")].map((each) => each.textContent)')
    assert isinstance(found, list)
    return found


def click_tile(tab: Tab, tile: Tile) -> None:
    """Click into a tile, at its heading, where none of what it holds lies."""
    tab.run('document.getElementById("map").scrollIntoView({ block: "center" })')
    left, top = tab.run('(({ left, top }) => [left, top])(document.getElementById("map").getBoundingClientRect())')
    tab.click(left + tile.x + 10, top + tile.y + 8)


def focused(tab: Tab) -> str:
    return str(tab.run("document.activeElement.dataset.name ?? ''"))


def assert_proportional(siblings: list[Tile]) -> None:
    """Every area has the same pixels per byte: within 1 %, or a fiftieth of a pixel along its edges."""
    scale = sum(tile.area for tile in siblings) / sum(tile.size for tile in siblings)
    for tile in siblings:
        wanted = tile.size * scale
        assert abs(tile.area - wanted) <= max(0.01 * wanted, (tile.width + tile.height) / 50), tile


def assert_apart(siblings: list[Tile]) -> None:
    """No two share more than the rounding of an edge (Chromium places boxes on sixty-fourths of a pixel)."""
    for a, b in itertools.combinations(siblings, 2):
        width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
        height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
        assert width <= 1 / 32 or height <= 1 / 32, (a, b)


def assert_sound(tab: Tab) -> None:
    """The map is a treemap: areas in proportion, apart from one another, each within what holds it."""
    found = tiles(tab)
    assert found
    for parent in {tile.parent for tile in found}:
        siblings = [tile for tile in found if tile.parent == parent]
        assert_proportional(siblings)
        assert_apart(siblings)
        if parent == -1:
            width, height = tab.run(
                "[map.clientWidth, map.clientHeight]".replace("map", 'document.getElementById("map")')
            )
            x, y = 0.0, 0.0
        else:
            around = found[parent]
            x, y, width, height = around.x, around.y, around.width, around.height
        for tile in siblings:
            assert tile.x >= x - 0.05
            assert tile.y >= y - 0.05
            assert tile.x + tile.width <= x + width + 0.05
            assert tile.y + tile.height <= y + height + 0.05


def test_the_page_asks_for_nothing_but_itself(tab: Tab, example: Page) -> None:
    tab.open(example.url)
    click_tile(tab, outer(tab)[0])
    tab.wait("document.querySelectorAll('#crumbs button').length === 2")
    assert {url for url in tab.requests if not url.startswith("data:")} == {example.url}


@pytest.mark.parametrize(("width", "height"), [DESKTOP, PHONE])
def test_areas_are_proportional_to_sizes_and_none_overlap(tab: Tab, example: Page, width: int, height: int) -> None:
    tab.size(width, height, mobile=width == PHONE[0])
    tab.open(example.url)
    parts = {part["size"]: part["title"] for part in example.document["parts"]}
    seen = outer(tab)
    for tile in seen:
        assert tile.name.startswith(parts[tile.size])
    # What is smaller than a pixel and a half is not drawn.
    missing = set(parts) - {tile.size for tile in seen}
    assert sum(missing) < 0.005 * sum(parts)
    assert_sound(tab)
    area = tab.run('(({ clientWidth, clientHeight }) => clientWidth * clientHeight)(document.getElementById("map"))')
    assert sum(tile.area for tile in seen) == pytest.approx(area, rel=0.01)
    for number in range(3):
        tab.run("location.hash = ''")
        tab.wait("document.querySelectorAll('#crumbs button').length === 1")
        click_tile(tab, seen[number])
        tab.wait("document.querySelectorAll('#crumbs button').length === 2")
        assert_sound(tab)


def test_the_page_shows_what_the_document_says(tab: Tab, example: Page) -> None:
    tab.open(example.url)
    text = tab.run("document.body.innerText")
    document = example.document
    assert document["digest"] in text
    assert document["base"]["name"] in text
    assert "/opt/kernel holds exactly these" in text
    cells = "[...row.cells].map((cell) => cell.innerText)"
    rows = tab.run(f'[...document.querySelectorAll("#packages tbody tr")].map((row) => {cells})')
    told = {(each["name"], each["version"], each["environment"] or "Debian") for each in document["packages"]}
    assert {tuple(row[:3]) for row in rows} == told
    assert tab.run('document.querySelectorAll("#layers tbody tr").length') == len(document["layers"])


def test_a_click_zooms_in_and_the_way_back_is_the_browsers_and_the_trails(tab: Tab, example: Page) -> None:
    tab.open(example.url)
    kernel = next(tile for tile in outer(tab) if tile.name.startswith("kernel ("))
    click_tile(tab, kernel)
    tab.wait("document.querySelectorAll('#crumbs button').length === 2")
    assert crumbs(tab) == ["image", "kernel (/opt/kernel)"]
    inside = {package["size"] for package in example.document["packages"] if package["environment"] == "/opt/kernel"}
    assert {tile.size for tile in outer(tab)} <= inside
    package = outer(tab)[0]
    click_tile(tab, package)
    tab.wait("document.querySelectorAll('#crumbs button').length === 3")
    assert crumbs(tab)[-1] == package.name
    assert package.name in tab.run('document.getElementById("list-title").textContent')
    tab.run("history.back()")
    tab.wait("document.querySelectorAll('#crumbs button').length === 2")
    tab.run('document.querySelector("#crumbs button").click()')
    tab.wait("document.querySelectorAll('#crumbs button').length === 1")
    assert {tile.name for tile in outer(tab)} >= {kernel.name}


def test_the_map_can_be_walked_with_the_keyboard(tab: Tab, example: Page) -> None:
    tab.open(example.url)
    first = outer(tab)[0].name
    for _ in range(20):
        tab.press("Tab")
        if focused(tab):
            break
    assert focused(tab) == first
    assert first in tab.run('document.getElementById("tip").innerText')
    tab.press("ArrowRight")
    right = focused(tab)
    assert right != first
    tab.press("ArrowLeft")
    assert focused(tab) == first
    tab.press("Enter")
    tab.wait("document.querySelectorAll('#crumbs button').length === 2")
    assert crumbs(tab)[-1] == first
    assert focused(tab) == outer(tab)[0].name
    tab.press("Escape")
    tab.wait("document.querySelectorAll('#crumbs button').length === 1")
    assert focused(tab) == first


def test_pointing_says_who_brought_a_file_and_in_which_layer(tab: Tab, example: Page) -> None:
    tab.open(example.url)
    path = "/opt/nb2image/source/anscombe.ipynb"  # of which the one in the work folder is a hard link
    notebook = next(file for file in example.document["files"] if file["path"] == path)
    tab.run("[...document.querySelectorAll('#legend button')].find((b) => b.innerText.startsWith('notebook')).click()")
    tab.wait("document.querySelectorAll('#crumbs button').length === 2")
    tile = next(each for each in tiles(tab) if each.name == "anscombe.ipynb")
    left, top = tab.run('(({ left, top }) => [left, top])(document.getElementById("map").getBoundingClientRect())')
    tab.point(left + tile.middle[0], top + tile.middle[1])
    tab.wait('!document.getElementById("tip").hidden')
    said = tab.run('document.getElementById("tip").innerText')
    assert path in said
    assert "brought by the notebook" in said
    assert f"layer {notebook['layer'] + 1} (notebook)" in said


def test_what_is_searched_for_is_listed_and_stands_out(tab: Tab, example: Page) -> None:
    tab.open(example.url)
    tab.run('document.getElementById("search").focus()')
    tab.type("openblas")
    tab.wait('document.getElementById("list-title").textContent.startsWith("Found")')
    hits = [file for file in example.document["files"] if "openblas" in file["path"]]
    first = max(hits, key=lambda file: file["size"])
    assert first["path"] in tab.run('document.querySelector("#list tbody tr").innerText')
    shown = tab.run('[...document.querySelectorAll(".tile:not(.dim)")].map((tile) => tile.dataset.name)')
    assert [name.partition(" ")[0] for name in shown] == ["kernel", "numpy"]
    tab.run('document.querySelector("#list tbody button").click()')
    tab.wait("document.querySelectorAll('#crumbs button').length > 2")
    assert crumbs(tab)[2].startswith("numpy ")


def test_a_table_is_sorted_by_the_head_that_is_clicked(tab: Tab, example: Page) -> None:
    tab.open(example.url)
    names = 'const names = [...document.querySelectorAll("#packages tbody tr")].map((row) => row.cells[0].innerText);'
    tab.run('document.querySelector("#packages th button").click()')
    assert tab.run(f"{{ {names} JSON.stringify(names) === JSON.stringify([...names].sort()) }}")
    tab.run('document.querySelector("#packages th button").click()')
    assert tab.run(f"{{ {names} JSON.stringify(names) === JSON.stringify([...names].sort().reverse()) }}")
    assert tab.run('document.querySelector("#packages th").getAttribute("aria-sort")') == "descending"


# The contrast ratio of WCAG 2.2 (1.4.3) of every text against the nearest background behind it.
_CONTRAST = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb(colour).map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (rgb(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = {};
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility() || node.closest("script, noscript")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const kind = `${node.parentElement.className} ${node.tagName}.${node.className}`;
    found[kind] = Math.min(found[kind] ?? 21, ratio);
  }
  return found;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [DESKTOP, PHONE])
def test_the_page_can_be_read_in_light_and_dark_on_desks_and_phones(
    tab: Tab, example: Page, screenshots: Path, scheme: str, width: int, height: int
) -> None:
    tab.size(width, height, mobile=width == PHONE[0])
    tab.scheme(scheme)
    tab.open(example.url)
    paper = tab.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(paper) > 3 * 128) == (scheme == "light")
    contrast = tab.run(_CONTRAST)
    assert len(contrast) > 10
    assert {kind: ratio for kind, ratio in contrast.items() if ratio < 4.5} == {}
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    picture = screenshots / f"inspect-{scheme}-{width}.png"
    tab.screenshot(picture)
    assert picture.stat().st_size > 10_000


NASTY = (
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=2>",
    "\"'><svg onload=window.pwned=3>",
    "<!--<script>",
    "${window.pwned=4}{{window.pwned=5}}",
    "gnp.\u202eexe\u2066",
    "\x1b]0;owned\x07\r\n",
    "__proto__",
    "constructor",
    "\ud7ff\U0001f4a5",
    "\u2028\u2029",
    "javascript:window.pwned=6",
)


def nasty_page(page_of: Callable[..., Page]) -> Page:
    files: dict[str, bytes | Link] = {}
    for number, name in enumerate(NASTY):
        plain = name.replace("/", "|")
        files[f"srv/{plain}/{plain}.txt"] = bytes(1000 * (number + 1))
        files[f"srv/link {plain}"] = Link(name)
        # Names of packages and versions, as RECORD and dpkg's status have them.
        info = f"opt/kernel/lib/python3.11/site-packages/{plain}-{plain}.dist-info"
        files[f"{info}/RECORD"] = f"{plain}.py,,5\n{plain}-{plain}.dist-info/RECORD,,\n".encode()
    files["srv/not utf-8 \udcff"] = b"1"
    stanzas = (
        f"Package: {' '.join(name.split())}\nVersion: {name!r}\nStatus: install ok installed\n" for name in NASTY
    )
    files["var/lib/dpkg/status"] = "\n".join(stanzas).encode()
    files["etc/os-release"] = f'PRETTY_NAME="{NASTY[0]}"\n'.encode()
    image = image_of(files_of(files), User=NASTY[1])
    labels = {
        "io.nb2image.version": NASTY[0],
        "io.nb2image.notebook": NASTY[0],
        "io.nb2image.mode": NASTY[2],
        "io.nb2image.python": NASTY[1],
        "org.opencontainers.image.title": NASTY[2],
        "org.opencontainers.image.base.name": NASTY[0],
    }
    return page_of(type(image)(image.config.with_labels(labels), image.layers))


def test_names_made_to_deceive_are_only_ever_text(tab: Tab, page_of: Callable[..., Page]) -> None:
    page = nasty_page(page_of)
    tab.open(page.url)
    for _ in range(6):
        tab.press("Tab")
    tab.run('for (const each of document.querySelectorAll("#packages td button, #legend button")) each.click()')
    for name in NASTY:
        tab.run('{ const box = document.getElementById("search"); box.value = ""; box.focus(); }')
        tab.type(name[:6])
        tab.wait('document.getElementById("list-title").textContent.startsWith("Found")')
        tab.run('document.querySelector("#list tbody button")?.click()')
    assert tab.run("window.pwned === undefined")
    assert tab.run("[document.scripts.length, document.images.length, document.querySelectorAll('svg').length]") == [
        2,
        0,
        0,
    ]
    assert tab.run("Object.prototype.hasOwnProperty.call(Object.prototype, 'size')") is False
    text = tab.run("document.documentElement.textContent + document.title")
    assert "</script><script>" in text
    assert not {c for c in "\u202e\u2066\x1b\x07\u2028" if c in text}
    assert {url for url in tab.requests if not url.startswith("data:")} == {page.url}
    tab.run("location.hash = ''")
    assert_sound(tab)


def test_an_image_that_nb2image_did_not_build_is_drawn_by_its_packages(tab: Tab, page_of: Callable[..., Page]) -> None:
    site = "usr/lib/python3/site-packages"
    below = files_of({"data/large": bytes(50_000), "data/gone": bytes(10_000)})
    above = files_of(
        {
            f"{site}/demo/__init__.py": bytes(30_000),
            f"{site}/demo-1.0.dist-info/RECORD": b"demo/__init__.py,,30000\ndemo-1.0.dist-info/RECORD,,\n",
            "data/.wh.gone": b"",
        }
    )
    tab.open(page_of(image_of(below, above)).url)
    assert "nb2image did not build it" in tab.run("document.body.innerText")
    assert [(tile.name, tile.size) for tile in outer(tab)] == [
        ("owned by no package", 50_000),
        ("Python packages (/usr)", 30_052),
    ]
    assert "9.8 KiB in 1 file that later layers hide" in tab.run("document.body.innerText")
    assert_sound(tab)


def test_folders_nested_a_thousand_deep_are_drawn(tab: Tab, page_of: Callable[..., Page]) -> None:
    page = page_of(image_of(layer_of([("/".join("d" * depth + "f"), bytes(100)) for depth in range(1, 1000)])))
    tab.open(page.url)
    assert_sound(tab)
    tab.run("location.hash = '#0' + '.0'.repeat(900)")
    tab.wait("document.querySelectorAll('#crumbs button').length > 900")


def test_an_image_without_files_has_a_page(tab: Tab, page_of: Callable[..., Page]) -> None:
    tab.open(page_of(image_of(files_of({}))).url)
    assert tab.run('document.getElementById("map").innerText') == "Nothing here takes space."


def test_a_folder_of_very_many_files_keeps_its_areas_proportional(tab: Tab, page_of: Callable[..., Page]) -> None:
    files = {f"srv/{number:04}": bytes(number % 97 * 10 + 1) for number in range(1500)}
    tab.open(page_of(image_of(layer_of(files.items()))).url)
    click_tile(tab, outer(tab)[0])
    tab.wait("document.querySelectorAll('#crumbs button').length === 2")
    found = outer(tab)
    assert len(found) == 300
    assert sum(tile.size for tile in found) == sum(map(len, files.values()))
    assert any(tile.name == "1,201 smaller ones" for tile in found)
    assert_sound(tab)
