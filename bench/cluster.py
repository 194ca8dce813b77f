"""`python -m bench.cluster`: 1, 2 and 4 workers, 1 and 2 hosts on one PostgreSQL; what a worker and an account weigh.

Every ratio is Mooring against itself in the same interleaved rounds. Load, provider, PostgreSQL and hubs share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from bench import load
from bench.load import Target
from bench.population import populate
from bench.report import _table, hardware, versions
from bench.servers import BOOTSTRAP_KEY, Hub, Upstream
from bench.strain import _SECRET, Say, _headers, _oauth, end_tokens
from mooring.accounts.credentials import Secrets
from mooring.kit.cache import ChangeFollower
from mooring.kit.db import Database, record_change
from tests.servers.ports import HOST
from tests.servers.postgres import PostgresServer

HERE = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "CLUSTER.md"
CONNECTIONS = 32
CALLERS = 16
CHANGES = 10_000  # what 1,000 changes a second leave in the feed's ten seconds
WEIGHED = 20_000  # accounts, as many as a process caches


@dataclass
class SetUp:
    """Hubs that share a database, and what came of the rounds."""

    name: str
    database_url: str
    hubs: list[Hub]
    account: str
    ended: list[str] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    refreshes: list[float] = field(default_factory=list)


def main() -> int:
    """Run, print the tables and write them."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--refreshes", type=int, default=300, help="token refreshes of one round")
    options = parser.parse_args()
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - begun:4.0f} s] {line}", file=sys.stderr, flush=True)

    others = os.getloadavg()[0]
    say(f"load average before the run: {others:.1f}")
    with tempfile.TemporaryDirectory(prefix="mooring-bench-") as folder, ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        server = stack.enter_context(PostgresServer(durable=True))
        plans = [("1 worker", (1,)), ("2 workers", (2,)), ("4 workers", (4,)), ("2 hosts of 1 worker", (1, 1))]
        ups = [_set_up(stack, Path(folder), server, upstream, name, workers, options) for name, workers in plans]
        say("everything is up")
        idle = [sum(hub.memory().pss for hub in up.hubs) for up in ups]
        for number in range(options.rounds):
            for up in ups:
                up.calls.append(_calls(up, Path(folder), options.seconds))
                up.refreshes.append(_refreshes(up, number, options.refreshes))
                say(f"{up.name:<20} {up.calls[-1]:>8,.0f} calls/s {up.refreshes[-1]:>6,.0f} refreshes/s")
        weights = _weigh(ups[0], server, say)
    tables = "\n\n".join([_rates(ups), _weights(idle, weights)])
    shown = " ".join(["python -m bench.cluster", *sys.argv[1:]])
    RESULTS.write_text(_document(tables, shown, others, options))
    print(tables)
    say(f"wrote {RESULTS.relative_to(HERE)}")
    return 0


def _set_up(
    stack: ExitStack,
    home: Path,
    server: PostgresServer,
    upstream: Upstream,
    name: str,
    workers: Sequence[int],
    options: argparse.Namespace,
) -> SetUp:
    url, provider, hubs = server.create_database(), f"{HOST}:{upstream.port}", []
    for n, count in enumerate(workers):
        own = home / f"{name.replace(' ', '-')}-{n}"
        own.mkdir()
        if hubs:
            shutil.copy(hubs[0].home / "data.keys", own / "data.keys")  # one hub has one set of master keys
        more = {"oauth": _oauth(provider)}
        hub = Hub(own, HERE, allow=provider, database_url=url, workers=count, connectors=more)
        hubs.append(stack.enter_context(hub))
    up = SetUp(name, url, hubs, hubs[0].link())
    template = hubs[0].link("oauth", "client_credentials", {"client_id": "bench", **_SECRET})
    secrets = Secrets(fields=_SECRET, access_token="ended")
    up.ended = populate(hubs[0].home, template, options.rounds * options.refreshes, secrets, database_url=url)
    end_tokens(url, up.ended)
    load.run(_target(up, hubs[0]), home, connections=CONNECTIONS, seconds=1)  # warm
    return up


def _target(up: SetUp, hub: Hub) -> Target:
    return Target(up.name, f"{hub.base_url}/proxy/employees?page=1", _headers(up.account))


def _calls(up: SetUp, home: Path, seconds: float) -> float:
    """Calls per second over all hosts at once."""

    def run(hub: Hub) -> float:
        own = home / f"wrk-{hub.port}"
        own.mkdir(exist_ok=True)
        share = CONNECTIONS // len(up.hubs)
        return load.run(_target(up, hub), own, connections=share, seconds=seconds).per_second

    with ThreadPoolExecutor(len(up.hubs)) as pool:
        return sum(pool.map(run, up.hubs))


