"""pip as the oracle for what pip is configured for, and for the bytes of a package from there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from nb2image.cache import Store
from nb2image.index.complete import complete
from nb2image.index.download import download, locked_file
from nb2image.index.settings import IndexSettings, default_find_links, default_indexes
from nb2image.lock.model import Lock, hash_only_package, new_pylock
from nb2image.progress import Silent

PACKAGE, VERSION = "iniconfig", "2.0.0"


def test_the_default_is_what_pip_says_it_is_configured_for() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    said: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in {"global", "install", ":env:"}:
            said[name] = value.strip("'")
    assert default_find_links() == tuple(said.get("find-links", "").split())
    extra = said.get("extra-index-url", "").split()
    assert default_indexes()[-len(extra) :] == tuple(extra) or not extra
    if "index-url" in said:
        assert default_indexes()[0] == said["index-url"]


@pytest.mark.network
def test_a_package_from_the_default_index_has_the_bytes_that_pip_gets(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--dest", str(tmp_path / "pip"), f"{PACKAGE}=={VERSION}"]
    subprocess.run(command, check=True)
    (wheel,) = (tmp_path / "pip").iterdir()
    data = wheel.read_bytes()
    package = hash_only_package(PACKAGE, VERSION, [f"sha256:{hashlib.sha256(data).hexdigest()}"])
    store, listener = Store(tmp_path / "cache"), Silent()
    settings = IndexSettings(indexes=("default",))
    lock = complete(Lock(new_pylock([package]), "test"), settings, store, listener)
    (found,) = lock.packages[0].wheels or ()
    assert found.filename == wheel.name
    paths = download([locked_file(lock.packages[0], found)], settings, store, listener)
    assert paths[wheel.name].read_bytes() == data
    offline = IndexSettings(indexes=("default",), offline=True)
    assert complete(Lock(new_pylock([package]), "test"), offline, store, listener) == lock
    assert listener.warnings == []
