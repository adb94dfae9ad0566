"""`verify`: an image against the one that its lock gives, built for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from nb2image import __version__
from nb2image.bases.model import Base, Candidate, Provider
from nb2image.build import Built, Clock, build_planned
from nb2image.cache import Store
from nb2image.errors import NotVerified
from nb2image.image.model import Image
from nb2image.index.settings import IndexSettings
from nb2image.inspection.added import SYSTEM
from nb2image.inspection.compare import Difference, FileChange, compare, difference
from nb2image.inspection.inspect import inspect_scanned
from nb2image.inspection.model import Inspection, Provenance
from nb2image.inspection.scan import Scan, scan
from nb2image.plan import make_plan
from nb2image.progress import Listener
from nb2image.runtime import KERNEL, OWN, RUNNER, SBOM, SOURCE, SUPPORT, WORK
from nb2image.verification.recover import Recovered, recover

__all__ = ["Check", "Finding", "Verdict", "verify"]

_LOCK = f"{OWN}/pylock.toml"
_AREAS = (
    ("lock", (_LOCK,)),
    ("kernel", (f"{KERNEL}/",)),
    ("runner", (f"{RUNNER}/",)),
    ("support", (f"{SUPPORT}/",)),
    ("notebook", (f"{WORK}/", f"{SOURCE}/")),
    ("bill of materials", (SBOM,)),
    ("runtime", (f"{OWN}/",)),
)
"""What is checked, by where its files stand; the first that fits."""
_REST = "rest"
_TITLES = {
    "lock": "the lock in the image",
    "kernel": f"{KERNEL}, the locked packages",
    "runner": f"{RUNNER}, what runs the notebook",
    "support": f"{SUPPORT}, what starts the kernel",
    "notebook": "the notebook and its files",
    "bill of materials": "the bill of materials",
    "runtime": "nb2image's launchers and configuration",
    _REST: "everything else",
}
_LOADS = ("PYTHON", "LD_")
"""Beginnings of variables that change what a program loads: never taken for what a user asked for at the build."""
_FRESH = (("wheels",), ("bases",), ("records", "files"), ("records", "system-lock"))
"""What a second build may have of the cache: downloads, which hashes hold, which files a hash belongs to, and what was
resolved."""


class Finding(NamedTuple):
    """One thing that is not as it should be. ``what`` is ``missing``, ``extra`` or ``altered``; ``name`` a path or
    the name of a setting."""

    what: str
    name: str
    detail: str = ""


@dataclass(frozen=True)
class Check:
    """``holds`` None: not checked, and ``sentence`` says why."""

    name: str
    holds: bool | None
    sentence: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """``added`` are variables and labels that the build must have been asked for (``--env``, ``--label``): the lock
    says nothing of them."""

    found: Inspection
    checks: tuple[Check, ...]
    added: Mapping[str, str]

    @property
    def holds(self) -> bool:
        return all(check.holds is not False for check in self.checks)

    @property
    def sentence(self) -> str:
        name = self.found.provenance.reference
        if self.holds:
            locked = len(self.found.lock.packages) if self.found.lock else 0
            rebuilt = any(check.name == "rebuilt" for check in self.checks)
            more = ", and is rebuilt bit for bit" if rebuilt else ""
            return f"{name} holds exactly the {locked} packages that its lock names, unmodified{more}."
        failed = [check.sentence for check in self.checks if check.holds is False]
        return f"{name} is not what its lock gives: {'; '.join(failed)}."


def verify(
    image: Image,
    provenance: Provenance,
    store: Store,
    listener: Listener,
    *,
    notebook: Path | None = None,
    base: str | None = None,
    python_build: str | None = None,
    apt_lock: Path | None = None,
    settings: IndexSettings | None = None,
    plain_http: bool = False,
    rebuild: bool = False,
) -> Verdict:
    """Build what the image's own lock gives, and compare.

    ``notebook`` is what the image should have been built from, by default what is in it; ``base`` the base, where it
    is none of nb2image's own; ``python_build`` the Python that was laid over it, and ``apt_lock`` which Debian packages
    were added, where nothing else tells. With ``rebuild`` no layer of the cache is used. Raises `NotVerified` when the
    image does not say enough, and whatever a build raises.
    """
    scanned = scan(image, provenance.reference, listener)
    found = inspect_scanned(image, provenance, scanned)
    if found.version and found.version != __version__:
        raise NotVerified(
            f"{provenance.reference} was built by nb2image {found.version}, and this is {__version__}, which need not "
            "give the same.",
            hint=f"Verify it with that version: `pip install nb2image=={found.version}`.",
        )
    folder = store.scratch()
    try:
        (folder / "notebook").mkdir()
        recovered = recover(
            image,
            found,
            folder / "notebook",
            base=base,
            notebook=notebook,
            python_build=python_build,
            apt_lock=apt_lock,
            settings=settings or IndexSettings(),
            plain_http=plain_http,
        )
        with _cache(store, folder, fresh=rebuild) as used:
            built = _built(recovered, found, used, listener, named=base is not None)
            _check_system(found, built)
            expected, added = _with_wishes(image, built.image)
            differs = _difference(image, found, scanned, expected, listener)
            checks = list(_checks(differs, built, recovered, notebook is not None))
            if rebuild:
                checks.append(_rebuilt(image, expected, differs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Verdict(found, tuple(checks), added)


def _check_system(found: Inspection, built: Built) -> None:
    """Raise `NotVerified` where other Debian packages are resolved now than when the image was built: everything that
    is compared then would differ, and say nothing."""
    stated = found.labels.get(f"{SYSTEM}lock.digest")
    system = built.plan.system
    if stated and (system is None or system.lock.digest != stated):
        raise NotVerified(
            f"{found.provenance.reference} has Debian packages added that were resolved at another time, to a lock "
            f"with the digest {stated}.",
            hint="Give that lock, as `nb2image build --apt-lock` wrote it: --apt-lock FILE.",
        )


@contextmanager
def _cache(store: Store, folder: Path, *, fresh: bool) -> Iterator[Store]:
    """The store, or a new one that has only the downloads of it."""
    if not fresh:
        yield store
        return
    top = store.path("wheels", "sha256:0").parents[3]
    new = Store(folder / "cache")
    for parts in _FRESH:
        source = top.joinpath(*parts)
        if source.is_dir():
            target = new.path("wheels", "sha256:0").parents[3].joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target, copy_function=_link)
    yield new


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


@dataclass(frozen=True)
class _ByStatedName:
    """A provider of the base that an image states: wherever it comes from, and whatever it is called there."""

    inner: Provider
    name: str
    digest: str

    def candidates(self) -> Sequence[Candidate]:
        return self.inner.candidates()

    def deliver(self, candidate: Candidate, listener: Listener) -> Base:
        base = self.inner.deliver(candidate, listener)
        return replace(base, reference=self.name) if base.image.digest == self.digest else base


def _built(recovered: Recovered, found: Inspection, store: Store, listener: Listener, *, named: bool) -> Built:
    """``named``: a user said where the image's base is."""
    clock = Clock(listener)
    plan = recovered.planned(make_plan(recovered.request, store, clock))
    if named and found.base_name:
        plan = replace(plan, provider=_ByStatedName(plan.provider, found.base_name, found.base_digest))
    return build_planned(plan, store, clock)


