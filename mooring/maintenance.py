"""Housekeeping: drop what is no longer needed, in small bites."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select

from mooring.accounts.context import Context
from mooring.connect.models import ConnectionLaunch, ConnectSession, OAuthTransaction
from mooring.kit import clock, idempotency, ids
from mooring.kit.db import Change, Database
from mooring.kit.jobs import Claim
from mooring.logs.models import RequestDetail, RequestLog
from mooring.webhooks import delivery

BITE = 5000  # rows per transaction: a delete must never hold the writer for long
PAUSE = 0.05  # seconds between two of them, in which others write
TURN = 20.0  # seconds of one run; what is left then comes next


async def housekeeping(context: Context, _job: Claim) -> datetime | None:
    """Drop old log rows, ended OAuth transactions and sessions, idempotency records and read changes."""
    now = clock.now()
    async with context.db.begin() as tx:
        await tx.execute(delete(OAuthTransaction).where(OAuthTransaction.expires_at < now - timedelta(days=1)))
        await tx.execute(delete(ConnectionLaunch).where(ConnectionLaunch.expires_at < now))
        await tx.execute(delete(ConnectSession).where(ConnectSession.expires_at < now - timedelta(days=30)))
        await tx.execute(delete(Change).where(Change.at < now - timedelta(minutes=1)))
        await idempotency.purge(tx)
    await delivery.prune(context.db)
    end = time.monotonic() + TURN
    rows = await drop_logs(context.db, now - timedelta(days=context.settings.log_retention_days), end)
    details = await drop_details(context.db, now, end)
    return None if rows and details else clock.now()


async def drop_logs(db: Database, before: datetime, end: float) -> bool:
    """Delete log rows of calls that began before a time. Returns whether none is left; `end` is monotonic.

    The id sorts by time, so each bite is one range of the primary key (decision 16).
    """
    old = select(RequestLog.id).where(RequestLog.id < ids.first_at(before.timestamp())).order_by(RequestLog.id)
    return await _drop(db, delete(RequestLog).where(RequestLog.id.in_(old.limit(BITE))), end)


async def drop_details(db: Database, now: datetime, end: float) -> bool:
    """Delete headers and bodies whose time is over. Returns whether none is left."""
    old = select(RequestDetail.request_id).where(RequestDetail.expires_at < now).limit(BITE // 10)
    return await _drop(db, delete(RequestDetail).where(RequestDetail.request_id.in_(old)), end, BITE // 10)


async def _drop(db: Database, statement: Any, end: float, bite: int = BITE) -> bool:
    while time.monotonic() < end:
        async with db.begin() as tx:
            result: Any = await tx.execute(statement.execution_options(synchronize_session=False))
        if result.rowcount < bite:
            return True
        await asyncio.sleep(PAUSE)
    return False
