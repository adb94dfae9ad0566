from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from packaging.pylock import Package, PackageSdist, PackageWheel
from packaging.utils import canonicalize_name
from packaging.version import Version

from nb2image.cache import Store
from nb2image.errors import IndexAnswered, IndexUnreachable, NotCached, PackageGone
from nb2image.index.client import IndexClient
from nb2image.index.complete import complete
from nb2image.index.settings import IndexSettings
from nb2image.lock.model import Lock, hash_only_package, new_pylock
from tests.unit.index.plugin import Recorder
from tests.unit.index.server import IndexServer, guarded, html_page, json_page, sha256, status

Make = Callable[..., IndexClient]

WHEEL, SDIST, OTHER = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz", "demo-1.0-cp311-cp311-linux_x86_64.whl"
BYTES = {WHEEL: b"wheel", SDIST: b"sdist", OTHER: b"other"}
DEAD = "http://127.0.0.1:9/simple"


def locked(*names: str, project: str = "demo", index: str | None = None) -> Package:
    return hash_only_package(project, "1.0", [f"sha256:{sha256(BYTES[n])}" for n in names or BYTES], index=index)


def lock_of(*packages: Package, indexes: tuple[str, ...] = ()) -> Lock:
    return Lock(new_pylock(packages), "Pipfile.lock", indexes=indexes)


def only(lock: Lock) -> Package:
    (package,) = lock.packages
    return package


def files(package: Package) -> dict[str, str | None]:
    rows: list[PackageWheel | PackageSdist] = [*(package.wheels or ())]
    rows += [package.sdist] if package.sdist else []
    return {row.filename: row.url for row in rows}


def test_a_hash_only_lock_learns_its_files(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES, **{"requires-python": ">=3.8", "upload-time": "2024-05-06T07:08:09.000000Z"})
    lock = lock_of(locked(WHEEL, SDIST), indexes=(server.simple,))
    package = only(complete(lock, IndexSettings(), store, heard, client=make_client()))
    assert files(package) == {n: f"{server.url}/files/{n}" for n in (WHEEL, SDIST)}
    assert package.sdist is not None
    assert package.sdist.size == 5
    assert package.sdist.hashes == {"sha256": sha256(b"sdist")}
    assert package.sdist.upload_time is not None
    assert str(package.requires_python) == ">=3.8"


