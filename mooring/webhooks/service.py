"""Rules for events and endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit
from mooring.identity.service import ProjectId
from mooring.kit import clock, ids, jobs
from mooring.kit.egress import EgressGuard, is_public
from mooring.kit.vault import Vault
from mooring.protocol.redact import redact_url
from mooring.webhooks import events as catalogue
from mooring.webhooks import secrets
from mooring.webhooks.models import DROPPED, PENDING, Delivery, Event, WebhookEndpoint

DELIVER = "webhook"  # kinds of job
REPLAY = "webhook_replay"

# A delivery has its own schedule and its own end; its job must outlive any number of crashes and restarts.
JOB_ATTEMPTS = 1_000_000
MAX_ENDPOINTS = 50

BY_USER = "by_user"
GONE = "gone"
FAILING = "failing"

NOT_FOUND = "no such webhook endpoint"


async def emit(
    tx: AsyncSession,
    *,
    project_id: str,
    event: str,
    record_id: str,
    record_type: str | None = None,
    account_id: str | None = None,
    payload: Mapping[str, Any] | None = None,
) -> Event:
    """Write an event and what is needed to deliver it, to exist if and only if this transaction commits (rule R14).

    `payload` is what the body says besides the envelope; an oversized one is cut, never refused.
    """
    rows = await tx.execute(
        select(WebhookEndpoint.id, WebhookEndpoint.events).where(
            WebhookEndpoint.project_id == project_id, WebhookEndpoint.enabled
        )
    )
    wanting = [row.id for row in rows if not row.events or event in row.events]
    return await emit_to(
        tx,
        wanting,
        project_id=project_id,
        event=event,
        record_id=record_id,
        record_type=record_type,
        account_id=account_id,
        payload=payload,
    )


async def emit_to(
    tx: AsyncSession,
    endpoint_ids: Iterable[str],
    *,
    project_id: str,
    event: str,
    record_id: str,
    record_type: str | None = None,
    account_id: str | None = None,
    payload: Mapping[str, Any] | None = None,
) -> Event:
    """Write an event for these endpoints, whatever their filters say."""
    if not catalogue.is_known(event):
        raise ValueError(f"the event {event!r} is not in mooring/webhooks/events.py")
    now = clock.now()
    row = Event(
        id=new_event_id(),
        project_id=project_id,
        event=event,
        record_type=record_type or catalogue.record_type(event),
        record_id=record_id[:200],
        account_id=account_id,
        payload=catalogue.fitted(payload or {}),
        created_at=now,
    )
    endpoint_ids = sorted(endpoint_ids)
    # The jobs come first: their rows stay locked until the commit, so of two transactions about one account the one
    # that commits first also draws the lower `seq`. Sorted, because two transactions must lock in the same order.
    for endpoint_id in endpoint_ids:
        await wake(tx, endpoint_id, row.lane)
    tx.add(row)
    await tx.flush()
    if endpoint_ids:
        await tx.execute(
            insert(Delivery),
            [
                {
                    "endpoint_id": endpoint_id,
                    "event_seq": row.seq,
                    "lane": row.lane,
                    "status": PENDING,
                    "attempts": 0,
                    "next_attempt_at": now,
                }
                for endpoint_id in endpoint_ids
            ],
        )
    return row


def new_event_id() -> str:
    """An id without dots, as Standard Webhooks demands."""
    return f"evt_{ids.nanoid()}"


async def wake(tx: AsyncSession, endpoint_id: str, lane: str) -> None:
    """Have the deliveries of one lane looked at once this transaction commits."""
    await jobs.enqueue(
        tx,
        DELIVER,
        {"endpoint_id": endpoint_id, "lane": lane},
        key=f"{endpoint_id}:{lane}",
        max_attempts=JOB_ATTEMPTS,
    )


async def get(tx: AsyncSession, project: ProjectId, id: str, *, lock: bool = False) -> WebhookEndpoint:
    """One endpoint of the project. Raises NotFound, the same for foreign and unknown ids."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == id, WebhookEndpoint.project_id == project)
    if lock:
        query = query.with_for_update(key_share=True)  # events that are written meanwhile need not wait
    row = await tx.scalar(query)
    if row is None:
        raise errors.NotFound(NOT_FOUND)
    return row


async def search(tx: AsyncSession, project: ProjectId) -> Sequence[WebhookEndpoint]:
    """All endpoints of the project, oldest first."""
    rows = await tx.scalars(
        select(WebhookEndpoint)
        .where(WebhookEndpoint.project_id == project)
        .order_by(WebhookEndpoint.created_at, WebhookEndpoint.id)
    )
    return rows.all()


async def create(
    tx: AsyncSession,
    vault: Vault,
    guard: EgressGuard,
    project: ProjectId,
    *,
    url: str,
    description: str | None = None,
    events: Sequence[str] = (),
    enabled: bool = True,
    secret: str | None = None,
) -> tuple[WebhookEndpoint, secrets.MadeSecret]:
    """Add an endpoint and its first secret, a new one unless it is given.

    Raises ValidationFailed, or Conflict when the project has too many.
    """
    check_url(guard, url)
    check_events(events)
    count = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.project_id == project)
    if (await tx.scalar(count) or 0) >= MAX_ENDPOINTS:
        raise errors.Conflict(f"a project has at most {MAX_ENDPOINTS} webhook endpoints")
    now = clock.now()
    row = WebhookEndpoint(
        id=f"wh_{ids.nanoid()}",
        project_id=project,
        url=url,
        description=description,
        events=list(dict.fromkeys(events)),
        enabled=enabled,
        disabled_reason=None if enabled else BY_USER,
        disabled_at=None if enabled else now,
        created_at=now,
        updated_at=now,
    )
    tx.add(row)
    await tx.flush()
    _note(tx, row, "webhook.created")
    return row, await secrets.add(tx, vault, row, active=True, secret=secret)


