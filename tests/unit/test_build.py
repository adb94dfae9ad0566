"""The whole pipeline, offline: equal input gives equal images, and what changes changes only what it must."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock

import nb2image.images
from nb2image import __version__
from nb2image.build import Built
from nb2image.cache import Store
from nb2image.errors import HashMismatch, NoMatchingBase, NotCached, TooManyLayers
from nb2image.image.layout import write_layout
from nb2image.image.model import Image
from nb2image.image.validate import validate
from nb2image.index.settings import IndexSettings
from nb2image.progress import Finished, Silent, Warned
from tests.unit.bases.test_facts import DEBIAN
from tests.unit.image.making import files_of as base_files
from tests.unit.image.making import image_of
from tests.unit.index.plugin import Recorder, heard, machine, server
from tests.unit.index.server import body, json_page, serving
from tests.unit.world import RUNNERS, World, notebook, pipfile_lock, pylock, wheel, world, write_base

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["heard", "machine", "server", "world"]

ALPHA, BETA = wheel("alpha"), wheel("beta", "2.0")
OWN_KEYS = {
    "io.nb2image.lock.digest",
    "io.nb2image.lock.source",
    "io.nb2image.mode",
    "io.nb2image.notebook",
    "io.nb2image.python",
    "io.nb2image.sbom",
    "io.nb2image.version",
    "org.opencontainers.image.base.digest",
    "org.opencontainers.image.base.name",
    "org.opencontainers.image.created",
    "org.opencontainers.image.title",
}


def config_of(image: Image) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(image.config_bytes)
    return document


def files_of(image: Image) -> dict[str, bytes]:
    """Every regular file of the image, upper layers over lower ones."""
    found = {}
    for layer in image.layers:
        with layer.open() as stream, tarfile.open(fileobj=stream, mode="r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() or member.islnk() else None
                if content is not None:
                    found[member.name] = content.read()
    return found


def comments(built: Built) -> list[str]:
    return [row["comment"] for row in config_of(built.image)["history"]]


def test_the_image_is_sound_and_its_documents_tell_what_it_is(world: World) -> None:
    built = world.build(world.locked(ALPHA, BETA), labels={"team": "data"}, env={"REGION": "north"})
    validate(built.image)
    config = config_of(built.image)
    execution = config["config"]
    assert execution["User"] == "1001:0"
    assert execution["WorkingDir"] == "/work"
    assert execution["Entrypoint"][0] == "/opt/runner/bin/python"
    assert "REGION=north" in execution["Env"]
    assert "PATH=/opt/kernel/bin:/opt/runner/bin:/usr/local/bin:/usr/bin" in execution["Env"]
    manifest = json.loads(built.image.manifest_bytes)
    assert set(manifest["annotations"]) == OWN_KEYS
    assert {**manifest["annotations"], "team": "data"} == execution["Labels"]
    assert execution["Labels"]["io.nb2image.version"] == __version__
    assert execution["Labels"]["io.nb2image.lock.digest"] == built.plan.lock.digest
    assert execution["Labels"]["org.opencontainers.image.base.digest"] == built.base.image.digest


def test_the_history_has_a_line_per_layer_that_names_its_packages(world: World) -> None:
    built = world.build(world.locked(ALPHA, BETA))
    lines = comments(built)
    assert len(lines) == len(built.image.layers)
    words = " ".join(lines).split()
    for name in ("jupyterlab==4.0", "lab-helper==1.0", "ipykernel==7.0", "comm==0.2", "alpha==1.0", "beta==2.0"):
        assert words.count(name) == 1
    assert lines[-2:] == ["lock of analysis.ipynb: 2 packages", "notebook analysis.ipynb"]


def test_what_many_images_share_lies_below_what_few_have(world: World) -> None:
    lines = comments(world.build(world.locked(ALPHA)))
    order = [next(n for n, line in enumerate(lines) if what in line) for what in ("runtime", "jupyterlab", "comm==")]
    order.append(next(n for n, line in enumerate(lines) if "alpha" in line))
    assert order == sorted(order)


def test_two_machines_make_the_same_image(world: World) -> None:
    source = world.locked(ALPHA, BETA)
    assert world.build(source).image.digest == world.build(source, cache="another").image.digest


def test_the_order_of_the_lock_does_not_matter(world: World) -> None:
    world.offer(ALPHA, BETA)
    url = f"{world.server.url}/files"
    one = world.build(notebook(world.folder / "one", pylock(ALPHA, BETA, url=url)))
    other = world.build(notebook(world.folder / "other", pylock(BETA, ALPHA, url=url)), cache="another")
    assert [x.descriptor for x in one.image.layers[:-1]] == [x.descriptor for x in other.image.layers[:-1]]
    assert config_of(one.image)["config"]["Labels"] == config_of(other.image)["config"]["Labels"]


def test_where_the_files_came_from_leaves_no_trace(world: World) -> None:
    source = world.locked(ALPHA)
    first = world.build(source)
    with serving() as mirror:
        for each in (ALPHA, *(w for wheels in RUNNERS.values() for w in wheels)):
            mirror.project(each.name, {each.filename: each.data})
        settings = IndexSettings((mirror.with_login("someone:secret"),))
        other = world.build(source, cache="another", settings=settings)
        assert "/files/" + ALPHA.filename in mirror.paths()
    assert first.image.digest == other.image.digest
    stored = [path for path in (world.folder / "another").rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if b"secret" in path.read_bytes()]


def test_a_label_changes_the_documents_only(world: World) -> None:
    source = world.locked(ALPHA)
    plain, labelled = world.build(source), world.build(source, labels={"a": "b"})
    assert plain.image.digest != labelled.image.digest
    assert [x.diff_id for x in plain.image.layers] == [x.diff_id for x in labelled.image.layers]


def test_a_label_may_replace_a_standard_one(world: World) -> None:
    built = world.build(world.locked(ALPHA), labels={"org.opencontainers.image.title": "Mine"})
    assert config_of(built.image)["config"]["Labels"]["org.opencontainers.image.title"] == "Mine"


def test_a_warm_build_asks_nobody_and_equals_the_cold_one(world: World, heard: Recorder) -> None:
    source = world.locked(ALPHA, BETA)
    cold = world.build(source)
    asked = len(world.server.requests)
    assert asked
    warm = world.build(source, listener=heard)
    assert len(world.server.requests) == asked
    assert warm.image.digest == cold.image.digest
    layers = [event for event in heard.events if isinstance(event, Finished) and event.task == "layer"]
    assert layers
    assert all(event.cached for event in layers)
    assert world.build(source, settings=IndexSettings(offline=True)).image.digest == cold.image.digest


def test_offline_with_an_empty_cache_names_what_is_missing(world: World) -> None:
    with pytest.raises(NotCached, match="Offline"):
        world.build(world.locked(ALPHA), settings=IndexSettings(offline=True))
    assert world.server.requests == []


def test_pruned_layers_are_written_again(world: World) -> None:
    source = world.locked(ALPHA, BETA)
    before = world.build(source)
    Store(world.cache).prune(("layers",))
    asked = len(world.server.requests)
    again = world.build(source)
    validate(again.image)
    assert again.image.digest == before.image.digest
    assert len(world.server.requests) == asked


def test_an_index_that_tells_no_sizes_gives_the_same_image(world: World) -> None:
    world.offer(ALPHA, BETA)
    lock = pipfile_lock(ALPHA, BETA, index=world.server.simple)
    source = notebook(world.folder / "one", None, requirements_lock=lock)
    first = world.build(source)
    for each in (ALPHA, BETA):
        rows = [{"filename": each.filename, "url": f"../../files/{each.filename}", "hashes": {"sha256": each.sha256}}]
        world.server.on(f"/simple/{each.name}/", json_page(rows))
    assert world.build(source, cache="another").image.digest == first.image.digest


def test_an_index_that_tells_more_gives_the_same_image(world: World) -> None:
    world.offer(ALPHA)
    lock = pipfile_lock(ALPHA, index=world.server.simple)
    source = notebook(world.folder / "one", None, requirements_lock=lock)
    first = world.build(source)
    world.server.project(ALPHA.name, {ALPHA.filename: ALPHA.data}, **{"requires-python": ">=3.8"})
    assert world.build(source, cache="another").image.digest == first.image.digest


def test_a_page_of_links_that_states_more_hashes_gives_the_same_image(world: World) -> None:
    world.offer(ALPHA)
    lock = pipfile_lock(ALPHA, index=world.server.simple)
    source = notebook(world.folder / "one", None, requirements_lock=lock)
    first = world.build(source)
    hashes = {"sha256": ALPHA.sha256, "sha512": hashlib.sha512(ALPHA.data).hexdigest()}
    row = {"filename": ALPHA.filename, "url": f"{world.server.url}/files/{ALPHA.filename}", "hashes": hashes}
    settings = IndexSettings(find_links=(world.server.on("/links", json_page([row])),))
    other = world.build(source, cache="another", settings=settings)
    assert other.plan.lock.digest == first.plan.lock.digest
    assert other.image.digest == first.image.digest


def test_another_notebook_changes_the_last_layer_and_the_documents_only(world: World) -> None:
    source = world.locked(ALPHA)
    before = world.build(source)
    source.write_bytes(source.read_bytes().replace(b"hello", b"other"))
    after = world.build(source)
    assert [x.descriptor for x in before.image.layers[:-1]] == [x.descriptor for x in after.image.layers[:-1]]
    assert before.image.layers[-1].descriptor != after.image.layers[-1].descriptor
    assert before.image.config_descriptor != after.image.config_descriptor
    assert config_of(before.image)["config"] == config_of(after.image)["config"]
    assert b"other" in files_of(after.image)["work/analysis.ipynb"]


def test_a_new_version_of_one_package_leaves_the_runner_alone(world: World) -> None:
    before = world.build(world.locked(ALPHA, BETA))
    after = world.build(world.locked(ALPHA, wheel("beta", "3.0")))
    shared = {x.diff_id for x in before.image.layers} & {x.diff_id for x in after.image.layers}
    kept = [x.comment for x in after.image.layers if x.diff_id in shared]
    assert {"jupyterlab==4.0", "ipykernel==7.0", "nb2image 0.1.0 runtime, jupyter"} <= set(kept)


def test_source_date_epoch_is_the_creation_time_and_touches_the_last_layer_only(world: World) -> None:
    source = world.locked(ALPHA)
    plain, dated = world.build(source), world.build(source, epoch=1_700_000_000)
    assert config_of(plain.image)["created"] == "1980-01-01T00:00:00Z"
    assert config_of(dated.image)["created"] == "2023-11-14T22:13:20Z"
    assert config_of(dated.image)["config"]["Labels"]["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert config_of(dated.image)["history"][-1]["created"] == "2023-11-14T22:13:20Z"
    assert [x.diff_id for x in plain.image.layers[:-1]] == [x.diff_id for x in dated.image.layers[:-1]]
    assert config_of(world.build(source, epoch=0).image)["created"] == "1970-01-01T00:00:00Z"


def test_the_lock_inside_is_valid_and_names_no_url(world: World) -> None:
    built = world.build(world.locked(ALPHA, BETA))
    data = files_of(built.image)["opt/nb2image/pylock.toml"]
    inside = Pylock.from_dict(tomllib.loads(data.decode()))
    inside.validate()
    assert [(p.name, str(p.version)) for p in inside.packages] == [("alpha", "1.0"), ("beta", "2.0")]
    hashes = [file.hashes["sha256"] for package in inside.packages for file in package.wheels or ()]
    assert hashes == [ALPHA.sha256, BETA.sha256]
    assert b"://" not in data
    assert str(world.folder).encode() not in data


def test_the_wheels_of_each_environment_stay_apart(world: World) -> None:
    files = files_of(world.build(world.locked(ALPHA)).image)
    assert "opt/kernel/lib/python3.11/site-packages/alpha/__init__.py" in files
    assert "opt/runner/lib/python3.11/site-packages/jupyterlab/__init__.py" in files
    kernel = [path for path in files if path.startswith("opt/kernel/lib")]
    assert not [path for path in kernel if "jupyterlab" in path or "ipykernel" in path]


def test_a_lock_with_ipykernel_gets_no_support_packages(world: World) -> None:
    built = world.build(world.locked(ALPHA, wheel("ipykernel", "6.0")))
    assert built.plan.support == ()
    assert not [path for path in files_of(built.image) if path.startswith("opt/support/lib")]


def test_a_percent_script_runs_as_the_notebook_of_its_name(world: World) -> None:
    world.offer(ALPHA)
    script = world.work / "report.py"
    script.write_text("# %% [markdown]\n# # The report\n# %%\nprint(1)\n")
    (world.work / "pylock.toml").write_text(pylock(ALPHA, url=f"{world.server.url}/files"))
    built = world.build(script)
    files = files_of(built.image)
    assert json.loads(files["work/report.ipynb"])["cells"][1]["source"] == "print(1)"
    assert files["work/report.py"] == script.read_bytes()
    assert config_of(built.image)["config"]["Labels"]["io.nb2image.notebook"] == "report.ipynb"


def test_a_repository_comes_along_without_what_is_ignored(world: World) -> None:
    world.locked(ALPHA)
    (world.work / "helpers").mkdir()
    (world.work / "helpers" / "tools.py").write_text("x = 1\n")
    (world.work / "big.csv").write_text("1,2\n")
    (world.work / ".dockerignore").write_text("*.csv\n")
    files = files_of(world.build(world.work).image)
    assert files["work/helpers/tools.py"] == b"x = 1\n"
    assert "work/analysis.ipynb" in files
    assert "work/big.csv" not in files


def test_images_that_were_written_into_the_repository_do_not_come_along(world: World) -> None:
    world.locked(ALPHA)
    outputs = (world.work / "images", world.work / "other.tar")
    clean = world.build(world.work, outputs=outputs)
    (world.work / "images/blobs").mkdir(parents=True)
    (world.work / "images/blobs/big").write_bytes(b"x" * 1000)
    (world.work / "other.tar").write_bytes(b"x" * 1000)
    (world.work / "analysis.tar").write_bytes(b"x" * 1000)
    assert world.build(world.work, outputs=outputs).image.digest == clean.image.digest
    (world.work / "data.tar").write_bytes(b"x" * 1000)
    assert world.build(world.work, outputs=outputs).image.digest != clean.image.digest


def test_a_revision_is_stated_where_the_notebook_is_under_git(world: World) -> None:
    source = world.locked(ALPHA)
    git = ["git", "-C", str(world.work), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    revision = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    labels = config_of(world.build(source).image)["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == revision
    source.write_text(source.read_text() + "\n")
    labels = config_of(world.build(source).image)["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == f"{revision}-dirty"


def test_both_modes_cut_the_wheels_alike(world: World) -> None:
    source = world.locked(ALPHA, BETA)
    jupyter = world.build(source)
    batch = world.build(source, mode="batch", bytecode=False)
    assert "papermill==2.0" in comments(batch)
    kernels = [[x.diff_id for x in b.image.layers if "alpha" in x.comment] for b in (jupyter, batch)]
    assert kernels[0] == kernels[1] != []


def test_many_packages_stay_below_what_engines_mount(world: World) -> None:
    many = [wheel(f"package-{n:03}") for n in range(150)]
    built = world.build(world.locked(*many))
    assert len(built.image.layers) <= 100
    words = " ".join(comments(built)).split()
    assert sum(word.startswith("package-") for word in words) == 150


def test_a_base_without_room_for_more_layers_is_refused(world: World) -> None:
    world.base = write_base(world.folder / "high", extra_layers=92)
    with pytest.raises(TooManyLayers, match="93 layers"):
        world.build(world.locked(ALPHA))


def test_the_lock_is_fetched_before_the_projects_own_wheels(world: World) -> None:
    source = world.locked(ALPHA)
    world.server.on(f"/files/{ALPHA.filename}", body(bytes(len(ALPHA.data))))
    with pytest.raises(HashMismatch):
        world.build(source)
    assert [path for path in world.server.paths() if path.startswith("/files/")] == [f"/files/{ALPHA.filename}"]
    assert world.unfinished() == []


def test_a_base_of_another_python_than_the_lock_is_refused(world: World) -> None:
    source = notebook(world.work, pylock(ALPHA, url="http://index.example").replace("3.11", "3.8"))
    with pytest.raises(NoMatchingBase, match=r"3\.8"):
        world.build(source)


def test_a_layout_of_several_images_offers_all_of_them(world: World) -> None:
    write_layout(image_of(base_files(DEBIAN), Env=["PATH=/usr/bin"]), ["other:2"], world.base, Silent())
    built = world.build(world.locked(ALPHA))
    assert len(built.plan.match.rows) == 2
    assert [row.chosen for row in built.plan.match.rows].count(True) == 1


def test_conflicts_are_warned_of_and_reported(world: World, heard: Recorder) -> None:
    one = wheel("one", files={"shared.py": b"1", "one.py": b""})
    two = wheel("two", files={"shared.py": b"2", "two.py": b""})
    built = world.build(world.locked(one, two), listener=heard)
    path = "opt/kernel/lib/python3.11/site-packages/shared.py"
    assert built.conflicts == ((path, "one", "two"),)
    assert files_of(built.image)[path] == b"1"
    assert [e.text for e in heard.events if isinstance(e, Warned)] == [
        f"one and two both bring /{path}, with different contents; that of one is kept."
    ]
    validate(built.image)
    assert world.build(world.locked(one, two)).conflicts == built.conflicts


def test_seconds_are_counted_once_per_stage(world: World, heard: Recorder) -> None:
    built = world.build(world.locked(ALPHA), listener=heard)
    assert {"read", "match", "environments", "sbom", "assemble"} <= set(built.seconds)
    assert len([e for e in heard.events if isinstance(e, Finished) and e.task == "base"]) == 1


def test_runners_for_another_python_are_offered_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = world.folder / "none"
    empty.mkdir()
    (empty / "jupyter-3.9.txt").write_text("")
    monkeypatch.setattr(nb2image.images, "_RUNNERS", empty)
    with pytest.raises(NoMatchingBase) as caught:
        world.build(world.locked(ALPHA))
    assert caught.value.message == "There is no jupyter runner for Python 3.11."
    assert caught.value.hint == "There are runners for 3.9."


def test_the_cache_may_stand_anywhere_and_the_image_does_not_tell(world: World) -> None:
    built = world.build(world.locked(ALPHA), cache="a cache/with spaces")
    for data in (built.image.config_bytes, built.image.manifest_bytes, *files_of(built.image).values()):
        assert str(world.folder).encode() not in data


def test_a_folder_of_the_notebook_does_not_enter_the_image(world: World) -> None:
    url = f"{world.server.url}/files"
    world.offer(ALPHA)
    here = notebook(world.folder / "here", pylock(ALPHA, url=url))
    there = notebook(world.folder / "there" / "deep", pylock(ALPHA, url=url))
    assert world.build(here).image.digest == world.build(Path(there)).image.digest
