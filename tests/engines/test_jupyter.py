"""Jupyter images, run by real engines and asked over HTTP and WebSocket as a browser does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.engines.built import Notebooks
from tests.engines.containers import run_engine
from tests.engines.daemons import Daemon
from tests.engines.jupyter import Server, serving

pytestmark = pytest.mark.network

TOKEN = "a-token-of-the-tests"
LOCKED_DOWN = ("--user=123456:0", "--read-only", "--tmpfs=/tmp", "--tmpfs=/work", f"--env=JUPYTER_TOKEN={TOKEN}")

ORIGINS = """
import importlib, sys
def origin(name):
    try:
        return importlib.import_module(name).__file__
    except ImportError as error:
        return str(error)
"""


def page_config(server: Server) -> dict[str, Any]:
    """What JupyterLab's page tells the browser."""
    page = server.ask("/lab", token=server.token)
    assert page.status == 200
    found = re.search(rb'<script id="jupyter-config-data" type="application/json">(.*?)</script>', page.body, re.DOTALL)
    assert found
    config = json.loads(found[1])
    assert isinstance(config, dict)
    return config


def test_a_token_is_made_and_the_printed_url_opens_the_notebook(engine: Daemon, notebooks: Notebooks) -> None:
    with serving(engine, notebooks.load(engine, "anscombe")) as server:
        expected = rf"http://127\.0\.0\.1:{server.port}/lab/tree/anscombe\.ipynb\?token=[0-9a-f]{{48}}"
        assert re.fullmatch(expected, server.url)
        logs = run_engine(engine, "logs", server.container)
        assert (logs.stdout, logs.stderr) == (f"JupyterLab: {server.url}\n", "")
        opened = server.visit()
        assert opened.status == 200
        assert b'id="jupyter-config-data"' in opened.body
        notebook = server.ask("/api/contents/anscombe.ipynb", token=server.token)
        assert notebook.json()["content"]["metadata"]["kernelspec"]["name"] == "python3"
        assert server.ask("/api/contents", token="another").status == 403
        run_engine(engine, "stop", "--time=20", server.container, check=True)
        code = run_engine(engine, "inspect", "--format", "{{.State.ExitCode}}", server.container, check=True)
        assert code.stdout.strip() == "0"


def test_a_lock_without_ipykernel_gets_a_kernel_that_holds_the_lock(engine: Daemon, notebooks: Notebooks) -> None:
    """As any user, on a read-only root."""
    with serving(engine, notebooks.load(engine, "anscombe"), *LOCKED_DOWN) as server:
        assert server.token == TOKEN
        for path in ("/api/contents", "/api/kernels", "/api/status"):
            assert server.ask(path).status == 403
        assert server.ask("/lab").url.endswith("/login?next=%2Flab")
        assert server.ask("/api/status", token=TOKEN).status == 200

        specs = server.ask("/api/kernelspecs", token=TOKEN).json()
        assert (specs["default"], list(specs["kernelspecs"])) == ("python3", ["python3"])
        with server.kernel() as kernel:
            assert server.value(kernel, "__import__('sys').prefix") == "/opt/kernel"
            assert server.execute(kernel, ORIGINS).status == "ok"
            site = "lib/python3.11/site-packages"
            assert server.value(kernel, "origin('numpy')") == f"/opt/kernel/{site}/numpy/__init__.py"
            # Of the lock, although the support packages need it too.
            assert server.value(kernel, "origin('packaging')") == f"/opt/kernel/{site}/packaging/__init__.py"
            assert server.value(kernel, "origin('ipykernel')") == f"/opt/support/{site}/ipykernel/__init__.py"
            for name in ("jupyterlab", "jupyter_server", "papermill"):
                assert server.value(kernel, f"origin({name!r})") == f"No module named '{name}'"
            path = server.value(kernel, "sys.path")
            assert path[-1] == f"/opt/support/{site}"
            assert path.index(f"/opt/kernel/{site}") < len(path) - 1
            assert not [entry for entry in path if entry.startswith(("/opt/runner", "/opt/nb2image", "/home"))]
            assert server.value(kernel, "__import__('os').getcwd()") == "/work"
            assert server.value(kernel, "__import__('os').getuid()") == 123456
            assert server.value(kernel, "__import__('os').environ.get('JUPYTER_TOKEN')") is None
            assert server.execute(kernel, "1 / 0").status == "error"
            executed = server.execute(kernel, "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
            assert executed.status == "ok", executed.text
            assert any("image/png" in m["content"].get("data", ()) for m in executed.messages)

        saved = {"type": "file", "format": "text", "content": "saved"}
        assert server.ask("/api/contents/new.txt", token=TOKEN, method="PUT", data=saved).status == 201


def test_a_lock_with_ipykernel_and_widgets_uses_its_own(engine: Daemon, notebooks: Notebooks) -> None:
    with serving(engine, notebooks.load(engine, "widgets"), f"--env=JUPYTER_TOKEN={TOKEN}") as server:
        (extension,) = (
            each for each in page_config(server)["federated_extensions"] if each["name"].startswith("@jupyter-widgets/")
        )
        assert extension["name"] == "@jupyter-widgets/jupyterlab-manager"
        script = server.ask(f"/lab/extensions/{extension['name']}/{extension['load']}", token=TOKEN)
        assert (script.status, b"jupyterlab-manager" in script.body) == (200, True)
        with server.kernel() as kernel:
            assert server.execute(kernel, ORIGINS).status == "ok"
            assert server.value(kernel, "sys.prefix") == "/opt/kernel"
            for name in ("ipykernel", "ipywidgets", "tornado"):
                assert server.value(kernel, f"origin({name!r})").startswith("/opt/kernel/lib/python3.11/site-packages/")
            assert not [entry for entry in server.value(kernel, "sys.path") if entry.startswith("/opt/support")]
            assert server.value(kernel, "origin('jupyterlab')") == "No module named 'jupyterlab'"
            executed = server.execute(kernel, "import ipywidgets\nipywidgets.IntSlider(3)")
            assert executed.status == "ok", executed.text
            kinds = [message["msg_type"] for message in executed.messages]
            assert "comm_open" in kinds
            shown = [m["content"]["data"] for m in executed.messages if m["msg_type"] == "execute_result"]
            assert [("application/vnd.jupyter.widget-view+json" in data) for data in shown] == [True]