async def change(
    tx: AsyncSession, guard: EgressGuard, project: ProjectId, id: str, given: Mapping[str, Any]
) -> WebhookEndpoint:
    """Change `url`, `description`, `events` or `enabled`; what is not given stays. Raises NotFound, ValidationFailed.

    An endpoint that is switched off keeps what waits for it; switched on again, it gets that first.
    """
    row = await get(tx, project, id, lock=True)
    if "url" in given and given["url"] != row.url:
        check_url(guard, given["url"])
        row.url = given["url"]
        row.failing_since = row.paused_until = None  # another receiver: nothing is known of it
    if "events" in given:
        check_events(given["events"])
        row.events = list(dict.fromkeys(given["events"]))
    if "description" in given:
        row.description = given["description"]
    now = clock.now()
    if given.get("enabled") is True and not row.enabled:
        row.enabled = True
        row.disabled_reason = row.disabled_at = row.failing_since = row.paused_until = None
        await _resume(tx, row)
    elif given.get("enabled") is False and row.enabled:
        row.enabled = False
        row.disabled_reason, row.disabled_at = BY_USER, now
    row.updated_at = now
    await tx.flush()
    _note(tx, row, "webhook.updated", changed=sorted(given))
    return row


def _note(tx: AsyncSession, row: WebhookEndpoint, action: str, **detail: Any) -> None:
    target = ("webhook", row.id)
    audit.note(tx, action, project_id=row.project_id, target=target, label=redact_url(row.url), detail=detail)


async def remove(tx: AsyncSession, project: ProjectId, id: str) -> None:
    """Delete an endpoint with its secrets and its log. Raises NotFound."""
    row = await get(tx, project, id, lock=True)
    await secrets.forget(tx, row)
    await tx.delete(row)
    await tx.flush()
    _note(tx, row, "webhook.deleted")


async def switch_off(tx: AsyncSession, endpoint: WebhookEndpoint, reason: str) -> None:
    """Switch an endpoint off for its own failures, drop what waits for it, and tell the project's other endpoints."""
    now = clock.now()
    switched = await tx.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint.id, WebhookEndpoint.enabled)
        .values(enabled=False, disabled_reason=reason, disabled_at=now, updated_at=now)
        .execution_options(synchronize_session=False)
    )
    if not switched.rowcount:  # type: ignore[attr-defined]
        return
    await tx.execute(
        update(Delivery)
        .where(Delivery.endpoint_id == endpoint.id, Delivery.status == PENDING)
        .values(status=DROPPED, next_attempt_at=None)
        .execution_options(synchronize_session=False)
    )
    since = endpoint.failing_since or now
    await emit(
        tx,
        project_id=endpoint.project_id,
        event=catalogue.DISABLED,
        record_id=endpoint.id,
        payload={"url": redact_url(endpoint.url), "reason": reason, "failing_since": clock.iso(since)},
    )


def check_url(guard: EgressGuard, url: str) -> None:
    """Raise ValidationFailed unless the hub may post there. Names are resolved and checked again at every delivery."""
    try:
        parts = guard.split(url)
    except errors.EgressBlocked as e:
        raise errors.ValidationFailed("the endpoint is not valid", errors=[f"url: {e.message}"]) from None
    if (parts.host, parts.port) in guard.allow:
        return
    fault = None
    if parts.scheme != "https":
        fault = "must be https"
    elif _is_address(parts.host) and not is_public(parts.host):
        fault = "is not a public address"
    if fault:
        raise errors.ValidationFailed(
            "the endpoint is not valid",
            errors=[f"url: {fault}"],
            hint="An operator may list exact host:port entries in MOORING_EGRESS_ALLOW.",
        )


def check_events(events: Iterable[str]) -> None:
    """Raise ValidationFailed for names that are no events."""
    unknown = [name for name in events if not catalogue.is_known(name)]
    if unknown:
        raise errors.ValidationFailed(
            "the endpoint is not valid",
            errors=[f"events: there is no event {name[:80]!r}" for name in unknown[:20]],
            hint=f"There are: {', '.join(catalogue.EVENTS)}; and the unified events.",
        )


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdecimal()


async def _resume(tx: AsyncSession, endpoint: WebhookEndpoint) -> None:
    """Wake the lanes in which something waits, in a job of its own: they may be very many."""
    waiting = select(func.min(Delivery.event_seq), func.max(Delivery.event_seq)).where(
        Delivery.endpoint_id == endpoint.id, Delivery.status == PENDING
    )
    first, last = (await tx.execute(waiting)).one()
    if first is None:
        return
    await tx.execute(
        update(Delivery)
        .where(Delivery.endpoint_id == endpoint.id, Delivery.status == PENDING)
        .values(next_attempt_at=clock.now())
        .execution_options(synchronize_session=False)
    )
    await start_replay(tx, endpoint.id, after=first - 1, until=last, which="waiting")


async def start_replay(tx: AsyncSession, endpoint_id: str, *, after: int, until: int, which: str) -> None:
    """Have the events of a range looked at again. `which`: all, failed (and never sent), waiting."""
    await jobs.enqueue(
        tx,
        REPLAY,
        {"endpoint_id": endpoint_id, "after": after, "until": until, "which": which},
        key=f"{endpoint_id}:{ids.nanoid()}",
        max_attempts=JOB_ATTEMPTS,
    )
