"""Rule S11: a real hub and three tenants against the pure table of the life cycle, step by step, at random.

Short by default; `make faults` sets MOORING_TEST_LIFE_RUNS and MOORING_TEST_LIFE_STEPS.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts import lifecycle
from mooring.accounts.lifecycle import Fact
from mooring.kit import clock
from mooring.kit.jobs import Job
from tests.faults.conftest import World
from tests.faults.provider import Cell
from tests.flows.linking import CACHE_SECONDS, alter, credential, on_database, wait_until
from tests.hub import Project, Session, ok, refused

RUNS = int(os.environ.get("MOORING_TEST_LIFE_RUNS", "4"))
STEPS = int(os.environ.get("MOORING_TEST_LIFE_STEPS", "20"))
TENANTS = 3
KINDS = ("key", "code")
BUDGET = 45.0  # seconds; after that a second verification would be due, which the model leaves out
CLIENT = {"client_id": "client", "client_secret": "client-secret"}
_names = itertools.count()


@dataclass
class Known:
    """What the model knows of one account."""

    id: str
    tenant: int
    kind: str
    cell: Cell
    name: str
    stored: str = "active"
    events: list[str] = field(default_factory=lambda: ["account.created"])
    token_ended: bool = False
    probed_at: float = float("-inf")  # of this credential: it is verified once a minute at most
    revoked: bool = False

    def take(self, fact: Fact) -> None:
        """Apply a fact to the model: the pure table says what becomes of the status, and which event tells of it."""
        status = lifecycle.after(self.stored, fact)
        if status != self.stored:
            self.stored = status
            self.events.append(lifecycle.event_of(status))


class Life(RuleBasedStateMachine):
    """Links, calls, faults, suspensions, deletions, in any order."""

    world: World
    projects: list[Project]
    steps = 0

    @initialize()
    def begin(self) -> None:
        self.known: list[Known] = []
        self.active = [True] * TENANTS
        self.configs: list[dict[str, dict[str, Any]]] = []
        origin = f"http://127.0.0.1:{self.world.port}"
        for project in self.projects:
            made = {}
            for kind in KINDS:
                setup = {"origin": origin} | (CLIENT if kind == "code" else {})
                made[kind] = project.config("modelled", kind, setup)
            self.configs.append(made)
        for tenant, kind in ((0, "key"), (1, "code"), (2, "key")):
            self.link(tenant, kind)

    # --- helpers ---

    def pick(self, n: int) -> Known | None:
        return self.known[n % len(self.known)] if self.known else None

    def effective(self, one: Known) -> str:
        return lifecycle.effective(one.stored, config_active=self.active[one.tenant])

    def project(self, one: Known) -> Project:
        return self.projects[one.tenant]

    def settle(self, one: Known) -> None:
        """Wait until the hub has come where the model is; it has a few seconds for what it does beside a call."""
        if one.stored == "archived":
            return
        wait_until(lambda: self.project(one).account(one.id)["status"] == self.effective(one), seconds=20)

    def forms(self, one: Known) -> dict[str, str]:
        return {"cell": one.name, "api_key": "key-" + secrets.token_hex(8)}

    def through_consent(self, session: Session, config: dict[str, Any], name: str) -> dict[str, Any]:
        attempt = session.attempt()
        start = session.start_oauth(config["id"], attempt, cell=name)
        assert start.status_code == 302, start.text
        state = parse_qs(urlsplit(start.headers["location"]).query)["state"][0]
        landed = session.browser.get(f"/connect/oauth2/modelled/callback?code=code&state={state}")
        assert landed.status_code == 302, landed.text
        return session.attempt_state(attempt)

    # --- rules ---

    @rule(tenant=st.integers(0, TENANTS - 1), kind=st.sampled_from(KINDS))
    def link(self, tenant: int, kind: str) -> None:
        if not self.active[tenant] or len(self.known) > 12:
            return
        name = f"life-{os.getpid()}-{next(_names)}"
        cell, project, config = self.world.provider.cell(name), self.projects[tenant], self.configs[tenant][kind]
        if kind == "key":
            id = project.link(config, {"cell": name, "api_key": "key-" + name}, name)
        else:
            session = project.session(name, integration_id=config["id"])
            state = self.through_consent(session, config, name)
            assert state["status"] == "authenticated", state
            id = state["account"]["id"]
        self.known.append(Known(id, tenant, kind, cell, name))

    @rule(n=st.integers(0, 99), weather=st.sampled_from(["good", "rejects", "outage"]))
    def change_weather(self, n: int, weather: str) -> None:
        """How the provider answers this account from now on. What it revoked stays revoked until a relink."""
        if (one := self.pick(n)) is None:
            return
        one.cell.api = {"good": "good", "rejects": "status_401", "outage": "status_503"}[weather]
        one.cell.token = "status_503" if weather == "outage" else "good"
        if one.kind == "code":
            one.cell.api = "good"  # a code account's API takes any token: its faults are those of the token endpoint
            if weather == "rejects":
                one.cell.refresh_token, one.revoked = "revoked", True

    @rule(n=st.integers(0, 99))
    def call(self, n: int) -> None:
        if (one := self.pick(n)) is None:
            return
        if one.token_ended and one.stored in {"active", "error"}:
            alter(self.world.hub, one.id, retry_at=None)  # else it would depend on how long ago it failed
        status = self.effective(one)
        answer = self.project(one).proxy(one.id, path="/things")
        if status == "archived":
            refused(answer, 404)
        elif status in {"inactive", "suspended"}:
            refused(answer, 412)
        elif status == "expired":
            refused(answer, 401, "AccountExpiredCredentialsError")
        elif one.kind == "code":
            self._expect_renewal(one, answer)
        elif one.cell.api == "good":
            assert answer.status_code == 200
            self._worked(one)
        elif one.cell.api == "status_401":
            assert answer.status_code == 401
            self._refused(one)
        else:
            assert answer.status_code == 503

    @rule(n=st.integers(0, 99))
    def break_and_mend(self, n: int) -> None:
        """The way that chance takes too rarely: a key is refused, the account goes to error, a call works again."""
        one = self.pick(n)
        if one is None or one.kind != "key":
            return
        for weather in ("rejects", "good"):
            self.change_weather(n, weather)
            self.call(n)

    def _worked(self, one: Known) -> None:
        one.take("worked")
        deadline = time.monotonic() + 10  # a process notes this once a second at most
        while self.project(one).account(one.id)["status"] != self.effective(one):
            assert time.monotonic() < deadline
            time.sleep(0.1)
            assert self.project(one).proxy(one.id, path="/things").status_code == 200

    def _refused(self, one: Known) -> None:
        if one.stored != "active":
            return
        if one.probed_at == float("-inf"):
            one.probed_at = time.monotonic()
            one.take("credentials_rejected")
            self.settle(one)

    def _expect_renewal(self, one: Known, answer: httpx.Response) -> None:
        if not one.token_ended:
            assert answer.status_code == 200, answer.text
            self._worked(one)
        elif one.cell.token == "status_503":
            refused(answer, 502, "TokenRefreshFailedError")
            one.take("refresh_failing")
        elif one.revoked:
            refused(answer, 401, "AccountExpiredCredentialsError")
            one.take("grant_over")
        else:
            assert answer.status_code == 200, answer.text
            one.token_ended = False
            one.take("worked")

    @rule(n=st.integers(0, 99))
    def end_token(self, n: int) -> None:
        one = self.pick(n)
        if one is None or one.kind != "code" or one.stored not in {"active", "error"} or one.token_ended:
            return
        past = clock.now() - timedelta(minutes=1)
        alter(self.world.hub, one.id, expires_at=past, refresh_at=past, retry_at=None)
        one.token_ended = True

    @rule(n=st.integers(0, 99))
    def probe(self, n: int) -> None:
        """The account's turn of the periodic job."""
        one = self.pick(n)
        if one is None or self.effective(one) not in {"active", "error"}:
            return
        due = clock.now()
        alter(self.world.hub, one.id, probe_at=due, **({"retry_at": None} if one.token_ended else {}))

        async def now(tx: AsyncSession) -> None:
            await tx.execute(update(Job).where(Job.kind == "probe_due").values(run_at=clock.now()))

        on_database(self.world.hub, now)

        def done() -> bool:
            row = credential(self.world.hub, one.id)
            return row is not None and row.probe_at is not None and row.probe_at > due

        wait_until(done, seconds=30)
        one.probed_at = time.monotonic()
        if one.kind == "code":
            if not one.token_ended:
                one.take("worked")
            elif one.cell.token == "status_503":
                one.take("refresh_failing")
            elif one.revoked:
                one.take("grant_over")
            else:
                one.token_ended = False
                one.take("worked")
        elif one.cell.api == "good":
            one.take("worked")
        elif one.cell.api == "status_401":
            one.take("credentials_rejected")

    @rule(n=st.integers(0, 99), to=st.sampled_from(["suspended", "active"]))
    def suspend_or_resume(self, n: int, to: str) -> None:
        if (one := self.pick(n)) is None:
            return
        answer = self.project(one).http.patch(f"/accounts/{one.id}", json={"status": to})
        if one.stored == "archived":
            refused(answer, 404)
            return
        before = len(one.events)
        one.take("suspended" if to == "suspended" else "resumed")
        if len(one.events) == before:
            one.events.append("account.updated")  # a PATCH is told of, whether or not the status moved
        assert ok(answer)["status"] == self.effective(one)

    @rule(tenant=st.integers(0, TENANTS - 1))
    def switch_configs(self, tenant: int) -> None:
        self.active[tenant] = not self.active[tenant]
        for config in self.configs[tenant].values():
            ok(self.projects[tenant].http.patch(f"/auth_configs/{config['id']}", json={"active": self.active[tenant]}))

    @rule(n=st.integers(0, 99))
    def relink(self, n: int) -> None:
        one = self.pick(n)
        if one is None or one.stored == "archived" or not self.active[one.tenant]:
            return
        project, config = self.project(one), self.configs[one.tenant][one.kind]
        session = project.session(one.name, account_id=one.id)
        if one.kind == "key":
            body = {"integration_id": config["id"], "credentials": self.forms(one)}
            answer = session.http.patch(f"/hub/accounts/{one.id}", json=body)
            linked = one.cell.api == "good"
            if linked:
                assert ok(answer)["id"] == one.id
            else:
                refused(answer, 422, "CredentialRejectedError")
        else:
            linked = one.cell.token == "good"
            state = self.through_consent(session, config, one.name)
            assert state["status"] == ("authenticated" if linked else "error"), state
            if linked:
                assert state["account"]["id"] == one.id  # in place: the id stays
        if linked:
            one.stored = lifecycle.after(one.stored, "linked")
            one.events.append("account.updated")
            one.token_ended = one.revoked = False
            one.probed_at = float("-inf")

    @rule(n=st.integers(0, 99))
    def delete(self, n: int) -> None:
        if (one := self.pick(n)) is None or n % 3:
            return
        answer = self.project(one).http.delete(f"/accounts/{one.id}")
        if one.stored == "archived":
            refused(answer, 404)
            return
        assert ok(answer)["status"] == "archived"
        one.take("deleted")

    @rule(
        n=st.integers(0, 99), away=st.integers(1, TENANTS - 1), verb=st.sampled_from(["GET", "PATCH", "DELETE", "call"])
    )
    def meddle(self, n: int, away: int, verb: str) -> None:
        """Another tenant names the account: for it there is no such thing."""
        if (one := self.pick(n)) is None:
            return
        other = self.projects[(one.tenant + away) % TENANTS]
        if verb == "call":
            refused(other.proxy(one.id, path="/things"), 404)
        else:
            more = {"json": {"status": "suspended"}} if verb == "PATCH" else {}
            refused(other.http.request(verb, f"/accounts/{one.id}", **more), 404)

    # --- what always holds ---

    @invariant()
    def the_hub_is_where_the_model_is(self) -> None:
        type(self).steps += 1
        for tenant, project in enumerate(self.projects):
            ids = [one.id for one in getattr(self, "known", ()) if one.tenant == tenant]
            if not ids:
                continue
            rows = ok(project.http.get("/accounts", params={"account_ids": ",".join(ids), "page_size": 1000}))
            seen = {row["id"]: row["status"] for row in rows}
            assert seen == {
                one.id: self.effective(one) for one in self.known if one.tenant == tenant and one.stored != "archived"
            }

    def teardown(self) -> None:
        known: list[Known] = getattr(self, "known", [])
        if known:
            time.sleep(CACHE_SECONDS)
        for one in known:
            pages = ok(self.project(one).http.get("/events", params={"account_id": one.id, "page_size": 500}))
            told = [e["event"] for e in reversed(pages["data"]) if e["event"].startswith("account.")]
            assert told == one.events  # each change once, and in its order
            one.cell.api = one.cell.token = "good"


def test_the_life_of_accounts_follows_the_table(world: World) -> None:
    projects = [world.hub.new_project(f"tenant-{n}") for n in range(TENANTS)]

    class Bound(Life):
        pass

    Bound.world, Bound.projects = world, projects
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"\nS11: {RUNS} runs of up to {STEPS} steps, {Bound.steps} states compared, 0 invariants broken")