def _refreshes(up: SetUp, number: int, count: int) -> float:
    """Token refreshes per second: calls through accounts whose tokens have ended, in turn at each host."""
    part = up.ended[number * count : (number + 1) * count]

    def call(start: int) -> None:
        hub = up.hubs[start % len(up.hubs)]
        with httpx.Client(base_url=hub.base_url, timeout=60, trust_env=False) as http:
            for account in part[start::CALLERS]:
                http.get("/proxy/employees", headers=_headers(account)).raise_for_status()

    began = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(call, range(CALLERS)))
    return len(part) / (time.monotonic() - began)


def _weigh(up: SetUp, server: PostgresServer, say: Say) -> dict[str, float]:
    """Bytes of an account in the database and in the cache of a process, and of a row of the request log."""
    database = up.database_url.rsplit("/", 1)[1]

    def size(*tables: str) -> int:
        sums = " + ".join(f"pg_total_relation_size('{table}')" for table in tables)
        return int(server.sql(f"SELECT {sums}", database))

    hub = up.hubs[0]
    stored = ("accounts", "credentials", "data_keys")
    before = size(*stored)
    say(f"making {WEIGHED:,} accounts")
    accounts = populate(hub.home, up.account, WEIGHED, database_url=up.database_url)
    rows = size(*stored) - before
    web = hub.memory().web
    with httpx.Client(base_url=hub.base_url, auth=(BOOTSTRAP_KEY, ""), timeout=60, trust_env=False) as http:
        for account in accounts:
            http.get("/proxy/employees", headers={"x-account-id": account}).raise_for_status()
    time.sleep(5)  # the log is written
    logged = size("request_logs"), int(server.sql("SELECT count(*) FROM request_logs", database))
    return {
        "feed": asyncio.run(_feed(up.database_url)),
        "account": rows / WEIGHED,
        "cached": (hub.memory().web - web) * 1e6 / WEIGHED,
        "log": logged[0] / max(1, logged[1]),
    }


async def _feed(database_url: str) -> float:
    """Milliseconds of one look at the feed, which every process takes four times a second, when it holds many changes."""
    db = Database(database_url)
    follower = ChangeFollower(db)
    took = []
    try:
        async with db.begin() as tx:
            for n in range(CHANGES):
                record_change(tx, "account", f"nobody-{n}")
        for _ in range(6):
            began = time.perf_counter()
            await follower._read_new()  # noqa: SLF001 - nothing else of it is to be measured
            took.append((time.perf_counter() - began) * 1e3)
    finally:
        await db.close()
    return statistics.median(took[1:])


def _rates(ups: list[SetUp]) -> str:
    first = ups[0]
    rows = []
    for up in ups:
        row = [up.name]
        for mine, ones in ((up.calls, first.calls), (up.refreshes, first.refreshes)):
            ratios = [a / b for a, b in zip(mine, ones, strict=True)]
            middle = statistics.median(ratios)
            row += [f"{statistics.median(mine):,.0f}", f"{middle:.2f} [{min(ratios):.2f}–{max(ratios):.2f}]"]
        rows.append(row)
    return _table(["", "calls/s", "÷ 1 worker", "refreshes/s", "÷ 1 worker"], rows)


def _weights(idle: list[float], weights: dict[str, float]) -> str:
    one, _, four, _ = idle
    rows = [
        ["all processes of 1 worker, idle (PSS)", f"{one:.0f} MB"],
        ["each further worker (PSS)", f"{(four - one) / 3:.0f} MB"],
        [f"a look at the feed of changes with {CHANGES:,} rows", f"{weights['feed']:.0f} ms"],
        ["an account in PostgreSQL: row, credential, data key, with indexes", f"{weights['account']:,.0f} bytes"],
        ["an account in the cache of a process", f"{weights['cached']:,.0f} bytes"],
        ["a row of the request log, with indexes", f"{weights['log']:,.0f} bytes"],
    ]
    return _table(["", "measured"], rows)


def _document(tables: str, command: str, others: float, options: argparse.Namespace) -> str:
    facts = "\n".join(f"- {line}" for line in [*hardware(), *versions()])
    return f"""\
# Workers and hosts

Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}, load average before the run {others:.1f}.
**The machine was shared** with other work, and load, provider, PostgreSQL and all hubs share its cores: read the ratios,
which compare runs side by side. Two cores can't show what a third worker is worth; they show what a worker or a host more
costs when there is no core for it.

{facts}

{tables}

Medians of {options.rounds} interleaved rounds of {options.seconds:g} s at {CONNECTIONS} connections over all hosts, and of
{options.refreshes} refreshes by {CALLERS} callers; in brackets the smallest and the largest round. A refresh is one call
through an account whose token has ended: lease, intent, token request by the courier, the sealed new generation, and the
call itself. "Hosts" are two `mooring serve` with data folders of their own on one PostgreSQL (`fsync` off,
`synchronous_commit` on).


"""


if __name__ == "__main__":
    sys.exit(main())
