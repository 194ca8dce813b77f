"""Two hubs with data folders of their own on one database share limits by a server of the Redis protocol."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.command import MASTER_KEYS
from tests.conftest import Ports, limited_connector
from tests.hub import Hub, Project, ok, refused
from tests.proxy.upstream import Seen, Upstream, answer
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

TOKEN = "metrics-token-0123456789"
PER_MINUTE = 120
AT_ONCE = {"prefer": "wait=0"}


@pytest.fixture(scope="module")
def hubs(
    ports: Ports, tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, redis_server: RedisServer
) -> Iterator[tuple[Hub, Hub]]:
    """Two hubs, as on two hosts."""
    folder = tmp_path_factory.mktemp("shared")
    limited = limited_connector(ports.spare[0])
    metered = limited.replace("limited", "metered").replace("Limited", "Metered").replace("seconds: 2", "seconds: 60")
    (folder / "connectors").mkdir()
    (folder / "connectors" / "limited.yaml").write_text(limited)
    (folder / "connectors" / "metered.yaml").write_text(metered)
    database_url = postgres_server.create_database()
    env = {
        "MOORING_REDIS_URL": redis_server.url,
        "MOORING_MASTER_KEYS": MASTER_KEYS,
        "MOORING_METRICS_TOKEN": TOKEN,
        "MOORING_KEY_RATE_LIMIT": str(PER_MINUTE),
    }
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(_hub(folder / name, database_url, ports, folder / "connectors", env)) for name in "ab"
        )
        yield first, second


def _hub(folder: Path, database_url: str, ports: Ports, connectors: Path, env: dict[str, str]) -> Hub:
    return Hub(
        folder,
        free_port(),
        database_url=database_url,
        egress_allow=ports.egress_allow,
        connectors_dir=connectors,
        env=env,
    )


@dataclass(frozen=True)
class Pair:
    """One account, called through either hub."""

    projects: tuple[Project, Project]
    account: str

    def __call__(self, hub: int, path: str = "/list", **headers: str) -> httpx.Response:
        return self.projects[hub].proxy(self.account, path=path, headers=headers)

    def limits(self, hub: int) -> dict[str, object]:
        found: dict[str, object] = ok(self.projects[hub].http.get(f"/accounts/{self.account}/limits"))
        return found


def pair_of(hubs: tuple[Hub, Hub], connector: str) -> Pair:
    first = hubs[0].new_project()
    account = first.link(first.config(connector, "api_key"), {"api_key": secrets.token_urlsafe(24)})
    return Pair((first, Project(hubs[1], first.id, first.key)), account)


@pytest.fixture
def limited(hubs: tuple[Hub, Hub], upstream: Upstream) -> Pair:
    """Five calls in two seconds."""
    return pair_of(hubs, "limited")


@pytest.fixture
def metered(hubs: tuple[Hub, Hub], upstream: Upstream) -> Pair:
    """Five calls in a minute."""
    return pair_of(hubs, "metered")


def statuses(pair: Pair, *by: int) -> list[int]:
    """What calls through these hubs, one after the other, are answered when they do not wait."""
    return [pair(hub, **AT_ONCE).status_code for hub in by]


def metric(hub: Hub, name: str) -> float:
    """The sum of a family's samples."""
    text = httpx.get(f"{hub.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def until_shared(*hubs: Hub, state: str = "up") -> None:
    deadline = time.monotonic() + 20
    while not all(metric(hub, f'mooring_shared_server{{state="{state}"}}') for hub in hubs):
        assert time.monotonic() < deadline, [hub.log()[-1000:] for hub in hubs]
        time.sleep(0.1)


def test_calls_through_two_hubs_keep_one_window_and_use_all_of_it(
    limited: Pair, hubs: tuple[Hub, Hub], upstream: Upstream
) -> None:
    until_shared(*hubs)
    times: list[float] = []

    def reply(_connection: socket.socket, _seen: Seen) -> bytes:
        times.append(time.monotonic())
        return answer()

    upstream.on("/list", reply)
    before = [metric(hub, "mooring_limits_unshared_total") for hub in hubs]
    began = time.monotonic()
    with ThreadPoolExecutor(17) as pool:
        answers = list(pool.map(lambda n: limited(n % 2), range(17)))
    spent = time.monotonic() - began
    assert [a.status_code for a in answers] == [200] * 17
    assert [metric(hub, "mooring_limits_unshared_total") for hub in hubs] == before
    for start in times:
        assert sum(1 for t in times if start <= t < start + 1.9) <= 5
    assert 5.9 < spent < 9  # 5 each at 0, 2 and 4 s, then 2; half of a window for each hub would take 16 s


def test_one_hub_may_use_the_whole_window_and_both_see_it(metered: Pair) -> None:
    assert statuses(metered, 0, 1, 1, 0, 0) == [200] * 5
    assert statuses(metered, 0, 1) == [429, 429]
    for hub in (0, 1):
        found = metered.limits(hub)
        assert found["share"] == 1
        assert found["windows"] == [{"path": None, "requests": 5, "seconds": 60, "used": 5}]
    told = metered(1, **AT_ONCE)
    refused(told, 429, "ProviderRateLimitError")
    assert 30 <= int(told.headers["retry-after"]) <= 60


def test_what_a_provider_asks_of_one_hub_is_kept_by_the_other(
    metered: Pair, hubs: tuple[Hub, Hub], upstream: Upstream
) -> None:
    upstream.on("/busy", answer(429, b'{"error": "slow down"}', "retry-after: 40"))
    assert metered(0, "/busy").json() == {"error": "slow down"}
    deadline = time.monotonic() + 10
    while not metered.limits(1)["blocked_for"]:
        assert time.monotonic() < deadline
    sent = len(upstream.calls())
    told = metered(1, **AT_ONCE)
    refused(told, 429, "ProviderRateLimitError")
    assert 25 <= int(told.headers["retry-after"]) <= 40 and len(upstream.calls()) == sent


def test_a_key_has_its_calls_per_minute_once_for_both_hubs(hubs: tuple[Hub, Hub]) -> None:
    first = hubs[0].new_project()
    both = (first, Project(hubs[1], first.id, first.key))
    seen = [both[n % 2].http.get("/project").status_code for n in range(PER_MINUTE)]
    assert seen == [200] * PER_MINUTE
    for project in both:
        refused(project.http.get("/project"), 429, "KeyRateLimitError")


def test_calls_go_on_while_the_server_is_dead_and_are_shared_again_when_it_is_back(
    metered: Pair, hubs: tuple[Hub, Hub], redis_server: RedisServer, upstream: Upstream
) -> None:
    until_shared(*hubs)
    os.kill(redis_server.pid, signal.SIGKILL)
    redis_server.reap()
    try:
        began = time.monotonic()
        assert statuses(metered, 0, 0, 0, 0, 0, 1) == [200] * 6  # each by its own part: both are the only worker
        assert time.monotonic() - began < 5
        assert statuses(metered, 0) == [429]
        until_shared(*hubs, state="away")
        assert metric(hubs[0], "mooring_limits_unshared_total") > 0
        assert "the shared server is away" in hubs[0].log()
    finally:
        redis_server.restart()
    until_shared(*hubs)
    assert "limits are shared again" in hubs[0].log()
    again = pair_of(hubs, "metered")
    assert statuses(again, 0, 0, 0, 1, 1, 0, 1) == [200] * 5 + [429] * 2


def test_a_server_that_is_emptied_in_the_middle_harms_nobody(
    metered: Pair, hubs: tuple[Hub, Hub], redis_server: RedisServer, upstream: Upstream
) -> None:
    until_shared(*hubs)
    assert statuses(metered, 0, 0, 0, 1) == [200] * 4
    redis_server.ask("FLUSHALL")
    more = statuses(metered, *([0] * 8), *([1] * 8))
    assert set(more) == {200, 429} and more[:8].count(200) == 2  # the first hub knows of its own three
    assert more.count(200) == 5  # counted anew by the server
    assert metric(hubs[0], 'mooring_shared_server{state="up"}') == 1


def test_the_server_may_be_reached_over_tls_and_its_certificate_is_checked(
    ports: Ports, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    connectors = tmp_path / "connectors"
    connectors.mkdir()
    env = {"MOORING_MASTER_KEYS": MASTER_KEYS, "MOORING_METRICS_TOKEN": TOKEN}
    with RedisServer(tls=True) as server:
        assert server.url.startswith("rediss://")
        trusting = _hub(
            tmp_path / "a",
            postgres_server.create_database(),
            ports,
            connectors,
            {**env, "MOORING_REDIS_URL": server.url},
        )
        plain = server.url.partition("?")[0]
        doubting = _hub(
            tmp_path / "b", postgres_server.create_database(), ports, connectors, {**env, "MOORING_REDIS_URL": plain}
        )
        with trusting, doubting:
            until_shared(trusting)
            until_shared(doubting, state="away")
