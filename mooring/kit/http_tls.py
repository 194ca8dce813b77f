"""Make the TLS context for outbound connections and say in plain words why a handshake failed."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mooring.kit.http_wire import ClientIdentity, HttpFailure

# For a Python whose OpenSSL was built for another system's layout.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_REASONS = {
    10: "its certificate has expired",
    18: "its certificate is not signed by a trusted authority",
    19: "its certificate is not signed by a trusted authority",
    20: "its certificate is not signed by a trusted authority",
    21: "its certificate is not signed by a trusted authority",
    62: "its certificate is for another name",
    64: "its certificate is for another name",
}
_TOO_OLD = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"})


def make_context(extra_root_pem: bytes | None, *, http2: bool = True) -> ssl.SSLContext:
    """Trust the system's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name, and the extra ones."""
    # Not `create_default_context`, which would also write session keys where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        for bundle in _BUNDLES:
            if Path(bundle).is_file():
                context.load_verify_locations(bundle)
                break
    if extra_root_pem is not None:
        context.load_verify_locations(cadata=extra_root_pem.decode("ascii"))
    return context


def make_context_for(identity: ClientIdentity, host: str, extra_root_pem: bytes | None) -> ssl.SSLContext:
    """A context that shows this certificate. Raises HttpFailure for a certificate or a key that can't be used.

    The library reads both from a file; this one has no name and lies in memory.
    """
    context = make_context(extra_root_pem, http2=False)
    with _nameless() as (file, path):
        file.write(f"{identity.certificate.strip()}\n{identity.private_key.strip()}\n".encode())
        file.flush()
        try:
            context.load_cert_chain(path, password=_no_password)
        except (ssl.SSLError, ValueError, OSError) as fault:
            reason = fault.reason if isinstance(fault, ssl.SSLError) and fault.reason else "unreadable"
            said = reason.lower().replace("_", " ")
            raise HttpFailure(
                "tls", f"The client certificate for {host} or its private key can't be used: {said}.", sent=False
            ) from None
    return context


def _no_password() -> str:
    # Without it, OpenSSL would ask for the password of an encrypted key at the terminal, and wait.
    raise ValueError("the private key is encrypted")


@contextmanager
def _nameless() -> Iterator[tuple[IO[bytes], str]]:
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("mooring"), "w+b") as file:
            yield file, f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:  # readable by this user alone
            yield file, file.name


def tls_failure(host: str, fault: ssl.SSLError) -> HttpFailure:
    """Return the failure of a handshake."""
    reason = "the TLS handshake failed"
    if fault.reason in _TOO_OLD:
        reason = "it speaks no version of TLS that is safe"
    if isinstance(fault, ssl.SSLCertVerificationError):
        reason = _REASONS.get(fault.verify_code, "its certificate is not trusted")
    return HttpFailure("tls", f"No secure connection to {host}: {reason}.", sent=False)
