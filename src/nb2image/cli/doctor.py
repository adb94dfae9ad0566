"""``nb2image doctor``: what works here, what is missing, and what each is needed for."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click
from packaging.version import Version

from nb2image import __version__
from nb2image.errors import EngineRefused, IndexFailure, Nb2ImageError

if TYPE_CHECKING:
    from nb2image.engines.client import Engine

__all__ = ["doctor"]

_T = TypeVar("_T")
State = Literal["ok", "absent", "broken"]

_SECONDS = 5.0
"""How long anything on the network may take."""
_COLOURS: dict[State, str] = {"ok": "green", "absent": "yellow", "broken": "red"}
_INDEXES = "Wheels come from here, unless the lock names indexes of its own."
_MIRRORS = "Packages of the embedded Debian bases come from here; --base PATH needs none."


@dataclass(frozen=True)
class Check:
    """One line of the report. ``needed``: without it nothing can be built, so that being broken fails the command."""

    area: str
    name: str
    state: State
    detail: str
    purpose: str
    needed: bool = False


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
def doctor(as_json: bool) -> int:
    """Show which engines, tools, caches and indexes are usable here; exit code 1 when a needed one is broken."""
    parts = (_python, _cache, _indexes, _mirrors, _engines, _gpu, _tools)
    running = [_started(lambda part=part: list(part())) for part in parts]  # type: ignore[misc]
    checks = [check for future in running for check in future.result()]
    sound = not any(check.needed and check.state == "broken" for check in checks)
    if as_json:
        rows = [asdict(check) for check in checks]
        click.echo(json.dumps({"version": __version__, "ok": sound, "checks": rows}, indent=2, ensure_ascii=False))
    else:
        _print(checks)
    return 0 if sound else 1


def _print(checks: Sequence[Check]) -> None:
    click.echo(f"nb2image {__version__}")
    area = ""
    for check in checks:
        if check.area != area:
            area = check.area
            click.echo(f"\n{click.style(area, bold=True)}")
        state = click.style(f"{check.state:<6}", fg=_COLOURS[check.state])
        click.echo(f"  {state}  {check.name}: {check.detail}")
        click.echo(click.style(f"          {check.purpose}", dim=True))


def _started(work: Callable[[], _T]) -> Future[_T]:
    """Run in a thread that does not keep the process from ending."""
    future: Future[_T] = Future()

    def target() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed over to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=target, daemon=True).start()
    return future


# -- what a build needs ---------------------------------------------------------------------------


def _python() -> Iterator[Check]:
    detail = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    yield Check("Python", "interpreter", "ok", detail, "Runs nb2image; images bring a Python of their own.", True)


def _cache() -> Iterator[Check]:
    from nb2image.cache import Store

    purpose = "Keeps downloads and finished layers, so that they are made once."
    root = Store.default().root
    try:
        folder = Store(root).scratch()
    except Nb2ImageError as error:
        yield Check("Cache", "folder", "broken", error.message, purpose, True)
        return
    try:
        size = sum(used.size for used in Store(root).usage())
        free = shutil.disk_usage(root).free
        yield Check("Cache", "folder", "ok", f"{root}: holds {_shown(size)}, {_shown(free)} free", purpose, True)
        yield _links(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _links(folder: Path) -> Check:
    import hashlib

    from nb2image.image.copying import cloned_or_linked

    here = Path.cwd()
    purpose = "Layouts written here take their layers from the cache without copying them."
    source = folder / "link"
    data = b"nb2image"
    source.write_bytes(data)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    try:
        target = Path(tempfile.mkdtemp(prefix=".nb2image-", dir=here))
    except OSError as error:
        return Check("Cache", "links", "absent", f"{here} cannot be written: {error.strerror}", purpose)
    try:
        if not cloned_or_linked(source, digest, len(data), target / "link"):
            return Check("Cache", "links", "absent", f"{here} is on another file system; layers are copied", purpose)
        kind = "hard links" if (target / "link").samefile(source) else "reflinks"
        return Check("Cache", "links", "ok", f"{kind} from the cache to {here}", purpose)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _shown(size: float) -> str:
    from nb2image.sizes import shown

    return shown(size)


def _indexes() -> Iterator[Check]:
    from nb2image.index.credentials import redact
    from nb2image.index.settings import default_indexes

    urls = default_indexes()
    if not urls:
        yield Check("Indexes", "default", "absent", "pip is told to use none (no-index)", _INDEXES)
    for url, reason in _reached(urls, _ask_index):
        yield Check("Indexes", redact(url), "broken" if reason else "ok", reason or "answers", _INDEXES, True)


def _ask_index(url: str) -> None:
    from nb2image.index.client import IndexClient

    with IndexClient((url,), retries=0, timeout=_SECONDS) as client:
        client.project(url, "pip")


def _mirrors() -> Iterator[Check]:
    from nb2image.bases.debian.mirrors import Mirrors
    from nb2image.index.credentials import redact

    mirrors = Mirrors.of_this_machine()
    suites = {"main": "stable", "security": "stable-security"}
    urls = {
        f"{url.rstrip('/')}/dists/{suites[archive]}/InRelease": (archive, url)
        for archive, bases in mirrors.bases.items()
        for url in bases
    }
    if not urls:
        detail = "apt configures none; the dated snapshots are used"
        yield Check("Debian mirrors", "apt's configuration", "absent", detail, _MIRRORS)

    def ask(url: str) -> None:
        from nb2image.bases.debian.download import Archives

        with Archives(mirrors) as archives:
            archives.text(url, 1 << 20)

    for url, reason in _reached(list(urls), ask):
        archive, base = urls[url]
        # Not needed: the snapshots take over, and a base that is in the cache needs neither.
        yield Check(
            "Debian mirrors", archive, "broken" if reason else "ok", reason or f"{redact(base)} answers", _MIRRORS
        )


def _reached(urls: Sequence[str], ask: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Each URL with the reason why it is not reached in time, empty when it is."""
    running = [(url, _started(lambda url=url: ask(url))) for url in urls]  # type: ignore[misc]
    for url, future in running:
        try:
            future.result(_SECONDS)
        except TooLate:
            yield url, f"no answer within {_SECONDS:.0f} s"
        except IndexFailure as error:
            yield url, error.message
        else:
            yield url, ""


