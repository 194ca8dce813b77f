"""Ahead of time: renew tokens before they end, and say which accounts will fail and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Row, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts import service
from mooring.accounts.context import Context
from mooring.accounts.models import Account, Credential
from mooring.auth_configs.models import AuthConfig
from mooring.errors import MooringError
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.jobs import Claim

log = structlog.get_logger(__name__)

BATCH = 500
AT_ONCE = 40  # refreshes at a time, over all connectors
PER_CONNECTOR = 10  # and of one connector: after an outage 100,000 accounts must not wake at once
PER_CONNECTOR_BATCH = 100  # accounts of one connector in one run
RUN_SECONDS = 20.0  # after which a run begins nothing more
NOTICE = timedelta(days=14)


async def refresh_due(context: Context, _job: Claim) -> datetime | None:
    """Renew what is due, oldest first. Returns at once for more while a full batch was found."""
    if not context.settings.refresh_ahead:
        return None
    async with context.db.read() as tx:
        rows = await find_due(tx, clock.now())
    end = time.monotonic() + RUN_SECONDS
    everyone = asyncio.Semaphore(AT_ONCE)
    connectors = {row.connector_key: asyncio.Semaphore(PER_CONNECTOR) for row in rows}

    async def one(account_id: str, project_id: str, connector_key: str) -> None:
        async with connectors[connector_key], everyone:
            if time.monotonic() > end:
                return  # the next run looks anew: what is most urgent may have changed
            try:
                serving = await context.accounts.get(ProjectId(project_id), account_id)
                if serving.refresh_at is not None and serving.refresh_at <= clock.now():
                    await context.refresher.refresh(serving)
            except MooringError as e:
                log.warning("scheduled refresh not possible", account_id=account_id, error=e.error_code)

    await asyncio.gather(*(one(row.id, row.project_id, row.connector_key) for row in rows))
    return clock.now() if len(rows) >= PER_CONNECTOR_BATCH else None


async def find_due(tx: AsyncSession, now: datetime) -> Sequence[Row[Any, Any, Any]]:
    """Id, project and connector of accounts to renew now, oldest first, at most a share of each connector.

    So a provider that is down or slow, with thousands of accounts due, does not keep those of others waiting.
    """
    rank = func.row_number().over(partition_by=Account.connector_key, order_by=Credential.refresh_at)
    due = (
        select(Account.id, Account.project_id, Account.connector_key, Credential.refresh_at, rank.label("rank"))
        .join(Credential, Credential.account_id == Account.id)
        .join(AuthConfig, AuthConfig.id == Account.auth_config_id)
        .where(
            Credential.refresh_at <= now,
            Credential.refreshable,
            or_(Credential.retry_at.is_(None), Credential.retry_at <= now),
            or_(Credential.lease_until.is_(None), Credential.lease_until <= now),
            Account.status.in_(("active", "error")),
            AuthConfig.active,
        )
        .subquery()
    )
    rows = await tx.execute(
        select(due.c.id, due.c.project_id, due.c.connector_key)
        .where(due.c.rank <= PER_CONNECTOR_BATCH)
        .order_by(due.c.refresh_at)
        .limit(BATCH)
    )
    return rows.all()


async def announce_failures(context: Context, _job: Claim) -> datetime | None:
    """Tell once, ahead of time, that an account will fail; and end accounts whose time is over though nobody called."""
    now = clock.now()
    async with context.db.begin() as tx:
        due = await tx.execute(
            select(Account, Credential)
            .join(Credential, Credential.account_id == Account.id)
            .where(
                Credential.expected_failure_at <= now + NOTICE,
                or_(
                    Credential.failure_announced_at.is_(None),
                    Credential.expected_failure_at <= now,
                ),
                Account.status == "active",
            )
            .limit(BATCH)
        )
        for account, credential in due:
            if credential.expected_failure_at is not None and credential.expected_failure_at > now:
                credential.failure_announced_at = now
                await service.announce(
                    tx,
                    account,
                    "account.expiring",
                    expected_failure_at=clock.iso(credential.expected_failure_at),
                    expected_failure_reason=credential.expected_failure_reason,
                )
            elif credential.expected_failure_reason == "access_token_ends":
                await service.note_fact(
                    tx,
                    account,
                    "grant_over",
                    "access_token_ends",
                    "the token ended and the provider gave no refresh token",
                )
            else:
                credential.failure_announced_at = credential.failure_announced_at or now
    return None
