"""Housekeeping: drop what is no longer needed, in small bites."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, select

from mooring.accounts import revocation
from mooring.accounts import service as accounts
from mooring.accounts.context import Context
from mooring.accounts.models import Account
from mooring.actions import approvals
from mooring.auth_configs.models import AuthConfig
from mooring.connect.models import ConnectionLaunch, ConnectSession, OAuthTransaction
from mooring.grants import service as grants
from mooring.identity import audit, projects, sessions, throttle, users
from mooring.identity.models import Project
from mooring.identity.service import ProjectId
from mooring.identity.user_models import SignInState
from mooring.incoming import service as incoming
from mooring.kit import clock, idempotency, ids
from mooring.kit.db import Change, Database
from mooring.kit.jobs import Claim
from mooring.logs import stats
from mooring.logs.models import LogStat, RequestDetail, RequestLog
from mooring.webhooks import delivery

log = structlog.get_logger(__name__)
# Written at any MOORING_LOG_LEVEL: a missing line is what it is there to show.
anchors = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger("debug"))

STATS_DAYS = 400
BITE = 5000  # rows per transaction: a delete must never hold the writer for long
PAUSE = 0.05  # seconds between two of them, in which others write
TURN = 20.0  # seconds of one run; what is left then comes next
ACCOUNTS = 50  # accounts of a deleted project that are shredded in one transaction


async def housekeeping(context: Context, _job: Claim) -> datetime | None:
    """Drop old log rows, ended sessions of all kinds, read changes, and projects whose days of grace are over."""
    now = clock.now()
    async with context.db.begin() as tx:
        await tx.execute(delete(OAuthTransaction).where(OAuthTransaction.expires_at < now - timedelta(days=1)))
        await tx.execute(delete(ConnectionLaunch).where(ConnectionLaunch.expires_at < now))
        await tx.execute(delete(ConnectSession).where(ConnectSession.expires_at < now - timedelta(days=30)))
        await tx.execute(delete(SignInState).where(SignInState.expires_at < now))
        await tx.execute(delete(Change).where(Change.at < now - timedelta(minutes=1)))
        await stats.purge(tx, now - timedelta(days=STATS_DAYS))
        await idempotency.purge(tx)
        await sessions.purge(tx)
        await throttle.purge(tx)
        await users.purge(tx)
        await approvals.purge(tx)
        await incoming.purge(tx)
        await grants.purge(tx)
    await delivery.prune(context.db)
    end = time.monotonic() + TURN
    rows = await drop_logs(context.db, now - timedelta(days=context.settings.log_retention_days), end)
    details = await drop_details(context.db, now, end)
    more = await _purge_logs(context, now) or not rows or not details
    more = await _purge_projects(context, now) or more
    return clock.now() if more else None


async def anchor(context: Context, _job: Claim) -> datetime | None:
    """Write the end of the audit log, signed, into the hub's log: a tail that is cut off later shows against this line."""
    end = await audit.anchor(context.db, context.vault)
    anchors.info("audit log", entries=end.entries, head=end.head, seal=end.seal)
    return None


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


async def _purge_logs(context: Context, now: datetime) -> bool:
    """Drop rows past a project's own retention, where that is shorter than the hub's. The index on ids finds them."""
    more = False
    async with context.db.read() as tx:
        shorter = Project.log_days < context.settings.log_retention_days
        found = (await tx.execute(select(Project.id, Project.log_days).where(shorter))).all()
    for project_id, days in found:
        limit = ids.first_at((now - timedelta(days=days)).timestamp())
        for category in ("unified", "platform"):
            old = (
                select(RequestLog.id)
                .where(RequestLog.project_id == project_id, RequestLog.category == category, RequestLog.id < limit)
                .limit(BITE)
            )
            async with context.db.read() as tx:
                rows = (await tx.scalars(old)).all()
            if rows:
                async with context.db.begin() as tx:
                    await tx.execute(delete(RequestLog).where(RequestLog.id.in_(rows)))
            more = more or len(rows) == BITE
    return more


async def _purge_projects(context: Context, now: datetime) -> bool:
    """Destroy projects whose days of grace are over: accounts first, shredded and revoked, then everything else."""
    async with context.db.read() as tx:
        over = select(Project.id).where(Project.deleted_at <= now - projects.GRACE).limit(1)
        id = await tx.scalar(over)
    if id is None:
        return False
    project = ProjectId(id)
    async with context.db.begin() as tx:
        left = select(Account.id).where(Account.project_id == id, Account.status != "archived").limit(ACCOUNTS)
        found = (await tx.scalars(left)).all()
        for account_id in found:
            await accounts.lock(tx, project, account_id)
            await revocation.enqueue(tx, context, project, account_id)
            await accounts.remove(tx, project, account_id)
    if found:
        return True
    async with context.db.begin() as tx:
        if await revocation.is_pending(tx, project):
            return False  # a revocation needs the auth config's secrets; the next run looks again
        row = await tx.get(Project, id, with_for_update=True)
        if row is None or row.deleted_at is None or row.deleted_at > now - projects.GRACE:
            return False  # restored meanwhile
        rows = (await tx.scalars(select(RequestLog.id).where(RequestLog.project_id == id).limit(BITE))).all()
        if rows:
            await tx.execute(delete(RequestLog).where(RequestLog.id.in_(rows)))
            return True
        await tx.execute(delete(LogStat).where(LogStat.project_id == id))
        await tx.execute(delete(Account).where(Account.project_id == id))
        await tx.execute(delete(AuthConfig).where(AuthConfig.project_id == id))
        target, organization = ("project", id), row.organization_id
        audit.note(tx, "project.destroyed", project_id=id, organization_id=organization, target=target, label=row.name)
        await tx.delete(row)
    return True
