from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from nb2image.index.pages import NoIndexPage, parse_time, read_page

PAGE = "https://index.example/simple/demo/"
V1 = "application/vnd.pypi.simple.v1+json"


def html(text: str, url: str = PAGE) -> list[tuple[str, str]]:
    return [(f.filename, f.url) for f in read_page(text.encode(), "text/html; charset=utf-8", url)]


def test_relative_links_start_at_the_page() -> None:
    text = '<a href="../../files/demo-1-py3-none-any.whl#sha256=ab">x</a><a href="/f/demo-1.tar.gz">y</a>'
    assert html(text) == [
        ("demo-1-py3-none-any.whl", "https://index.example/files/demo-1-py3-none-any.whl"),
        ("demo-1.tar.gz", "https://index.example/f/demo-1.tar.gz"),
    ]


def test_the_first_base_moves_relative_links() -> None:
    text = '<base href="/mirror/"><base href="/other/"><a href="demo-1.tar.gz">x</a>'
    assert html(text) == [("demo-1.tar.gz", "https://index.example/mirror/demo-1.tar.gz")]


def test_attributes_of_html_links_are_read() -> None:
    text = (
        '<a href="a-1%2B2-py3-none-any.whl#egg=a&amp;sha256=AB" data-requires-python="&gt;=3.8,&lt;4" data-yanked>x</a>'
        '<a href="b-1.tar.gz#sha512=cd" data-yanked="broken build" data-core-metadata="sha256=ee">y</a>'
    )
    first, second = read_page(text.encode(), "application/vnd.pypi.simple.v1+html", PAGE)
    assert first.filename == "a-1+2-py3-none-any.whl"
    assert first.hashes["sha256"] == "ab"
    assert (first.requires_python, first.yanked) == (">=3.8,<4", True)
    assert (second.hashes, second.yanked, second.requires_python) == ({"sha512": "cd"}, "broken build", None)


@pytest.mark.parametrize("href", ["", "#x", "..%2Fevil.whl", "a%5Cb.whl", "http://[bad/x.whl", "folder/", ".."])
def test_links_that_name_no_file_are_passed_over(href: str) -> None:
    assert html(f'<a href="{href}">x</a><a>y</a>', "https://index.example/simple/demo/") == []


def test_json_pages_keep_size_time_and_yanked_reason() -> None:
    rows = [
        {
            "filename": "demo-1-py3-none-any.whl",
            "url": "../../f/demo-1-py3-none-any.whl",
            "hashes": {"SHA256": "AB"},
            "size": 12,
            "upload-time": "2024-05-06T07:08:09.123456Z",
            "yanked": "bad",
            "requires-python": ">=3.8",
            "core-metadata": {"sha256": "ff"},
        },
        {"filename": "../evil.whl", "url": "x", "hashes": {}},
    ]
    document = {"meta": {"api-version": "1.4"}, "name": "demo", "files": rows}
    (file,) = read_page(json.dumps(document).encode(), V1, PAGE)
    assert file.url == "https://index.example/f/demo-1-py3-none-any.whl"
    assert (file.hashes, file.size, file.yanked, file.requires_python) == ({"sha256": "ab"}, 12, "bad", ">=3.8")
    assert file.upload_time == datetime(2024, 5, 6, 7, 8, 9, 123456, timezone.utc)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2024-05-06T07:08:09Z", 0), ("2024-05-06T07:08:09.5Z", 500000), ("yesterday", None), (3, None)],
)
def test_upload_times_may_have_any_fraction(text: object, expected: int | None) -> None:
    found = parse_time(text)
    assert (found.microsecond if found else None) == expected


