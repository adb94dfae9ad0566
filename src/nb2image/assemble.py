"""The layers of an image that hold no packages, and the image's own documents."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Package, PackageSdist, PackageWheel, Pylock

from nb2image import __version__
from nb2image.bases.model import Base
from nb2image.cache import Store, digest_of_key
from nb2image.image.model import Image, Layer
from nb2image.layers.cached import CachedLayer, cached_layer
from nb2image.layers.entry import BytesContent, Entry, Link
from nb2image.layers.tar import MTIME
from nb2image.layers.write import WRITER
from nb2image.lock.model import new_pylock
from nb2image.plan import Plan
from nb2image.progress import Listener, Note
from nb2image.runtime import KERNEL, OWN, RUNNER, SBOM

if TYPE_CHECKING:
    from nb2image.sdists.build import BuiltWheel

__all__ = ["created", "image", "lock_layer", "normalised_lock", "notebook_layer", "runtime_layer"]


def _layer(store: Store, comment: str, entries: Sequence[Entry]) -> CachedLayer:
    """A layer of entries that are at hand: its key is what they hold."""
    rows: list[Any] = []
    for entry in entries:
        content = entry.content
        if content is None or isinstance(content, tuple):
            rows.append([*entry[:2], type(content).__name__, content])
        else:
            rows.append([*entry[:2], "file", content.size, _sha256(content.chunks())])
    return cached_layer(store, digest_of_key("entries", WRITER, rows), comment, lambda: entries)


def _sha256(chunks: Iterable[bytes]) -> str:
    import hashlib

    value = hashlib.sha256()
    for chunk in chunks:
        value.update(chunk)
    return value.hexdigest()


def runtime_layer(plan: Plan, store: Store) -> CachedLayer:
    """Launchers, configuration and the empty shells of both environments: the same for all notebooks of one mode."""
    from nb2image.runtime.entries import environment_entries, runtime_entries

    entries = [
        *runtime_entries(plan.request.mode),
        *environment_entries(RUNNER, plan.target),
        *environment_entries(KERNEL, plan.target),
    ]
    return _layer(store, f"nb2image {__version__} runtime, {plan.request.mode}", entries)


def _built_package(built: BuiltWheel) -> Package:
    """A package by the source distribution that the lock holds; what became of it is beside it."""
    filename = built.sdist.filename
    hashes = dict(sorted(built.sdist.hashes.items()))
    return Package(
        name=built.package.name,
        version=built.package.version,
        sdist=PackageSdist(name=filename, path=filename, hashes=hashes),
        tool={
            "nb2image": {
                "wheel": {"name": built.filename, "hashes": dict(sorted(built.chosen.wheel.hashes.items()))},
                "build-requires": [each.document() for each in built.requirements],
            }
        },
    )


def normalised_lock(plan: Plan) -> bytes:
    """``pylock.toml`` (PEP 751) of exactly what the kernel's environment holds.

    Names no URL, so that mirrors and credentials leave no trace in an image, and no Requires-Python, which some
    indexes tell and others do not.
    """
    import tomli_w

    built = {each.package.name: each for each in plan.built}
    packages = [
        _built_package(built[chosen.package.name])
        if chosen.package.name in built
        else Package(
            name=chosen.package.name,
            version=chosen.package.version,
            wheels=[
                PackageWheel(
                    name=chosen.wheel.filename,
                    path=chosen.wheel.filename,
                    hashes=dict(sorted(chosen.wheel.hashes.items())),
                )
            ],
        )
        for chosen in plan.kernel
    ]
    document: Pylock = new_pylock(packages)
    return tomli_w.dumps(dict(document.to_dict())).encode()


def lock_layer(plan: Plan, store: Store) -> CachedLayer:
    """The normalised lock, and the kernel specification under the notebook's own kernel name."""
    from nb2image.runtime.entries import kernel_entries

    entries = [
        Entry(f"{OWN[1:]}/pylock.toml", 0o644, BytesContent(normalised_lock(plan))),
        *kernel_entries(
            plan.target,
            notebook_name=plan.notebook.document_name,
            kernel_name=plan.notebook.kernel_name,
            display_name=plan.notebook.kernel_title,
            locked_ipykernel=plan.locked_ipykernel,
        ),
    ]
    return _layer(store, f"lock of {plan.notebook.document_name}: {len(plan.kernel)} packages", entries)


