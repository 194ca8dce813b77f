"""What happened and what was told: queries on events and deliveries, and replaying them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.webhooks import events as catalogue
from mooring.webhooks import service
from mooring.webhooks.models import (
    DROPPED,
    FAILED,
    NO_ACCOUNT,
    PENDING,
    Delivery,
    DeliveryAttempt,
    Event,
    WebhookEndpoint,
)

MAX_ATTEMPTS_SHOWN = 50
_LOST = (FAILED, DROPPED)


async def events(
    tx: AsyncSession,
    project: ProjectId,
    *,
    account_id: str | None = None,
    event: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 25,
) -> tuple[Sequence[Event], int | None]:
    """One page of the project's events, newest first, and the position after it."""
    query = select(Event).where(Event.project_id == project)
    if account_id is not None:
        query = query.where(Event.account_id == account_id)
    if event is not None:
        query = query.where(Event.event == event)
    if since is not None:
        query = query.where(Event.created_at >= since)
    if before is not None:
        query = query.where(Event.seq < before)
    rows = (await tx.scalars(query.order_by(Event.seq.desc()).limit(limit + 1))).all()
    return rows[:limit], rows[limit - 1].seq if len(rows) > limit else None


async def deliveries(
    tx: AsyncSession,
    project: ProjectId,
    endpoint_id: str,
    *,
    status: str | None = None,
    account_id: str | None = None,
    before: int | None = None,
    limit: int = 25,
) -> tuple[list[tuple[Delivery, Event]], int | None]:
    """One page of an endpoint's deliveries, newest event first, and the position after it. Raises NotFound."""
    await service.get(tx, project, endpoint_id)
    query = (
        select(Delivery, Event)
        .join(Event, Event.seq == Delivery.event_seq)
        .where(Delivery.endpoint_id == endpoint_id)
        .order_by(Delivery.event_seq.desc())
        .limit(limit + 1)
    )
    if status is not None:
        query = query.where(Delivery.status == status)
    if account_id is not None:
        query = query.where(Delivery.lane == account_id)
    if before is not None:
        query = query.where(Delivery.event_seq < before)
    rows = [(row[0], row[1]) for row in await tx.execute(query)]
    return rows[:limit], rows[limit - 1][0].event_seq if len(rows) > limit else None


async def delivery(tx: AsyncSession, project: ProjectId, endpoint_id: str, event_id: str) -> tuple[Delivery, Event]:
    """One delivery. Raises NotFound."""
    await service.get(tx, project, endpoint_id)
    row = (
        await tx.execute(
            select(Delivery, Event)
            .join(Event, Event.seq == Delivery.event_seq)
            .where(Delivery.endpoint_id == endpoint_id, Event.id == event_id)
        )
    ).first()
    if row is None:
        raise errors.NotFound("no such delivery of this webhook endpoint")
    return row[0], row[1]


async def attempts(tx: AsyncSession, row: Delivery) -> Sequence[DeliveryAttempt]:
    """The last attempts of a delivery, oldest first."""
    rows = await tx.scalars(
        select(DeliveryAttempt)
        .where(DeliveryAttempt.endpoint_id == row.endpoint_id, DeliveryAttempt.event_seq == row.event_seq)
        .order_by(DeliveryAttempt.id.desc())
        .limit(MAX_ATTEMPTS_SHOWN)
    )
    return rows.all()[::-1]


async def replay_one(tx: AsyncSession, project: ProjectId, endpoint_id: str, event_id: str) -> tuple[Delivery, Event]:
    """Send one event again, under its old id. Raises NotFound; Conflict when the endpoint is off."""
    await _enabled(tx, project, endpoint_id)
    row, event = await delivery(tx, project, endpoint_id, event_id)
    row.status, row.attempts, row.next_attempt_at = PENDING, 0, clock.now()
    await tx.flush()
    await service.wake(tx, endpoint_id, row.lane)
    audit.note(tx, "webhook.replayed", project_id=project, target=("webhook", endpoint_id), label=event.id)
    return row, event


