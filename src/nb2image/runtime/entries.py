"""The runtime as entries of an image, and the image configuration that starts it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nb2image.image.model import DEFAULT_PATH
from nb2image.layers.entry import BytesContent, Entry, FileContent, HardLink, Link, parents
from nb2image.runtime import HOME, KERNEL, OUTPUT, OWN, RUNNER, SOURCE, SUPPORT, USER, WORK
from nb2image.target.model import Target

__all__ = [
    "MODE_LABEL",
    "Mode",
    "environment_entries",
    "execution",
    "kernel_entries",
    "runtime_entries",
    "work_entries",
]

Mode: TypeAlias = Literal["jupyter", "batch"]
MODE_LABEL = "io.nb2image.mode"
"""Label of every image that nb2image builds; its value is a `Mode`."""

_LIBRARY = f"{OWN}/lib"
_PORT = 8888
_SCRIPTS = ("__init__.py", "kernel.py", "prepare.py")
# jupyter_client's own rule for names of kernels (kernelspec.py, _kernel_name_pat).
_KERNEL_NAME = re.compile(r"[A-Za-z0-9._-]+")

_SERVER_CONFIG: dict[str, dict[str, Any]] = {
    "ServerApp": {
        "root_dir": WORK,
        "allow_root": True,
        "answer_yes": True,
        "log_level": "WARN",
        "open_browser": False,
        "port_retries": 0,
        "quit_button": False,
    },
    # What the lock brings for the browser. Not by JUPYTER_PATH, which would offer the lock's kernelspec as well.
    "LabApp": {
        "extra_labextensions_path": [f"{KERNEL}/share/jupyter/labextensions"],
        "extension_manager": "readonly",
        "log_level": "WARN",
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "news_url": None,
    },
    "KernelSpecManager": {"ensure_native_kernel": False},
    # The wastebasket needs a home on the same file system.
    "FileContentsManager": {"delete_to_trash": False},
}
_PAGE_CONFIG = {
    "disabledExtensions": {
        "@jupyterlab/apputils-extension:announcements": True,
        "@jupyterlab/extensionmanager-extension": True,
    }
}


def _relative(path: str) -> str:
    return path.lstrip("/")


def _file(path: str, data: bytes) -> Entry:
    return Entry(_relative(path), 0o644, BytesContent(data))


def _json(path: str, document: Any) -> Entry:
    return _file(path, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode())


def _shared_folder(path: str) -> Entry:
    """A folder that any user of group 0 may write."""
    return Entry(_relative(path), 0o775, None)


def _kernelspec(target: Target, display_name: str, locked_ipykernel: bool) -> dict[str, Any]:
    options = ["-Xfrozen_modules=off"] if target.python.release >= (3, 11) else []  # as ipykernel's own kernelspec
    start = ["-m", "ipykernel_launcher"]
    if not locked_ipykernel:
        start = [f"{_LIBRARY}/nb2image/runtime/kernel.py", f"{SUPPORT}/lib/python{target.minor}/site-packages"]
    return {
        "argv": [f"{KERNEL}/bin/python", *options, *start, "-f", "{connection_file}"],
        "display_name": display_name,
        "language": "python",
        # Every ipykernel of the support locks has a debugger; of the lock's own that is not known here.
        "metadata": {} if locked_ipykernel else {"debugger": True},
        # Commands in cells (!python, !pip) are those of the locked environment.
        "env": {"PATH": f"{KERNEL}/bin:${{PATH}}", "PYTHONNOUSERSITE": "1", "VIRTUAL_ENV": KERNEL},
    }


def runtime_entries(mode: Mode) -> tuple[Entry, ...]:
    """Launchers, configuration and the folders that any user may write: the same for all images of one mode."""
    scripts = files("nb2image.runtime")
    entries = [
        _file(f"{_LIBRARY}/__main__.py", scripts.joinpath("__main__.py").read_bytes()),
        *(
            _file(f"{_LIBRARY}/nb2image/runtime/{name}", scripts.joinpath(name).read_bytes())
            for name in (*_SCRIPTS, f"{mode}.py")
        ),
        *(_shared_folder(path) for path in (HOME, OUTPUT, WORK)),
    ]
    if mode == "jupyter":
        entries.append(_json(f"{OWN}/jupyter/config/jupyter_server_config.json", _SERVER_CONFIG))
        entries.append(_json(f"{OWN}/jupyter/config/labconfig/page_config.json", _PAGE_CONFIG))
    return tuple(entries)


def kernel_entries(
    target: Target,
    *,
    notebook_name: str,
    kernel_name: str | None,
    display_name: str | None,
    locked_ipykernel: bool,
) -> tuple[Entry, ...]:
    """The kernel's specification, where the runner finds it and nothing in ``/opt/kernel`` shadows it.

    ``kernel_name`` and ``display_name`` are what the notebook calls its kernel. A name that Jupyter would refuse is
    passed over: ``python3`` is there always.
    """
    spec = _kernelspec(target, display_name or f"Python {target.minor} ({Path(notebook_name).stem})", locked_ipykernel)
    names = {"python3"}
    if kernel_name and _KERNEL_NAME.fullmatch(kernel_name) and kernel_name.strip("."):
        # Jupyter looks kernels up in lower case.
        names.add(kernel_name.lower())
    return tuple(_json(f"{OWN}/jupyter/kernels/{name}/kernel.json", spec) for name in sorted(names))


def environment_entries(prefix: str, target: Target) -> tuple[Entry, ...]:
    """What makes the folder ``prefix`` (absolute) a virtual environment of the target's Python (PEP 405)."""
    root = _relative(prefix)
    interpreter = str(target.interpreter)
    settings = {
        "home": str(target.interpreter.parent),
        "include-system-site-packages": "false",
        "version": str(target.python),
    }
    return (
        _file(f"{root}/pyvenv.cfg", "".join(f"{key} = {value}\n" for key, value in settings.items()).encode()),
        *(Entry(f"{root}/bin/python{suffix}", 0o777, Link(interpreter)) for suffix in ("", "3", target.minor)),
        Entry(f"{root}/lib/python{target.minor}/site-packages", 0o755, None),
    )


