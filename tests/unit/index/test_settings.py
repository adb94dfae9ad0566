from __future__ import annotations

from pathlib import Path

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from nb2image.errors import IndexFailure
from nb2image.index.settings import (
    IndexSettings,
    configured_urls,
    default_find_links,
    default_indexes,
    network,
    resolve,
)
from nb2image.lock.model import Lock, new_pylock


def pip_conf(monkeypatch: pytest.MonkeyPatch, file: Path, text: str) -> None:
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def uv_toml(monkeypatch: pytest.MonkeyPatch, home: Path, text: str) -> None:
    monkeypatch.delenv("UV_NO_CONFIG")
    file = home / ".config/uv/uv.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_without_any_configuration_the_public_index_is_the_default() -> None:
    assert default_indexes() == (PYPI_SIMPLE_ENDPOINT,)
    assert default_find_links() == ()


def test_pip_user_configuration_gives_index_extra_indexes_and_links(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_conf(
        monkeypatch,
        machine / ".config/pip/pip.conf",
        "[global]\nindex_url = https://index.example/simple\n"
        "extra-index-url =\n    file:///srv/one\n    file:///srv/two\nfind-links = /srv/wheels\n",
    )
    assert default_indexes() == ("https://index.example/simple", "file:///srv/one", "file:///srv/two")
    assert default_find_links() == ("/srv/wheels",)


def test_pip_files_and_environment_win_in_the_documented_order(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(index: str, section: str = "global") -> str:
        return f"[{section}]\nindex-url = https://{index}.example/\n"

    pip_conf(monkeypatch, machine / ".pip/pip.conf", says("legacy"))
    assert default_indexes() == ("https://legacy.example/",)
    pip_conf(monkeypatch, machine / ".config/pip/pip.conf", says("user"))
    assert default_indexes() == ("https://user.example/",)
    pip_conf(monkeypatch, tmp_path / "environment/pip.conf", says("site"))
    assert default_indexes() == ("https://site.example/",)
    pip_conf(monkeypatch, tmp_path / "own.conf", says("named"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "own.conf"))
    assert default_indexes() == ("https://named.example/",)
    (machine / ".pip/pip.conf").write_text(says("install", "install"))
    assert default_indexes() == ("https://install.example/",)
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/")
    assert default_indexes() == ("https://variable.example/",)


def test_the_public_index_is_resolved_only_when_it_is_asked() -> None:
    (index,) = IndexSettings().indexes_for(())
    assert index != PYPI_SIMPLE_ENDPOINT
    assert resolve(index) == PYPI_SIMPLE_ENDPOINT
    assert resolve("https://index.example/simple") == "https://index.example/simple"


def test_an_empty_value_of_pip_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "")
    assert default_indexes() == (PYPI_SIMPLE_ENDPOINT,)


def test_no_index_leaves_no_default_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/a /srv/b")
    assert default_indexes() == ()
    assert default_find_links() == ("/srv/a", "/srv/b")


def test_a_broken_pip_configuration_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip_conf(monkeypatch, machine / ".config/pip/pip.conf", "index-url = https://index.example/\n")
    with pytest.raises(IndexFailure, match=r"pip\.conf cannot be read") as caught:
        default_indexes()
    assert "PIP_CONFIG_FILE" in caught.value.hint


def test_uv_is_asked_where_pip_names_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", "work=https://first.example/simple https://second.example/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "main=https://main.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///srv/more")
    assert default_indexes() == (
        "https://first.example/simple",
        "https://second.example/simple",
        "https://main.example/simple",
        "file:///srv/more",
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    assert default_indexes() == ("https://pip.example/simple", "file:///srv/more")


def test_uv_configuration_gives_indexes_but_explicit_ones_only_credentials(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv_toml(
        monkeypatch,
        machine,
        '[[index]]\nname = "my-own"\nurl = "https://own.example/simple"\nexplicit = true\n'
        '[[index]]\nurl = "https://more.example/simple"\n'
        '[[index]]\nurl = "https://main.example/simple"\ndefault = true\n',
    )
    monkeypatch.setenv("UV_INDEX_MY_OWN_USERNAME", "me")
    monkeypatch.setenv("UV_INDEX_MY_OWN_PASSWORD", "p@ss")
    assert default_indexes() == ("https://more.example/simple", "https://main.example/simple")
    assert "https://me:p%40ss@own.example/simple" in configured_urls()


def test_a_broken_uv_configuration_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv_toml(monkeypatch, machine, "index-url = \n")
    with pytest.raises(IndexFailure, match=r"uv\.toml cannot be read"):
        default_indexes()


def test_the_way_to_connect_is_pips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "42")
    monkeypatch.setenv("PIP_CERT", "/etc/ours.pem")
    monkeypatch.setenv("PIP_CLIENT_CERT", "/etc/me.pem")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "a.example b.example:8443")
    found = network()
    assert (found.timeout, found.cert, found.client_cert) == (42.0, "/etc/ours.pem", "/etc/me.pem")
    assert found.trusted_hosts == ("a.example", "b.example:8443")


def test_the_lock_names_its_indexes_unless_the_user_replaces_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/wheels")
    locked = ("https://lock.example/simple",)
    lock = Lock(new_pylock([]), "test", indexes=locked)
    extra = ("https://extra.example/simple",)
    assert IndexSettings().indexes_for(locked) == locked
    assert IndexSettings().links_for(lock) == ()
    assert IndexSettings(extra=extra).indexes_for(locked) == (*locked, *extra)
    assert IndexSettings().indexes_for(()) == ("https://pip.example/simple",)
    replaced = IndexSettings(indexes=("default",), extra=extra, find_links=("/here",))
    assert replaced.indexes_for(locked) == ("https://pip.example/simple", *extra)
    assert replaced.links_for(lock) == ("/here", "/srv/wheels")