def _difference(image: Image, found: Inspection, scanned: Scan, expected: Image, listener: Listener) -> Difference:
    ours = Provenance(f"what the lock of {found.provenance.reference} gives")
    if [layer.diff_id for layer in image.layers] == [layer.diff_id for layer in expected.layers]:
        # Nothing of the layers can differ, so that they need not be read again.
        return compare(found, inspect_scanned(expected, ours, scanned))
    return difference((image, found.provenance), (expected, ours), listener)


def _with_wishes(image: Image, expected: Image) -> tuple[Image, dict[str, str]]:
    """The expected image with variables, labels and a revision that only the image has, and what these are."""
    env = {
        name: value
        for name, value in image.config.env.items()
        if name not in expected.config.env and not name.startswith(_LOADS)
    }
    labels = {
        name: value
        for name, value in image.config.labels.items()
        if name not in expected.config.labels and not name.startswith("io.nb2image.")
    }
    config = expected.config
    # Without either there is nothing to set, and a config without labels stays one.
    config = config.with_env(env) if env else config
    config = config.with_labels(labels) if labels else config
    revision = "org.opencontainers.image.revision"
    annotations = {revision: image.annotations[revision]} if revision in image.annotations else {}
    added = {**{f"env {name}": value for name, value in env.items()}, **{f"label {k}": v for k, v in labels.items()}}
    return replace(expected, config=config).annotated(annotations), added


def _checks(differs: Difference, built: Built, recovered: Recovered, compared: bool) -> Iterator[Check]:
    yield _base(differs, built)
    by_area: dict[str, list[FileChange]] = {}
    for file in differs.files:
        by_area.setdefault(_area(f"/{file.path}"), []).append(file)
    if not compared:
        # It would be compared with itself, and not all files of a repository come from the image.
        by_area.pop("notebook", None)
    for name, title in _TITLES.items():
        if name == "notebook" and not compared:
            yield Check(name, None, "the notebook was not compared: --notebook PATH names the one it should be")
            continue
        yield _files(name, title, by_area.get(name, []))
    yield _configuration(differs, recovered)
    yield _layers(differs, compared)


def _area(path: str) -> str:
    return next((name for name, folders in _AREAS if path.startswith(folders)), _REST)


