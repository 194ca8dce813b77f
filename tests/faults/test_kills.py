"""Processes killed with SIGKILL while tokens are renewed at providers with strict rotation (S2, S3a, S3b).

Short by default; `make faults` sets MOORING_TEST_KILLS. Each test prints one line for bench/RESULTS.md (pytest -s).
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from sqlalchemy import func, select

from mooring.accounts.models import Credential
from tests.conftest import Ports
from tests.faults.load import children, is_ready, number, wait_for
from tests.flows.linking import link, oidc_consent, on_database, sandbox_config, sandbox_consent
from tests.hub import BOOTSTRAP_KEY, Hub, Project
from tests.sandbox.harness import Sandbox
from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port

KILLS = number("KILLS", 4)
COURIER_KILLS = max(2, KILLS // 2)
ACCOUNTS = number("KILL_ACCOUNTS", 8)
LABEL_SECONDS = 60.0
BASIC = {"client_id": "basic-app", "client_secret": "basic-secret"}


@pytest.fixture
def hub(ports: Ports, connectors_dir: Path, tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path, free_port(), egress_allow=ports.egress_allow, connectors_dir=connectors_dir) as running:
        yield running


class Load:
    """Calls every account again and again; a failed call is a matter of the moment, a lost account is not."""

    def __init__(self, project: Project, accounts: list[str]) -> None:
        self._project = project
        self._accounts = accounts
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(a,)) for a in accounts]
        self.good = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, account: str) -> None:
        headers = {"x-account-id": account, "authorization": f"Bearer {self._project.key}"}
        with httpx.Client(base_url=self._project.hub.url, headers=headers, timeout=40, trust_env=False) as client:
            while not self._stop.is_set():
                with contextlib.suppress(httpx.TransportError):
                    self.good += client.get("/proxy/api/me").status_code == 200
                time.sleep(0.05)


def in_flight(hub: Hub) -> int:
    """Refreshes whose request has left and whose answer is not stored."""

    async def count(tx: Any) -> int:
        return await tx.scalar(select(func.count()).where(Credential.pending_generation.is_not(None))) or 0

    return int(on_database(hub, count))


@dataclass
class Storm:
    """What a storm did: kills, and at most how many refreshes were under way at them."""

    kills: int
    in_flight: int
    calls: int


def storm_with_kills(
    hub: Hub, project: Project, accounts: list[str], word: str, kills: int, expire: Callable[[], object]
) -> Storm:
    """Expire all tokens again and again, and kill processes at a random moment after."""
    flying = 0
    with Load(project, accounts) as load:
        for _ in range(kills):
            expire()
            time.sleep(random.uniform(0.0, 0.4))
            for victim in children(hub, word):
                victim.kill()
            flying += in_flight(hub)
            wait_for(lambda: bool(children(hub, word)) and is_ready(hub))
            time.sleep(0.3)
    return Storm(kills, flying, load.good)


def ends_of(project: Project, accounts: list[str]) -> tuple[list[str], float]:
    """How each account ends, and the longest time that one took to say so."""
    out, longest = [], 0.0
    for account in accounts:
        begun = time.monotonic()
        out.append(_end(project, account))
        longest = max(longest, time.monotonic() - begun)
    return out, longest


def _end(project: Project, account: str) -> str:
    """It works, or it says why not. Waits for a lease that a dead process left behind."""
    deadline = time.monotonic() + LABEL_SECONDS
    while True:
        answer = project.proxy(account, path="/api/me")
        if answer.status_code == 200:
            return "works"
        shown = project.account(account)
        if shown["status"] == "expired":
            return str(shown["status_reasons"][-1]["code"])
        if time.monotonic() > deadline:
            return f"unclear: {answer.status_code} {answer.text[:200]}"
        time.sleep(0.5)


def linked(hub: Hub, oidc: OidcServer) -> tuple[Project, list[str]]:
    project = Project(hub, "", BOOTSTRAP_KEY)
    config = project.config("oidc-provider", "code", BASIC)
    consent = oidc_consent(project, oidc)
    accounts = [link(project, config, consent, f"owner-{n}") for n in range(ACCOUNTS)]
    oidc.reset()
    return project, accounts


def test_killing_web_processes_loses_no_account(hub: Hub, oidc: OidcServer) -> None:
    project, accounts = linked(hub, oidc)
    storm = storm_with_kills(hub, project, accounts, "mooring.child serve", KILLS, oidc.expire_access)
    refreshes = int(oidc.stats()["token"])
    ends, _ = ends_of(project, accounts)
    lost = len(ends) - ends.count("works")
    print(
        f"\nS2: web processes killed {storm.kills} times during {refreshes} token requests "
        f"({storm.in_flight} in flight), {storm.calls} calls answered: {lost} of {len(ends)} accounts lost"
    )
    assert ends == ["works"] * len(accounts)
    assert refreshes >= KILLS * ACCOUNTS // 2, "too few refreshes to prove anything"


def test_with_a_grace_window_killing_the_courier_loses_nothing(hub: Hub, provider: Sandbox) -> None:
    """S3a: the provider takes the old refresh token again for half a minute."""
    provider.control("settings", {"grace_seconds": 30})
    project = Project(hub, "", BOOTSTRAP_KEY)
    config = sandbox_config(project, provider)
    consent = sandbox_consent(provider)
    accounts = [link(project, config, consent, f"owner-{n}") for n in range(ACCOUNTS)]
    storm = storm_with_kills(
        hub, project, accounts, "mooring.courier", COURIER_KILLS, lambda: provider.control("expire")
    )
    refreshes = int(provider.counters()["token_requests"]["refresh_token"])
    ends, _ = ends_of(project, accounts)
    lost = len(ends) - ends.count("works")
    print(
        f"\nS3a: courier killed {storm.kills} times during {refreshes} token requests ({storm.in_flight} in flight), "
        f"grace window: {lost} of {len(ends)} accounts lost"
    )
    assert ends == ["works"] * len(accounts)


def test_killing_the_courier_loses_only_what_was_in_flight_and_says_so(hub: Hub, oidc: OidcServer) -> None:
    """S3b: no grace window. What was in flight may be gone; it is said within a minute, and of nothing else."""
    project, accounts = linked(hub, oidc)
    storm = storm_with_kills(hub, project, accounts, "mooring.courier", COURIER_KILLS, oidc.expire_access)
    ends, longest = ends_of(project, accounts)
    lost = [end for end in ends if end != "works"]
    stats = oidc.stats()
    print(
        f"\nS3b: courier killed {storm.kills} times during {stats['token']} token requests ({storm.in_flight} in flight), "
        f"no grace window: {len(lost)} of {len(ends)} accounts lost, {lost.count('uncertain_rotation')} labelled "
        f"uncertain_rotation, longest wait {longest:.1f} s, {stats['reuse_detected']} reuses seen by the provider"
    )
    assert set(lost) <= {"uncertain_rotation"}
    assert len(lost) <= storm.in_flight
    # Each label follows the provider's own refusal of a used token: no false flag; and it is asked no more than that.
    assert len(lost) == stats["reuse_detected"] == sum(stats["token_err"].values())
