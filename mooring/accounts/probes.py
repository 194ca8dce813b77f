"""Health probes: cheap, budgeted, adaptive; they find what broke between calls, and never cause a rate limit."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, update

from mooring import errors
from mooring.accounts import service, testing
from mooring.accounts.context import Context
from mooring.accounts.models import Account, Credential
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
        await probe(context, ProjectId(row.project_id), row.id)
        await asyncio.sleep(PAUSE)
    return None


async def probe_one(context: Context, job: Claim) -> datetime | None:
    """Probe one account now: a provider's 401 is verified before the account goes to error."""
    await probe(context, ProjectId(job.payload["project_id"]), job.payload["account_id"])
    return None


async def probe(context: Context, project: ProjectId, account_id: str) -> str:
    """Send the test request with the stored credential and note what it says: worked, rejected, limited or unknown."""
    try:
        serving = await context.accounts.get(project, account_id)
    except errors.NotFound:
        return "unknown"
    outcome, reason = "worked", None
    cause, evidence = "wrong_credentials", None
    if serving.method.test is None or not serving.connector.probe:
        await _plan(context, account_id, None)
        return "unknown"
    try:
        serving.require_serving()
        serving = await context.refresher.fresh(serving)
        secrets, scope = serving.open(context.vault)
        await testing.test_credential(
            context.http, serving.connector, serving.method, scope, typed={}, secrets=secrets.values()
        )
    except errors.CredentialRejected as e:
        cause, evidence = str(e.extra.get("cause")), e.evidence
        reason = e.message
        outcome = verdict(cause)
    except errors.MooringError as e:
        outcome, reason = "unknown", e.message
    async with context.db.begin() as tx:
        account = await tx.get(Account, account_id)
        credential = await tx.get(Credential, account_id)
        if account is None or credential is None or credential.generation != serving.generation:
            return "unknown"
        if outcome == "worked":
            await service.note_fact(tx, account, "worked")
            credential.probe_failures = 0
        elif outcome == "rejected":
            await service.note_fact(tx, account, "credentials_rejected", cause, reason, evidence)
            credential.probe_failures += 1
        previous = timedelta(seconds=credential.probe_pause) if credential.probe_pause else None
        pause = next_pause(outcome, credential.probe_failures, previous)
        credential.probe_pause = pause.total_seconds()
        credential.probe_at = clock.now() + pause
    log.info("account probed", account_id=account_id, outcome=outcome)
    return outcome


async def _plan(context: Context, account_id: str, at: datetime | None) -> None:
    async with context.db.begin() as tx:
        await tx.execute(update(Credential).where(Credential.account_id == account_id).values(probe_at=at))


def first_probe() -> datetime:
    """When an account that was just linked is probed first."""
    return clock.now() + HEALTHY[0] * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
