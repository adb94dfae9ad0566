"""Where the fixed inputs are built by the real command, under conditions that must not matter."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.engines.daemons import Unavailable, private_folder
from tests.golden import hosts
from tests.golden.inputs import INPUTS, WHEELS, write_base
from tests.unit.index.server import serving
from tests.unit.world import World, make_world

GOLDEN = Path(__file__).with_name("images.json")
OWN, PLAIN = "own", "plain user"
"""As hosts: the Python that runs the tests, and one that an ordinary user runs. The others are versions."""

# The number of processes is that of the processors; what is small is written without any, but not here.
_START = """\
import pathlib, sys
import nb2image.environment, nb2image.images
nb2image.images._RUNNERS = pathlib.Path(sys.argv.pop(1))
workers = int(sys.argv.pop(1))
nb2image.environment.workers = lambda: workers
nb2image.environment._SERIAL = 0
from nb2image.cli import main
main()
"""


@dataclass(frozen=True)
class Conditions:
    host: str = OWN
    warm: bool = False
    umask: int = 0o022
    workers: int = 1
    folder: str = "work"
    environment: Mapping[str, str] = field(default_factory=lambda: {"LC_ALL": "C.UTF-8"})


@dataclass
class Place:
    world: World
    _pythons: dict[str, Path] = field(default_factory=dict)
    _warm: set[tuple[str, str]] = field(default_factory=set)
    _made: int = 0

    @cached_property
    def _wheel(self) -> Path:
        return hosts.build_wheel(self.world.folder / "dist")

    def python(self, host: str) -> Path:
        """An interpreter that has nb2image; raises `Unavailable` when this machine has no such Python."""
        if host not in self._pythons:
            if host == OWN:
                self._pythons[host] = Path(sys.executable)
            else:
                found = hosts.find_python_for_everybody() if host == PLAIN else hosts.find_python(host)
                folder = self.world.folder / f"venv-{len(self._pythons)}"
                self._pythons[host] = hosts.install(found, self._wheel, folder)
        return self._pythons[host]

    def build(self, name: str, conditions: Conditions) -> dict[str, Any]:
        """Build one of `INPUTS`; gives what the command says of it as JSON."""
        self.python(conditions.host)
        cache = f"cache-{PLAIN}" if conditions.host == PLAIN else "cache"
        if not conditions.warm:
            cache = f"cache-{self._made}"
        elif (name, cache) not in self._warm:
            self._run(name, Conditions(PLAIN if conditions.host == PLAIN else OWN), cache)
            self._warm.add((name, cache))
        return self._run(name, conditions, cache)

    def _run(self, name: str, conditions: Conditions, cache: str) -> dict[str, Any]:
        self._made += 1
        own = self.world.folder / f"run-{self._made}"
        folder = own / conditions.folder
        folder.mkdir(parents=True)
        INPUTS[name].write(folder)
        (self.world.folder / cache).mkdir(exist_ok=True)
        identity: dict[str, Any] = {}
        if conditions.host == PLAIN:
            for path in (self.world.folder / cache, own, *own.rglob("*")):
                os.chown(path, hosts.USER, hosts.USER, follow_symlinks=False)
            identity = {"user": hosts.USER, "group": hosts.USER, "extra_groups": []}
        words = ["build", *INPUTS[name].words, "--base", self.world.base, "--index-url", self.world.server.simple]
        words += ["--json", "--quiet", "--output", own / "layout"]
        start = [self.python(conditions.host), "-c", _START, self.world.runners, conditions.workers]
        variables = {"HOME": str(own), "NB2IMAGE_CACHE_DIR": str(self.world.folder / cache), **conditions.environment}
        done = subprocess.run(
            [str(word) for word in (*start, *words)],
            cwd=folder,
            env={**self.world.environ, **variables},
            umask=conditions.umask,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            **identity,
        )
        assert done.returncode == 0, done.stderr
        shutil.rmtree(own)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    @cached_property
    def images(self) -> dict[str, Any]:
        """What each of `INPUTS` comes to: the image's digest and, to tell where a change is, those of its parts."""
        built = {name: self.build(name, Conditions()) for name in INPUTS}
        return {
            name: {
                "digest": image["digest"],
                "base": image["base"]["digest"],
                "config": image["config"],
                "layers": [f"{layer['digest']} {layer['comment']}" for layer in image["layers"]],
            }
            for name, image in built.items()
        }


@contextlib.contextmanager
def make_place() -> Iterator[Place]:
    with private_folder("golden") as folder, serving() as server:
        # Everybody may enter, unlike the folders that pytest makes.
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        world = make_world(folder, home, server)
        world.base = write_base(folder / "golden-base")
        world.offer(*WHEELS)
        yield Place(world)


__all__ = ["GOLDEN", "OWN", "PLAIN", "Conditions", "Place", "Unavailable", "make_place"]
