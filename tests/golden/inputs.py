"""Three inputs of which every byte is fixed: a base, wheels, and a notebook, a percent script and a repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nb2image.image.layout import write_layout
from nb2image.progress import Silent
from tests.unit.bases.test_facts import DEBIAN
from tests.unit.image.making import LAYER_TAR, files_of, image_of
from tests.unit.notebook.making import document
from tests.unit.world import Made, pipfile_lock, pylock, wheel

INDEX = "https://index.example/simple"
"""What the locks name; builds are told another one, since the port of a test's own changes."""

_TEXT = "".join(f"line {n * n % 977} of a module that is neither random nor constant\n" for n in range(20_000)).encode()

WHEELS = (
    wheel("alpha", "1.0", {"alpha/__init__.py": b"answer = 42\n" * 300, "shared/notice.txt": b"alpha's\n"}),
    wheel("beta", "2.1.post3", {"beta/text.py": _TEXT, "beta/empty.py": b"", "shared/notice.txt": b"beta's\n"}),
    wheel("gamma-tools", "0.3", {
        # Of three wheels that bring this path, this one is in another layer.
        "shared/notice.txt": b"gamma's\n",
        "gamma_tools/größe.txt": "naïve, 漢字\n".encode(),
        "gamma_tools/" + "deep/" * 40 + "x.py": b"x = 1\n",
        "gamma_tools-0.3.data/scripts/gamma": b"#!python\nprint('gamma')\n",
        "gamma_tools-0.3.data/data/share/gamma/table.csv": b"1,2\n" * 1000,
        "gamma_tools-0.3.dist-info/entry_points.txt": b"[console_scripts]\ngamma-run = gamma_tools.deep:run\n",
    }, requires=["alpha>=1", "delta; python_version < '3.8'"], metadata="License-Expression: MIT OR Apache-2.0\n"),
    wheel("delta", "5", metadata="License: BSD\nClassifier: License :: OSI Approved :: BSD License\n"),
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """``files`` of a folder (name: content, or the target of a link), and the words of ``build`` that are its own."""

    files: Mapping[str, bytes | str]
    words: tuple[str, ...]
    executable: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)
                path.chmod(0o744 if name in self.executable else 0o644)


def _notebook(title: str, **metadata: str) -> bytes:
    spec = {"name": "own", "display_name": "Eigener Kern 🩷", "language": "python"}
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": [f"# {title}\n", "and a text"]},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "1 + 1", "outputs": [], "execution_count": None},
    ]
    return json.dumps(document({"kernelspec": spec, **metadata}, cells), indent=1, sort_keys=True).encode()


def _requirements(*wheels: Made) -> bytes:
    return "".join(f"{w.name}=={w.version} --hash=sha256:{w.sha256}\n" for w in wheels).encode()


_SCRIPT = """\
# ---
# title: Gezeiten
# ---

# %% [markdown]
# # Tides

# %%
import alpha
print(alpha.answer)

# %% tags=["parameters"]
port = "Brest"
"""

INPUTS = {
    "notebook": Input(
        {"Prüfung.ipynb": _notebook("Prüfung <b>eins</b>", **{"pylock.toml": pylock(*WHEELS, url=INDEX)})},
        ("Prüfung.ipynb",),
    ),
    "script": Input(
        {"tides.py": _SCRIPT.encode(), "requirements.txt": _requirements(*WHEELS[:2])},
        ("tides.py", "--mode", "batch", "--no-bytecode", "--env", "PORT=8080", "--label", "b=2", "--label", "a=1"),
    ),
    "repository": Input(
        {
            "report.ipynb": _notebook("Report"),
            "Pipfile.lock": pipfile_lock(*WHEELS, index=INDEX).encode(),
            "src/módulo.py": b"x = 1\n",
            "src/B.py": b"",
            "src/a.py": b"y = 2\n",
            "data/table.csv": _TEXT,
            "data/latest": "table.csv",
            "run.sh": b"#!/bin/sh\n",
            "notes.txt": b"not for the image\n",
            ".dockerignore": b"notes.txt\n",
        },
        (".",),
        executable=("run.sh",),
    ),
}


def write_base(path: Path) -> Path:
    """An OCI layout of a base that cannot run, of one tar that nothing has compressed."""
    image = image_of(files_of(DEBIAN, LAYER_TAR), Env=["PATH=/usr/local/bin:/usr/bin"])
    write_layout(image, ["base:1"], path, Silent())
    return path
