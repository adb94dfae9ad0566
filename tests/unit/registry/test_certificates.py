"""Whose word on certificates is taken."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import certifi
import pytest

from nb2image.registry.certificates import untrusted, verifying

AUTHORITIES = Path(certifi.where()).read_text()
ONE = AUTHORITIES[AUTHORITIES.index("-----BEGIN") : AUTHORITIES.index("-----END CERTIFICATE-----") + 26]


def known(monkeypatch: pytest.MonkeyPatch, machine: Path) -> int:
    """How many authorities are known where OpenSSL has those of a file."""
    from nb2image.registry import certificates

    certificates._authorities.cache_clear()

    def default(*_: object) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if machine.read_text():
            context.load_verify_locations(machine)
        return context

    with monkeypatch.context() as patch:
        patch.setattr(ssl, "create_default_context", default)
        found = verifying("registry.example")
    certificates._authorities.cache_clear()
    return len(found.get_ca_certs())


def test_the_machines_authorities_are_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    (tmp_path / "one.pem").write_text(ONE)
    assert known(monkeypatch, tmp_path / "one.pem") == 1


@pytest.mark.parametrize("text", ["", ONE])
def test_certifis_come_where_there_are_none_or_one_more_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / "some.pem").write_text(text)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if text:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "some.pem"))
    assert known(monkeypatch, tmp_path / "some.pem") > 50


@pytest.mark.parametrize(
    ("said", "sentence", "hint"),
    [
        ("self-signed certificate", "is not known", "/etc/docker/certs.d/registry.example/ca.crt"),
        ("unable to get local issuer certificate", "is not known", "SSL_CERT_FILE"),
        ("Hostname mismatch, certificate is not valid for 'registry.example'.", "for another name", "administrator"),
        ("IP address mismatch, certificate is not valid for '192.0.2.1'.", "for another name", "administrator"),
        ("certificate has expired", "certificate has expired", "clock"),
        ("certificate is not yet valid", "not yet valid", "clock"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told_apart(said: str, sentence: str, hint: str) -> None:
    error = untrusted("registry.example", "registry.example", said)
    assert sentence in error.message
    assert hint in error.hint


def test_asking_a_registry_imports_no_command_line() -> None:
    code = "import sys; from nb2image.registry.client import Registry; Registry('a.example'); import httpx"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('rich' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