@pytest.mark.parametrize(
    ("data", "content_type", "says"),
    [
        (b"{", V1, "PEP 691"),
        (b"[]", V1, "PEP 691"),
        (b'{"meta": {"api-version": "1.0"}, "files": [{"filename": "x"}]}', V1, "PEP 691"),
        (b'{"meta": {"api-version": "1.0"}, "files": [{"filename": "x", "url": "y", "hashes": "z"}]}', V1, "PEP 691"),
        (b'{"meta": {"api-version": "2.0"}, "files": []}', V1, "2.0"),
        (b'<meta name="pypi:repository-version" content="2.0">', "text/html", "2.0"),
        (b"PNG", "image/png", "image/png"),
        (b"", "", "(none)"),
        (b"[" * 100_000, V1, "PEP 691"),
    ],
)
def test_what_is_no_index_page_is_refused_with_its_reason(data: bytes, content_type: str, says: str) -> None:
    with pytest.raises(NoIndexPage) as caught:
        read_page(data, content_type, PAGE)
    assert says in str(caught.value)


def _wanted_page(kind: str) -> tuple[bytes, str]:
    wanted, other = "ab" * 32, "cd" * 32
    if kind == V1:
        rows = [
            {"filename": f"demo-{n}.tar.gz", "url": f"f{n}", "hashes": {"sha256": h.upper()}}
            for n, h in enumerate((other, wanted, other))
        ]
        return json.dumps({"meta": {"api-version": "1.0"}, "files": rows}).encode(), wanted
    links = [
        f'<a href="demo-0.tar.gz#sha256={other}">x</a> <!-- gone: ',
        f'<a href="demo-9.tar.gz#sha256={other}">x</a> -->',
        f'<a href="demo-3.tar.gz#sha256={other}">x</a>',
        f'<A HREF="demo-1.tar.gz#sha256={wanted.upper()}">x</A>',
        f'<a href="demo-2.tar.gz#sha256={other}">x</a>',
    ]
    return f"<!DOCTYPE html><base href='/f/'>{''.join(links)}<!--SERIAL 7-->".encode(), wanted


@pytest.mark.parametrize("kind", [V1, "text/html"])
def test_only_wanted_files_of_a_page_are_read_when_hashes_are_given(kind: str) -> None:
    data, wanted = _wanted_page(kind)
    everything = read_page(data, kind, PAGE)
    found = read_page(data, kind, PAGE, {wanted})
    assert [file for file in everything if file.hashes["sha256"] == wanted] == [
        file for file in found if file.hashes["sha256"] == wanted
    ]


@pytest.mark.parametrize("kind", [V1, "text/html"])
def test_files_that_nobody_asked_for_are_not_read(kind: str) -> None:
    hashes = [letter * 64 for letter in "abcdef"]
    rows = [{"filename": f"demo-{h[0]}.whl", "url": f"demo-{h[0]}.whl", "hashes": {"sha256": h}} for h in hashes]
    links = "".join(f'<a href="demo-{h[0]}.whl#sha256={h}" data-requires-python="&gt;=3.9">demo</a>' for h in hashes)
    # The last anchor stays beside the comment.
    page = f"<html><body>{links}<a href='/'>up</a></body></html><!--SERIAL 7-->"
    data = json.dumps({"meta": {"api-version": "1.0"}, "files": rows}) if kind == V1 else page
    for wanted in (hashes[:1], hashes[1:2], hashes[5:], hashes[::2]):
        found = [f.filename for f in read_page(data.encode(), kind, PAGE, set(wanted)) if f.hashes]
        assert found == [f"demo-{h[0]}.whl" for h in wanted]
    assert not [f for f in read_page(data.encode(), kind, PAGE, {"0" * 64}) if f.hashes]


def test_what_looks_like_a_file_inside_a_value_is_none() -> None:
    wanted = "a" * 64
    fake = f'<a href="demo-1.whl#sha256={wanted}">'
    page = f"<a title='{fake}' href=\"demo-2.whl#sha256={'b' * 64}\">demo</a>"
    assert [f.filename for f in read_page(page.encode(), "text/html", PAGE, {wanted})] == ["demo-2.whl"]
