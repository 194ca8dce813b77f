"""Hubs on two hosts: a storm, a cut cable, a lost host, a restarted database, a lost Redis, wrong clocks (issue 9, item 4).

Short by default; `make cluster` sets the numbers. Each test prints one line of what it counted (pytest -s).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from mooring.accounts.leases import LEASE_SECONDS
from mooring.accounts.models import Credential
from tests.cluster.machines import Cluster, HostedHub
from tests.cluster.traffic import ME, Traffic
from tests.faults.load import number, wait_for
from tests.faults.test_database_kills import BACK_SECONDS, Writers, missing, patience
from tests.flows.linking import CACHE_SECONDS, on_database, refreshes, sandbox_config
from tests.flows.test_refresh import storm
from tests.hub import Project, ok

ROUNDS = number("CLUSTER_ROUNDS", 1)
ACCOUNTS = number("CLUSTER_ACCOUNTS", 4)
CALLERS = number("CLUSTER_CALLERS", 60)
CUTS = [13] * number("CLUSTER_CUTS", 1)  # seconds; shorter than a lease on a token, so that nothing is in doubt
if long := number("CLUSTER_LONG_CUT_SECONDS", 0):
    CUTS.append(long)
KILLS = number("CLUSTER_KILLS", 1)
RESTARTS = number("CLUSTER_RESTARTS", 1)
STALE_SECONDS = 5.0  # rule A2
AWAY_SECONDS = 11.0  # a silent connection and a silent attempt to make another


def reuses(cluster: Cluster) -> int:
    """How often the provider saw a refresh token that was spent: each of them ends a grant."""
    return int(cluster.provider.counters()["reuse_detections"])


def in_flight(cluster: Cluster) -> int:
    """Refreshes whose request has left and whose answer is not stored."""

    async def count(tx: object) -> int:
        statement = select(func.count()).where(Credential.pending_generation.is_not(None))
        return await tx.scalar(statement) or 0  # type: ignore[attr-defined, no-any-return]

    return int(on_database(cluster.b, count))


def ends_of(cluster: Cluster, project: Project, accounts: list[str], seconds: float = 45) -> Counter[str]:
    """What became of each account, asked at the second host: "works", or the reason it gives."""

    def end(account: str) -> str:
        deadline = time.monotonic() + seconds
        while True:
            answer = project.proxy(account, path="/api/me")
            if answer.status_code == 200:
                return "works"
            shown = project.account(account)
            if shown["status"] == "expired":
                return str(shown["status_reasons"][-1]["code"])
            if time.monotonic() > deadline:
                return f"unclear: {answer.status_code} {answer.text[:200]}"
            time.sleep(0.3)

    project = cluster.at(cluster.b, project)
    return Counter(map(end, accounts))


def seconds_until(condition: Callable[[], bool], at_most: float) -> float:
    """How long it takes. Fails when it takes longer."""
    begun = time.monotonic()
    wait_for(condition, at_most + patience())
    return time.monotonic() - begun


@contextmanager
def skewed(hub: HostedHub, folder: Path) -> Iterator[None]:
    """Restart a hub with a `sitecustomize.py` that sets its clock wrong."""
    hub.stop()
    hub.paths = [str(folder)]
    hub.start()
    yield
    hub.stop()
    hub.paths = []


async def test_one_token_request_for_callers_at_both_hosts(cluster: Cluster) -> None:
    project = cluster.a.new_project()
    (account,) = cluster.link(project, 1)
    answered: Counter[int] = Counter()
    for _ in range(ROUNDS):
        cluster.provider.control("expire")
        cluster.provider.fault("token", "delay_after_commit", ms=250)
        answers = await storm(project, account, [hub.url for hub in cluster.hubs], CALLERS)
        answered.update(status for status, _ in answers)
    print(
        f"\nstorm: {CALLERS} callers at 2 hosts, {ROUNDS} rounds: {refreshes(cluster.provider)} token requests, {answered}"
    )
    assert answered == {200: ROUNDS * CALLERS}
    assert (refreshes(cluster.provider), reuses(cluster)) == (ROUNDS, 0)


@pytest.mark.parametrize("seconds", CUTS)
def test_a_host_that_loses_the_database_says_so_and_comes_back(cluster: Cluster, seconds: int) -> None:
    """Its cable is pulled amid refreshes, and nobody tells it: packets vanish."""
    project = cluster.a.new_project()
    accounts = cluster.link(project, ACCOUNTS)
    config = sandbox_config(project, cluster.provider, "api_key")
    quiet = project.link(config, {"api_key": "sandbox-key-acme"}, "quiet")
    callers = Traffic(project, [quiet], [[cluster.a], [cluster.a], [cluster.b]])
    with callers, Traffic(project, accounts, [[hub] for hub in cluster.hubs for _ in range(2)]) as renewing:
        wait_for(lambda: all(renewing.counts(hub)[200, ""] >= 2 * ACCOUNTS for hub in cluster.hubs))
        cluster.provider.fault("token", "delay_after_commit", times=ACCOUNTS, ms=300)
        cluster.provider.control("expire")
        time.sleep(0.15)
        flying = in_flight(cluster)
        cut = time.monotonic()
        cluster.network["hub-a"].cut("back")
        time.sleep(seconds)
        cluster.network["hub-a"].mend("back")
        mended = time.monotonic()
        back = seconds_until(lambda: callers.counts(cluster.a, mended)[200, ""] > 0, BACK_SECONDS)
        wait_for(lambda: renewing.counts(cluster.a, mended)[200, ""] > 0)
    ends = ends_of(cluster, project, accounts)
    told = {hub: callers.counts(hub, cut) + renewing.counts(hub, cut) for hub in cluster.hubs}
    slowest = max(one.seconds for one in callers.at(cluster.a, cut))
    print(
        f"\ncut: {seconds} s, {flying} refreshes in flight; cut host {dict(told[cluster.a])}, "
        f"slowest answer {slowest:.1f} s, back {back:.1f} s after the cable; other host {dict(told[cluster.b])}; "
        f"accounts {dict(ends)}, {reuses(cluster)} reuses"
    )
    lost = ACCOUNTS - ends["works"]
    assert set(ends) <= {"works", "uncertain_rotation"}
    assert lost <= (flying if seconds > LEASE_SECONDS else 0) and lost == reuses(cluster)
    assert callers.counts(cluster.a, cut)[503, "UnavailableError"] > 0
    if not lost:  # who calls an account that is lost is told so
        assert set(told[cluster.a]) == {(200, ""), (503, "UnavailableError")}
        assert set(told[cluster.b]) == {(200, "")}
    assert slowest < AWAY_SECONDS + patience()


class Door:
    """A second key and a second account's auth config, opened at the first host and shut at the other one."""

    def __init__(self, cluster: Cluster) -> None:
        self.inside = cluster.a.new_project()
        self.account, self.other = cluster.link(self.inside, 1)[0], cluster.link(self.inside, 1, "other")[0]
        self.config = self.inside.account(self.other)["integration_id"]
        made = ok(self.inside.http.post("/api_keys", json={"label": "second", "scopes": ["unified:read"]}), 201)
        self.key_id = made["id"]
        self.guest = Project(cluster.a, self.inside.id, made["key"])
        self.there = cluster.at(cluster.b, self.inside)

    def knock(self) -> tuple[int, int]:
        """What the second key is told, and what calls of the disabled auth config's account are told."""
        guest = self.guest.proxy(self.account, path="/api/me").status_code
        return guest, self.inside.proxy(self.other, path="/api/me").status_code

    def shut(self) -> None:
        ok(self.there.http.delete(f"/api_keys/{self.key_id}"), 204)
        ok(self.there.http.patch(f"/auth_configs/{self.config}", json={"active": False}))