def work_entries(sources: Iterable[tuple[str, bytes | Path | Link, bool]]) -> tuple[Entry, ...]:
    """The notebook and the files that came along, twice: in the seed, and as hard links in the work folder.

    ``sources`` are (path relative to the work folder, content, executable); a link is a relative one and stays a link.
    Raises ValueError for a path that leaves the folder or that a layer cannot hold (``.wh.`` marks deletions, image
    specification, ``layer.md``). The entries belong into one layer.
    """
    return tuple(_work_entries(sources))


def _work_entries(sources: Iterable[tuple[str, bytes | Path | Link, bool]]) -> Iterator[Entry]:
    folders = {_relative(WORK)}
    for path, content, executable in sources:
        parts = path.split("/")
        if any(part in ("", ".", "..") or part.startswith(".wh.") for part in parts):
            raise ValueError(f"{path!r} cannot be a file of the work folder")
        mode = 0o775 if executable else 0o664
        seed, name = _relative(f"{SOURCE}/{path}"), _relative(f"{WORK}/{path}")
        folders.update(parents(name))
        if isinstance(content, Link):
            yield Entry(seed, 0o777, content)
            yield Entry(name, 0o777, content)
            continue
        yield Entry(seed, mode, BytesContent(content) if isinstance(content, bytes) else FileContent(content))
        yield Entry(name, mode, HardLink(seed))
    for folder in sorted(folders):
        yield _shared_folder(folder)


def execution(mode: Mode, notebook_name: str, path: str = DEFAULT_PATH) -> dict[str, Any]:
    """Members of the image configuration's ``config`` (``config.md``); None removes what a base set.

    ``Env`` is a mapping here. ``path`` is the base's own ``PATH``. There are no ``Volumes``: each would hide a folder
    of the layers and leave an anonymous volume behind with every run.
    """
    return {
        "User": USER,
        "WorkingDir": WORK,
        "Entrypoint": [f"{RUNNER}/bin/python", "-I", _LIBRARY, mode, notebook_name],
        "Cmd": None,
        "Env": {
            "HOME": HOME,
            "JUPYTER_CONFIG_PATH": f"{OWN}/jupyter/config",
            "JUPYTER_PATH": f"{OWN}/jupyter",
            "PATH": f"{KERNEL}/bin:{RUNNER}/bin:{path}",
            "PYTHONNOUSERSITE": "1",
        },
        "ExposedPorts": {f"{_PORT}/tcp": {}} if mode == "jupyter" else None,
        "StopSignal": "SIGTERM",
    }
