"""Callers that go on whatever happens, and what they were told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import httpx

from tests.cluster.machines import HostedHub
from tests.hub import TLS, Project

ME = "/proxy/api/me"


@dataclass(frozen=True)
class Told:
    """One answer. Status 0 means that none came; `code` says then what happened to the connection."""

    hub: str
    account: str
    begun: float
    seconds: float
    status: int
    code: str


class Traffic:
    """Each caller goes round the accounts, at one host or in turn at several. A refused connection is tried elsewhere."""

    def __init__(
        self,
        project: Project,
        accounts: Sequence[str],
        targets: Sequence[Sequence[HostedHub]],
        *,
        pause: float = 0.05,
        new_connections: bool = False,
    ) -> None:
        self._project = project
        self._accounts = accounts
        self._stop = threading.Event()
        self._pause = pause
        self._new_connections = new_connections
        self._threads = [threading.Thread(target=self._run, args=(n, hubs)) for n, hubs in enumerate(targets)]
        self.told: list[Told] = []
        self.turned_away = 0  # connections that a host refused, and that another host took

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def at(self, hub: HostedHub, since: float = 0.0) -> list[Told]:
        """What a host answered to calls that began at a time or later."""
        return [told for told in self.told if told.hub == hub.host.name and told.begun >= since]

    def counts(self, hub: HostedHub, since: float = 0.0) -> Counter[tuple[int, str]]:
        """How often a host answered what."""
        return Counter((told.status, told.code) for told in self.at(hub, since))

    def _run(self, number: int, hubs: Sequence[HostedHub]) -> None:
        headers = {"authorization": f"Bearer {self._project.key}"}
        if self._new_connections:
            headers["connection"] = "close"
        turn = number
        with httpx.Client(headers=headers, timeout=40, trust_env=False, verify=TLS) as http:
            while not self._stop.is_set():
                account = self._accounts[turn % len(self._accounts)]
                turn += 1
                for attempt in range(len(hubs)):
                    if self._call(http, hubs[(turn + attempt) % len(hubs)], account, last=attempt + 1 == len(hubs)):
                        break
                self._stop.wait(self._pause)

    def _call(self, http: httpx.Client, hub: HostedHub, account: str, *, last: bool) -> bool:
        begun = time.monotonic()
        try:
            answer = http.get(f"{hub.url}{ME}", headers={"x-account-id": account})
            status, code = answer.status_code, "" if answer.is_success else str(answer.json().get("errorCode"))
        except httpx.ConnectError as e:
            if not last:
                self.turned_away += 1
                return False
            status, code = 0, type(e).__name__
        except httpx.TransportError as e:
            status, code = 0, type(e).__name__
        self.told.append(Told(hub.host.name, account, begun, time.monotonic() - begun, status, code))
        return True
