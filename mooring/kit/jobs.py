"""Jobs are rows: enqueued in the caller's transaction, claimed by one statement on both databases, retried with backoff.

A job with a key exists once: enqueueing it again while it waits moves it forward, while it runs makes it run once more.
A worker that dies leaves a lease behind; when it ends, another worker claims the job again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Index, String, and_, case, delete, func, not_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit import clock
from mooring.kit.db import Base, BigId, moment

LEASE_SECONDS = 60.0
RARE_SECONDS: Final = 600.0  # from this period on, a periodic job does not run at the first start
BACKOFF = (1.0, 3600.0)  # first and longest pause in seconds
MAX_ATTEMPTS = 12


class Job(Base):
    """One job. `version` counts enqueueings, `fence` counts claims; `state` is ready or dead."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(60))
    key: Mapped[str | None] = mapped_column(String(200))
    payload: Mapped[dict[str, Any]]
    run_at: Mapped[datetime]
    every_seconds: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=MAX_ATTEMPTS)
    state: Mapped[str] = mapped_column(String(10), default="ready")
    version: Mapped[int] = mapped_column(default=1)
    fence: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime]

    __table_args__ = (
        Index("uq_jobs_kind_key", "kind", "key", unique=True),
        Index("ix_jobs_claim", "state", "run_at"),
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in a worker's hands."""

    id: int
    kind: str
    key: str | None
    payload: Mapping[str, Any]
    attempts: int
    max_attempts: int
    version: int
    fence: int
    every_seconds: float | None


async def enqueue(
    tx: AsyncSession,
    kind: str,
    payload: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    run_at: datetime | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    every_seconds: float | None = None,
) -> None:
    """Add a job, to exist if and only if this transaction commits. With a key, an existing one is moved forward."""
    now = clock.now()
    values = {
        "kind": kind,
        "key": key,
        "payload": dict(payload or {}),
        "run_at": run_at or now,
        "every_seconds": every_seconds,
        "attempts": 0,
        "max_attempts": max_attempts,
        "state": "ready",
        "version": 1,
        "fence": 0,
        "created_at": now,
    }
    dialect = tx.get_bind().dialect.name
    insert = postgresql.insert(Job) if dialect == "postgresql" else sqlite.insert(Job)
    statement = insert.values(**values)
    if key is not None:
        sooner = func.least if dialect == "postgresql" else func.min
        statement = statement.on_conflict_do_update(
            index_elements=["kind", "key"],
            set_={
                "run_at": sooner(Job.run_at, statement.excluded.run_at),
                "payload": statement.excluded.payload,
                "every_seconds": statement.excluded.every_seconds,
                "version": Job.version + 1,
                "attempts": case((Job.state == "dead", 0), else_=Job.attempts),
                "state": "ready",
            },
        )
    await tx.execute(statement)


async def ensure_periodic(tx: AsyncSession, kind: str, every_seconds: float) -> None:
    """Make sure that a periodic job exists. Its first run is spread over hubs; a rare job waits a period."""
    exists = await tx.scalar(select(Job.id).where(Job.kind == kind, Job.key == "periodic"))
    if exists:
        await tx.execute(update(Job).where(Job.id == exists).values(every_seconds=every_seconds))
        return
    wait = every_seconds if every_seconds >= RARE_SECONDS else min(every_seconds, 5.0)
    first = clock.now() + timedelta(seconds=wait * random.uniform(0.8 if wait > 5 else 0, 1))  # noqa: S311 - jitter
    await enqueue(tx, kind, key="periodic", run_at=first, every_seconds=every_seconds)


async def claim(tx: AsyncSession, kinds: Sequence[str], limit: int, *, lease: float = LEASE_SECONDS) -> list[Claim]:
    """Take up to `limit` due jobs: one statement, no two workers get the same one.

    Leases go by the database's clock: a host whose clock is ahead must not take what another one is at.
    """
    now = clock.now()
    due = (
        select(Job.id)
        .where(
            Job.state == "ready",
            Job.run_at <= now,
            Job.kind.in_(kinds),
            or_(Job.lease_until.is_(None), Job.lease_until < moment(tx)),
        )
        .order_by(Job.run_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = await tx.execute(
        update(Job)
        .where(Job.id.in_(due.scalar_subquery()))
        .values(lease_until=moment(tx, timedelta(seconds=lease)), fence=Job.fence + 1, attempts=Job.attempts + 1)
        .returning(
            Job.id,
            Job.kind,
            Job.key,
            Job.payload,
            Job.attempts,
            Job.max_attempts,
            Job.version,
            Job.fence,
            Job.every_seconds,
        )
        .execution_options(synchronize_session=False)
    )
    claims = [Claim(**row._asdict()) for row in rows]
    return sorted(claims, key=lambda c: c.id)


async def extend(tx: AsyncSession, job: Claim, *, lease: float = LEASE_SECONDS) -> bool:
    """Keep a long job's lease. False means that somebody else has it now: stop."""
    kept = await tx.execute(update(Job).where(_mine(job)).values(lease_until=moment(tx, timedelta(seconds=lease))))
    return bool(kept.rowcount)  # type: ignore[attr-defined]


async def done(tx: AsyncSession, job: Claim) -> None:
    """Finish a job: a periodic one waits for its next turn, one that was enqueued meanwhile runs again."""
    if job.every_seconds is not None:
        pause = job.every_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        await tx.execute(
            update(Job)
            .where(_mine(job))
            .values(run_at=clock.now() + timedelta(seconds=pause), lease_until=None, attempts=0, last_error=None)
        )
        return
    gone = await tx.execute(delete(Job).where(_mine(job), Job.version == job.version))
    if not gone.rowcount:  # type: ignore[attr-defined]
        await tx.execute(update(Job).where(_mine(job)).values(lease_until=None, attempts=0, run_at=clock.now()))


async def later(tx: AsyncSession, job: Claim, run_at: datetime) -> None:
    """Give a job back without a failure, to run at a later time, or at once if it was enqueued meanwhile."""
    await tx.execute(
        update(Job).where(_mine(job), Job.version == job.version).values(run_at=run_at, lease_until=None, attempts=0)
    )
    await tx.execute(
        update(Job)
        .where(_mine(job), Job.version != job.version)
        .values(run_at=clock.now(), lease_until=None, attempts=0)
    )


async def failed(tx: AsyncSession, job: Claim, error: str, *, after: float | None = None) -> None:
    """Note a failure: the job runs again after a growing pause with full jitter, and is dead after its last attempt."""
    first, longest = BACKOFF
    if job.every_seconds is None and job.attempts >= job.max_attempts:
        await tx.execute(update(Job).where(_mine(job)).values(state="dead", lease_until=None, last_error=error[:500]))
        return
    ceiling = min(longest, first * 2 ** min(job.attempts, 20))
    pause = after if after is not None else random.uniform(first / 2, ceiling)  # noqa: S311 - jitter
    await tx.execute(
        update(Job)
        .where(_mine(job))
        .values(run_at=clock.now() + timedelta(seconds=pause), lease_until=None, last_error=error[:500])
    )


async def revive(tx: AsyncSession, id: int) -> bool:
    """Let a dead job run again. Returns whether there was one."""
    revived = await tx.execute(
        update(Job).where(Job.id == id, Job.state == "dead").values(state="ready", attempts=0, run_at=clock.now())
    )
    return bool(revived.rowcount)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class QueueState:
    """How a kind of job stands: `age` is how long the oldest due job has waited, in seconds."""

    kind: str
    waiting: int
    running: int
    dead: int
    age: float


async def state(tx: AsyncSession) -> list[QueueState]:
    """The queues, by kind; counted by the database, whatever their length."""
    now = clock.now()
    running = and_(Job.lease_until.is_not(None), Job.lease_until > now)
    due = and_(Job.state == "ready", Job.run_at <= now, not_(running))
    rows = await tx.execute(
        select(
            Job.kind,
            func.count(case((and_(Job.state == "ready", not_(running)), 1))),
            func.count(case((running, 1))),
            func.count(case((Job.state == "dead", 1))),
            func.min(case((due, Job.run_at))),
        )
        .group_by(Job.kind)
        .order_by(Job.kind)
    )
    return [
        QueueState(kind, waiting, active, dead, round((now - oldest).total_seconds(), 3) if oldest else 0.0)
        for kind, waiting, active, dead, oldest in rows
    ]


async def oldest_due(tx: AsyncSession) -> float:
    """How long the oldest due job has waited, in seconds; 0 when none waits."""
    now = clock.now()
    free = or_(Job.lease_until.is_(None), Job.lease_until <= now)
    oldest = await tx.scalar(select(func.min(Job.run_at)).where(Job.state == "ready", Job.run_at <= now, free))
    return round((now - oldest).total_seconds(), 3) if oldest is not None else 0.0


async def dead_jobs(tx: AsyncSession, limit: int = 50) -> Sequence[Job]:
    """Jobs that failed for good, newest first."""
    return (await tx.scalars(select(Job).where(Job.state == "dead").order_by(Job.id.desc()).limit(limit))).all()


def _mine(job: Claim) -> Any:
    return and_(Job.id == job.id, Job.fence == job.fence)
