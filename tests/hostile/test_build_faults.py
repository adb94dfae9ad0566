"""Faults of an index and of the network, as they meet who calls ``nb2image build``."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.index.plugin import machine, other_server, server
from tests.unit.index.server import (
    IndexServer,
    Reply,
    Request,
    basic,
    body,
    cut,
    guarded,
    html_page,
    json_page,
    redirect,
    stalled,
    status,
)
from tests.unit.world import Made, World, notebook, pipfile_lock, pylock, wheel, world

__all__ = ["machine", "other_server", "server", "world"]

_RANDOM = random.Random(11)


def made(name: str) -> Made:
    """A wheel of 300 kB that no compression makes smaller."""
    return wheel(name, files={f"{name}.bin": _RANDOM.randbytes(300_000)})


def hash_locked(made: Made, world: World) -> Path:
    """A notebook beside a Pipfile.lock, which names hashes only."""
    world.offer(made)
    (world.work / "Pipfile.lock").write_text(pipfile_lock(made, index=world.server.simple))
    return notebook(world.work, None)


def length(data: bytes, claimed: int) -> Reply:
    """All of the bytes under a wrong ``Content-Length``."""

    def reply(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("Content-Length", str(claimed))
        request.handler.end_headers()
        request.handler.wfile.write(data)
        request.handler.close_connection = True

    return reply


def drip(data: bytes) -> Reply:
    """A byte now and then."""

    def reply(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("Content-Length", str(len(data)))
        request.handler.end_headers()
        for n in range(120):
            request.handler.wfile.write(data[n : n + 1])
            time.sleep(0.1)

    return reply


def mixed(data: bytes) -> Reply:
    """Goes on with another file than it began with, whatever the entity tag."""

    def reply(request: Request) -> None:
        found = request.headers.get("Range")
        if found is None:
            cut(data[::-1], 100_000, tag='"one"')(request)
        else:
            start = int(found[6:-1])
            body(data)(Request(request.path, {"Range": f"bytes={start}-"}, request.handler))

    return reply


PAGE = b"<html>Please log in.</html>"


def silent(_: Request) -> None:
    time.sleep(3)


def passing(data: bytes) -> dict[str, Reply]:
    """Faults of one answer, after which all is well."""
    return {
        "busy": status(429),
        "wait": status(429, Retry_After="1"),
        "internal": status(500),
        "gateway": status(502, Retry_After="nonsense"),
        "unavailable": status(503),
        "reset": cut(data, 200_000),
        "closed": cut(data, 200_000, reset=False),
        "truncated": body(data[:1000]),
        "page": body(PAGE, Content_Type="text/html"),
        "longer": length(data, len(data) + 1000),
        "shorter": length(data, len(data) - 1000),
        "stalled": stalled(data, 100_000, 3),
        "silent": silent,
        "drip": drip(data),
        "mixed": mixed(data),
        "other-part": status(206, Content_Range="bytes 5-9/10"),
    }


def test_faults_that_pass_are_overcome_in_one_build_and_change_nothing(world: World) -> None:
    wheels = {name: made(f"fault-{name}") for name in passing(b"")}
    source = world.locked(*wheels.values())
    clean = world.run("build", source, "--base", world.base, "-o", "clean.tar", "--json")
    assert clean.returncode == 0, clean.stderr
    world.server.requests.clear()
    for name, each in wheels.items():
        world.server.on(f"/files/{each.filename}", passing(each.data)[name], body(each.data))
    done = world.run(
        *("build", source, "--base", world.base, "-o", "image.tar", "--json"),
        NB2IMAGE_CACHE_DIR=str(world.folder / "other"),
        PIP_TIMEOUT="0.5",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == json.loads(clean.stdout)["digest"]
    assert (world.work / "image.tar").read_bytes() == (world.work / "clean.tar").read_bytes()
    asked = world.server.paths()
    # Every fault was met: nothing came with the first answer.
    assert [name for name, each in wheels.items() if asked.count(f"/files/{each.filename}") < 2] == []


class Fault(NamedTuple):
    """A fault of every answer: exit code, what the message says, and further lines."""

    reply: Reply
    code: int
    says: str


LASTING_DATA = random.Random(12).randbytes(300_000)
LASTING = {
    "busy": Fault(status(429), 21, "answered 429 Too Many Requests"),
    "wait": Fault(status(429, Retry_After="1"), 21, "It asks to wait 1 s."),
    "internal": Fault(status(500), 21, "answered 500"),
    "gateway": Fault(status(502), 21, "answered 502"),
    "unavailable": Fault(status(503), 21, "answered 503"),
    "reset": Fault(cut(LASTING_DATA, 1000, tag=""), 20, "did not deliver"),
    "closed": Fault(cut(LASTING_DATA, 1000, reset=False, tag=""), 20, "it closed the connection in mid-answer"),
    "stalled": Fault(stalled(LASTING_DATA, 1000, 2), 20, "it stopped sending"),
    "silent": Fault(silent, 20, "it did not answer in time"),
    "drip": Fault(drip(LASTING_DATA), 20, "it sent"),
    "truncated": Fault(body(LASTING_DATA[:1000]), 23, "got:      1000 bytes"),
    "page": Fault(body(PAGE, Content_Type="text/html"), 23, "sent as:  text/html"),
    "packed": Fault(body(gzip.compress(LASTING_DATA[:200_000]), Content_Encoding="gzip"), 23, "content encoding gzip"),
    "another": Fault(body(LASTING_DATA), 23, "has another"),
    "loop": Fault(redirect("/loop"), 21, "in a circle"),
    "nowhere": Fault(redirect("file:///etc/passwd"), 21, "can be fetched"),
}


def test_faults_that_stay_end_in_one_sentence_and_leave_nothing(world: World) -> None:
    world.server.on("/loop", redirect("/loop"))
    before = {name: world.locked(made(f"lasting-{name}"), name=f"{name}.ipynb") for name in LASTING}
    for name, fault in LASTING.items():
        world.server.on(f"/files/{made(f'lasting-{name}').filename}", fault.reply)
    files = world.files()

    def failed(name: str) -> list[str]:
        cache = world.folder / "caches" / name
        done = world.run(
            *("build", before[name], "--base", world.base, "-o", f"{name}.tar"),
            NB2IMAGE_CACHE_DIR=str(cache),
            PIP_TIMEOUT="0.5",
        )
        fault, said = LASTING[name], done.stderr
        wrong = []
        if done.returncode != fault.code or fault.says not in said or said.count("error: ") != 1:
            wrong.append(f"{name}: {done.returncode} {said}")
        if "Traceback" in said or "unexpectedly" in said or done.stdout:
            wrong.append(f"{name}: {said}")
        wheels, unfinished = cache / "v1" / "wheels", cache / "v1" / "tmp"
        if wheels.exists() or (unfinished.exists() and list(unfinished.iterdir())):
            wrong.append(f"{name}: {list(cache.rglob('*'))}")
        return wrong

    with ThreadPoolExecutor(6) as pool:
        assert [line for lines in pool.map(failed, LASTING) for line in lines] == []
    assert world.files() == files


def test_an_index_whose_pages_fail_for_a_while_is_asked_again(world: World) -> None:
    alpha = made("alpha")
    source = hash_locked(alpha, world)
    page = f'<a href="{world.server.url}/files/{alpha.filename}#sha256={alpha.sha256}">x</a>'
    damaged = body(b"no gzip", Content_Type="text/html", Content_Encoding="gzip")
    replies = [status(503), status(429, Retry_After="1"), cut(page.encode(), 10), damaged, html_page(page)]
    world.server.on("/simple/alpha/", *replies)
    done = world.run("build", source, "--base", world.base, PIP_TIMEOUT="1")
    assert done.returncode == 0, done.stderr
    assert world.server.paths().count("/simple/alpha/") == len(replies)


@pytest.mark.parametrize("stated", ["larger", "smaller"])
def test_a_page_that_states_a_wrong_size_costs_no_cached_wheel(world: World, stated: str) -> None:
    alpha = made("alpha")
    source = hash_locked(alpha, world)
    first = world.run("build", source, "--base", world.base, "--json")
    assert first.returncode == 0, first.stderr
    (kept,) = (world.cache / "v1" / "wheels").rglob(alpha.sha256)
    inode = kept.stat().st_ino
    for part in ("records", "layers"):
        shutil.rmtree(world.cache / "v1" / part)
    size = len(alpha.data) + (7 if stated == "larger" else -7)
    row = {"filename": alpha.filename, "url": "../../files/gone", "hashes": {"sha256": alpha.sha256}, "size": size}
    world.server.on("/simple/alpha/", json_page([row]))
    again = world.run("build", source, "--base", world.base, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["digest"] == json.loads(first.stdout)["digest"]
    assert kept.stat().st_ino == inode


def test_a_resumed_download_sends_no_byte_twice(world: World) -> None:
    each = wheel("alpha", files={"alpha.bin": _RANDOM.randbytes(2_000_000)})
    source = world.locked(each)
    data, sent = each.data, []

    def pieces(request: Request) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        end = min(start + 700_000, len(data))
        sent.append((start, end))
        handler = request.handler
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", '"one"')
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start:end])
        handler.close_connection = True

    world.server.on(f"/files/{each.filename}", pieces)
    done = world.run("build", source, "--base", world.base)
    assert done.returncode == 0, done.stderr
    assert sent == [(at, min(at + 700_000, len(data))) for at in range(0, len(data), 700_000)]


def test_credentials_are_not_sent_where_an_index_redirects_to(world: World, other_server: IndexServer) -> None:
    alpha, login = made("alpha"), "me:s3cret"
    elsewhere = other_server.on("/elsewhere", body(alpha.data))
    source = notebook(world.work, pylock(alpha, url=f"{world.server.url}/private"))
    world.server.on(f"/private/{alpha.filename}", guarded(login, redirect(elsewhere)))
    done = world.run(
        "build", source, "--base", world.base, "--extra-index-url", world.server.with_login(login, "/private")
    )
    assert done.returncode == 0, done.stderr
    assert other_server.authorizations() == [None]
    assert basic(login) in world.server.authorizations()