def _files(name: str, title: str, files: Sequence[FileChange]) -> Check:
    if not files:
        return Check(name, True, f"{title}: as it should be")
    words = {"removed": "extra", "added": "missing", "changed": "altered"}
    findings = tuple(Finding(words[file.change], f"/{file.path}", _said(file)) for file in files)
    counts = [f"{sum(each.what == what for each in findings)} {what}" for what in ("altered", "missing", "extra")]
    listed = ", ".join(count for count in counts if not count.startswith("0 "))
    first = f"{findings[0].name}{' and others' if len(findings) > 1 else ''}"
    return Check(name, False, f"{title}: {listed} ({first})", findings)


def _said(file: FileChange) -> str:
    if file.before is None or file.after is None:
        return ""
    if file.before.digest != file.after.digest:
        return f"sha256 {file.before.digest[:12]}, and {file.after.digest[:12]} was expected"
    if file.before.mode != file.after.mode:
        return f"mode {file.before.mode:o}, and {file.after.mode:o} was expected"
    return f"{file.before.kind} {file.before.target}, and {file.after.kind} {file.after.target} was expected"


def _base(differs: Difference, built: Built) -> Check:
    stated, digest = differs.before.base_digest, built.base.image.digest
    name = built.base.reference
    if stated != digest:
        text = f"the base: {stated or 'no digest'} is stated, and {name} has {digest} here"
        return Check("base", False, text, (Finding("altered", "base digest", f"{digest} was expected"),))
    layers = [layer.diff_id for layer in built.base.image.layers]
    if [layer.diff_id for layer in differs.before.layers[: len(layers)]] != layers:
        return Check("base", False, f"the base: its layers are not those of {name}", (Finding("altered", "layers"),))
    return Check("base", True, f"the base: the layers of {name}, {digest}")


def _configuration(differs: Difference, recovered: Recovered) -> Check:
    base = {"label org.opencontainers.image.base.digest", "label org.opencontainers.image.base.name"}
    findings = tuple(
        Finding(
            "extra" if row.after is None else "missing" if row.before is None else "altered",
            row.name,
            f"{row.before!r}, and {row.after!r} was expected",
        )
        for row in differs.settings
        if row.name not in base
    )
    if findings:
        names = ", ".join(each.name for each in findings[:5])
        more = f" and {len(findings) - 5} more" if len(findings) > 5 else ""
        return Check("configuration", False, f"the configuration: {names}{more}", findings)
    note = ", of which the lock's digest is only stated (--notebook PATH proves it)" if recovered.lock_digest else ""
    return Check("configuration", True, f"the configuration: as it should be{note}")


def _layers(differs: Difference, compared: bool) -> Check:
    """Directories, owners and dates show in layers only."""
    old = [layer.diff_id for layer in differs.before.layers]
    new = [layer.diff_id for layer in differs.after.layers]
    if not compared and old[:-1] == new[:-1] and len(old) == len(new):
        return Check("layers", True, "the layers: those that a build gives, the notebook's aside")
    if old == new:
        return Check("layers", True, "the layers: those that a build gives")
    place = next(
        (n for n, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), min(len(old), len(new))
    )
    text = f"the layers: {len(old)}, and {len(new)} were expected" if len(old) != len(new) else "the layers"
    return Check("layers", False, f"{text}, from layer {place + 1} on", (Finding("altered", f"layer {place + 1}"),))


def _rebuilt(image: Image, expected: Image, differs: Difference) -> Check:
    """Whether a build gives the same digest; an engine that exports an image knows only its ID."""
    known = differs.before.provenance.digest
    one, other = (
        (known, expected.digest) if known else (image.config_descriptor.digest, expected.config_descriptor.digest)
    )
    if one == other:
        return Check("rebuilt", True, f"rebuilt without the cache: {one} again")
    for number, (old, new) in enumerate(zip(image.layers, expected.layers, strict=False)):
        if old.diff_id != new.diff_id:
            changed = [f for f in differs.files if number in {f.before and f.before.layer, f.after and f.after.layer}]
            where = f"/{changed[0].path}" if changed else "no file, but directories, owners or dates"
            text = f"rebuilt, layer {number + 1} ({new.comment or old.comment}) differs first: {where}"
            return Check("rebuilt", False, text, (Finding("altered", f"layer {number + 1}", where),))
    if len(image.layers) != len(expected.layers):
        text = f"rebuilt, it has {len(expected.layers)} layers and not {len(image.layers)}"
        return Check("rebuilt", False, text, (Finding("altered", "layers"),))
    names = [row.name for row in differs.settings] or ["how layers are compressed, history or annotations"]
    return Check("rebuilt", False, f"rebuilt, {names[0]} differs first", (Finding("altered", names[0]),))
