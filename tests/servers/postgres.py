"""PostgreSQL on a data folder of its own."""

import itertools
import os
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.servers.ports import HOST, free_port
from tests.servers.process import Server, ServerError, require_program, unprivileged_user

ROLE = "mooring"


def _debian_folders() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)


class PostgresServer(Server):
    """A throw-away PostgreSQL server; a crash of the machine may lose what it stores (`fsync` is off).

    Unless `durable`, a crash of the server alone may lose the last commits as well: that is quicker.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions instead of waiting for them

    def __init__(self, port: int | None = None, *, durable: bool = False) -> None:
        self._durable = durable
        # initdb and postgres refuse to run as root.
        super().__init__(port or free_port(), unprivileged_user("postgres", "nobody"))
        self._initdb = require_program("initdb", *_debian_folders())
        self._bin = Path(self._initdb).parent
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Create the data folder."""
        options = ["-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        self.run([self._initdb, "-D", str(self.folder / "data"), *options])

    def command(self) -> Sequence[str]:
        """Return the server program with settings for tests."""
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "off",
            "synchronous_commit": "on" if self._durable else "off",
            "full_page_writes": "off",
            "timezone": "UTC",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self.folder / "data"), *options]

    def is_ready(self) -> bool:
        """Ask with pg_isready: the port opens before the server takes sessions."""
        try:
            self.run([str(self._bin / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)])
        except ServerError:
            return False
        return True

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{ROLE}@{HOST}:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database and return its address; each call makes another one."""
        database = f"test_{os.getpid()}_{next(self._numbers)}_{secrets.token_hex(3)}"
        self.sql(f"CREATE DATABASE {database} TEMPLATE template0")
        return self.url(database)

    def drop_database(self, url: str) -> None:
        """Drop a database that `create_database` made, ending its sessions."""
        self.sql(f"DROP DATABASE {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as the owner with psql and return its bare output."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]
        return self.run([str(self._bin / "psql"), self.url(database), *options]).strip()


class PostgresStandby(PostgresServer):
    """A streaming replica of another server, to be promoted. It holds each commit before the primary acknowledges it."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        super().__init__(durable=True)

    def prepare(self) -> None:
        """Copy the primary, and follow it."""
        source = f"host={HOST} port={self._primary.port} user={ROLE} application_name=standby"
        self.run([str(self._bin / "pg_basebackup"), "-D", str(self.folder / "data"), "-d", source, "-R", "-c", "fast"])

    def ready(self) -> None:
        """From now on the primary waits for us."""
        self._primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self._primary.sql("SELECT pg_reload_conf()")
        self._wait_until(lambda: self._primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync")

    def promote(self) -> None:
        """Become the primary."""
        self.run([str(self._bin / "pg_ctl"), "promote", "-w", "-D", str(self.folder / "data")])
