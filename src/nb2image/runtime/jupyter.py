"""Entry point of Jupyter images: JupyterLab with a token, or JupyterHub's single-user server.

Honoured variables: ``JUPYTER_TOKEN``, ``JUPYTER_TOKEN_FILE``, ``JUPYTER_PORT``; JupyterHub's (``JUPYTERHUB_API_TOKEN``
and its neighbours); those of the notebook images of OpenShift: ``NOTEBOOK_PORT``, ``NOTEBOOK_BASE_URL``,
``NOTEBOOK_ARGS``, ``JUPYTER_NOTEBOOK_PORT``, ``JUPYTER_NOTEBOOK_INTERFACE``, ``JUPYTER_NOTEBOOK_PASSWORD``.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
import tempfile
from typing import Any, Dict, List, Mapping, MutableMapping
from urllib.parse import quote

from nb2image.runtime import OWN, WORK, prepare

PORT = 8888
USAGE = 2
_PORTS = ("JUPYTER_PORT", "NOTEBOOK_PORT", "JUPYTER_NOTEBOOK_PORT")
_SINGLE_USER = ("jupyterhub-singleuser", "start-singleuser.sh")
"""First words that spawners put in the place of an image's own command."""


def port(variables: Mapping[str, str]) -> int:
    """The port to listen on. Raises ValueError with the variable that holds no port."""
    for name in _PORTS:
        value = variables.get(name, "")
        # Kubernetes sets NOTEBOOK_PORT=tcp://10.0.0.1:8888 in every pod beside a service of the name "notebook".
        if not value or value.startswith("tcp://"):
            continue
        if not value.isdecimal() or not 0 < int(value) < 65536:
            raise ValueError(f"{name}={value!r} is no port")
        return int(value)
    return PORT


def base_url(variables: Mapping[str, str]) -> str:
    """The prefix of all paths, with a slash on both ends."""
    inner = variables.get("NOTEBOOK_BASE_URL", "").strip("/")
    return f"/{inner}/" if inner else "/"


def settings(variables: Mapping[str, str], notebook: str, arguments: List[str]) -> Dict[str, Any]:
    """jupyter_server's configuration, below what the command line says.

    Without a token or a password from anywhere, a token is made.
    """
    server: Dict[str, Any] = {
        "ip": variables.get("JUPYTER_NOTEBOOK_INTERFACE") or "0.0.0.0",
        "port": port(variables),
        "base_url": base_url(variables),
        "jpserver_extensions": {__name__: True},
    }
    found: Dict[str, Any] = {"ServerApp": server, "LabApp": {"default_url": page(notebook)}}
    # The server refuses to start when one setting is named in two ways.
    if any(".token=" in argument for argument in arguments):
        return found
    password = variables.get("JUPYTER_NOTEBOOK_PASSWORD")
    token = variables.get("JUPYTER_TOKEN")
    if token:
        found["IdentityProvider"] = {"token": token}
    elif password:
        from jupyter_server.auth.security import passwd

        found["PasswordIdentityProvider"] = {"hashed_password": passwd(password)}
    elif not variables.get("JUPYTER_TOKEN_FILE"):
        found["IdentityProvider"] = {"token": secrets.token_hex(24)}
    return found


def page(notebook: str) -> str:
    """The path that opens the notebook in JupyterLab."""
    return f"/lab/tree/{quote(notebook)}"


def url(app: Any) -> str:
    """Where a browser on this machine finds a server, token included."""
    host = "127.0.0.1" if app.ip in ("", "*", "0.0.0.0", "::") else app.ip
    scheme = "https" if app.certfile else "http"
    path = app.default_url if app.default_url.startswith(app.base_url) else app.base_url.rstrip("/") + app.default_url
    token = app.identity_provider.token
    query = f"?token={quote(token, safe='')}" if token else ""
    return f"{scheme}://{host}:{app.port}{path}{query}"


def _jupyter_server_extension_points() -> List[Dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    """Print the URL once the loop runs: the port is bound by then."""
    app.io_loop.add_callback(lambda: print(f"JupyterLab: {url(app)}", flush=True))


def _configure(variables: MutableMapping[str, str], scratch: str, config: Mapping[str, Any]) -> str:
    """Put a configuration in front of the image's; returns the folder that holds it."""
    folder = tempfile.mkdtemp(prefix="config-", dir=scratch)
    with open(os.path.join(folder, "jupyter_server_config.json"), "x", encoding="utf-8") as file:
        json.dump(config, file)
    variables["JUPYTER_CONFIG_PATH"] = f"{folder}{os.pathsep}{variables['JUPYTER_CONFIG_PATH']}"
    return folder


def hub_settings(variables: MutableMapping[str, str], notebook: str) -> Dict[str, Any]:
    """Complete JupyterHub's variables, which decide everything that the configuration then leaves open."""
    prefix = variables.setdefault("JUPYTERHUB_SERVICE_PREFIX", "/")
    variables.setdefault("JUPYTERHUB_SERVICE_URL", f"http://0.0.0.0:{port(variables)}{prefix}")
    variables.setdefault("JUPYTERHUB_DEFAULT_URL", page(notebook))
    return {}


def _serve(hub: bool, arguments: List[str]) -> None:
    sys.argv = ["jupyterhub-singleuser" if hub else "jupyter-lab", *arguments]
    if hub:
        from jupyterhub.singleuser import main as serve
    else:
        from jupyterlab.labapp import main as serve
    serve()


def main(notebook: str, arguments: List[str]) -> int:
    """Serve; ``notebook`` is relative to the work folder. Returns the exit code."""
    prepare.early_signals()
    scratch = prepare.environment()
    prepare.seed()
    os.chdir(WORK if os.path.isdir(WORK) else OWN)
    variables = os.environ
    named = arguments[:1] != [] and arguments[0] in _SINGLE_USER
    hub = named or ("JUPYTERHUB_API_TOKEN" in variables and "JUPYTERHUB_SERVICE_PREFIX" in variables)
    arguments = arguments[1:] if named else [*shlex.split(variables.get("NOTEBOOK_ARGS", "")), *arguments]
    try:
        config = hub_settings(variables, notebook) if hub else settings(variables, notebook, arguments)
    except ValueError as error:
        prepare.fail(USAGE, f"{error}.")
    # Jupyter reads some of these itself; kernels and what they save need not know a token.
    for name in (*_PORTS, "JUPYTER_TOKEN", "JUPYTER_NOTEBOOK_PASSWORD"):
        variables.pop(name, None)
    config["KernelManager"] = {"transport": prepare.transport()}
    folder = _configure(variables, scratch, config)
    try:
        _serve(hub, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0
