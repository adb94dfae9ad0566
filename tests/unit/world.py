"""A whole small world for the pipeline: made-up wheels, a base of a few files, runners and an index on loopback.

Nothing of it runs, and nothing leaves this machine: facts are read from made-up ELF files, wheels hold a few lines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deflate
import pytest

import nb2image.images
from nb2image.build import Built, build
from nb2image.cache import Store
from nb2image.image.layout import write_layout
from nb2image.image.model import ImageIndex
from nb2image.layers.entry import HardLink, Link
from nb2image.plan import Request
from nb2image.progress import Listener, Silent
from tests.unit.bases.test_facts import AARCH64, DEBIAN, LIBC, elf
from tests.unit.image.making import files_of, image_of
from tests.unit.index.server import IndexServer, sha256
from tests.unit.notebook.making import document
from tests.unit.wheels.builder import Part, build_zip, hash_row

MINOR = "3.11"


@dataclass(frozen=True)
class Made:
    """A wheel: what a lock and an index say of it, and its bytes."""

    name: str
    version: str
    data: bytes = field(repr=False)
    requires: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def sha256(self) -> str:
        return sha256(self.data)


def wheel(
    name: str,
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    requires: Sequence[str] = (),
    metadata: str = "",
    record: Callable[[str], str] = str,
) -> Made:
    """A small wheel of ``files``, without them of one module; ``metadata`` are more lines of METADATA, and ``record``
    may spoil its RECORD."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    contents = dict(files) if files is not None else {f"{module}/__init__.py": f"# {name} {version}\n".encode() * 20}
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    contents[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}{metadata}".encode()
    )
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = "".join(hash_row(path, data) for path, data in contents.items()) + f"{info}/RECORD,,\n"
    contents[f"{info}/RECORD"] = record(rows).encode()
    # libdeflate is pinned; what zlib writes depends on the machine, and so would the hash of the wheel.
    parts = [Part(path, data, stream=bytes(deflate.deflate_compress(data, 6))) for path, data in contents.items()]
    return Made(name, version, build_zip(parts), tuple(requires))


RUNNERS = {
    "jupyter": (wheel("jupyterlab", "4.0"), wheel("lab-helper")),
    "batch": (wheel("papermill", "2.0"),),
    "support": (wheel("ipykernel", "7.0", requires=["comm>=0.1"]), wheel("comm", "0.2")),
}


def write_runners(folder: Path) -> Path:
    """Runner locks as those of ``images/runners``, of the wheels in `RUNNERS`."""
    folder.mkdir()
    for name, wheels in RUNNERS.items():
        lines = [f"{w.name}=={w.version} \\\n    --hash=sha256:{w.sha256}\n" for w in wheels]
        (folder / f"{name}-{MINOR}.txt").write_text("".join(lines))
    support = {
        w.name: {"version": w.version, "requires_dist": list(w.requires), "requires_python": ">=3.9"}
        for w in RUNNERS["support"]
    }
    (folder / f"support-{MINOR}.json").write_text(json.dumps(support))
    return folder


def pylock(*wheels: Made, url: str) -> str:
    """A PEP 751 lock of these wheels, whose files are to be had below ``url``."""
    lines = ['lock-version = "1.0"', 'created-by = "a test"', f'requires-python = "=={MINOR}.*"']
    lines += [] if wheels else ["packages = []"]
    for each in wheels:
        lines += ["[[packages]]", f'name = "{each.name}"', f'version = "{each.version}"']
        where = f'url = "{url}/{each.filename}", size = {len(each.data)}'
        lines.append(f'wheels = [{{{where}, hashes = {{sha256 = "{each.sha256}"}}}}]')
    return "\n".join(lines) + "\n"


def pipfile_lock(*wheels: Made, index: str) -> str:
    """The same in the format that names hashes only."""
    return json.dumps(
        {
            "_meta": {
                "hash": {"sha256": "0" * 64},
                "pipfile-spec": 6,
                "requires": {"python_version": MINOR},
                "sources": [{"name": "main", "url": index, "verify_ssl": True}],
            },
            "default": {w.name: {"version": f"=={w.version}", "hashes": [f"sha256:{w.sha256}"]} for w in wheels},
            "develop": {},
        }
    )


