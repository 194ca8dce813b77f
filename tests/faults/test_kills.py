"""Processes killed with SIGKILL while tokens are renewed at a provider with strict rotation (S2, S3b).

Short by default; the long version of `make faults` sets MOORING_TEST_KILLS. Figures go to standard output with -s.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest

from tests.conftest import Ports
from tests.flows.linking import link, oidc_consent
from tests.hub import BOOTSTRAP_KEY, Hub, Project
from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port

KILLS = int(os.environ.get("MOORING_TEST_KILLS", "4"))
ACCOUNTS = int(os.environ.get("MOORING_TEST_KILL_ACCOUNTS", "8"))
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
        while not self._stop.is_set():
            try:
                answer = httpx.get(
                    f"{self._project.hub.url}/proxy/api/me", headers=headers, timeout=40, trust_env=False
                )
                self.good += answer.status_code == 200
            except httpx.TransportError:
                time.sleep(0.05)


def children(hub: Hub, word: str) -> list[psutil.Process]:
    """The hub's child processes whose command holds a word. They are killed by handle, never by name."""
    assert hub.process is not None
    found = []
    for child in psutil.Process(hub.process.pid).children():
        with contextlib.suppress(psutil.Error):  # one that just died
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found


def storm_with_kills(hub: Hub, project: Project, oidc: OidcServer, accounts: list[str], word: str) -> int:
    """Expire all tokens again and again, and kill a process at a random moment after; returns the refreshes seen."""
    oidc.reset()
    with Load(project, accounts):
        for _ in range(KILLS):
            oidc.expire_access()
            time.sleep(random.uniform(0.0, 0.4))
            for victim in children(hub, word):
                victim.kill()
            wait_for(lambda: bool(children(hub, word)) and is_ready(hub))
            time.sleep(0.3)
    return int(oidc.stats()["token"])


def is_ready(hub: Hub) -> bool:
    try:
        return httpx.get(f"{hub.url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s")


def outcome(project: Project, account: str) -> str:
    """How an account ends: it works, or it says why not. Waits for a lease that a dead process left behind."""
    deadline = time.monotonic() + 60
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
    return project, [link(project, config, consent, f"owner-{n}") for n in range(ACCOUNTS)]


def test_killing_web_processes_loses_no_account(hub: Hub, oidc: OidcServer) -> None:
    project, accounts = linked(hub, oidc)
    refreshes = storm_with_kills(hub, project, oidc, accounts, "mooring serve")
    ends = [outcome(project, account) for account in accounts]
    print(
        f"\nS2: {KILLS} kills of web processes, {refreshes} token requests, {ends.count('works')} of {len(ends)} work"
    )
    assert ends == ["works"] * len(accounts)


def test_killing_the_courier_loses_only_what_was_in_flight_and_says_so(hub: Hub, oidc: OidcServer) -> None:
    project, accounts = linked(hub, oidc)
    refreshes = storm_with_kills(hub, project, oidc, accounts, "mooring.courier")
    ends = [outcome(project, account) for account in accounts]
    lost = [end for end in ends if end != "works"]
    print(f"\nS3b: {KILLS} kills of the courier, {refreshes} token requests, {len(lost)} of {len(ends)} lost: {lost}")
    assert set(lost) <= {"uncertain_rotation"}
