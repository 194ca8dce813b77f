"""What the OAuth tests share: people at consent pages, and the clock of a credential moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
from sqlalchemy import select, update

from mooring.accounts.models import Credential
from mooring.connect.models import ConnectionAttempt, OAuthTransaction
from mooring.kit import clock
from mooring.kit.db import Database, record_change
from tests.hub import Hub, Project, Session
from tests.sandbox.harness import Sandbox
from tests.servers.oidc import OidcServer

SANDBOX_CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
CACHE_SECONDS = 0.4  # after which every process has noticed a change of the database
Consent = Callable[[str], str]


def sandbox_config(project: Project, provider: Sandbox, method: str = "oauth2", **setup: Any) -> dict[str, Any]:
    """An auth config for the sandbox."""
    own = {"sandbox_url": provider.url, **(SANDBOX_CLIENT if method == "oauth2" else {}), **setup}
    return project.config("sandbox", method, own)


def sandbox_consent(provider: Sandbox, company: str = "acme", decision: str = "allow") -> Consent:
    """A person at the sandbox's consent page: from the provider's URL to the callback's."""

    def answer(location: str) -> str:
        page = provider.http.post(location, data={"decision": decision, "company": company})
        assert page.status_code == 303, page.text
        return page.headers["location"]

    return answer


def oidc_consent(project: Project, oidc: OidcServer, *, login: str = "jane", deny: bool = False) -> Consent:
    """A person at oidc-provider's login and consent pages."""
    callback = f"{project.hub.url}/connect/oauth2/oidc-provider/callback"
    return lambda location: oidc.consent(location, callback, login=login, deny=deny)


def run_flow(session: Session, config: Mapping[str, Any], consent: Consent, **fields: str) -> dict[str, Any]:
    """The whole popup; returns how the attempt ended."""
    attempt = session.attempt()
    start = session.start_oauth(config["id"], attempt, **fields)
    assert start.status_code == 302, start.text
    landed = session.browser.get(consent(start.headers["location"]))
    assert landed.status_code == 302, landed.text
    return session.attempt_state(attempt)


def link(project: Project, config: Mapping[str, Any], consent: Consent, owner: str = "owner-1", **more: Any) -> str:
    """Link an account through the consent page; returns its id."""
    state = run_flow(project.session(owner, integration_id=config["id"], **more), config, consent)
    assert state["status"] == "authenticated", state
    return str(state["account"]["id"])


def link_sandbox(project: Project, provider: Sandbox, **setup: Any) -> str:
    """An account at the sandbox, linked by OAuth."""
    return link(project, sandbox_config(project, provider, **setup), sandbox_consent(provider))


def refreshes(provider: Sandbox) -> int:
    """How many refresh requests the sandbox has seen."""
    return int(provider.counters()["token_requests"].get("refresh_token", 0))


def on_database(hub: Hub, work: Callable[[Any], Any]) -> Any:
    """Run `work(tx)` in a transaction beside the running hub."""

    async def run() -> Any:
        db = Database(hub.database_url)
        try:
            async with db.begin() as tx:
                return await work(tx)
        finally:
            await db.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(run())).result()


def alter(hub: Hub, account: str, **values: Any) -> None:
    """Change the credential's row, and wait until the hub's processes have noticed."""

    async def work(tx: Any) -> None:
        await tx.execute(update(Credential).where(Credential.account_id == account).values(**values))
        record_change(tx, "account", account)

    on_database(hub, work)
    time.sleep(CACHE_SECONDS)


def end_token(hub: Hub, account: str) -> None:
    """Let the hub think that the access token ended a minute ago."""
    past = clock.now() - timedelta(minutes=1)
    alter(hub, account, expires_at=past, refresh_at=past, retry_at=None)


def make_due(hub: Hub, account: str) -> None:
    """Let the hub think that the token should be renewed, and is good for ten more minutes."""
    now = clock.now()
    alter(hub, account, expires_at=now + timedelta(minutes=10), refresh_at=now - timedelta(seconds=1), retry_at=None)


def credential(hub: Hub, account: str) -> Credential | None:
    """The credential's row."""

    async def work(tx: Any) -> Credential | None:
        return await tx.scalar(select(Credential).where(Credential.account_id == account))

    return on_database(hub, work)


def age_flow(hub: Hub, attempt: str, *, attempt_too: bool) -> None:
    """Let ten minutes pass for one OAuth transaction, and for its attempt as well if asked."""
    past = clock.now() - timedelta(seconds=1)

    async def work(tx: Any) -> None:
        if attempt_too:
            await tx.execute(update(ConnectionAttempt).where(ConnectionAttempt.id == attempt).values(expires_at=past))
        else:
            await tx.execute(
                update(OAuthTransaction).where(OAuthTransaction.attempt_id == attempt).values(expires_at=past)
            )

    on_database(hub, work)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that the hub does in the background."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.03)


def together(*calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Make the calls at the same time, each in a thread."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(c) for c in calls]]
