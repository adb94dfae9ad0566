"""`bases lock`: what bases stand for, written down; builds that take it from there; locks that are wrong or too old."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from nb2image.bases.debian.provider import DebianProvider
from nb2image.bases.debian.toolchain import toolchain_image
from nb2image.bases.debian.update import update_locks
from nb2image.build import Built, build
from nb2image.cache import Store
from nb2image.cli.bases import bases
from nb2image.errors import (
    BadCatalogue,
    BaseError,
    BasePackagesGone,
    NoMatchingBase,
    RegistryUnreachable,
    Unwritable,
)
from nb2image.image.layout import write_layout
from nb2image.image.model import INDEX_TYPE, Config, Image, canonical_json
from nb2image.image.read import read_layout
from nb2image.plan import Plan, Request, make_plan
from nb2image.progress import Silent
from nb2image.registry.client import Registry
from nb2image.registry.push import push
from nb2image.registry.reference import parse_reference
from nb2image.target.model import Platform
from tests.unit.bases.test_catalogue import home, lab, written
from tests.unit.bases.test_catalogued import alone, entry, nowhere
from tests.unit.bases.test_debian_provider import Place, place
from tests.unit.bases.test_registry import pushed
from tests.unit.index.plugin import machine, server
from tests.unit.registry.server import MemoryRegistry, memory_registry
from tests.unit.world import World, wheel, world

__all__ = ["alone", "home", "machine", "nowhere", "place", "server", "world"]


@pytest.fixture
def hub() -> Iterator[MemoryRegistry]:
    with memory_registry() as made:
        yield made


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:  # noqa: ARG001
    """The folder that commands run in; the cache is new."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NB2IMAGE_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def lock(*arguments: object) -> str:
    done = CliRunner().invoke(bases, ["lock", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def built(world: World, catalogue: Path, base: str = "lab") -> Built:
    request = Request(world.locked(wheel("first")), base=base, catalogues=(catalogue,))
    return build(request, Store(world.cache), Silent())


def planned(world: World, catalogue: Path, base: str = "lab") -> Plan:
    request = Request(world.locked(wheel("first")), base=base, catalogues=(catalogue,))
    return make_plan(request, Store(world.cache), Silent())


# -- registries ---------------------------------------------------------------------------------------------------


def test_a_locked_base_stays_what_it_was_when_its_tag_moves(world: World, hub: MemoryRegistry, work: Path) -> None:
    first = read_layout(world.base)
    reference = pushed(first, f"{hub.domain}/bases/debian:12")
    site = written(world.folder, entry(reference))
    told = lock("lab", "--catalogue", site)
    assert f"lab  linux/amd64  {first.digest[:19]}\n" in told
    assert not hub.requests("GET", first.layers[0].descriptor.digest)
    unlocked = built(world, site)
    moved = Image(first.config.with_labels({"moved": "yes"}), first.layers)
    pushed(moved, reference)
    now = built(world, work / "bases" / "locked.toml")
    # Locking changes nothing of the image.
    assert (now.base.image.digest, now.image.digest) == (first.digest, unlocked.image.digest)
    assert now.plan.match.candidate.origin.startswith(f"{reference} at {first.digest}, locked on 20")
    # Locked anew, by the reference that the lock itself remembers.
    told = lock()
    assert f"lab  linux/amd64  {moved.digest[:19]}; was {first.digest[:19]}\n" in told
    assert f"{moved.digest[:19]}, as before\n" in lock("lab")
    assert built(world, work / "bases" / "locked.toml").base.image.digest == moved.digest


def test_a_locked_base_that_is_here_needs_no_registry(world: World, hub: MemoryRegistry, work: Path) -> None:
    site = written(world.folder, entry(pushed(read_layout(world.base), f"{hub.domain}/bases/debian:12")))
    lock("lab", "--catalogue", site)
    digest = built(world, work / "bases" / "locked.toml").image.digest
    before = len(hub.asked)
    assert built(world, work / "bases" / "locked.toml").image.digest == digest
    assert len(hub.asked) == before


def test_each_platform_is_locked_and_one_that_is_gone_is_left_out(world: World, hub: MemoryRegistry) -> None:
    amd64 = read_layout(world.base)
    reference = parse_reference(f"{hub.domain}/bases/both:1")
    arm64 = Image(Config.new(Platform("linux", "arm64")), amd64.layers)
    with Registry(hub.domain) as client:
        rows = []
        for image, architecture in ((amd64, "amd64"), (arm64, "arm64")):
            push(image, parse_reference(f"{hub.domain}/bases/both:{architecture}"), client, Silent())
            platform = {"os": "linux", "architecture": architecture}
            rows.append({**image.descriptor.document(), "platform": platform})
        index = canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": rows})
        client.put_manifest(reference.path, "1", INDEX_TYPE, index)
    platforms = '["linux/amd64", "linux/arm64", "linux/riscv64"]'
    site = written(world.folder, entry(str(reference)).replace('["linux/amd64"]', platforms))
    told = lock("lab", "--catalogue", site)
    assert f"lab  linux/arm64  {arm64.digest[:19]}\n" in told
    assert "lab  linux/riscv64  is not there, and left out\n" in told
    text = Path("bases/locked.toml").read_text()
    assert f'digests."linux/arm64" = "{arm64.digest}"\n' in text
    assert 'platforms = ["linux/amd64", "linux/arm64"]\n' in text


def test_nothing_is_written_where_one_base_cannot_be_looked_up(
    world: World, hub: MemoryRegistry, nowhere: str, work: Path
) -> None:
    good = pushed(read_layout(world.base), f"{hub.domain}/bases/debian:12")
    site = written(world.folder, entry(good) + entry(f"{nowhere}/bases/x:1", "gone"))
    with pytest.raises(RegistryUnreachable, match="The base gone cannot be locked"):
        lock("lab", "gone", "--catalogue", site)
    assert list(work.iterdir()) == []


def test_a_locked_image_that_the_registry_deleted_is_one_sentence(world: World, hub: MemoryRegistry) -> None:
    site = written(world.folder, entry(pushed(read_layout(world.base), f"{hub.domain}/bases/debian:12")))
    lock("lab", "--catalogue", site)
    hub.manifests.clear()
    shutil.rmtree(world.cache, ignore_errors=True)
    from nb2image.errors import NoSuchImage

    with pytest.raises(NoSuchImage, match=r"The base lab cannot be had: .* has no image .*@sha256:"):
        planned(world, Path("bases/locked.toml"))


@pytest.mark.usefixtures("alone")
def test_a_lock_of_the_configuration_is_used_and_does_not_hide_what_it_was_made_of(
    world: World, hub: MemoryRegistry, home: Path, work: Path
) -> None:
    reference = pushed(read_layout(world.base), f"{hub.domain}/bases/debian:12")
    site = written(world.folder, entry(reference), "site.toml")
    written(home / "config" / "nb2image", f'catalogue = ["{site}", "{work}/bases/locked.toml"]\n', "config.toml")
    (work / "bases").mkdir()
    (work / "bases" / "locked.toml").write_text("")
    with pytest.raises(BadCatalogue, match="was not written by `nb2image bases lock`"):
        lock("lab")
    (work / "bases" / "locked.toml").unlink()
    written(home / "config" / "nb2image", f'catalogue = ["{site}"]\n', "config.toml")
    lock("lab")
    written(home / "config" / "nb2image", f'catalogue = ["{site}", "{work}/bases/locked.toml"]\n', "config.toml")
    made = make_plan(Request(world.locked(wheel("first"))), Store(world.cache), Silent())
    assert ", locked on 20" in made.match.candidate.origin
    # The reference of the site's catalogue counts when it is locked anew, not that of the lock.
    site.write_text(site.read_text().replace("debian:12", "debian:13"))
    pushed(read_layout(world.base), f"{hub.domain}/bases/debian:13")
    lock()
    assert "bases/debian:13" in (work / "bases" / "locked.toml").read_text()


# -- layouts ------------------------------------------------------------------------------------------------------


def test_a_layout_that_holds_another_image_than_was_locked_is_refused(world: World, work: Path) -> None:
    catalogue = lab(world)
    lock("lab", "--catalogue", catalogue, "--output", world.folder / "locks")
    locked = world.folder / "locks" / "locked.toml"
    assert 'reference = "../lab-base"\n' in locked.read_text()
    assert built(world, locked).base.name == "lab"
    shutil.rmtree(world.folder / "lab-base")
    write_layout(read_layout(world.base), ["lab:1"], world.folder / "lab-base", Silent())
    with pytest.raises(NoMatchingBase, match=r"lab-base does not hold sha256:\w+, which .*locked\.toml locks for lab"):
        built(world, locked)
    assert list(work.iterdir()) == []


# -- Debian's -----------------------------------------------------------------------------------------------------


def pinned(place: Place, folder: Path) -> DebianProvider:
    return DebianProvider(
        place.store, platform=Platform(), mirrors=place.mirrors, pinned={"bookworm": ("bookworm", folder)}
    )


@pytest.fixture
def locks(place: Place, monkeypatch: pytest.MonkeyPatch, work: Path) -> Path:
    """The folder of a locked bookworm, whose packages the archive has."""
    made = update_locks("bookworm", Platform(), place.store, place.listener, mirrors=place.mirrors)
    for name, each in (("shipped_lock", made.base), ("shipped_toolchain", made.toolchain)):
        monkeypatch.setattr(
            f"nb2image.bases.locking.{name}",
            lambda _, platform, each=each: each if platform == Platform() else None,
        )
    lock("bookworm")
    return work / "bases"


def test_a_locked_debian_base_outlives_that_of_a_newer_nb2image(
    place: Place, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = place.deliver().image.digest
    monkeypatch.setattr("nb2image.bases.debian.provider.shipped_lock", lambda *_: None)
    provider = pinned(place, locks)
    (candidate,) = provider.candidates()
    assert candidate.origin.endswith(f", as locked in {locks}")
    base = provider.deliver(candidate, Silent())
    assert (base.name, base.image.digest) == ("bookworm", digest)
    # Its compiler is locked, too; what this nb2image brings fits another base.
    monkeypatch.setattr("nb2image.bases.debian.toolchain.shipped_toolchain", lambda *_: None)
    image = toolchain_image(base, place.store, place.listener, offline=False, mirrors=place.mirrors)
    assert len(image.layers) == len(base.image.layers) + 1


def test_a_locked_debian_base_is_never_replaced_by_another(place: Place, locks: Path) -> None:
    (bash,) = (place.archive.root / "debian").rglob("bash_*.deb")
    bash.unlink()
    provider = pinned(place, locks)
    with pytest.raises(BasePackagesGone, match=r"The base bookworm, as locked in .* cannot be made any more") as caught:
        provider.deliver(provider.candidates()[0], place.listener)
    assert "`nb2image bases lock bookworm`" in caught.value.hint


def test_a_shipped_base_is_locked_for_both_platforms_and_planned_with(world: World, work: Path) -> None:
    told = lock("bookworm")
    assert re.search(r"bookworm  linux/arm64  20\d\d-\d\d-\d\d, sha256:", told)
    made = planned(world, work / "bases" / "locked.toml", "bookworm")
    assert made.match.candidate.origin.endswith(f", as locked in {work / 'bases'}")
    shown = CliRunner().invoke(bases, ["show", "bookworm", "--catalogue", "bases/locked.toml"], catch_exceptions=False)
    assert re.search(r"^locked       20\d\d-", shown.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("toolchain/bookworm-amd64.json", r"toolchain/bookworm-amd64\.json cannot be read: No such file"),
        ("bookworm-amd64.json", "are not the locks of one base of bookworm for linux/amd64"),
    ],
)
def test_locks_that_do_not_belong_together_are_refused(world: World, work: Path, file: str, said: str) -> None:
    lock("bookworm")
    path = work / "bases" / file
    if file.startswith("toolchain"):
        path.unlink()
    else:
        document = json.loads(path.read_text())
        document["packages"] = document["packages"][1:]
        path.write_text(json.dumps(document))
    with pytest.raises(BaseError, match=said) as caught:
        planned(world, work / "bases" / "locked.toml", "bookworm")
    assert "`nb2image bases lock`" in caught.value.hint


# -- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('digests."linux/amd64" = "sha256:12"', "line 9: digests must be sha256:HEX for each platform"),
        (
            f'digests."linux/arm64" = "sha256:{"0" * 64}"',
            "line 9: digests must have one for each platform: linux/amd64",
        ),
        ('digests = "sha256:12"', "line 9: digests must be digests"),
        ('locks = "x"', "line 9: locks are of Debian packages"),
        ('locked = "2026-01-01"', "line 9: locked must be a date"),
    ],
)
def test_an_error_in_a_lock_names_its_line(world: World, line: str, said: str) -> None:
    file = written(world.folder, "\n" + entry("registry.example/lab:1") + line + "\n")
    with pytest.raises(BadCatalogue, match=said):
        planned(world, file)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("jessie", "", "name is none of the suites that nb2image assembles: bullseye, bookworm, trixie"),
        ("lab", 'reference = "sid"\n', "reference is none of the suites"),
        ("lab", 'reference = "bookworm"\n', "name is not bookworm, and nothing says what else it is: locks is missing"),
    ],
)
def test_a_debian_base_of_no_suite_is_refused(world: World, name: str, more: str, said: str) -> None:
    text = f'[[base]]\nname = "{name}"\nprovider = "debian"\nplatforms = ["linux/amd64"]\nglibc = "2.36"\n{more}'
    with pytest.raises(BadCatalogue, match=said):
        planned(world, written(world.folder, text))


def test_wrong_usage_is_said(work: Path) -> None:
    done = CliRunner().invoke(bases, ["lock"])
    assert (done.exit_code, "Name the bases to lock" in done.output) == (2, True)
    with pytest.raises(NoMatchingBase, match="No catalogue has a base named 'wurm'"):
        lock("wurm")
    (work / "file").touch()
    with pytest.raises(Unwritable, match="cannot be written"):
        lock("bookworm", "--output", work / "file" / "x")
