"""A server that speaks the Redis protocol, with nothing on disk."""

from collections.abc import Sequence

from tests.servers.ports import HOST, free_port
from tests.servers.process import Server, require_program, unprivileged_user


class RedisServer(Server):
    """A throw-away Redis server. `stop` and `start` keep its port; what it held is gone."""

    name = "redis"

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port or free_port(), unprivileged_user("redis", "nobody"))
        self._server = require_program("redis-server")
        self._cli = require_program("redis-cli")

    @property
    def url(self) -> str:
        """Return the address for MOORING_REDIS_URL."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Sequence[str]:
        """Return the server program with settings for tests."""
        settings = {"bind": HOST, "port": self.port, "save": "", "appendonly": "no", "dir": str(self.folder)}
        return [self._server, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]

    def ask(self, *words: str) -> str:
        """Run one command with redis-cli and return its bare output."""
        return self.run([self._cli, "-h", HOST, "-p", str(self.port), *words]).strip()
