"""Certificates good and bad, signed by an authority that lives as long as the tests."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


class Authority:
    """A certificate authority; `pem` is what clients have to trust."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _named("Doctor CA")
        root = x509.BasicConstraints(ca=True, path_length=None)
        self.pem = self._sign(self.name, self.key, root).public_bytes(serialization.Encoding.PEM)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        *,
        days: int = 1,
        issuer: x509.Name | None = None,
        signer: ec.EllipticCurvePrivateKey | None = None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or self.name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=10)).not_valid_after(now + timedelta(days=days))
        critical = isinstance(extension, x509.BasicConstraints)
        return builder.add_extension(extension, critical=critical).sign(signer or self.key, hashes.SHA256())

    def issue(self, name: str, *, days: int = 1, self_signed: bool = False) -> tuple[bytes, bytes]:
        """A certificate for `name` and its private key, both PEM. With `days` below zero its time is over."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        own = {"issuer": subject, "signer": key} if self_signed else {}
        certificate = self._sign(subject, key, names, days=days, **own)  # type: ignore[arg-type]
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return certificate.public_bytes(serialization.Encoding.PEM), private

    def context(self, folder: Path, name: str, *, days: int = 1, self_signed: bool = False) -> ssl.SSLContext:
        """What a server needs to call itself `name`."""
        file = folder / "server.pem"
        file.write_bytes(b"".join(self.issue(name, days=days, self_signed=self_signed)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context