def notebook(folder: Path, lock: str | None, name: str = "analysis.ipynb", **metadata: Any) -> Path:
    """A notebook that carries a PEP 751 lock, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, **metadata}
    if lock is not None:
        values["pylock.toml"] = lock
    cell: dict[str, Any] = {
        "cell_type": "code",
        "source": "print('hello')",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    (folder / name).write_text(json.dumps(document(values, [cell])))
    return folder / name


def write_base(path: Path, extra_layers: int = 0) -> Path:
    """An OCI layout of a base with Python 3.11 and glibc 2.36."""
    layers = [files_of(DEBIAN), *(files_of({f"etc/layer-{n}": b""}) for n in range(extra_layers))]
    write_layout(image_of(*layers, Env=["PATH=/usr/local/bin:/usr/bin"]), ["base:1"], path, Silent())
    return path


def write_base_for_both(path: Path) -> Path:
    """The same for linux/amd64 and linux/arm64, as an index."""
    loader = "lib/ld-linux-aarch64.so.1"
    arm: dict[str, bytes | Link | HardLink] = {
        path.replace("x86_64", "aarch64"): content for path, content in DEBIAN.items() if "ld-linux" not in path
    }
    arm["usr/bin/python3.11"] = elf("3.11.2", "2.5.0", "3.40.1", machine=AARCH64, loader=f"/{loader}")
    arm[f"usr/{loader}"] = elf(loader=None, machine=AARCH64)
    arm["usr/lib/aarch64-linux-gnu/libc.so.6"] = LIBC
    env = ["PATH=/usr/local/bin:/usr/bin"]
    images = image_of(files_of(DEBIAN), Env=env), image_of(files_of(arm), architecture="arm64", Env=env)
    write_layout(ImageIndex(images), ["base:1"], path, Silent())
    return path


@dataclass
class World:
    """A folder with a base, an index that has the runners' wheels, and a machine that is configured for it."""

    folder: Path
    server: IndexServer
    base: Path
    runners: Path
    environ: dict[str, str]

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def offer(self, *wheels: Made) -> None:
        """Put wheels on the index."""
        for each in wheels:
            self.server.project(each.name, {each.filename: each.data})

    def locked(self, *wheels: Made, name: str = "analysis.ipynb") -> Path:
        """A notebook that locks these wheels, which the index has."""
        self.offer(*wheels)
        return notebook(self.work, pylock(*wheels, url=f"{self.server.url}/files"), name)

    def request(self, source: Path, **changes: Any) -> Request:
        return Request(source, base=str(self.base), **changes)

    def build(self, source: Path, *, cache: str = "cache", listener: Listener | None = None, **changes: Any) -> Built:
        """Build in this process."""
        return build(self.request(source, **changes), Store(self.folder / cache), listener or Silent())

    def command(self, *arguments: str | Path) -> list[str]:
        """The real command, with the world's runners in place of those that need an index of the real world."""
        start = (
            "import sys, pathlib, nb2image.images\n"
            "nb2image.images._RUNNERS = pathlib.Path(sys.argv.pop(1))\n"
            "from nb2image.cli import main\n"
            "main()"
        )
        return [sys.executable, "-c", start, str(self.runners), *map(str, arguments)]

    def run(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.work,
            env={**self.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def pushed(self, source: Path, base: str | Path, *names: str, more: Sequence[str | Path] = ()) -> dict[str, Any]:
        """What ``build --push --json`` prints."""
        tags = [word for name in names for word in ("-t", name)]
        done = self.run("build", source, "--base", base, "--push", *tags, "-q", "--json", *more)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @property
    def layers(self) -> set[str]:
        """Digests of the layers whose bytes are in the cache."""
        return {f"sha256:{path.name}" for path in (self.cache / "v1/layers").rglob("*") if path.is_file()}

    def unfinished(self) -> list[Path]:
        """What stands in the cache's folder of files being written."""
        folder = self.cache / "v1" / "tmp"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def files(self) -> set[str]:
        """Everything in the work folder."""
        return {str(path.relative_to(self.work)) for path in self.work.rglob("*")}


def make_world(folder: Path, home: Path, server: IndexServer) -> World:
    (folder / "work").mkdir()
    (home / "bin").mkdir()
    environ = {
        "HOME": str(home),
        "PATH": str(home / "bin"),
        "LANG": "C.UTF-8",
        "NB2IMAGE_CACHE_DIR": str(folder / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": server.simple,
        "PIP_TIMEOUT": "5",
        "UV_NO_CONFIG": "1",
        "DOCKER_HOST": f"unix://{folder}/no-engine.sock",
    }
    world = World(folder, server, write_base(folder / "base"), write_runners(folder / "runners"), environ)
    for wheels in RUNNERS.values():
        world.offer(*wheels)
    return world


@pytest.fixture
def world(tmp_path: Path, machine: Path, server: IndexServer, monkeypatch: pytest.MonkeyPatch) -> World:
    """A `World` for this process and for commands started from it."""
    made = make_world(tmp_path, machine, server)
    for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL", "UV_NO_CONFIG", "DOCKER_HOST", "NB2IMAGE_CACHE_DIR"):
        monkeypatch.setenv(name, made.environ[name])
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(nb2image.images, "_RUNNERS", made.runners)
    return made
