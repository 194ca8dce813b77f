"""Deliver events: the job handlers, and the test delivery.

One job per endpoint and lane (an account, or everything without one) sends what is pending in order, one at a time. No
transaction is open while a request is on its way. A process that dies between the request and its record leaves the
delivery pending: it is sent again under the same `webhook-id`, never lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import CursorResult, Update, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity.service import ProjectId
from mooring.kit import clock, jobs
from mooring.kit.counters import Counters
from mooring.kit.db import Database
from mooring.kit.http import HttpClient
from mooring.kit.vault import Vault
from mooring.webhooks import events as catalogue
from mooring.webhooks import history, secrets, service
from mooring.webhooks.models import (
    DELIVERED,
    FAILED,
    PENDING,
    Delivery,
    DeliveryAttempt,
    Event,
    WebhookEndpoint,
)
from mooring.webhooks.sending import TIMEOUT, Answer, send

SCHEDULE: tuple[float, ...] = (
    0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600,
)  # fmt: skip
"""Seconds before each attempt (Standard Webhooks 1.0.0), about three days in all; a fifth of jitter is added."""

GIVE_UP = timedelta(days=5)
PAUSE = (5.0, 300.0)
RETENTION = timedelta(days=30)

_TURN = 50  # deliveries, and
_TURN_SECONDS = 20.0  # after which a lane lets others go first
_BATCH = 500


class Parts(Protocol):
    """What of a process the handlers need."""

    @property
    def db(self) -> Database: ...
    @property
    def vault(self) -> Vault: ...
    @property
    def http(self) -> HttpClient: ...
    @property
    def counters(self) -> Counters: ...


@dataclass(frozen=True, slots=True)
class _Due:
    """A delivery whose time has come, with all that sending it needs."""

    endpoint: WebhookEndpoint
    delivery: Delivery
    event: Event
    keys: Sequence[str] = field(repr=False)


class _EvictedError(Exception):
    """Another worker has this lane now."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """The work behind the jobs. Each method returns when its job shall run again, or None when it is done.

    `schedule` holds seconds before each attempt; its length is the number of attempts. `pause` is the shortest and the
    longest time for which a receiver that is down is left alone, `give_up` how long it may fail before it is switched
    off.
    """

    db: Database
    vault: Vault
    http: HttpClient
    schedule: Sequence[float] = SCHEDULE
    pause: tuple[float, float] = PAUSE
    give_up: timedelta = GIVE_UP
    timeout: float = TIMEOUT
    batch: int = _BATCH  # events per step of a replay
    counters: Counters = field(default_factory=Counters)

    async def deliver(self, claim: jobs.Claim) -> datetime | None:
        """Send what is pending in one lane, in order. A failed one holds the later ones back until it is settled."""
        endpoint_id, lane = claim.payload["endpoint_id"], claim.payload["lane"]
        started = time.monotonic()
        for _ in range(_TURN):
            due = await self._next(endpoint_id, lane)
            if not isinstance(due, _Due):
                return due
            answer = await send(self.http, due.endpoint.url, due.keys, due.event, timeout=self.timeout)
            self.counters.delivery("delivered" if answer.delivered else "refused" if answer.status else "unreachable")
            try:
                async with self.db.begin() as tx:
                    await self._record(tx, due, answer)
                    await _keep(tx, claim)
            except _EvictedError:
                return None
            if time.monotonic() - started > _TURN_SECONDS:
                break
        return clock.now()

    async def replay(self, claim: jobs.Claim) -> datetime | None:
        """Do one step of a replay. How far it is stands in the job, so a crash repeats one step at most."""
        async with self.db.begin() as tx:
            after = await history.reopen(tx, claim.payload, self.batch)
            if after is not None:
                again = {**claim.payload, "after": after}
                await jobs.enqueue(tx, service.REPLAY, again, key=claim.key, max_attempts=service.JOB_ATTEMPTS)
        return None

    async def _next(self, endpoint_id: str, lane: str) -> _Due | datetime | None:
        """The lane's first pending delivery, the time to come back for it, or None."""
        async with self.db.read() as tx:
            endpoint = await tx.get(WebhookEndpoint, endpoint_id)
            if endpoint is None or not endpoint.enabled:
                return None
            row = (
                await tx.execute(
                    select(Delivery, Event)
                    .join(Event, Event.seq == Delivery.event_seq)
                    .where(Delivery.endpoint_id == endpoint_id, Delivery.lane == lane, Delivery.status == PENDING)
                    .order_by(Delivery.event_seq)
                    .limit(1)
                )
            ).first()
            if row is None:
                return None
            now = clock.now()
            if endpoint.paused_until is not None and endpoint.paused_until > now:
                # Spread: all lanes of the endpoint wait for this moment.
                return endpoint.paused_until + timedelta(seconds=random.uniform(0, self.pause[0]))  # noqa: S311 - jitter
            delivery, event = row[0], row[1]
            if delivery.next_attempt_at is not None and delivery.next_attempt_at > now:
                return delivery.next_attempt_at
            return _Due(endpoint, delivery, event, await secrets.open_active(tx, self.vault, endpoint))

    async def _record(self, tx: AsyncSession, due: _Due, answer: Answer) -> None:
        """Write down how an attempt ended, for the delivery, the endpoint and the log."""
        now = clock.now()
        endpoint, delivery = due.endpoint, due.delivery
        attempts = delivery.attempts + 1
        values: dict[str, object] = {
            "attempts": attempts,
            "last_status": answer.status,
            "last_error": answer.error,
            "next_attempt_at": None,
        }
        here = [Delivery.endpoint_id == endpoint.id, Delivery.event_seq == delivery.event_seq]
        if answer.delivered:
            values |= {"status": DELIVERED, "delivered_at": now}
        else:
            here.append(Delivery.status == PENDING)
            if answer.status == 410 or attempts >= len(self.schedule):
                values["status"] = FAILED
            else:
                wait = self.schedule[attempts] * random.uniform(1.0, 1.2)  # noqa: S311 - jitter
                values["next_attempt_at"] = now + timedelta(seconds=max(wait, answer.retry_after or 0.0))
        if not await _changed(tx, update(Delivery).where(*here).values(**values)):
            return  # deleted or dropped meanwhile
        tx.add(answer.row(endpoint.id, delivery.event_seq))
        await self._judge(tx, endpoint, answer, now)

    async def _judge(self, tx: AsyncSession, endpoint: WebhookEndpoint, answer: Answer, now: datetime) -> None:
        """Note how the endpoint does, and switch it off when it is gone or has failed for too long."""
        if answer.delivered:
            if endpoint.failing_since is not None or endpoint.paused_until is not None:
                await _changed(tx, _health(endpoint).values(failing_since=None, paused_until=None))
            return
        since = endpoint.failing_since or now
        if answer.status == 410:
            await service.switch_off(tx, endpoint, service.GONE)
        elif now - since > self.give_up:
            await service.switch_off(tx, endpoint, service.FAILING)
        else:
            pause = self._pause(answer, (now - since).total_seconds())
            await _changed(
                tx, _health(endpoint).values(failing_since=since, paused_until=now + pause if pause else None)
            )

    def _pause(self, answer: Answer, failing: float) -> timedelta | None:
        """How long the whole endpoint is left alone: what it asked for, else a quarter of the time it has been down."""
        if not answer.overloaded:
            return None
        shortest, longest = self.pause
        return timedelta(seconds=max(min(failing / 4, longest), shortest, answer.retry_after or 0.0))