# -- what some commands need ----------------------------------------------------------------------


def _engines() -> Iterator[Check]:
    from nb2image.engines.client import Probe, probe
    from nb2image.engines.discovery import Kind, addresses

    purpose = "Takes images with --load and runs them; building needs no engine."
    found: list[Probe] = [probe(address) for address in addresses()]
    kinds: tuple[Kind, ...] = ("docker", "podman")
    for kind in kinds:
        of_kind = [item for item in found if item.address.kind == kind]
        if not of_kind:
            yield Check("Engines", kind, "absent", "nothing listens, and no program of that name is on PATH", purpose)
        for item in of_kind:
            if item.engine is None:
                yield Check("Engines", kind, "broken", f"{item.address}: {item.reason}", purpose)
                continue
            with item.engine as engine:
                rights = "rootless, " if engine.rootless else ""
                rights += "its user has one ID only and cannot load images of several, " if _one_user(engine) else ""
                detail = f"{engine.title} {engine.version}, {rights}{item.address}"
            yield Check("Engines", kind, "ok", detail, purpose)


def _one_user(engine: Engine) -> bool:
    try:
        return engine.one_user_only
    except EngineRefused:
        return False


def _gpu() -> Iterator[Check]:
    from nb2image.engines.nvidia import local_driver
    from nb2image.images import cuda_rules

    purpose = "Images built with --gpu run with it; `nb2image plan` says which driver a notebook needs."
    here = local_driver()
    if here is None:
        yield Check("GPUs", "NVIDIA driver", "absent", "none is loaded", purpose)
        return
    enough = [each for each in cuda_rules().drivers if Version(each.minimum) <= Version(here)]
    newest = f"enough for CUDA {enough[0].newest} and older" if enough else "older than any CUDA that nb2image knows"
    yield Check("GPUs", "NVIDIA driver", "ok", f"{here}, {newest}", purpose)


def _sandbox() -> Check:
    from nb2image.cache import Store
    from nb2image.progress import Silent
    from nb2image.sandbox.choose import Absent, choose_sandbox

    purpose = "Builds packages that have no wheel (--build-sdists); nothing else needs it."
    found = choose_sandbox(Store.default(), Silent())
    if isinstance(found, Absent):
        return Check("Tools", "sandbox", "absent", f"{found.reason}; {found.remedy}", purpose)
    with closing(found):
        return Check("Tools", "sandbox", "ok", found.title, purpose)


def _tools() -> Iterator[Check]:
    yield _sandbox()
    yield _tool("skopeo", ["--version"], "Copies layouts and archives into engines and registries.")
    yield _tool(
        "uv",
        ["--version"],
        "Can install a Python (`uv python install`) for bytecode, should that of the base not start here.",
    )


def _tool(name: str, arguments: Sequence[str], purpose: str) -> Check:
    program = shutil.which(name)
    if program is None:
        return Check("Tools", name, "absent", "not on PATH", purpose)
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("Tools", name, "broken", f"{program}: {error}", purpose)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    answer = lines[0] if lines else ""
    if done.returncode:
        reason = answer or f"exit code {done.returncode}"
        return Check("Tools", name, "broken", f"{program} does not work for user {os.getuid()}: {reason}", purpose)
    return Check("Tools", name, "ok", answer, purpose)
