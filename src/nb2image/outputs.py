"""Where a finished image goes: each output is one class that writes any image."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nb2image.errors import Unwritable
from nb2image.image.model import Image, Layer
from nb2image.image.names import parse_name
from nb2image.progress import Listener
from nb2image.temporary import sweep, temporary_file

if TYPE_CHECKING:
    from nb2image.cache import Store
    from nb2image.engines.client import Engine
    from nb2image.image.whole import AnyImage
    from nb2image.layers.cached import Known
    from nb2image.registry.client import Registry
    from nb2image.registry.push import Pushed
    from nb2image.registry.reference import Reference

__all__ = ["Archive", "EngineLoad", "Layout", "Output", "RegistryPush", "Report", "default_tag", "output_for"]


def default_tag(name: str) -> str:
    """An image name made of a notebook's: ``My Analysis.ipynb`` → ``my-analysis:latest``.

    Follows the grammar of a path component (OCI distribution specification, "Pulling manifests").
    """
    words = re.findall(r"[a-z0-9]+", name.rpartition("/")[2].removesuffix(".ipynb").removesuffix(".py").lower())
    return f"{'-'.join(words) or 'notebook'}:latest"


class Output(Protocol):
    """A destination. ``describe``, ``engine`` and ``prepare`` are for people: where it went, and how to run it."""

    def check(self) -> None:
        """Raise `OutputError` for what would fail in the end, before minutes are spent on building."""
        ...

    def write(self, image: Image, tags: Sequence[str], listener: Listener) -> None:
        """Write or load the image. Raises `OutputError`; leaves nothing half-written."""
        ...

    def describe(self) -> str: ...

    @property
    def engine(self) -> str:
        """The program that runs the image: ``docker`` or ``podman``."""
        ...

    def prepare(self) -> str | None:
        """The command after which that engine knows the image, or None when it needs none."""
        ...

    def reference(self, tag: str, /) -> str:
        """How the image is named to that engine then."""
        ...


@dataclass(frozen=True)
class Archive:
    """A ``.tar`` that is an OCI layout and loads with ``docker load`` and ``podman load``."""

    path: Path

    def check(self) -> None:
        _check_folder(self.path.parent)

    def write(self, image: AnyImage, tags: Sequence[str], listener: Listener) -> None:
        from nb2image.image.archive import write_archive

        write_archive(image, tags, self.path, listener)

    def describe(self) -> str:
        return str(self.path)

    @property
    def engine(self) -> str:
        here = (name for name in ("docker", "podman") if shutil.which(name))
        return next(here, "docker")

    def prepare(self) -> str | None:
        return f"{self.engine} load -i {shlex.quote(str(self.path))}"

    def reference(self, tag: str) -> str:
        return tag


@dataclass(frozen=True)
class Layout:
    """An OCI layout directory, in which other images may live too."""

    path: Path

    def check(self) -> None:
        from nb2image.image.layout import refuse_foreign

        if not _looked_at(self.path.exists):
            _check_folder(self.path.parent)
        else:
            _check_folder(self.path)
            # A folder that may be written and not listed is the writer's to judge.
            with contextlib.suppress(OSError):
                refuse_foreign(self.path)

    def write(self, image: AnyImage, tags: Sequence[str], listener: Listener) -> None:
        from nb2image.image.layout import write_layout

        write_layout(image, tags, self.path, listener)

    def describe(self) -> str:
        return f"{self.path}/"

    @property
    def engine(self) -> str:
        return "podman"

    def prepare(self) -> str | None:
        return None

    def reference(self, tag: str) -> str:
        return shlex.quote(f"oci:{self.path}:{parse_name(tag).familiar}")


@dataclass
class EngineLoad:
    """Docker or podman on this machine."""

    preferred: str | None = None
    _engine: Engine | None = None

    def check(self) -> None:
        self._chosen()

    def _chosen(self) -> Engine:
        if self._engine is None:
            from nb2image.engines.client import choose

            self._engine = choose(self.preferred)
        return self._engine

    def close(self) -> None:
        """Leave the engine, and end a podman that was started for this."""
        if self._engine is not None:
            self._engine.close()

    def write(self, image: Image, tags: Sequence[str], listener: Listener) -> None:
        from nb2image.engines.load import load

        load(self._chosen(), image, tags, listener)

    def describe(self) -> str:
        return self._chosen().title

    @property
    def engine(self) -> str:
        return self._chosen().name

    def prepare(self) -> str | None:
        return None

    def reference(self, tag: str) -> str:
        return tag


@dataclass
class RegistryPush:
    """The registries that the image's names lead to. ``pushed`` says what came of it."""

    tags: Sequence[str]
    store: Store
    plain_http: bool = False
    pushed: list[Pushed] = field(default_factory=list)
    _registries: dict[str, Registry] = field(default_factory=dict)

    def _targets(self, tags: Sequence[str]) -> list[tuple[Registry, Reference]]:
        from nb2image.registry.client import Registry
        from nb2image.registry.reference import parse_reference

        references = [parse_reference(tag) for tag in tags]
        for domain in {reference.domain for reference in references} - self._registries.keys():
            self._registries[domain] = Registry(domain, plain_http=self.plain_http)
        return [(self._registries[reference.domain], reference) for reference in references]

    def close(self) -> None:
        """Leave the registries."""
        for registry in self._registries.values():
            registry.close()

    def check(self) -> None:
        """Raise `RegistryFailure` where a registry does not answer, or lets nobody push."""
        from nb2image.errors import RegistryFailure
        from nb2image.registry.reference import names_a_registry

        for tag, (registry, reference) in zip(self.tags, self._targets(self.tags), strict=True):
            try:
                registry.find_manifest(reference, push=True)
            except RegistryFailure as error:
                if not names_a_registry(tag):
                    error.hint += f" {tag} states no host, so it means {reference}; give HOST/{tag}."
                raise

    def held(self, base: Image, wanted: Sequence[Known], listener: Listener) -> Sequence[Layer] | None:
        """Layers whose bytes are here no more, if all registries have them (`nb2image.build.Destination`)."""
        from nb2image.registry.held import held_layers

        return held_layers(self._targets(self.tags), base, wanted, self.store, listener)

    def write(self, image: AnyImage, tags: Sequence[str], listener: Listener) -> None:
        from nb2image.registry.places import Places
        from nb2image.registry.push import push

        for registry, reference in self._targets(tags):
            self.pushed.append(push(image, reference, registry, listener, Places(self.store)))

    def describe(self) -> str:
        from nb2image.registry.reference import parse_reference

        return ", ".join(dict.fromkeys(parse_reference(tag).domain for tag in self.tags))

    @property
    def engine(self) -> str:
        here = (name for name in ("docker", "podman") if shutil.which(name))
        return next(here, "docker")

    def prepare(self) -> str | None:
        return None

    def reference(self, tag: str) -> str:
        from nb2image.registry.reference import parse_reference

        return str(parse_reference(tag))


