"""A server that speaks the Redis protocol, with nothing on disk."""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.ports import HOST, free_port
from tests.servers.process import Server, require_program, unprivileged_user


class RedisServer(Server):
    """A throw-away Redis server. `stop` and `start` keep its port; what it held is gone."""

    name = "redis"

    def __init__(self, port: int | None = None, *, tls: bool = False) -> None:
        super().__init__(port or free_port(), unprivileged_user("redis", "nobody"))
        self._tls = tls
        self._server = require_program("redis-server")
        self._cli = require_program("redis-cli")

    @property
    def url(self) -> str:
        """Return the address for MOORING_REDIS_URL."""
        if self._tls:
            return f"rediss://{HOST}:{self.port}/0?ssl_ca_certs={self.certificate}"
        return f"redis://{HOST}:{self.port}/0"

    @property
    def certificate(self) -> Path:
        """The certificate of a server with TLS, which is its own authority."""
        return self.folder / "server.pem"

    def command(self) -> Sequence[str]:
        """Return the server program with settings for tests."""
        settings = {"bind": HOST, "port": self.port, "save": "", "appendonly": "no", "dir": str(self.folder)}
        if self._tls:
            key = self._certify()
            settings |= {"port": 0, "tls-port": self.port, "tls-auth-clients": "no"}
            settings |= {"tls-cert-file": str(self.certificate), "tls-key-file": str(key)}
        return [self._server, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]

    def ask(self, *words: str) -> str:
        """Run one command with redis-cli and return its bare output."""
        return self.run([self._cli, "-h", HOST, "-p", str(self.port), *words]).strip()

    def _certify(self) -> Path:
        """Write a key and its certificate for this address."""
        path = self.folder / "server.key"
        if path.exists():
            return path
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        kind = serialization.PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        for file in (path, self.certificate):
            file.chmod(0o644)  # read by the user that the server runs as, in a folder of the test alone
        return path
