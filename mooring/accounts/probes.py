"""Health probes: cheap, budgeted, adaptive; they find what broke between calls, and never cause a rate limit."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, update

from mooring import errors
from mooring.accounts import health, lifecycle, service, testing
from mooring.accounts.context import Context
from mooring.accounts.models import Account, Credential
from mooring.accounts.serving import Serving
from mooring.auth_configs.models import AuthConfig
from mooring.diagnosis.rules import verdict
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.jobs import Claim

log = structlog.get_logger(__name__)

BATCH = 60  # probes per run of the periodic job
PAUSE = 0.2  # seconds between two probes of one run
HEALTHY = (timedelta(hours=6), timedelta(hours=48))  # first and longest interval of an account that works
FAILING = (timedelta(minutes=5), timedelta(hours=12))  # of one that does not
LIMITED = timedelta(hours=24)  # after a 429: the calls of the owner matter more


def next_pause(outcome: str, failures: int, previous: timedelta | None) -> timedelta:
    """How long to leave an account alone after a probe. Doubles while nothing changes, with jitter."""
    if outcome == "limited":
        return LIMITED
    first, longest = HEALTHY if outcome == "worked" else FAILING
    pause = first if previous is None else min(longest, max(first, previous * 2))
    if outcome != "worked":
        pause = min(longest, first * 2 ** min(failures, 10))
    return pause * random.uniform(0.9, 1.1)  # noqa: S311 - jitter


async def probe_due(context: Context, _job: Claim) -> datetime | None:
    """Probe accounts whose turn it is, one after the other."""
    now = clock.now()
    async with context.db.read() as tx:
        rows = (
            await tx.execute(
                select(Account.id, Account.project_id)
                .join(Credential, Credential.account_id == Account.id)
                .join(AuthConfig, AuthConfig.id == Account.auth_config_id)
                .where(Credential.probe_at <= now, Account.status.in_(("active", "error")), AuthConfig.active)
                .order_by(Credential.probe_at)
                .limit(BATCH)
            )
        ).all()
    for row in rows:
        if health.quiet_seconds(row.id):
            continue
        await probe(context, ProjectId(row.project_id), row.id)
        await asyncio.sleep(PAUSE)
    return None


async def probe_one(context: Context, job: Claim) -> datetime | None:
    """Probe one account now: a provider's 401 is verified before the account goes to error.

    Whichever process asks, an account is verified once a minute at most, and never while its provider wants no requests.
    """
    account_id = job.payload["account_id"]
    if quiet := health.quiet_seconds(account_id):
        return clock.now() + timedelta(seconds=quiet)
    async with context.db.read() as tx:
        credential = await tx.get(Credential, account_id)
    if credential is None or _probed_since(credential, clock.now() - timedelta(seconds=health.VERIFY_PAUSE)):
        return None
    # The 401 was of a call whose token had just been renewed, or can't be: another refresh would only spend tokens.
    await probe(context, ProjectId(job.payload["project_id"]), account_id, renew=False)
    return None


def _probed_since(credential: Credential, moment: datetime) -> bool:
    """Whether this credential was probed after a moment. A link clears `probe_pause`: a new credential was not."""
    if credential.probe_pause is None or credential.probe_at is None:
        return False
    return credential.probe_at - timedelta(seconds=credential.probe_pause) > moment


async def probe(
    context: Context, project: ProjectId, account_id: str, *, renew: bool = True, asked: bool = False
) -> str:
    """Send the test request with the stored credential and note what it says: worked, rejected, limited or unknown.

    With `renew` a refused token is renewed once before its account is called faulty. With `asked`, for a person waits,
    it is sent even where the connector turns probes off.
    """
    try:
        serving = await context.accounts.get(project, account_id)
    except errors.NotFound:
        return "unknown"
    if serving.method.test is None or not (serving.connector.probe or asked):
        await _plan(context, account_id, None)
        return "unknown"
    if serving.status not in {"active", "error"}:
        return "unknown"
    outcome, found, window = "unknown", None, None
    try:
        serving = await context.refresher.fresh(serving)
        outcome, found, window = await _test(context, serving)
        curable = outcome == "rejected" and renew and serving.refreshable
        if curable and (await context.refresher.refresh(serving)).result in {"refreshed", "unchanged"}:
            serving = await context.accounts.get(project, account_id)
            outcome, found, window = await _test(context, serving)
    except errors.MooringError as e:
        outcome, found = "unknown", e
    if window is not None:
        health.note_limited(context, serving, window)
    async with context.db.begin() as tx:
        try:
            account, config = await service.lock(tx, project, account_id, project_wide=False)
        except errors.NotFound:
            return "unknown"
        credential = await tx.get(Credential, account_id)
        if credential is None or credential.generation != serving.generation or not config.active:
            return "unknown"
        if outcome == "worked":
            await service.note_fact(tx, account, "worked")
            credential.probe_failures = 0
        elif outcome == "rejected":
            assert found is not None
            cause = str(found.extra["cause"])
            await service.note_fact(tx, account, "credentials_rejected", cause, found.message, found.evidence)
            credential.probe_failures += 1
        previous = timedelta(seconds=credential.probe_pause) if credential.probe_pause else None
        pause = next_pause(outcome, credential.probe_failures, previous)
        credential.probe_pause = pause.total_seconds()
        credential.probe_at = clock.now() + pause
    log.info("account probed", account_id=account_id, outcome=outcome, reason=found.message if found else None)
    return outcome


async def test_now(context: Context, project: ProjectId, account_id: str) -> None:
    """Send the test request because somebody asks for it; returns when the provider takes the credential.

    Raises NotFound, Unprocessable with the provider's reason, RateLimited, AccountInactive.
    """
    async with context.db.read() as tx:
        account, config = await service.get(tx, project, account_id)
    connector = context.registry.of(config)
    method = connector.auth.get(config.method_key) if connector else None
    if method is None or method.test is None:
        raise errors.Unprocessable("this connector has no test request", hint="Send a call through the account.")
    started = clock.now()
    outcome = await probe(context, project, account_id, asked=True)
    if outcome == "worked":
        return
    if outcome == "limited":
        raise errors.RateLimited("the provider is limiting requests at the moment", hint="Wait a minute and try again.")
    async with context.db.read() as tx:
        account, config = await service.get(tx, project, account_id)
    status = lifecycle.effective(account.status, config_active=config.active)
    if status in {"suspended", "inactive"}:
        raise errors.AccountInactive(f"the account is {status}, so nothing was sent")
    reasons = account.status_reasons
    reason = reasons[-1]["description"] if reasons and account.updated_at >= started else None
    raise errors.Unprocessable(
        reason or "the provider could not be asked, or gave no clear answer",
        hint="Send a reconnect link to the owner if it stays." if outcome == "rejected" else "Try again in a moment.",
    )


async def _test(context: Context, serving: Serving) -> tuple[str, errors.MooringError | None, float | None]:
    """Outcome, refusal, and for how long the provider wants no more requests."""
    serving.require_serving()
    secrets, scope = serving.open(context.vault)
    try:
        await testing.test_credential(
            context.http, serving.connector, serving.method, scope, typed={}, secrets=secrets.values()
        )
    except errors.CredentialRejected as e:
        outcome = verdict(str(e.extra.get("cause")))
        answered = e.extra.get("provider_response") or {}
        window = answered.get("retry_after") or health.UNKNOWN_WINDOW if outcome == "limited" else None
        return outcome, e, window
    return "worked", None, None


async def _plan(context: Context, account_id: str, at: datetime | None) -> None:
    async with context.db.begin() as tx:
        await tx.execute(update(Credential).where(Credential.account_id == account_id).values(probe_at=at))


def first_probe() -> datetime:
    """When an account that was just linked is probed first."""
    return clock.now() + HEALTHY[0] * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
