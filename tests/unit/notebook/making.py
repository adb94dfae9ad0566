"""Small notebooks and locks for the tests of this folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from nb2image.lock.model import Lock
from nb2image.notebook.document import Notebook, read_notebook
from nb2image.notebook.locks.find import read_lock

INDEX = "https://index.example/simple"


def digest(text: str) -> str:
    """A well-formed hash that stands for a file."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def document(metadata: dict[str, Any] | None = None, cells: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata or {}, "cells": cells or []}


def write(folder: Path, metadata: dict[str, Any] | None = None, name: str = "analysis.ipynb") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(metadata)))
    return path


def notebook(folder: Path, metadata: dict[str, Any] | None = None) -> Notebook:
    return read_notebook(write(folder, metadata))


def lock_of(folder: Path, metadata: dict[str, Any] | None = None) -> Lock:
    return read_lock(notebook(folder, metadata))


def pipfile(**packages: Any) -> dict[str, Any]:
    return {
        "packages": packages,
        "dev-packages": {},
        "source": [{"name": "main", "url": INDEX, "verify_ssl": True}],
        "requires": {"python_version": "3.11"},
    }


def pipfile_lock(entries: dict[str, Any], made_for: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    """A Pipfile.lock whose hash is that of the Pipfile ``made_for``."""
    wanted = made_for if made_for is not None else pipfile()
    hashed = {
        "_meta": {"sources": wanted.get("source", wanted.get("sources", [])), "requires": wanted.get("requires", {})},
        "default": wanted.get("packages", {}),
        "develop": wanted.get("dev-packages", {}),
    }
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return {
        "_meta": {
            "hash": {"sha256": hashlib.sha256(text.encode()).hexdigest()},
            "pipfile-spec": 6,
            "requires": {"python_version": "3.11"},
            "sources": [{"name": "main", "url": INDEX, "verify_ssl": True}],
            **meta,
        },
        "default": entries,
        "develop": {},
    }


def entry(version: str = "1.0", **more: Any) -> dict[str, Any]:
    return {"version": f"=={version}", "hashes": [digest(version)], **more}


def embedded(entries: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """Metadata with a Thoth lock, as JupyterLab's extension wrote it."""
    return {"requirements_lock": json.dumps(pipfile_lock(entries, **meta))}


def pylock_text(*packages: str) -> str:
    """A PEP 751 lock of wheels, each of version 1.0."""
    head = 'lock-version = "1.0"\ncreated-by = "a test"\npackages = []\n'
    if not packages:
        return head
    return 'lock-version = "1.0"\ncreated-by = "a test"\n' + "".join(
        f'[[packages]]\nname = "{name}"\nversion = "1.0"\nindex = "{INDEX}"\n'
        f'wheels = [{{url = "https://files.example/{name}-1.0-py3-none-any.whl", size = 10, '
        f'upload-time = 2026-01-02T03:04:05Z, hashes = {{sha256 = "{digest(name)[7:]}"}}}}]\n'
        for name in packages
    )
