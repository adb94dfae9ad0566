"""Locks of every format, and the notebooks that hold them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tomli_w

from tests.hostile.test_lock_readers import FORMS, good, read, without_null
from tests.unit.notebook.making import digest, document, embedded, entry, pipfile_lock

__all__ = ["WORDS", "run", "seeds"]

_FILES = ("n.ipynb", "pylock.toml", "n.py.lock", "Pipfile.lock", "poetry.lock", "requirements.txt", "n.py")
_SHARED = Path("/dev/shm")


def run(data: bytes) -> None:
    """The first byte chooses the file; of ``poetry.lock`` what follows a NUL is ``pyproject.toml``."""
    name = _FILES[(data or b"\0")[0] % len(_FILES)]
    folder = Path(tempfile.mkdtemp(dir=_SHARED if _SHARED.is_dir() else None))
    try:
        (folder / "n.ipynb").write_text(json.dumps(document()))
        content = data[1:]
        if name == "poetry.lock":
            content, _, project = content.partition(b"\0")
            (folder / "pyproject.toml").write_bytes(project)
        (folder / name).write_bytes(content)
        read(folder / ("n.py" if name == "n.py" else "n.ipynb"))
    finally:
        shutil.rmtree(folder)


def seeds() -> Iterator[bytes]:
    for form in FORMS:
        value = good(form)
        if form == "thoth":
            yield b"\0" + json.dumps(document(value)).encode()
        elif form == "pylock":
            yield b"\0" + json.dumps(document({"pylock.toml": value})).encode()
        elif form in {"pylock.toml", "uv"}:
            yield (b"\1" if form == "pylock.toml" else b"\2") + tomli_w.dumps(without_null(value)).encode()
        else:
            lock, project = (tomli_w.dumps(without_null(value[key])).encode() for key in ("lock", "project"))
            yield b"\4" + lock + b"\0" + project
    yield b"\0" + json.dumps(document(embedded({"a": entry()}))).encode()
    pipfile = pipfile_lock({"a": entry(markers="os_name == 'posix'"), "b": entry(extras=["x"])})
    yield b"\3" + json.dumps(pipfile).encode()
    hashes = f"--hash={digest('a')} \\\n    --hash=sha512:{'0' * 128}"
    lines = ("# made", "--index-url https://index.example", f"a[x]==1.0 ; os_name == 'nt' \\\n    {hashes}", "b==2")
    yield b"\5" + "\n".join(lines).encode()
    yield b"\6# ---\n# jupyter:\n#   kernelspec:\n#     language: python\n# ---\n# %% [markdown]\n# x\n# %%\n1\n"


WORDS = (
    b"[[packages]]", b"[[package]]", b"[metadata]", b"lock-version", b"hashes", b"sha256:", b"wheels", b"marker",
    b"source", b"dependencies", b"requirements_lock", b"_meta", b"default", b"--hash=", b"\\\n", b" ; ", b"==", b" @ ",
    b"-r x", b"-e .", b"--index-url", b"[[[[", b"{{", b"1e9999", b"99999999999999999999", b'"""', b"\\ud800", b"null",
    b"true", b"# %%", b"extra == 'x'", b"python_version", b"\xef\xbb\xbf", b"\x00",
)  # fmt: skip