@dataclass(frozen=True)
class Report:
    """A JSON document beside the image, written whole or not at all; its name must end with ``suffix``."""

    path: Path
    suffix: str = ".json"

    def check(self) -> None:
        """Raise `Unwritable` for what would fail in the end."""
        if self.path.suffix != self.suffix:
            # Whoever swaps two arguments keeps the notebook.
            raise Unwritable(f"{self.path} would be a JSON document.", hint=f"End its name with {self.suffix}.")
        if _looked_at(self.path.exists) and not self.path.is_file():
            raise Unwritable(f"{self.path} is no regular file.", hint="Choose another name.")
        _check_folder(self.path.parent)

    def write(self, data: bytes) -> None:
        final = self.path.resolve()
        names = (f".{final.name}.", ".partial")
        try:
            sweep(final.parent, *names)
            with temporary_file(final.parent, *names, mode=0o666) as (partial, stream):
                stream.write(data)
                stream.flush()
                partial.replace(final)
        except OSError as error:
            raise Unwritable(
                f"{self.path} cannot be written: {error.strerror or error}.",
                hint="Choose a file in a folder that you may write, on a disk with enough space.",
            ) from error


def _looked_at(question: Callable[[], bool]) -> bool:
    """The answer of ``Path.is_dir`` or ``Path.exists``, which raise where a folder above may not be entered."""
    try:
        return question()
    except OSError as error:
        raise Unwritable(
            f"{error.filename} cannot be written: {error.strerror}.", hint="Choose a folder that you may write."
        ) from error


def _check_folder(folder: Path) -> None:
    if not _looked_at(folder.is_dir):
        raise Unwritable(f"There is no folder {folder} to write into.", hint="Make it first, or choose another.")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Unwritable(
            f"{folder} cannot be written: {error.strerror or error}.", hint="Choose a folder that you may write."
        ) from error


def output_for(path: Path) -> Output:
    """The output that a path means: ``.tar`` an archive, a directory or a path without suffix a layout.

    Raises `Unwritable` for any other suffix, so that a typo does not become a folder.
    """
    if path.suffix == ".tar":
        if _looked_at(path.is_dir):
            raise Unwritable(f"{path} is a directory, and an archive was asked for.", hint="Choose another name.")
        return Archive(path)
    if not path.suffix or _looked_at(path.is_dir):
        if _looked_at(path.exists) and not path.is_dir():
            raise Unwritable(f"{path} is a file, and a layout is a directory.", hint="End the name with .tar.")
        return Layout(path)
    raise Unwritable(
        f"{path}: {path.suffix} is no kind of image that can be written.",
        hint="End the name with .tar for an archive, or give a directory for an OCI layout.",
    )
