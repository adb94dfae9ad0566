"""A small real image: a static busybox, a script, and whatever layers a test adds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from nb2image.cache import Store
from nb2image.image.model import Config, Image
from nb2image.layers.cached import CachedLayer, store_layer
from nb2image.layers.entry import BytesContent, Entry, FileContent, Link
from nb2image.runtime.entries import MODE_LABEL, Mode
from nb2image.target.model import Platform
from tests.engines.daemons import Unavailable

_TOOLS = ("cat", "chmod", "echo", "httpd", "id", "ls", "sh", "sleep")


def layer(store: Store, comment: str, *entries: Entry) -> CachedLayer:
    """A layer of these entries."""
    return CachedLayer(store, store_layer(store, entries), comment, lambda: store_layer(store, entries))


def text_layer(store: Store, path: str, text: str, mode: int = 0o644) -> CachedLayer:
    """A layer of one file."""
    return layer(store, path, Entry(path, mode, BytesContent(text.encode())))


def busybox_layer(store: Store) -> CachedLayer:
    """Busybox and the names of its tools. Raises `Unavailable` where it is not installed."""
    program = shutil.which("busybox")
    if program is None:
        raise Unavailable("not installed: busybox (package busybox-static)")
    return layer(
        store,
        "busybox",
        Entry("bin/busybox", 0o755, FileContent(Path(program))),
        *(Entry(f"bin/{name}", 0o755, Link("busybox")) for name in _TOOLS),
        Entry("output", 0o777, None),
        Entry("tmp", 0o1777, None),
    )


def image(store: Store, script: str, *layers: CachedLayer, mode: Mode | None = None) -> Image:
    """An image that runs a shell script with the container's arguments; ``layers`` lie below the script."""
    config = Config.new(Platform()).with_env({"PATH": "/bin"}).with_execution(Entrypoint=["/bin/sh", "/script"])
    if mode is not None:
        config = config.with_labels({MODE_LABEL: mode})
    stack: Sequence[CachedLayer] = (busybox_layer(store), *layers, text_layer(store, "script", script))
    return Image(config).with_layers(stack)
