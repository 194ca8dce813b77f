"""What is measured, and how: interleaved rounds, so that a noisy machine hits every target alike."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from bench import load
from bench.load import Run, Target
from bench.servers import BODY, BOOTSTRAP_KEY, HEADER, Hub, Memory, Reference, Upstream, cpu_seconds
from tests.servers.ports import HOST
from tests.servers.postgres import PostgresServer
from tests.servers.process import Server

MEASURES = ("start", "throughput", "latency", "memory")
THROUGHPUT_CONNECTIONS = 32
SETTLE_SECONDS = 120  # for the rows of the request log that wait to be written


@dataclass(frozen=True)
class Plan:
    """How long and how often, and which measures."""

    rounds: int
    seconds: float
    measures: tuple[str, ...]
    postgres: bool
    against: Path | None  # another source tree, measured beside this one


@dataclass
class HubResult:
    """What was seen of one hub."""

    idle: Memory = Memory()
    loaded: Memory = Memory()
    calls: int = 0
    rows: int = 0
    late_rows: float = 0.0  # largest part of a run's rows that was not written yet when the run ended
    start_fresh: list[float] = field(default_factory=list)
    start_again: list[float] = field(default_factory=list)


@dataclass
class Results:
    """All numbers of a session. Runs of one round have the same index in every list."""

    throughput: dict[str, list[Run]] = field(default_factory=dict)
    latency: dict[str, list[Run]] = field(default_factory=dict)
    hubs: dict[str, HubResult] = field(default_factory=dict)

    def ratios(self, name: str, reference: str = "nginx") -> list[float]:
        """Return requests/s relative to the reference, round by round."""
        pairs = zip(self.throughput[name], self.throughput[reference], strict=True)
        return [run.per_second / other.per_second for run, other in pairs]

    def added_ms(self, name: str) -> list[float]:
        """Return how much later than the direct answer the median answer comes, round by round."""
        pairs = zip(self.latency[name], self.latency["direct"], strict=True)
        return [run.p50 - other.p50 for run, other in pairs]


@dataclass
class _Subject:
    """A hub under test, with an account linked and the means to count its log rows."""

    hub: Hub
    count: Callable[[], int]
    result: HubResult
    account: str = ""

    def target(self, name: str) -> Target:
        headers = {"authorization": f"Bearer {BOOTSTRAP_KEY}", "x-account-id": self.account}
        return Target(name, f"{self.hub.base_url}/proxy/employees?page=1", headers)

    def settle(self) -> None:
        """Wait until all rows are written: what is left over must not slow down whoever is measured next."""
        expected, deadline = self.result.calls, time.monotonic() + SETTLE_SECONDS
        seen, since = -1, time.monotonic()
        while time.monotonic() < deadline:
            rows = self.count()
            if rows != seen:
                seen, since = rows, time.monotonic()
            # wrk does not count the calls that it cuts off at the end, so there may be a few more rows than calls.
            if time.monotonic() - since > (0.6 if rows >= expected else 5.0):
                break
            time.sleep(0.1)
        self.result.rows = seen


def measure(plan: Plan, folder: Path, here: Path, say: Callable[[str], None]) -> Results:
    """Start everything, measure, stop everything."""
    results = Results()
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        reference = stack.enter_context(Reference(upstream))
        trees = {"": here} | ({" (other)": plan.against} if plan.against else {})
        database = None
        if plan.postgres:
            say("starting PostgreSQL")
            database = stack.enter_context(PostgresServer())
        allow = f"{HOST}:{upstream.port}"
        subjects: dict[str, _Subject] = {}
        for suffix, tree in trees.items():
            name = f"Mooring, SQLite{suffix}"
            subjects[name] = _sqlite_subject(folder / f"sqlite{len(subjects)}", tree, allow)
            if database is not None:
                name = f"Mooring, PostgreSQL{suffix}"
                subjects[name] = _postgres_subject(folder / f"postgres{len(subjects)}", tree, allow, database)
        for name, subject in subjects.items():
            results.hubs[name] = subject.result
            if "start" in plan.measures:
                say(f"start-up of {name}")
                _measure_start(subject, plan.rounds)
        if plan.measures == ("start",):
            return results
        for name, subject in subjects.items():
            say(f"starting {name} and linking an account")
            stack.enter_context(subject.hub)
            _link(subject)
        targets = {
            "direct": Target("direct", f"{upstream.base_url}/employees?page=1", {"authorization": HEADER}),
            "nginx": Target("nginx", f"{reference.base_url}/employees?page=1", {}),
            **{name: subject.target(name) for name, subject in subjects.items()},
        }
        servers = {"direct": upstream, "nginx": reference, **{name: s.hub for name, s in subjects.items()}}
        _check_all(targets, subjects, folder, say)
        if "latency" in plan.measures:
            results.latency = _rounds(plan, targets, subjects, servers, folder, 1, say)
        if {"throughput", "memory"} & set(plan.measures):
            results.throughput = _rounds(plan, targets, subjects, servers, folder, THROUGHPUT_CONNECTIONS, say)
        for subject in subjects.values():
            subject.result.loaded = subject.hub.memory()
    return results


def _rounds(
    plan: Plan,
    targets: dict[str, Target],
    subjects: dict[str, _Subject],
    servers: dict[str, Server],
    folder: Path,
    connections: int,
    say: Callable[[str], None],
) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in targets}
    for number in range(1, plan.rounds + 1):
        for name, target in targets.items():
            spent = cpu_seconds(servers[name])
            done = load.run(target, folder, connections=connections, seconds=plan.seconds)
            say(
                f"round {number}/{plan.rounds}, {connections} connections: {name:<28} "
                f"{done.per_second:>9,.0f}/s   p50 {done.p50:.2f} ms"
            )
            if subject := subjects.get(name):
                before = subject.result.rows
                subject.result.calls += done.requests
                late = 1 - (subject.count() - before) / done.requests
                subject.result.late_rows = max(subject.result.late_rows, late)
                subject.settle()
            # After the log's rows are written, so that they count too.
            micros = (cpu_seconds(servers[name]) - spent) / done.requests * 1e6
            runs[name].append(replace(done, cpu_micros=micros))
    return runs


def _check_all(
    targets: dict[str, Target], subjects: dict[str, _Subject], folder: Path, say: Callable[[str], None]
) -> None:
    for name, target in targets.items():
        calls = load.check(target, folder, BODY, connections=THROUGHPUT_CONNECTIONS, seconds=1)
        say(f"checked {calls:,} answers of {name}: all 200 with the provider's body")
        if subject := subjects.get(name):
            subject.result.calls += calls
            subject.settle()


def _link(subject: _Subject) -> None:
    subject.account = subject.hub.link()
    target = subject.target("a few calls")
    with httpx.Client(headers=dict(target.headers), timeout=10, trust_env=False) as http:
        for _ in range(20):
            answer = http.get(target.url)
            if answer.status_code != 200 or answer.text != BODY:
                raise load.BadAnswers(f"the hub answered {answer.status_code}: {answer.text[:500]}")
    subject.result.calls += 20
    time.sleep(1)
    subject.result.idle = subject.hub.memory()


def _measure_start(subject: _Subject, rounds: int) -> None:
    """Start on a fresh data folder, then again on the same; the last one stays for the load."""
    hub = subject.hub
    for _ in range(rounds):
        if hub.database_url is None:  # a fresh PostgreSQL database needs another server; only the first start is fresh
            shutil.rmtree(hub.home, ignore_errors=True)
        for times in (subject.result.start_fresh, subject.result.start_again):
            if times is subject.result.start_fresh and times and hub.database_url is not None:
                continue
            with hub:
                times.append(hub.start_seconds)


def _sqlite_subject(home: Path, tree: Path, allow: str) -> _Subject:
    def count() -> int:
        path = home / "data" / "mooring.db"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            return int(connection.execute(_COUNT).fetchone()[0])
        finally:
            connection.close()

    return _Subject(Hub(home, tree, allow=allow), count, HubResult())


def _postgres_subject(home: Path, tree: Path, allow: str, server: PostgresServer) -> _Subject:
    url = server.create_database()

    def count() -> int:
        return int(server.sql(_COUNT, url.rsplit("/", 1)[1]))

    return _Subject(Hub(home, tree, allow=allow, database_url=url), count, HubResult())


_COUNT = "SELECT count(*) FROM request_logs WHERE category = 'unified'"


def median(values: Iterable[float]) -> float:
    """Return the median; 0 of nothing."""
    found = list(values)
    return statistics.median(found) if found else 0.0