SHUT = (401, 412)


def test_who_is_shut_out_at_one_host_is_shut_out_at_the_other(cluster: Cluster) -> None:
    door = Door(cluster)
    assert door.knock() == (200, 200)
    door.shut()
    took = seconds_until(lambda: door.knock() == SHUT, STALE_SECONDS)
    print(f"\nshut out at the other host after {took:.2f} s")
    assert took < STALE_SECONDS


def test_a_cut_host_lets_nobody_in_who_was_shut_out_meanwhile(cluster: Cluster) -> None:
    """Rule A2 on a host that can't be told: what it can't check, it does not serve."""
    door = Door(cluster)
    door.knock()
    time.sleep(CACHE_SECONDS)  # its making is a change too, after which the host looks once more
    assert door.knock() == (200, 200)
    cluster.network["hub-a"].cut("back")
    cut = time.monotonic()
    door.shut()
    asking: dict[str, Any] = {
        "auth": (door.guest.key, ""),
        "headers": {"x-account-id": door.account},
        "timeout": 30,
        "verify": False,
    }
    begun, last = time.monotonic(), -1.0
    while (asked := time.monotonic()) < begun + STALE_SECONDS + 1:
        if httpx.get(f"{cluster.a.url}{ME}", **asking).status_code == 200:
            last = asked - begun
        time.sleep(0.05)
    cluster.network["hub-a"].mend("back")
    wait_for(lambda: 503 not in door.knock())
    print(f"\nshut out {begun - cut:.1f} s after the other host was cut off: its last good answer {last:.1f} s later")
    assert 0 < last < STALE_SECONDS  # by what it kept, as long as that may be
    assert door.knock() == SHUT


