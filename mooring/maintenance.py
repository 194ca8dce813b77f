"""Housekeeping: drop what is no longer needed, in small bites."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select

from mooring.accounts.context import Context
from mooring.connect.models import ConnectionLaunch, ConnectSession, OAuthTransaction
from mooring.kit import clock, idempotency
from mooring.kit.db import Change
from mooring.kit.jobs import Claim
from mooring.logs.models import RequestLog
from mooring.webhooks import delivery

LOG_DAYS = 90  # contract §2.9
BITE = 5000  # rows per run: a delete must never hold the writer for long


async def housekeeping(context: Context, _job: Claim) -> datetime | None:
    """Drop old log rows, ended OAuth transactions and sessions, idempotency records and read changes."""
    now = clock.now()
    async with context.db.begin() as tx:
        old = select(RequestLog.id).where(RequestLog.started_at < now - timedelta(days=LOG_DAYS)).limit(BITE)
        removed = await tx.execute(delete(RequestLog).where(RequestLog.id.in_(old)))
        await tx.execute(delete(OAuthTransaction).where(OAuthTransaction.expires_at < now - timedelta(days=1)))
        await tx.execute(delete(ConnectionLaunch).where(ConnectionLaunch.expires_at < now))
        await tx.execute(delete(ConnectSession).where(ConnectSession.expires_at < now - timedelta(days=30)))
        await tx.execute(delete(Change).where(Change.at < now - timedelta(minutes=1)))
        await idempotency.purge(tx)
    await delivery.prune(context.db)
    return clock.now() if removed.rowcount == BITE else None  # type: ignore[attr-defined]