def _files(plan: Plan, listener: Listener) -> Iterator[tuple[str, bytes | Path | Link, bool]]:
    notebook = plan.notebook
    if notebook.root is None:
        if notebook.script is not None:
            yield notebook.name, notebook.script, False
        yield notebook.document_name, notebook.raw, False
        return
    from nb2image.notebook.repository import repository_files

    outputs = (*plan.request.outputs, notebook.file.with_suffix(".tar"))
    for file in repository_files(notebook.root, listener, outputs=outputs):
        if file.path != notebook.document_name:
            yield file.path, Link(file.link) if file.link is not None else file.file, file.executable
    yield notebook.document_name, notebook.raw, False


def notebook_layer(plan: Plan, sbom: bytes, store: Store, listener: Listener) -> CachedLayer:
    """The notebook, what comes along, and the bill of materials, which names the notebook: the layer that changes
    most, so the last."""
    from nb2image.runtime.entries import work_entries

    entries = [*work_entries(_files(plan, listener)), Entry(SBOM[1:], 0o644, BytesContent(sbom))]
    return _layer(store, f"notebook {plan.notebook.document_name}", entries)


def created(plan: Plan) -> str:
    """When the image was made, as its documents state it (RFC 3339)."""
    moment = datetime.fromtimestamp(MTIME if plan.request.epoch is None else plan.request.epoch, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _revision(folder: Path, listener: Listener) -> str | None:
    """The commit of the notebook's repository, with ``-dirty`` when the folder has changes; None outside git, and with
    a `Note` where git is not there or refuses, for example a repository of another user."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # In a git hook these name the repository that the hook runs for.
    inherited = {name: value for name, value in os.environ.items() if name not in {"GIT_DIR", "GIT_WORK_TREE"}}
    environment = {**inherited, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    else:
        if done.returncode == 0:
            return done.stdout.strip() or None
        reason = next(iter(done.stderr.splitlines()), f"git left with exit code {done.returncode}")
    listener(Note(f"The image states no revision, since git tells none of {folder}: {reason}"))
    return None


def _gpu_environment(plan: Plan, base: Base) -> dict[str, str]:
    """What NVIDIA's container toolkit reads ("Specialized Configurations with Docker"). It does not start a container
    whose requirement the driver does not meet: what is required is the version of CUDA that the oldest driver which
    will do reports, not the one that the wheels bring."""
    variables = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    reports = plan.match.cuda.reports
    # A base of NVIDIA states more: which drivers of data centres will do although they are older.
    if reports is not None and "NVIDIA_REQUIRE_CUDA" not in base.image.config.env:
        variables["NVIDIA_REQUIRE_CUDA"] = f"cuda>={reports}"
    return variables


def image(plan: Plan, base: Base, layers: Iterable[Layer], listener: Listener) -> Image:
    """The base with ``layers`` on top, and everything that the documents say about it."""
    from nb2image.runtime.entries import MODE_LABEL, execution

    request = plan.request
    path = base.image.config.env.get("PATH")
    members = execution(request.mode, plan.notebook.document_name, *([path] if path else []))
    standard = {
        "org.opencontainers.image.title": plan.notebook.title,
        "org.opencontainers.image.base.name": base.reference,
        "org.opencontainers.image.base.digest": base.image.digest,
        "org.opencontainers.image.created": created(plan),
    }
    if plan.system is not None:
        own_system = {f"io.nb2image.system.{name}": value for name, value in plan.system.labels().items()}
    else:
        own_system = {}
    revision = _revision(plan.notebook.root or plan.notebook.file.parent, listener)
    if revision:
        standard["org.opencontainers.image.revision"] = revision
    own = {
        "io.nb2image.version": __version__,
        MODE_LABEL: request.mode,
        "io.nb2image.notebook": plan.notebook.document_name,
        "io.nb2image.sbom": SBOM,
        "io.nb2image.lock.digest": plan.lock.digest,
        "io.nb2image.lock.source": plan.lock.source,
        "io.nb2image.python": str(base.target.python),
        **own_system,
    }
    environment = members.pop("Env")
    if request.gpu:
        environment |= _gpu_environment(plan, base)
        own["io.nb2image.cuda"] = str(plan.match.cuda.version)
    config = (
        base.image.config.with_execution(**members)
        .with_env({**environment, **request.env})
        .with_labels({**standard, **own, **request.labels})
        .with_created(created(plan))
    )
    return base.image.with_layers(layers).with_config(config).annotated({**standard, **own})