@pytest.mark.parametrize("_time", range(KILLS))
def test_a_lost_host_loses_only_what_was_in_flight(cluster: Cluster, _time: int) -> None:
    """SIGKILL to all of its processes amid refreshes, its courier too. The other host goes on, and it comes back."""
    project = cluster.a.new_project()
    accounts = cluster.link(project, ACCOUNTS)
    with Traffic(project, accounts, [[hub] for hub in cluster.hubs for _ in range(2)]) as traffic:
        wait_for(lambda: all(traffic.counts(hub)[200, ""] >= 2 * ACCOUNTS for hub in cluster.hubs))
        cluster.provider.fault("token", "delay_after_commit", times=ACCOUNTS, ms=300)
        cluster.provider.control("expire")
        time.sleep(0.15)
        flying = in_flight(cluster)
        killed_at = time.monotonic()
        cluster.a.kill_host()
        time.sleep(1)
        cluster.a.start()
        started = time.monotonic()
        wait_for(lambda: traffic.counts(cluster.a, started)[200, ""] > 0)
        ends = ends_of(cluster, project, accounts)
    at_b = traffic.counts(cluster.b, killed_at)
    lost = ACCOUNTS - ends["works"]
    print(
        f"\nlost host: {flying} refreshes in flight, {lost} of {ACCOUNTS} accounts lost: {dict(ends)}; "
        f"other host {dict(at_b)}, {reuses(cluster)} reuses"
    )
    assert set(ends) <= {"works", "uncertain_rotation"}
    assert lost <= flying and lost == reuses(cluster)
    # Whoever waits for a lease of the dead host may be told that the account is over; of all others, none fails.
    assert {status for status, _ in at_b} <= {200, *([401] if lost else [])}


def progress(writers: list[Writers]) -> Callable[[], bool]:
    """Whether each of them got something acknowledged from now on."""
    seen = [len(writer.acknowledged) for writer in writers]
    return lambda: all(len(writer.acknowledged) > n for writer, n in zip(writers, seen, strict=True))


def test_a_database_that_restarts_loses_no_acknowledged_write(cluster: Cluster) -> None:
    writers = [Writers(hub, threads=2) for hub in cluster.hubs]
    with writers[0].running(), writers[1].running():
        wait_for(lambda: all(len(w.acknowledged) >= 10 for w in writers))
        back = 0.0
        for _ in range(RESTARTS):
            cluster.database.bounce()
            goes_on = progress(writers)
            back = max(back, seconds_until(goes_on, BACK_SECONDS))
    acknowledged = [id for w in writers for id in w.acknowledged]
    lost = missing(cluster.b, acknowledged)
    refused = [w.refused for w in writers]
    print(
        f"\nrestart: {len(acknowledged)} writes acknowledged at 2 hosts, {len(lost)} lost, back in {back:.2f} s, {refused}"
    )
    assert not lost
    assert {status for counts in refused for status in counts} <= {503}


def test_without_redis_nothing_is_lost_and_nothing_is_let_in(cluster: Cluster) -> None:
    """Flushed, then stopped, then back empty: calls go on, and refusals still travel by the database."""
    project = cluster.a.new_project()
    accounts = cluster.link(project, 2)
    door = Door(cluster)
    with Traffic(project, accounts, [[hub] for hub in cluster.hubs]) as traffic:
        wait_for(lambda: all(traffic.counts(hub)[200, ""] >= 4 for hub in cluster.hubs))
        cluster.redis.ask("FLUSHALL")
        time.sleep(0.5)
        cluster.redis.stop()
        cluster.provider.control("expire")
        assert door.knock() == (200, 200)
        door.shut()
        took = seconds_until(lambda: door.knock() == SHUT, STALE_SECONDS)
        cluster.redis.start()
        wait_for(lambda: all("the shared server is back" in hub.log() for hub in cluster.hubs))
    print(
        f"\nRedis flushed and stopped: {[dict(traffic.counts(hub)) for hub in cluster.hubs]}, shut out after {took:.2f} s"
    )
    assert [set(traffic.counts(hub)) for hub in cluster.hubs] == [{(200, "")}] * 2
    assert took < STALE_SECONDS and reuses(cluster) == 0
    assert refreshes(cluster.provider) == len(accounts) + 2  # the door's two among them


def test_hosts_whose_clocks_differ_tell_each_other_still(cluster: Cluster, tmp_path: Path) -> None:
    """The other host's clock is ten minutes behind, and one request is all that an expiry costs."""
    (tmp_path / "sitecustomize.py").write_text(
        "from datetime import timedelta\nfrom mooring.kit import clock\nclock.shift(timedelta(minutes=-10))\n"
    )
    cluster.redis.stop()  # its news would hide what the feed does not tell
    with skewed(cluster.b, tmp_path):
        door = Door(cluster)
        assert door.knock() == (200, 200)
        door.shut()
        took = seconds_until(lambda: door.knock() == SHUT, STALE_SECONDS)
        (account,) = cluster.link(door.inside, 1, "third")
        before = refreshes(cluster.provider)
        cluster.provider.control("expire")
        calls = [cluster.at(hub, door.inside).proxy(account, path="/api/me") for hub in (*cluster.hubs, *cluster.hubs)]
    cluster.redis.start()
    print(
        f"\nclocks ten minutes apart: shut out after {took:.2f} s, {refreshes(cluster.provider) - before} token requests"
    )
    assert took < STALE_SECONDS
    assert [call.status_code for call in calls] == [200] * 4
    assert refreshes(cluster.provider) - before == 1 and reuses(cluster) == 0
