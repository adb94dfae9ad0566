"""Whom to trust: the machine's authorities, and those that Docker and podman have for a registry."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path

from nb2image.errors import RegistryUnreachable

__all__ = ["untrusted", "verifying"]


# Loading authorities takes a tenth of a second.
@lru_cache
def _authorities() -> ssl.SSLContext:
    """The machine's authorities, and certifi's for machines whose OpenSSL knows none."""
    context = ssl.create_default_context()
    # SSL_CERT_FILE names one authority more; without certifi's it would be the only one.
    if os.environ.get("SSL_CERT_FILE") or not context.cert_store_stats()["x509_ca"]:
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def verifying(domain: str) -> ssl.SSLContext:
    """The same, with the authorities and client certificates that Docker and podman have for a registry
    (containers-certs.d(5))."""
    tops = (Path.home() / ".config/containers/certs.d", Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))
    folders = [folder for top in tops if os.path.isdir(folder := top / domain)]  # noqa: PTH112 - false, not an error
    if not folders:
        return _authorities()
    context = _authorities.__wrapped__()
    for folder in folders:
        try:
            for file in sorted(folder.glob("*.crt")):
                context.load_verify_locations(cafile=file)
            for file in sorted(folder.glob("*.cert")):
                context.load_cert_chain(file, file.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise RegistryUnreachable(
                f"The certificates for {domain} in {folder} cannot be loaded.",
                hint="There are to be *.crt for authorities, and *.cert with *.key for what to show the registry.",
            ) from error
    return context


def untrusted(host: str, domain: str, message: str) -> RegistryUnreachable:
    """The error for a certificate that did not pass; ``message`` is what OpenSSL says of it."""
    if "mismatch" in message:
        return RegistryUnreachable(
            f"{host} cannot be trusted: its certificate is for another name ({message.rstrip('.')}).",
            hint="Use the name that the certificate is for; the registry's administrator knows it.",
        )
    if "expired" in message or "not yet valid" in message:
        return RegistryUnreachable(
            f"{host} cannot be trusted: {message}.",
            hint="Look at this machine's clock; if that is right, its administrator has to renew the certificate.",
        )
    return RegistryUnreachable(
        f"{host} cannot be trusted: its certificate is not known ({message}).",
        hint=f"Put the certificate of its authority into /etc/docker/certs.d/{domain}/ca.crt or "
        f"~/.config/containers/certs.d/{domain}/ca.crt, or name it with SSL_CERT_FILE.",
    )
