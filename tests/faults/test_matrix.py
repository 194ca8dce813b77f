"""Rules S5 and R10: every fault of a provider, at every kind of call, ends as the table says, in time and in memory."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts.models import Credential
from mooring.kit import clock
from mooring.kit.db import record_change
from tests.faults.conftest import World
from tests.faults.matrix import CALLS, FAULTS, MATRIX, SLACK, End, table
from tests.faults.provider import HUGE
from tests.flows.linking import CACHE_SECONDS, on_database
from tests.hub import Hub, Project, Session, ok

CELLS = [(fault, call) for fault, call in itertools.product(FAULTS, CALLS)]
RSS_LIMIT = 50 << 20
GUIDE = Path(__file__).parents[2] / "docs" / "accounts.md"
ELSEWHERE = {"refused", "black_hole", "tls_name", "tls_expired", "dns"}  # faults of an address, not of an answer
SLOW = {"silent", "slow_loris", "black_hole"}
CLIENT = {"client_id": "client", "client_secret": "client-secret"}


@dataclass
class Outcome:
    """What was seen of one cell."""

    end: End
    recovered: bool | None
    retry_after: str | None = None
    received: int = 0
    redirected: int = 0


class Run:
    """One cell, in three steps that all cells take together: link, fail, recover."""

    def __init__(self, world: World, project: Project, fault: str, call: str) -> None:
        self.world, self.project, self.fault, self.call = world, project, fault, call
        self.name = f"{fault}-{call}"
        self.cell = world.provider.cell(self.name)
        origin = world.origin(self.name)
        method = {"exchange": "code", "refresh": "code", "machine": "machine", "proxied": "key"}[call]
        setup = {"origin": origin} | (CLIENT if method == "code" else {})
        self.config = project.config("faulty", method, setup)
        self.origin = origin
        self.account: str | None = None
        self.session: Session | None = None
        self.attempt = ""
        self.location = ""

    def _start(self) -> None:
        self.session = self.project.session(self.name, integration_id=self.config["id"])
        self.attempt = self.session.attempt()
        start = self.session.start_oauth(self.config["id"], self.attempt)
        assert start.status_code == 302, start.text
        state = parse_qs(urlsplit(start.headers["location"]).query)["state"][0]
        self.location = f"/connect/oauth2/faulty/callback?code=the-code&state={state}"

    def _finish(self) -> dict[str, object]:
        assert self.session is not None
        landed = self.session.browser.get(self.location, timeout=60)
        assert landed.status_code == 302, landed.text
        return self.session.attempt_state(self.attempt)

    def link(self) -> None:
        """Bring the account into the state in which the fault meets it."""
        project = self.project
        if self.call in {"exchange", "refresh"}:
            self._start()
        if self.call == "refresh":
            state = self._finish()
            assert state["status"] == "authenticated", state
            self.account = state["account"]["id"]  # type: ignore[index]
        elif self.call == "machine":
            self.account = project.link(self.config, CLIENT, self.name)
        elif self.call == "proxied":
            self.account = project.link(self.config, {"api_key": "key-" + self.name}, self.name)

    def break_(self) -> None:
        """Let the fault begin."""
        self.cell.seen.clear()
        if self.fault in ELSEWHERE:
            self._move(self.world.addresses[self.fault] + "/" + self.name)
        elif self.call == "proxied":
            self.cell.api = self.fault
        else:
            self.cell.token = self.fault

    def _move(self, origin: str) -> None:
        ok(self.project.http.patch(f"/auth_configs/{self.config['id']}", json={"setup": {"origin": origin}}))

    def fail(self) -> Outcome:
        """Make the call and look at what it leaves behind."""
        begun = time.monotonic()
        if self.call == "exchange":
            state = self._finish()
            seconds = time.monotonic() - begun
            error = state["error"] or {"code": None}
            end = End(None, error["code"], str(state["status"]), None, self.cell.seen["token"], seconds)  # type: ignore[index]
            return Outcome(end, None, redirected=self.cell.seen["redirected"])
        assert self.account is not None
        project = self.project
        received, body = 0, b""
        with project.http.stream("GET", "/proxy/things", headers={"x-account-id": self.account}) as answer:
            for chunk in answer.iter_raw():
                received += len(chunk)
                body = (body + chunk)[:2000]
        seconds = time.monotonic() - begun
        code = None
        if b'"errorCode"' in body:
            code = json.loads(body)["errorCode"]
        seen = project.account(self.account)
        reason = seen["status_reasons"][-1]["code"] if seen["status_reasons"] else None
        sent = self.cell.seen["api" if self.call == "proxied" else "token"]
        end = End(answer.status_code, code, seen["status"], reason, sent, seconds)
        return Outcome(end, None, answer.headers.get("retry-after"), received, self.cell.seen["redirected"])

    def recover(self) -> bool:
        """End the fault. Whatever is not over works again, without anybody's help but time's."""
        self.cell.api = self.cell.token = "good"
        if self.fault in ELSEWHERE:
            self._move(self.origin)
        if self.account is None:
            return True
        # What is left of a Retry-After is waited for.
        answer = self.project.proxy(self.account, path="/things", headers={"prefer": "wait=30"})
        return answer.status_code == 200 and self.project.account(self.account)["status"] == "active"


def change_all(hub: Hub, accounts: list[str], **values: object) -> None:
    """Change the credentials of many accounts, and wait until the hub's processes have noticed."""

    async def work(tx: AsyncSession) -> None:
        await tx.execute(update(Credential).where(Credential.account_id.in_(accounts)).values(**values))
        for account in accounts:
            record_change(tx, "account", account)

    on_database(hub, work)
    time.sleep(CACHE_SECONDS)