async def deliver(parts: Parts, claim: jobs.Claim) -> datetime | None:
    """Handler of the job `webhook`."""
    return await WebhookDelivery(parts.db, parts.vault, parts.http, counters=parts.counters).deliver(claim)


async def replay(parts: Parts, claim: jobs.Claim) -> datetime | None:
    """Handler of the job `webhook_replay`."""
    return await WebhookDelivery(parts.db, parts.vault, parts.http).replay(claim)


async def prune(db: Database) -> None:
    """Delete events that are older than the retention, with their deliveries."""
    before = clock.now() - RETENTION
    while True:
        async with db.begin() as tx:
            if await history.prune(tx, before, _BATCH) < _BATCH:
                return


async def send_test(
    db: Database, vault: Vault, http: HttpClient, project: ProjectId, endpoint_id: str
) -> tuple[Delivery, Event, list[DeliveryAttempt]]:
    """Send one `webhook_endpoint.test` now, past the queue and to a disabled endpoint too; it is not tried again.

    Raises NotFound.
    """
    async with db.read() as tx:
        endpoint = await service.get(tx, project, endpoint_id)
        keys = await secrets.open_active(tx, vault, endpoint)
    event = Event(
        id=service.new_event_id(),
        project_id=project,
        event=catalogue.TEST,
        record_type=catalogue.record_type(catalogue.TEST),
        record_id=endpoint.id,
        account_id=None,
        payload={"message": "A test delivery. Nothing happened."},
        created_at=clock.now(),
    )
    answer = await send(http, endpoint.url, keys, event)
    async with db.begin() as tx:
        await service.get(tx, project, endpoint_id)  # deleted meanwhile?
        tx.add(event)
        await tx.flush()
        delivery = Delivery(
            endpoint_id=endpoint.id,
            event_seq=event.seq,
            lane=event.lane,
            status=DELIVERED if answer.delivered else FAILED,
            attempts=1,
            last_status=answer.status,
            last_error=answer.error,
            delivered_at=answer.at if answer.delivered else None,
        )
        tx.add(delivery)
        await tx.flush()
        attempt = answer.row(endpoint.id, event.seq)
        tx.add(attempt)
        await tx.flush()
    return delivery, event, [attempt]


async def _keep(tx: AsyncSession, claim: jobs.Claim) -> None:
    """Keep the lane, or roll the record back. Last in its transaction: everywhere, endpoints are locked before jobs."""
    if not await jobs.extend(tx, claim):
        raise _EvictedError


def _health(endpoint: WebhookEndpoint) -> Update:
    return update(WebhookEndpoint).where(WebhookEndpoint.id == endpoint.id)


async def _changed(tx: AsyncSession, statement: Update) -> bool:
    result = await tx.execute(statement.execution_options(synchronize_session=False))
    return bool(isinstance(result, CursorResult) and result.rowcount)