def test_completing_does_not_change_the_digest_of_the_lock(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    lock = lock_of(locked(), indexes=(server.simple,))
    assert complete(lock, IndexSettings(), store, heard, client=make_client()).digest == lock.digest


def test_a_warm_build_asks_no_index(server: IndexServer, store: Store, heard: Recorder, make_client: Make) -> None:
    server.project("demo", BYTES)
    lock = lock_of(locked(), indexes=(server.simple,))
    cold = complete(lock, IndexSettings(), store, heard, client=make_client())
    asked = len(server.requests)
    assert complete(lock, IndexSettings(), store, heard, client=make_client()) == cold
    assert complete(lock, IndexSettings(offline=True), store, heard, client=make_client()) == cold
    assert len(server.requests) == asked


def test_another_index_keeps_the_facts_and_leaves_the_urls_open(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    lock = lock_of(locked(), indexes=(server.simple,))
    complete(lock, IndexSettings(), store, heard, client=make_client())
    warm = complete(lock, IndexSettings(indexes=(DEAD,)), store, heard, client=make_client())
    assert files(only(warm)) == dict.fromkeys(BYTES)


def test_incomplete_answers_are_believed_for_an_hour(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    lock = lock_of(locked(), indexes=(server.simple,))

    def found() -> set[str]:
        return set(files(only(complete(lock, IndexSettings(), store, heard, client=make_client()))))

    assert found() == {WHEEL}
    server.project("demo", BYTES)
    assert found() == {WHEEL}
    old = time.time() - 3700
    for record in (store.root / "v1/records/files").rglob("*"):
        os.utime(record, (old, old))
    assert found() == set(BYTES)


def test_an_added_index_is_asked_for_what_was_missing(
    server: IndexServer, other_server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    other_server.project("demo", BYTES)
    lock = lock_of(locked(), indexes=(server.simple,))
    complete(lock, IndexSettings(), store, heard, client=make_client())
    settings = IndexSettings(extra=(other_server.simple,))
    assert set(files(only(complete(lock, settings, store, heard, client=make_client())))) == set(BYTES)


def test_a_stale_record_is_used_with_a_warning_when_the_index_fails(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    lock = lock_of(locked(), indexes=(server.simple,))
    complete(lock, IndexSettings(), store, heard, client=make_client())
    old = time.time() - 3700
    for record in (store.root / "v1/records/files").rglob("*"):
        os.utime(record, (old, old))
    server.on("/simple/demo/", status(403))
    assert set(files(only(complete(lock, IndexSettings(), store, heard, client=make_client())))) == {WHEEL}
    assert "403" in heard.warnings[0]


def test_indexes_are_asked_in_order_until_every_hash_is_found(
    server: IndexServer, other_server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    other_server.project("demo", BYTES)
    lock = lock_of(locked(), indexes=(server.simple, other_server.simple, DEAD))
    found = files(only(complete(lock, IndexSettings(), store, heard, client=make_client(retries=0))))
    assert found == {
        WHEEL: f"{server.url}/files/{WHEEL}",
        SDIST: f"{other_server.url}/files/{SDIST}",
        OTHER: f"{other_server.url}/files/{OTHER}",
    }


def test_a_dead_index_matters_only_when_something_is_missing(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    client = make_client(retries=0)
    whole = lock_of(locked(WHEEL), indexes=(DEAD, server.simple))
    assert set(files(only(complete(whole, IndexSettings(), store, heard, client=client)))) == {WHEEL}
    partial = lock_of(locked(WHEEL, SDIST), indexes=(DEAD, server.simple))
    with pytest.raises(IndexUnreachable, match=r"127\.0\.0\.1:9"):
        complete(partial, IndexSettings(), store, heard, client=make_client(retries=0))


def test_a_package_that_no_index_has_is_named_with_the_indexes(
    server: IndexServer, other_server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: b"rebuilt"})
    indexes = (server.with_login("me:s3cret"), other_server.simple)
    lock = lock_of(locked(), locked(project="missing"), indexes=indexes)
    with pytest.raises(PackageGone) as caught:
        complete(lock, IndexSettings(), store, heard, client=make_client())
    text = " ".join((caught.value.message, caught.value.hint, *caught.value.details))
    assert "demo 1.0" in caught.value.message
    assert "missing 1.0" in caught.value.details[0]
    assert server.with_login("****") in text
    assert other_server.simple in text
    assert "s3cret" not in text


def test_offline_without_an_answer_names_the_packages(store: Store, heard: Recorder, make_client: Make) -> None:
    lock = lock_of(locked(), locked(project="second"), indexes=(DEAD,))
    with pytest.raises(NotCached, match=r"demo 1\.0, second 1\.0"):
        complete(lock, IndexSettings(offline=True), store, heard, client=make_client())


def test_files_of_the_lock_are_kept_without_asking(store: Store, heard: Recorder, make_client: Make) -> None:
    wheel = PackageWheel(name=WHEEL, url="https://index.example/f.whl", hashes={"sha256": sha256(b"wheel")})
    lock = lock_of(Package(name=canonicalize_name("demo"), version=Version("1.0"), wheels=[wheel]), indexes=(DEAD,))
    assert complete(lock, IndexSettings(), store, heard, client=make_client()) == lock


def test_index_url_replaces_the_urls_of_the_lock(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    wheels = [
        PackageWheel(name=n, url=f"https://index.example/{n}", hashes={"sha256": sha256(BYTES[n])})
        for n in (WHEEL, OTHER)
    ]
    lock = lock_of(Package(name=canonicalize_name("demo"), version=Version("1.0"), wheels=wheels))
    settings = IndexSettings(indexes=(server.simple,))
    package = only(complete(lock, settings, store, heard, client=make_client()))
    assert files(package) == {WHEEL: f"{server.url}/files/{WHEEL}", OTHER: None}


def test_offline_the_files_of_a_lock_need_no_answer(store: Store, heard: Recorder, make_client: Make) -> None:
    wheel = PackageWheel(name=WHEEL, url="https://index.example/f.whl", hashes={"sha256": sha256(b"wheel")})
    lock = lock_of(Package(name=canonicalize_name("demo"), version=Version("1.0"), wheels=[wheel]))
    settings = IndexSettings(indexes=(DEAD,), offline=True)
    assert files(only(complete(lock, settings, store, heard, client=make_client()))) == {WHEEL: None}


def test_hashes_in_capitals_are_the_same_hashes(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    package = hash_only_package("demo", "1.0", ["sha256:" + sha256(b"wheel").upper()])
    lock = lock_of(package, indexes=(server.simple,))
    assert set(files(only(complete(lock, IndexSettings(), store, heard, client=make_client())))) == {WHEEL}


def test_the_lock_of_one_package_may_name_its_own_index_first(
    server: IndexServer, other_server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    other_server.project("demo", BYTES)
    lock = lock_of(locked(index=other_server.simple), indexes=(server.simple, other_server.simple))
    complete(lock, IndexSettings(), store, heard, client=make_client())
    assert (len(server.requests), len(other_server.requests)) == (0, 1)


def test_a_warm_build_with_the_default_index_imports_nothing_heavy(server: IndexServer, tmp_path: Path) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    script = f"""
import sys
from pathlib import Path
import nb2image.index.settings as settings
from nb2image.cache import Store
from nb2image.index.complete import complete
from nb2image.lock.model import Lock, hash_only_package, new_pylock
from nb2image.progress import Silent
if sys.argv[1] == "cold":
    import pypi_simple
    pypi_simple.PYPI_SIMPLE_ENDPOINT = "{server.simple}"
lock = Lock(new_pylock([hash_only_package("demo", "1.0", ["sha256:{sha256(BYTES[WHEEL])}"])]), "test")
found = complete(lock, settings.IndexSettings(), Store(Path("{tmp_path}/cache")), Silent())
assert found.packages[0].wheels[0].url == "{server.url}/files/{WHEEL}"
print(sorted({{"httpx", "pypi_simple", "requests", "ssl"}} & set(sys.modules)))
"""
    said = [
        subprocess.run([sys.executable, "-c", script, run], capture_output=True, text=True, check=True).stdout
        for run in ("cold", "warm")
    ]
    assert "httpx" in said[0]
    assert said[1] == "[]\n"


def test_files_without_a_url_are_looked_up_by_hash(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    sdist = PackageSdist(name=SDIST, hashes={"sha256": sha256(BYTES[SDIST])})
    lock = lock_of(
        Package(name=canonicalize_name("demo"), version=Version("1.0"), sdist=sdist), indexes=(server.simple,)
    )
    package = only(complete(lock, IndexSettings(), store, heard, client=make_client()))
    assert files(package) == {SDIST: f"{server.url}/files/{SDIST}"}


def test_linked_files_come_before_any_index(tmp_path: Path, store: Store, heard: Recorder, make_client: Make) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, data in BYTES.items():
        (folder / name).write_bytes(data)
    settings = IndexSettings(indexes=(DEAD,), find_links=(str(folder),))
    package = only(complete(lock_of(locked()), settings, store, heard, client=make_client(retries=0)))
    assert {w.filename: w.path for w in package.wheels or ()} == {n: str(folder / n) for n in (OTHER, WHEEL)}
    assert package.sdist is not None
    assert package.sdist.path == str(folder / SDIST)
    assert package.sdist.size == 5


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_linked_files_are_found_by_stronger_hashes_too(
    tmp_path: Path, store: Store, heard: Recorder, make_client: Make, algorithm: str
) -> None:
    (tmp_path / WHEEL).write_bytes(BYTES[WHEEL])
    package = hash_only_package("demo", "1.0", [f"{algorithm}:{hashlib.new(algorithm, BYTES[WHEEL]).hexdigest()}"])
    settings = IndexSettings(indexes=(DEAD,), find_links=(str(tmp_path),))
    found = only(complete(lock_of(package), settings, store, heard, client=make_client(retries=0)))
    assert {w.filename: w.path for w in found.wheels or ()} == {WHEEL: str(tmp_path / WHEEL)}


def test_offline_a_page_of_links_on_this_machine_leaves_nothing_open(
    tmp_path: Path, store: Store, heard: Recorder
) -> None:
    (tmp_path / WHEEL).write_bytes(BYTES[WHEEL])
    page = tmp_path / "links.html"
    page.write_text(f'<a href="{WHEEL}#sha256={sha256(BYTES[WHEEL])}">x</a>')
    settings = IndexSettings(find_links=(page.as_uri(),), offline=True)
    package = only(complete(lock_of(locked(WHEEL)), settings, store, heard))
    assert {w.filename for w in package.wheels or ()} == {WHEEL}


def test_a_linked_file_of_another_hash_is_left_with_a_note(
    server: IndexServer, tmp_path: Path, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]})
    (tmp_path / WHEEL).write_bytes(b"changed")
    settings = IndexSettings(indexes=(server.simple,), find_links=(tmp_path.as_uri(),))
    package = only(complete(lock_of(locked(WHEEL)), settings, store, heard, client=make_client()))
    assert files(package) == {WHEEL: f"{server.url}/files/{WHEEL}"}
    assert heard.notes == [f"{tmp_path / WHEEL} is not used: the lock states another hash for demo 1.0."]


def test_a_changed_linked_file_is_hashed_again(
    tmp_path: Path, store: Store, heard: Recorder, make_client: Make
) -> None:
    (tmp_path / WHEEL).write_bytes(b"WHEEL")
    settings = IndexSettings(find_links=(str(tmp_path),), offline=True)
    lock = lock_of(locked(WHEEL), indexes=(DEAD,))
    with pytest.raises(NotCached):
        complete(lock, settings, store, heard, client=make_client())
    (tmp_path / WHEEL).write_bytes(b"wheel")
    assert set(files(only(complete(lock, settings, store, heard, client=make_client())))) == {WHEEL}


def test_a_page_of_links_works_like_a_folder(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    page = server.on(
        "/all.html", html_page(f'<a href="f/{WHEEL}#sha256={sha256(b"wheel")}">x</a><a href="y.exe">y</a>')
    )
    settings = IndexSettings(indexes=(DEAD,), find_links=(page,))
    package = only(complete(lock_of(locked(WHEEL)), settings, store, heard, client=make_client()))
    assert files(package) == {WHEEL: f"{server.url}/f/{WHEEL}"}


def test_a_place_of_links_that_is_missing_is_a_warning(
    server: IndexServer, tmp_path: Path, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    settings = IndexSettings(indexes=(server.simple,), find_links=(str(tmp_path / "absent"),))
    complete(lock_of(locked()), settings, store, heard, client=make_client())
    assert heard.warnings == [f"--find-links {tmp_path / 'absent'} is not there."]


def test_a_yanked_release_is_kept_with_a_warning(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {WHEEL: BYTES[WHEEL]}, yanked="breaks things.")
    lock = lock_of(locked(WHEEL), indexes=(server.simple,))
    for _ in range(2):
        assert files(only(complete(lock, IndexSettings(), store, heard, client=make_client())))
    assert heard.warnings == ["demo 1.0 was yanked by its maintainers: breaks things."] * 2


def test_credentials_stay_out_of_records_urls_and_events(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "tok-91f3")
    server.project("demo", BYTES)
    page = server.replies["/simple/demo/"][0]
    server.on("/tok-91f3/simple/demo/", guarded("me:s3cret", page))
    index = server.with_login("me:s3cret", "/${INDEX_TOKEN}/simple")
    lock = lock_of(locked(), indexes=(index,))
    completed = complete(lock, IndexSettings(), store, heard, client=make_client())
    assert set(files(only(completed)).values()) == {None}
    kept = b"".join(f.read_bytes() for f in store.root.rglob("*") if f.is_file())
    assert b"demo-1.0" in kept
    for secret in ("s3cret", "tok-91f3"):
        assert secret.encode() not in kept
        assert secret not in repr(heard.events)


def test_a_damaged_record_is_asked_for_again(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    lock = lock_of(locked(), indexes=(server.simple,))
    complete(lock, IndexSettings(), store, heard, client=make_client())
    for record in (store.root / "v1/records/files").rglob("*"):
        if record.is_file():
            store.put_record("files", record.name, {"files": [{"filename": 3}]})
    assert set(files(only(complete(lock, IndexSettings(), store, heard, client=make_client())))) == set(BYTES)


def test_eighty_packages_are_asked_for_at_once(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    packages = []
    for number in range(80):
        data = {f"p{number}-1.0-py3-none-any.whl": str(number).encode()}
        server.project(f"p{number}", data)
        hashes = [f"sha256:{sha256(str(number).encode())}"]
        packages.append(hash_only_package(f"p{number}", "1.0", hashes))
    lock = lock_of(*packages, indexes=(server.simple,))
    completed = complete(lock, IndexSettings(), store, heard, client=make_client())
    assert [p.name for p in completed.packages] == [p.name for p in lock.packages]
    assert all(len(files(p)) == 1 for p in completed.packages)


def test_an_index_that_every_package_names_is_looked_through_once(
    server: IndexServer, store: Store, heard: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each package would make a request as slow as the lock is long."""
    given: list[str] = []

    class Client(IndexClient):
        def __init__(self, indexes: Iterable[str]) -> None:
            given.extend(indexes)
            super().__init__(given)

    monkeypatch.setattr("nb2image.index.complete.IndexClient", Client)
    for name in ("demo", "demo2"):
        server.project(name, BYTES)
    lock = lock_of(*(locked(project=name, index=server.simple) for name in ("demo", "demo2")), indexes=(server.simple,))
    complete(lock, IndexSettings(), store, heard)
    assert given == [server.simple]


def test_one_error_ends_the_whole_question(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", BYTES)
    server.on("/simple/bad/", json_page([], version="9.0"))
    lock = lock_of(locked(), locked(project="bad"), indexes=(server.simple,))
    with pytest.raises(IndexAnswered, match=r"version '9\.0' of the simple API"):
        complete(lock, IndexSettings(), store, heard, client=make_client())