def memory(hub: Hub) -> int:
    assert hub.process is not None
    main = psutil.Process(hub.process.pid)
    return sum(p.memory_info().rss for p in (main, *main.children(recursive=True)))


@pytest.fixture(scope="module")
def outcomes(world: World) -> dict[tuple[str, str], Outcome]:
    """All cells, the slow ones at once: they would take minutes one after the other."""
    project = world.hub.new_project()
    project.http.timeout = 60
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda cell: Run(world, project, *cell), CELLS))
        list(pool.map(Run.link, runs))
    renewing = [run.account for run in runs if run.account and run.call in {"refresh", "machine"}]
    past = clock.now() - timedelta(minutes=1)
    change_all(world.hub, renewing, expires_at=past, refresh_at=past)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Run.break_, runs))
    hub = world.hub
    before = memory(hub)
    slow = [run for run in runs if run.fault in SLOW]
    with ThreadPoolExecutor(len(slow)) as waiting, ThreadPoolExecutor(6) as pool:
        futures = {run.name: waiting.submit(run.fail) for run in slow}
        futures |= {run.name: pool.submit(run.fail) for run in runs if run.fault not in SLOW}
        found = [futures[run.name].result() for run in runs]
    grown = memory(hub) - before
    change_all(hub, renewing, retry_at=None)
    with ThreadPoolExecutor(8) as pool:
        recovered = list(pool.map(Run.recover, runs))
    for outcome, again in zip(found, recovered, strict=True):
        outcome.recovered = again
    print(f"\nS5: {len(runs)} cells, slowest {max(o.end.seconds for o in found):.1f} s, hub grew by {grown >> 20} MB")
    assert grown < RSS_LIMIT
    return dict(zip(CELLS, found, strict=True))


@pytest.mark.parametrize(("fault", "call"), CELLS)
def test_a_fault_ends_as_documented(outcomes: dict[tuple[str, str], Outcome], fault: str, call: str) -> None:
    expected, outcome = MATRIX[fault][call], outcomes[fault, call]
    seen = outcome.end
    assert (seen.answer, seen.code, seen.state, seen.reason) == (
        expected.answer,
        expected.code,
        expected.state,
        expected.reason,
    )
    # A GET on a kept connection that dies before the first byte is sent once more (RFC 9112 §9.3.1).
    once_more = {2} if call == "proxied" and fault.startswith("reset_") else set()
    assert seen.sent in {expected.sent, *once_more}
    assert seen.seconds < expected.seconds + SLACK
    assert outcome.redirected == 0  # a 307 of a token endpoint would resend the secret
    assert outcome.recovered == (expected.state != "expired")
    if (fault, call) == ("huge", "proxied"):
        assert outcome.received == HUGE  # streamed, with no limit and no buffer
    if call == "proxied" and fault in {"status_429_seconds", "status_429_absurd"}:
        assert outcome.retry_after == {"status_429_seconds": "8", "status_429_absurd": "99999999999"}[fault]
    if call in {"refresh", "machine"} and expected.answer == 502:
        assert outcome.retry_after is not None and 1 <= int(outcome.retry_after) <= 3600  # capped, whatever was asked


def test_the_certificates_are_what_fails(world: World) -> None:
    """The same server with the right name and a certificate in force is linked: the two TLS faults are no others."""
    setup = {"origin": world.addresses["tls_good"] + "/control"}
    project = world.hub.new_project()
    config = project.config("faulty", "key", setup)
    account = project.link(config, {"api_key": "some-key"}, "control")
    assert ok(project.proxy(account, path="/things")) == {"id": "control"}


def test_the_table_in_the_guide_is_this_one() -> None:
    shown = GUIDE.read_text().partition("<!-- faults -->\n")[2].partition("<!-- /faults -->")[0]
    assert shown == table(), "copy the table that tests/faults/matrix.py makes into docs/accounts.md"
