"""Redmine, as Debian packages it, on puma and a SQLite database of its own."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.ports import HOST, free_port
from tests.servers.process import (
    COUNTERPARTS,
    INSTALL_HINT,
    Server,
    ServerError,
    require_program,
    unprivileged_user,
)

# Debian's package keeps the session secret and the choice of SQLite here; www-data may read it.
_INSTANCE = Path("/etc/redmine/default/database.yml")


class RedmineServer(Server):
    """A ticketing system with the REST API on, a public project "hub", and the users admin and jane.

    Takes `X-Redmine-API-Key` (`admin_key`, `jane_key`) or HTTP Basic (`ADMIN`, `JANE`).
    """

    name = "redmine"
    start_timeout = 90.0
    ADMIN = ("admin", "adminadmin1")
    JANE = ("jane", "janejane1")
    PROJECT = "hub"

    admin_key: str
    jane_key: str

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port or free_port(), unprivileged_user("www-data"))
        self._puma = require_program("puma")
        if not _INSTANCE.exists():
            raise ServerError(f"Debian's Redmine has no instance at {_INSTANCE.parent}: {INSTALL_HINT} --only redmine")
        if not os.access(_INSTANCE, os.R_OK):
            raise ServerError(f"{_INSTANCE} is not readable: run the tests as root, or as a member of www-data")

    def prepare(self) -> None:
        """Put the rackup file where the server's user can read it."""
        for name in ("config.ru", "seed.rb"):
            target = shutil.copyfile(COUNTERPARTS / "redmine" / name, self.folder / name)
            target.chmod(0o644)

    def command(self) -> Sequence[str]:
        """Return puma, one process, on the rackup file that migrates, seeds and serves."""
        options = ["-e", "production", "-t", "2:8", "-w", "0", "--no-config"]
        return [self._puma, *options, "-b", f"tcp://{HOST}:{self.port}", str(self.folder / "config.ru")]

    def environment(self) -> Mapping[str, str]:
        """Point Rails to the private database and keep its log with ours."""
        return {
            "REDMINE_INSTANCE": "default",
            "RAILS_ENV": "production",
            "RAILS_LOG_TO_STDOUT": "1",
            "DATABASE_URL": f"sqlite3:{self.folder}/redmine.sqlite?timeout=5000&pool=10",
            "MOORING_SEED_KEYS": str(self.folder / "keys.json"),
        }

    def ready(self) -> None:
        """Read the users' API keys."""
        keys = json.loads((self.folder / "keys.json").read_text())
        self.admin_key, self.jane_key = keys["admin"], keys["jane"]
