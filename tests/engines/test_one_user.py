"""A podman whose user has no ranges of IDs, as on many clusters: it cannot unpack what belongs to several users."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress

import pytest

from nb2image.engines.client import Engine, choose
from nb2image.engines.load import load
from nb2image.errors import EngineRefused
from nb2image.image.model import Image
from nb2image.progress import Silent
from tests.engines.daemons import answers, end, private_folder, require, wait_until
from tests.engines.plugin import available_value
from tests.unit.image.making import image_of, layer_of_tar


@pytest.fixture
def podman_of_nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    available_value(lambda: require("podman", "setpriv"))
    with private_folder("nobody") as folder:
        for name in ("", "home", "run"):
            (folder / name).mkdir(exist_ok=True)
            shutil.chown(folder / name, "nobody", "nogroup")
        path, log = folder / "podman.sock", folder / "log"
        environment = {"HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "run"), "PATH": os.environ["PATH"]}
        command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, "podman", "system", "service", "--time=0", f"unix://{path}"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        try:
            wait_until(lambda: answers(path), process, log)
            monkeypatch.setenv("CONTAINER_HOST", f"unix://{path}")
            with choose("podman") as engine:
                yield engine
        finally:
            end(process)
            # It starts itself once more in a user namespace, which another process of it holds open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for held in folder.rglob("pause.pid"):
                with suppress(ProcessLookupError):
                    os.kill(int(held.read_text()), signal.SIGKILL)


def image_of_group(group: int) -> Image:
    """One layer with one file of this group."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.gid = group
        tar.addfile(info)
    return image_of(layer_of_tar(out.getvalue()))


def test_what_it_cannot_unpack_is_refused_with_the_reason(podman_of_nobody: Engine) -> None:
    assert podman_of_nobody.one_user_only
    with pytest.raises(EngineRefused) as caught:
        load(podman_of_nobody, image_of_group(50), ["staff:1"], Silent())
    assert "one user ID only" in caught.value.message
    assert "usermod --add-subuids" in caught.value.hint
    assert podman_of_nobody.image_id("staff:1") is None


def test_what_belongs_to_root_alone_is_loaded(podman_of_nobody: Engine) -> None:
    loaded = load(podman_of_nobody, image_of_group(0), ["root:1"], Silent())
    assert podman_of_nobody.image_id("root:1") == loaded.id
