"""What runs on the hosts: PostgreSQL, Redis, the provider, and hubs on two hosts that share a database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from tests.cluster.network import NETS, Host, Network
from tests.command import MASTER_KEYS
from tests.flows.linking import link, sandbox_config, sandbox_consent
from tests.hub import Hub, Project
from tests.sandbox.harness import Sandbox, start_sandbox, stop_sandbox
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

HUB_PORT, PROVIDER_PORT = 8080, 8090
PUBLIC_URL = f"http://127.0.0.1:{HUB_PORT}"  # what a load balancer would answer on; tests go to the hosts themselves
TREE = Path(__file__).resolve().parents[2]


class ClusterPostgres(PostgresServer):
    """PostgreSQL for the hosts of the back network."""

    def __init__(self, host: Host) -> None:
        super().__init__(5432, durable=True)
        self.host = host

    def prepare(self) -> None:
        """Let the back network in."""
        super().prepare()
        with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETS['back']}.0/24 trust\n")

    def command(self) -> Sequence[str]:
        """Listen on the host's address too."""
        return [*super().command(), "-c", f"listen_addresses=127.0.0.1,{self.host.back}"]

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return super().url(database).replace("127.0.0.1", self.host.back)

    def start(self) -> None:
        """Start on the host."""
        with self.host.entered():
            super().start()

    def bounce(self) -> None:
        """Restart as an operator does: sessions are ended, the data stays."""
        os.kill(self.pid, signal.SIGINT)
        self.reap()
        with self.host.entered():
            self.restart()


class ClusterRedis(RedisServer):
    """Redis for the hosts of the back network."""

    def __init__(self, host: Host) -> None:
        super().__init__(6379)
        self.host = host

    @property
    def url(self) -> str:
        """Return the address for MOORING_REDIS_URL."""
        return f"redis://{self.host.back}:{self.port}/0"

    def command(self) -> Sequence[str]:
        """Listen on the host's address too."""
        return [*super().command(), "--bind", "127.0.0.1", self.host.back, "--protected-mode", "no"]

    def start(self) -> None:
        """Start on the host."""
        with self.host.entered():
            super().start()

    def ask(self, *words: str) -> str:
        """Run one command with redis-cli on the host."""
        with self.host.entered():
            return super().ask(*words)


class HostedHub(Hub):
    """`mooring serve` on a host. `tree` is the source folder that it runs from, `options` are more words."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        *,
        database_url: str,
        env: Mapping[str, str],
        workers: int = 1,
        tree: Path = TREE,
    ) -> None:
        super().__init__(
            folder,
            HUB_PORT,
            database_url=database_url,
            workers=workers,
            env={"MOORING_MASTER_KEYS": MASTER_KEYS, "MOORING_LOG_LEVEL": "info", **env},
        )
        self.host = host
        self.tree = tree
        self.options: list[str] = []
        self.paths: list[str] = []  # before the tree, for code that sets this host's clock wrong
        self.url = f"http://{host.front}:{self.port}"
        self.env["MOORING_PUBLIC_URL"] = PUBLIC_URL

    def spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it in the host's namespace, from its own source tree."""
        words = ["serve", "--host", self.host.front, "--port", str(self.port), "--workers", str(self.workers)]
        with self.host.entered():
            return subprocess.Popen(
                [sys.executable, "-m", "mooring", *words, *self.options],
                cwd=self.tree,
                env={**self.env, "PYTHONPATH": os.pathsep.join([*self.paths, str(self.tree)])},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill_host(self) -> None:
        """Lose the host: all of its processes end at once."""
        self.host.kill()
        assert self.process is not None
        self.process.wait()


class Beside(httpx.HTTPTransport):
    """Requests from a loopback address of a host: the sandbox's controls answer nobody else."""

    def __init__(self, host: Host) -> None:
        super().__init__(local_address="127.0.0.1")
        self._host = host

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it from the host."""
        with self._host.entered():
            return super().handle_request(request)


@dataclass
class Cluster:
    """Everything that runs, and the network it runs on."""

    network: Network
    database: ClusterPostgres
    database_url: str
    redis: ClusterRedis
    provider: Sandbox
    a: HostedHub
    b: HostedHub

    @property
    def hubs(self) -> tuple[HostedHub, HostedHub]:
        return self.a, self.b

    def link(self, project: Project, number: int, owner: str = "owner") -> list[str]:
        """Link so many accounts by OAuth, each with a grant of its own."""
        agree = sandbox_consent(self.provider)

        def consent(location: str) -> str:
            return agree(location).replace(PUBLIC_URL, project.hub.url, 1)

        config = sandbox_config(project, self.provider)
        return [link(project, config, consent, f"{owner}-{n}") for n in range(number)]

    def at(self, hub: Hub, project: Project) -> Project:
        """The same project, seen through another host."""
        return Project(hub, project.id, project.key)

    def shape(self) -> None:
        """Bring back what a scenario may have left: all plugged in, all up, the provider in its first state."""
        for host in self.network.hosts.values():
            host.mend("front", "back")
        for hub in self.hubs:
            if hub.process is None or hub.process.poll() is not None:
                hub.start()
        self.provider.http.post("/_control/reset").raise_for_status()
        # Without it the sandbox announces a limit that callers who never rest reach.
        self.provider.control("settings", {"rate_limit": {"limit": 1_000_000, "window_seconds": 60}})


HOSTS = ("db", "redis", "hub-a", "hub-b", "provider", "caller")


@contextmanager
def cluster_of(
    folder: Path, *, workers: int = 1, tree: Path = TREE, env: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Two hubs on hosts of their own with PostgreSQL and Redis on others, all of it started and stopped here."""
    with Network(*HOSTS) as network, ExitStack() as stack:
        stack.enter_context(network["caller"].entered())
        database = stack.enter_context(ClusterPostgres(network["db"]))
        redis = stack.enter_context(ClusterRedis(network["redis"]))
        with network["provider"].entered():
            process, url = start_sandbox(network["provider"].front, PROVIDER_PORT)
        stack.callback(stop_sandbox, process)
        with network["db"].entered():
            database_url = database.create_database()
        settings = {
            "MOORING_REDIS_URL": redis.url,
            "MOORING_EGRESS_ALLOW": url.removeprefix("http://"),
            **(env or {}),
        }
        hubs = [
            HostedHub(network[name], folder / name, database_url=database_url, env=settings, workers=workers, tree=tree)
            for name in ("hub-a", "hub-b")
        ]
        for hub in hubs:
            stack.callback(lambda hub=hub: hub.stop() if hub.process is not None else None)  # type: ignore[misc]
            hub.start()
        http = stack.enter_context(httpx.Client(base_url=url, timeout=10, transport=Beside(network["provider"])))
        cluster = Cluster(network, database, database_url, redis, Sandbox(url, http), hubs[0], hubs[1])
        cluster.shape()
        yield cluster