async def replay_since(
    tx: AsyncSession, project: ProjectId, endpoint_id: str, since: datetime, *, failed_only: bool
) -> int:
    """Send everything since a time again, in order, also what was never sent because the endpoint was off.

    Returns how many events the time holds. Raises NotFound; Conflict when the endpoint is off.
    """
    await _enabled(tx, project, endpoint_id)
    found = (
        await tx.execute(
            select(func.count(), func.min(Event.seq), func.max(Event.seq)).where(
                Event.project_id == project, Event.created_at >= since
            )
        )
    ).one()
    count, first, last = found
    if count:
        which = "failed" if failed_only else "all"
        await service.start_replay(tx, endpoint_id, after=first - 1, until=last, which=which)
    detail = {"since": clock.iso(since), "failed_only": failed_only}
    audit.note(tx, "webhook.replayed", project_id=project, target=("webhook", endpoint_id), detail=detail)
    return int(count)


async def reopen(tx: AsyncSession, range: Mapping[str, Any], limit: int) -> int | None:
    """Do up to `limit` events of a replay; returns the position to go on from, or None at its end."""
    endpoint = await tx.get(WebhookEndpoint, range["endpoint_id"])
    if endpoint is None or not endpoint.enabled:
        return None
    query = (
        select(Event.seq, Event.event, Event.account_id, Delivery.status)
        .outerjoin(Delivery, and_(Delivery.event_seq == Event.seq, Delivery.endpoint_id == endpoint.id))
        .where(Event.project_id == endpoint.project_id, Event.seq > range["after"], Event.seq <= range["until"])
        .order_by(Event.seq)
        .limit(limit)
    )
    rows = (await tx.execute(query)).all()
    again: list[tuple[int, str]] = []
    lanes: set[str] = set()
    for row in rows:
        lane = row.account_id or NO_ACCOUNT
        if row.status == PENDING:
            lanes.add(lane)
        elif _is_due_again(endpoint, range["which"], row.event, row.status):
            again.append((row.seq, lane))
            lanes.add(lane)
    for lane in sorted(lanes):
        await service.wake(tx, endpoint.id, lane)
    if again:
        await _open(tx, endpoint.id, again)
    return rows[-1].seq if len(rows) == limit else None


async def prune(tx: AsyncSession, before: datetime, limit: int) -> int:
    """Delete up to `limit` events older than a time, with their deliveries and attempts; returns how many."""
    old = select(Event.seq).where(Event.created_at < before).order_by(Event.created_at).limit(limit)
    seqs = (await tx.scalars(old)).all()
    if seqs:
        await tx.execute(delete(Event).where(Event.seq.in_(seqs)).execution_options(synchronize_session=False))
    return len(seqs)


def _is_due_again(endpoint: WebhookEndpoint, which: str, event: str, status: str | None) -> bool:
    if which == "waiting" or event == catalogue.TEST:
        return False
    if status is None:
        return not endpoint.events or event in endpoint.events
    return which == "all" or status in _LOST


async def _open(tx: AsyncSession, endpoint_id: str, events: Sequence[tuple[int, str]]) -> None:
    insert = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    fresh = {"status": PENDING, "attempts": 0, "next_attempt_at": clock.now()}
    rows = [{"endpoint_id": endpoint_id, "event_seq": seq, "lane": lane, **fresh} for seq, lane in events]
    statement = insert(Delivery).values(rows)
    await tx.execute(statement.on_conflict_do_update(index_elements=["endpoint_id", "event_seq"], set_=fresh))


async def _enabled(tx: AsyncSession, project: ProjectId, endpoint_id: str) -> None:
    endpoint = await service.get(tx, project, endpoint_id)
    if not endpoint.enabled:
        raise errors.Conflict("the webhook endpoint is off", hint="Switch it on (enabled: true), then replay.")
