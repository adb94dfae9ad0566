"""Credentials of every kind that a build uses, and no byte of them in anything that it leaves behind or says."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest
from packaging.version import Version

from nb2image.errors import Unresolvable
from nb2image.index.settings import IndexSettings
from nb2image.lock.resolve import resolve_wheels
from nb2image.target.model import Platform, Target
from tests.hostile.searching import found_in, traces
from tests.reliability.kills import processes_of
from tests.unit.index.plugin import machine, server
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
    serving,
    status,
)
from tests.unit.world import Made, World, notebook, wheel, world

__all__ = ["machine", "server", "world"]

_MARK = "NB2IMAGE_TEST_MARK"


def token() -> str:
    """Of letters and digits: every encoding of text leaves it as it is."""
    return secrets.token_hex(12)


def proxied(login: str, reply: Reply) -> Reply:
    """A proxy that wants a login."""

    def checked(request: Request) -> None:
        good = request.headers.get("Proxy-Authorization") == basic(login)
        (reply if good else status(407, Proxy_Authenticate='Basic realm="proxy"'))(request)

    return checked


@dataclass
class Sources:
    """Indexes that each want another login, kept in another place; ``keys`` are their secrets by place."""

    arguments: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    servers: dict[str, IndexServer] = field(default_factory=dict)
    wheels: list[Made] = field(default_factory=list)

    def key(self, place: str) -> str:
        return self.keys.setdefault(place, token())

    def offered(self, place: str) -> Made:
        """The wheel that this place has and no other."""
        made = wheel(f"from-{place}")
        self.wheels.append(made)
        return made


def _rows(made: Made) -> list[dict[str, object]]:
    url = f"../../files/{made.filename}"
    return [{"filename": made.filename, "url": url, "hashes": {"sha256": made.sha256}, "size": len(made.data)}]


def _index(sources: Sources, place: str, stack: ExitStack, login: str | None, path: str = "", **host: str) -> str:
    """An index with one project behind a login; returns its URL without one."""
    index = stack.enter_context(serving(**host))
    made = sources.offered(place)
    replies = {
        f"{path}/simple/{made.name}/": json_page(_rows(made)),
        f"{path}/files/{made.filename}": body(made.data),
    }
    for where, reply in replies.items():
        index.on(where, guarded(login, reply) if login else reply)
    index.otherwise = guarded(login, status(404)) if login else status(404)
    sources.servers[place] = index
    return f"{index.url}{path}/simple"


@contextmanager
def every_source(world: World) -> Iterator[Sources]:
    found = Sources()
    home = Path(world.environ["HOME"])
    with ExitStack() as stack:
        url = _index(found, "argument", stack, f"me:{found.key('argument')}")
        found.arguments += ["--index-url", url.replace("://", f"://me:{found.keys['argument']}@")]

        # netrc knows hosts only, so this one has a name of its own.
        url = _index(found, "netrc", stack, f"me:{found.key('netrc')}", host="localhost")
        (home / ".netrc").write_text(f"machine localhost login me password {found.keys['netrc']}\n")
        (home / ".netrc").chmod(0o600)
        found.arguments += ["--extra-index-url", url]

        url = _index(found, "path", stack, None, f"/{found.key('path')}")
        found.variables["INDEX_TOKEN"] = found.keys["path"]
        found.arguments += ["--extra-index-url", url.replace(found.keys["path"], "${INDEX_TOKEN}")]

        url = _index(found, "uv", stack, f"me:{found.key('uv')}")
        found.variables |= {"UV_INDEX": f"corp={url}", "UV_INDEX_CORP_USERNAME": "me"}
        found.variables["UV_INDEX_CORP_PASSWORD"] = found.keys["uv"]
        found.arguments += ["--extra-index-url", url]

        url = _index(found, "keyring", stack, f"me:{found.key('keyring')}")
        program = home / "bin" / "keyring"
        answer = json.dumps({"username": "me", "password": found.keys["keyring"]})
        port = found.servers["keyring"].port
        # It takes its time, so that it is seen.
        program.write_text(f"#!/bin/sh\n/bin/sleep 0.3\ncase \"$*\" in *{port}*) echo '{answer}';; *) exit 1;; esac\n")
        program.chmod(0o755)
        found.arguments += ["--extra-index-url", url.replace("://", "://me@")]

        links, made = stack.enter_context(serving()), found.offered("links")
        login = f"me:{found.key('links')}"
        link = f'<a href="{made.filename}#sha256={made.sha256}">x</a>'
        links.on("/links/", guarded(login, html_page(link)))
        links.on(f"/links/{made.filename}", guarded(login, body(made.data)))
        found.servers["links"] = links
        found.arguments += ["--find-links", links.with_login(login, "/links/")]

        # pip's own index has the runner.
        login = f"me:{found.key('pip')}"
        for replies in world.server.replies.values():
            replies[:] = [guarded(login, reply) for reply in replies]
        found.servers["pip"] = world.server
        found.variables["PIP_INDEX_URL"] = world.server.with_login(login)

        proxy, made = stack.enter_context(serving()), found.offered("proxy")
        login = f"me:{found.key('proxy')}"
        proxy.on(f"http://index.example/simple/{made.name}/", proxied(login, json_page(_rows(made))))
        proxy.on(f"http://index.example/files/{made.filename}", proxied(login, body(made.data)))
        proxy.otherwise = proxied(login, status(404))
        found.servers["proxy"] = proxy
        found.variables |= {"http_proxy": proxy.with_login(login, "/"), "no_proxy": "127.0.0.1,localhost"}
        found.arguments += ["--extra-index-url", "http://index.example/simple"]
        yield found


@contextmanager
def watching(mark: str) -> Iterator[set[str]]:
    """Command lines of all processes with ``mark`` in their environment, looked at a hundred times per second."""
    lines: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            lines.update(processes_of(mark).values())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lines
    finally:
        ended.set()
        watcher.join()


def watched(
    command: list[str], environ: Mapping[str, str], cwd: Path
) -> tuple[subprocess.CompletedProcess[bytes], set[str]]:
    """Run a command; what came of it, and the command lines of what it started. Those that are its own, as forks have,
    are left out."""
    mark = secrets.token_hex(8)
    with watching(mark) as lines:
        variables = {**environ, _MARK: mark}
        done = subprocess.run(
            command, env=variables, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=120
        )
    return done, lines - {" ".join(command)}


def hash_lock(wheels: list[Made]) -> str:
    """A Pipfile.lock that names no index."""
    default = {w.name: {"version": f"=={w.version}", "hashes": [f"sha256:{w.sha256}"]} for w in wheels}
    meta = {"hash": {"sha256": "0" * 64}, "pipfile-spec": 6, "requires": {"python_version": "3.11"}, "sources": []}
    return json.dumps({"_meta": meta, "default": default, "develop": {}})


def test_a_build_leaves_no_trace_of_its_credentials(world: World) -> None:
    planted = token()
    left = world.folder / "left"
    left.mkdir()
    with every_source(world) as sources:
        # What is searched for this one too, and found, shows that the search finds what is there.
        control = wheel(
            "control", files={"control/data.txt": f"{planted}\n".encode() * 50}, metadata=f"Summary: {planted}\n"
        )
        world.offer(control)
        for path in (f"/simple/{control.name}/", f"/files/{control.filename}"):
            (reply,) = world.server.replies[path]
            world.server.on(path, guarded(f"me:{sources.keys['pip']}", reply))
        source = notebook(world.work, None, title=planted)
        (world.work / "Pipfile.lock").write_text(hash_lock([*sources.wheels, control]))
        environ = {**world.environ, **sources.variables, "NB2IMAGE_CACHE_DIR": str(left / "cache")}
        environ |= {"TMPDIR": str(left), "NB2IMAGE_DEBUG": "1"}
        common: list[str | Path] = [source, "--base", world.base, *sources.arguments, "--extra-index-url", "default"]
        outputs: list[str | Path] = ["-o", left / "image.tar", "-o", left / "layout", "--sbom", left / "sbom.json"]
        runs = {
            "plan": world.command("plan", *common, "--verbose"),
            "plan-json": world.command("plan", *common, "--json", "--verbose"),
            "build": world.command("build", *common, *outputs, "--json", "--verbose", "--progress", "json"),
            "again": world.command("build", *common, *outputs, "--verbose", "--progress", "plain"),
            "inspect": world.command("inspect", left / "image.tar", "--json"),
            "doctor": world.command("doctor"),
            "cache": world.command("cache", "info"),
        }
        lines: set[str] = set()
        for name, command in runs.items():
            done, started = watched(command, environ, world.work)
            assert done.returncode == 0 or name == "doctor", done.stderr.decode()
            (left / f"{name}.out").write_bytes(done.stdout)
            (left / f"{name}.err").write_bytes(done.stderr)
            lines |= started
        # Every secret was really used.
        seen = {place: [dict(r.headers) for r in index.requests] for place, index in sources.servers.items()}
        for place, key in sources.keys.items():
            names = ("Authorization", "Proxy-Authorization")
            logins = {headers.get(name) for headers in seen[place] for name in names}
            paths = {request.path for request in sources.servers[place].requests}
            assert basic(f"me:{key}") in logins or any(key in path for path in paths), place
    (left / "processes").write_text("\n".join(sorted(lines)))
    assert [line for line in lines if "keyring" in line]
    found = traces(left, [planted, *sources.keys.values()])
    with_planted = {name for name, keys in found.items() if planted in keys}
    assert {"image.tar", "sbom.json", "build.out", "plan.out", "plan-json.out", "inspect.out"} <= with_planted
    for part in ("cache/v1/wheels", "cache/v1/layers", "layout/blobs"):
        assert [name for name in with_planted if name.startswith(part)], part
    by_key = {key: place for place, key in sources.keys.items()}
    leaks = {name: sorted(by_key[key] for key in keys - {planted}) for name, keys in found.items() if keys - {planted}}
    assert leaks == {}


REFUSALS: dict[str, Reply] = {
    "unauthorised": status(401, WWW_Authenticate='Basic realm="x"'),
    "forbidden": status(403),
    "missing": status(404),
    "broken": status(500),
    "nonsense": body(b"{", Content_Type="application/vnd.pypi.simple.v1+json"),
    "cut": cut(b"<html>" + b" " * 1000, 500),
    "circle": redirect("/simple/alpha/"),
    "elsewhere": redirect("ftp://index.example/x"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_index_and_no_credentials(world: World, name: str) -> None:
    key = token()
    world.server.on("/simple/alpha/", REFUSALS[name])
    source = notebook(world.work, None)
    (world.work / "Pipfile.lock").write_text(hash_lock([wheel("alpha")]))
    for arguments, variables in (
        (["--index-url", world.server.with_login(f"me:{key}")], {}),
        ([], {"PIP_INDEX_URL": world.server.with_login(f"me:{key}")}),
        (["--index-url", f"{world.server.simple}?token=${{TOKEN}}"], {"TOKEN": key}),
    ):
        done = world.run("plan", source, "--base", world.base, *arguments, "-v", NB2IMAGE_DEBUG="1", **variables)
        assert done.returncode, name
        assert done.stderr.count("error: ") == 1
        assert f"127.0.0.1:{world.server.port}" in done.stderr or name == "elsewhere", done.stderr
        assert found_in((done.stdout + done.stderr).encode(), [key]) == set(), done.stderr
        assert traces(world.cache, [key]) == {}


def test_a_file_that_is_refused_shows_no_signature_of_its_url(world: World) -> None:
    """Index pages may hold signed URLs, whose query is a password."""
    key, made = token(), wheel("alpha")
    row = {"filename": made.filename, "url": f"../../files/x.whl?signature={key}", "hashes": {"sha256": made.sha256}}
    source = notebook(world.work, None)
    (world.work / "Pipfile.lock").write_text(hash_lock([made]))
    world.server.on("/simple/alpha/", json_page([row]))
    for reply in (status(403), body(b"other bytes"), cut(made.data, 10, tag="")):
        world.server.on(f"/files/x.whl?signature={key}", reply)
        done = world.run("build", source, "--base", world.base, "-v", PIP_TIMEOUT="1")
        assert done.returncode in {20, 21, 23}, done.stderr
        assert found_in(done.stderr.encode(), [key]) == set(), done.stderr
    world.server.on(f"/files/x.whl?signature={key}", body(made.data))
    done = world.run("build", source, "--base", world.base, "-o", "image.tar", "--json")
    assert done.returncode == 0, done.stderr
    (world.work / "out").write_text(done.stdout + done.stderr)
    assert traces(world.work, [key]) == {}
    assert traces(world.cache, [key]) == {}


def test_a_mirror_of_debian_shows_no_credentials(world: World) -> None:
    keys = {"source": token(), "proxy": token()}
    (world.folder / "sources.list").write_text(
        f"deb {world.server.with_login('me:' + keys['source'], '/debian')} bookworm main\n"
        f"deb {world.server.with_login('me:' + keys['source'], '/debian')} bookworm-security main\n"
    )
    with serving() as proxy:
        world.server.otherwise = proxy.otherwise = status(403)
        (world.folder / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{world.folder}/sources.list";\nDir::Etc::sourceparts "{world.folder}/none";\n'
            f'Acquire::http::Proxy "{proxy.with_login("me:" + keys["proxy"], "/")}";\n'
            'Acquire::https::Proxy "http://127.0.0.1:9";\n'
        )
        done, lines = watched(
            world.command("build", world.locked(wheel("alpha")), "--base", "bookworm", "--verbose"),
            {**world.environ, "APT_CONFIG": str(world.folder / "apt.conf"), "PATH": "/usr/bin:/bin"},
            world.work,
        )
        assert done.returncode == 21, done.stderr.decode()
        assert basic("me:" + keys["proxy"]) in {r.headers.get("Proxy-Authorization") for r in proxy.requests}
        assert basic("me:" + keys["source"]) in proxy.authorizations()
    assert found_in(done.stdout + done.stderr, keys.values()) == set()
    assert found_in("\n".join(lines).encode(), keys.values()) == set()
    assert traces(world.cache, keys.values()) == {}


def test_the_resolver_of_build_requirements_gets_credentials_unseen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"index": token(), "extra": token(), "links": token()}
    made, login = wheel("demo"), f"me:{keys['index']}"
    # PEP 658: uv reads the metadata beside a wheel.
    page = json_page([{**row, "core-metadata": True} for row in _rows(made)])
    world.server.on("/simple/demo/", guarded(login, page))
    metadata = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    world.server.on(f"/files/{made.filename}.metadata", guarded(login, body(metadata)))
    world.server.otherwise = guarded(login, status(404))
    left = world.folder / "left"
    left.mkdir()
    mark = secrets.token_hex(8)
    for name, value in {"TMPDIR": str(left), "UV_CACHE_DIR": str(left / "uv"), _MARK: mark}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = PurePosixPath("/usr/lib/python3/dist-packages")
    python = PurePosixPath("/usr/bin/python3.11")
    target = Target(Platform(), Version("3.11.2"), python, folder, Version("2.36"))
    with serving() as extra, serving() as links, watching(mark) as lines:
        extra.otherwise = guarded(f"me:{keys['extra']}", status(404))
        links.otherwise = guarded(f"me:{keys['links']}", html_page(""))
        settings = IndexSettings(
            indexes=(world.server.with_login(login),),
            extra=(extra.with_login(f"me:{keys['extra']}"),),
            find_links=(links.with_login(f"me:{keys['links']}", "/links/"),),
        )
        lock = resolve_wheels(["demo"], target, settings, (), "build requirements")
        assert [str(package.version) for package in lock.packages] == ["1.0"]
        with pytest.raises(Unresolvable) as caught:
            resolve_wheels(["absent"], target, settings, (), "build requirements")
        world.server.otherwise = extra.otherwise = status(401)
        with pytest.raises(Unresolvable) as refused:
            resolve_wheels(["other"], target, settings, (), "build requirements")
        for index, key in ((world.server, "index"), (extra, "extra"), (links, "links")):
            assert basic(f"me:{keys[key]}") in index.authorizations()
    assert [line for line in lines if " compile " in line]
    said = [repr(error.value) + error.value.hint + "".join(error.value.details) for error in (caught, refused)]
    (left / "said").write_text("\n".join([*said, *lines, repr(lock)]))
    assert caught.value.details
    assert refused.value.details
    assert [path for path in (left / "uv").rglob("*") if path.is_file()]
    assert traces(left, keys.values()) == {}
