from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.pylock import PackageWheel

from nb2image.cache import Store
from nb2image.errors import HashMismatch, IndexAnswered, IndexUnreachable, NotCached, PackageGone, UnhashedPackage
from nb2image.index.client import IndexClient
from nb2image.index.download import LockedFile, download, download_each, locked_file
from nb2image.index.settings import IndexSettings
from nb2image.lock.model import hash_only_package
from nb2image.progress import Advanced, Finished, Started
from tests.unit.index.plugin import Recorder
from tests.unit.index.server import IndexServer, basic, body, guarded, html_page, redirect, sha256, status

Make = Callable[..., IndexClient]
DATA = random.Random(7).randbytes(300_000)
NAME = "demo-1.0-py3-none-any.whl"


def wanted(url: str | None, data: bytes = DATA, name: str = NAME, path: Path | None = None) -> LockedFile:
    return LockedFile("demo", "1.0", name, url, len(data), frozenset({f"sha256:{sha256(data)}"}), path)


def unfinished(store: Store) -> list[Path]:
    return list((store.root / "v1/tmp").iterdir())


def test_a_file_is_stored_under_its_hash_with_its_progress(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    url = server.on("/f", body(DATA))
    paths = download([wanted(url)], IndexSettings(), store, heard, client=make_client())
    assert paths == {NAME: store.path("wheels", f"sha256:{sha256(DATA)}")}
    assert paths[NAME].read_bytes() == DATA
    assert Started("download", NAME, len(DATA), "bytes") in heard.events
    assert sum(e.amount for e in heard.events if isinstance(e, Advanced)) == len(DATA)
    assert [e.cached for e in heard.events if isinstance(e, Finished)] == [False]
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


def test_what_is_cached_is_not_fetched(server: IndexServer, store: Store, heard: Recorder, make_client: Make) -> None:
    file = wanted(server.on("/f", body(DATA)))
    first = download([file], IndexSettings(), store, heard, client=make_client())
    offline = IndexSettings(offline=True)
    assert download([file], offline, store, heard, client=make_client()) == first
    assert len(server.requests) == 1
    assert [e.cached for e in heard.events if isinstance(e, Finished)] == [False, True]


def test_files_come_one_by_one_cached_ones_first(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    data = {f"f{n}-1-py3-none-any.whl": str(n).encode() * 1000 for n in range(20)}
    files = [wanted(server.on(f"/{n}", body(d)), d, n) for n, d in data.items()]
    download(files[-2:], IndexSettings(), store, heard, client=make_client())
    arrived = list(download_each(files, IndexSettings(), store, heard, client=make_client()))
    assert {file for file, _ in arrived[:2]} == set(files[-2:])
    assert {f.filename: p.read_bytes() for f, p in arrived} == data


def test_the_biggest_file_is_asked_for_first(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    files = [wanted(server.on(f"/{n}", body(b"x" * n)), b"x" * n, f"x{n}.whl") for n in range(1, 30)]
    download(files, IndexSettings(), store, heard, client=make_client())
    assert "/29" in server.paths()[:8]
    assert "/1" in server.paths()[-8:]


def test_a_hash_mismatch_keeps_nothing_and_shows_no_secret(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.on("/f", body(DATA[::-1]))
    with pytest.raises(HashMismatch, match=NAME) as caught:
        download([wanted(server.with_login("me:s3cret", "/f"))], IndexSettings(), store, heard, client=make_client())
    assert caught.value.details == (f"expected: sha256:{sha256(DATA)}", f"got:      sha256:{sha256(DATA[::-1])}")
    assert server.with_login("****", "/f") in caught.value.message
    assert "s3cret" not in str(caught.value)
    assert unfinished(store) == []
    assert not list((store.root / "v1").glob("wheels/**/*"))


def test_a_stronger_hash_is_enough_and_remembered(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    strong = frozenset({"sha512:" + hashlib.sha512(DATA).hexdigest()})
    file = wanted(server.on("/f", body(DATA)))._replace(hashes=strong)
    for _ in range(2):
        paths = download([file], IndexSettings(), store, heard, client=make_client())
        assert paths[NAME] == store.path("wheels", f"sha256:{sha256(DATA)}")
    assert len(server.requests) == 1


def test_every_algorithm_that_the_lock_names_must_agree(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    file = wanted(server.on("/f", body(DATA)))
    file = file._replace(hashes=file.hashes | {"sha512:" + "0" * 128})
    with pytest.raises(HashMismatch) as caught:
        download([file], IndexSettings(), store, heard, client=make_client())
    assert caught.value.details[0] == "expected: sha512:" + "0" * 128


@pytest.mark.parametrize("hashes", [frozenset(), frozenset({"md5:" + "0" * 32})])
def test_a_file_without_a_strong_hash_is_refused_unasked(
    hashes: frozenset[str], server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    file = wanted(server.on("/f", body(DATA)))._replace(hashes=hashes)
    with pytest.raises(UnhashedPackage):
        download([file], IndexSettings(), store, heard, client=make_client())
    assert server.requests == []


def test_a_missing_url_is_looked_up_by_hash(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {NAME: DATA})
    settings = IndexSettings(indexes=(server.simple,))
    assert download([wanted(None)], settings, store, heard, client=make_client())


def test_a_url_that_is_gone_is_looked_up_again(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.project("demo", {NAME: DATA})
    old = f"{server.url}/old/{NAME}"
    assert download([wanted(old)], IndexSettings(), store, heard, indexes=[server.simple], client=make_client())


def test_a_file_that_no_index_has_is_named(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    settings = IndexSettings(indexes=(server.with_login("me:s3cret"),))
    with pytest.raises(PackageGone, match=f"{NAME} of demo 1.0") as caught:
        download([wanted(None)], settings, store, heard, client=make_client())
    assert "s3cret" not in str(caught.value)
    settings = IndexSettings(indexes=(server.simple,))
    with pytest.raises(IndexAnswered, match="answered 404"):
        download([wanted(f"{server.url}/gone")], settings, store, heard, client=make_client())


def test_a_file_behind_a_login_is_fetched_with_the_indexs_own(
    server: IndexServer, store: Store, heard: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PASSWORD", "s3cret")
    url = server.on("/f", guarded("me:s3cret", body(DATA)))
    indexes = [server.with_login("me:${MY_PASSWORD}")]
    assert download([wanted(url)], IndexSettings(), store, heard, indexes=indexes)
    assert server.authorizations() == [basic("me:s3cret")]


def test_credentials_do_not_follow_a_file_to_another_host(
    server: IndexServer, other_server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    server.on("/f", redirect(other_server.on("/g", body(DATA))))
    download([wanted(server.with_login("me:s3cret", "/f"))], IndexSettings(), store, heard, client=make_client())
    assert server.authorizations() == [basic("me:s3cret")]
    assert other_server.authorizations() == [None]


def test_an_encoding_that_the_server_claims_is_not_undone(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    import gzip

    data = gzip.compress(b"a source distribution")
    url = server.on("/f", body(data, Content_Encoding="gzip"))
    (path,) = download([wanted(url, data)], IndexSettings(), store, heard, client=make_client()).values()
    assert path.read_bytes() == data


def test_offline_names_every_file_that_is_missing(store: Store, heard: Recorder) -> None:
    files = [wanted("https://index.example/f"), wanted(None, name="other-1.0.tar.gz")]
    with pytest.raises(NotCached, match=f"{NAME}, other-1.0.tar.gz"):
        download(files, IndexSettings(offline=True), store, heard)


def test_local_files_are_copied_even_offline(tmp_path: Path, store: Store, heard: Recorder) -> None:
    place = tmp_path / "with space" / NAME
    place.parent.mkdir()
    place.write_bytes(DATA)
    by_path, by_url = wanted(None, path=place), wanted(place.as_uri())
    for file in (by_path, by_url):
        store.drop("wheels", f"sha256:{sha256(DATA)}")
        paths = download([file], IndexSettings(offline=True), store, heard)
        assert paths[NAME].read_bytes() == DATA
    place.write_bytes(b"changed")
    store.drop("wheels", f"sha256:{sha256(DATA)}")
    with pytest.raises(HashMismatch, match=NAME):
        download([by_path], IndexSettings(), store, heard)
    place.unlink()
    with pytest.raises(IndexUnreachable, match="cannot be read: No such file"):
        download([by_path], IndexSettings(), store, heard)


def test_a_damaged_cache_entry_of_another_size_is_fetched_again(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    file = wanted(server.on("/f", body(DATA)))
    (path,) = download([file], IndexSettings(), store, heard, client=make_client()).values()
    path.chmod(0o644)
    path.write_bytes(DATA[:100])
    (path,) = download([file], IndexSettings(), store, heard, client=make_client()).values()
    assert path.read_bytes() == DATA


def test_one_failure_stops_the_others(server: IndexServer, store: Store, heard: Recorder, make_client: Make) -> None:
    files = [wanted(server.on(f"/{n}", body(DATA)), name=f"x{n}.whl") for n in range(30)]
    bad = wanted(server.on("/bad", status(403)))._replace(size=len(DATA) + 1)
    with pytest.raises(IndexAnswered, match="403"):
        download([*files, bad], IndexSettings(), store, heard, client=make_client())
    assert unfinished(store) == []


def test_a_caller_that_breaks_off_leaves_no_unfinished_file(
    server: IndexServer, store: Store, heard: Recorder, make_client: Make
) -> None:
    files = [
        wanted(server.on(f"/{n}", body(DATA + str(n).encode())), DATA + str(n).encode(), f"x{n}.whl") for n in range(30)
    ]
    arriving = download_each(files, IndexSettings(), store, heard, client=make_client())
    next(arriving)
    arriving.close()
    assert unfinished(store) == []
    assert len(server.requests) < 30


def test_a_locked_file_keeps_strong_hashes_and_absolute_paths() -> None:
    package = hash_only_package("demo", "1.0", [])
    wheel = PackageWheel(name=NAME, url="https://index.example/x", size=3, hashes={"sha256": "ab", "md5": "cd"})
    assert locked_file(package, wheel) == LockedFile(
        "demo", "1.0", NAME, "https://index.example/x", 3, frozenset({"sha256:ab"}), None
    )
    here = PackageWheel(name=NAME, path="/srv/x.whl", hashes={"sha256": "ab"})
    assert locked_file(package, here).path == Path("/srv/x.whl")


def test_an_html_index_leads_to_the_file(server: IndexServer, store: Store, heard: Recorder, make_client: Make) -> None:
    server.on("/simple/demo/", html_page(f'<a href="../../f/{NAME}#sha256={sha256(DATA)}">x</a>'))
    server.on(f"/f/{NAME}", body(DATA))
    settings = IndexSettings(indexes=(server.simple,))
    assert download([wanted(None)._replace(size=None)], settings, store, heard, client=make_client())
