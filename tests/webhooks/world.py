"""A database, a vault and an outbound client, as a worker has them; and a worker in a few lines."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from mooring.identity import service as identity
from mooring.identity.service import ProjectId
from mooring.kit import clock, jobs
from mooring.kit.db import Database
from mooring.kit.egress import EgressGuard, parse_allow
from mooring.kit.http import HttpClient
from mooring.kit.jobs import Job
from mooring.kit.vault import Vault, make_key, parse_keys
from mooring.webhooks import history, service
from mooring.webhooks.delivery import WebhookDelivery
from mooring.webhooks.models import Delivery, DeliveryAttempt, Event, WebhookEndpoint
from tests.webhooks.receiver import Receiver

FAST = (0.0, 0.02, 0.02, 0.02)
KINDS = (service.DELIVER, service.REPLAY)


def new_vault_text() -> str:
    """A fresh master key as a setting spells it."""
    return ":".join(make_key())


async def new_project(db: Database) -> ProjectId:
    async with db.begin() as tx:
        org = await identity.create_organization(tx, f"org-{secrets.token_hex(6)}")
        return ProjectId((await identity.create_project(tx, org.id, "webhooks")).id)


async def run_jobs(db: Database, work: WebhookDelivery, *, horizon: float, seconds: float, slots: int = 8) -> None:
    """Run jobs until none is due within `horizon` seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        async with db.begin() as tx:
            claims = await jobs.claim(tx, KINDS, slots)
        if claims:
            await asyncio.gather(*(_run_job(db, work, claim) for claim in claims))
            continue
        async with db.read() as tx:
            soon = await tx.scalar(
                select(func.count()).where(Job.kind.in_(KINDS), Job.run_at < clock.now() + timedelta(seconds=horizon))
            )
        if not soon:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"jobs are still due after {seconds} s")


async def _run_job(db: Database, work: WebhookDelivery, claim: jobs.Claim) -> None:
    handler = work.deliver if claim.kind == service.DELIVER else work.replay
    again = await handler(claim)
    async with db.begin() as tx:
        if again is None:
            await jobs.done(tx, claim)
        else:
            await jobs.later(tx, claim, again)


@dataclass
class World:
    """One project with a receiver."""

    db: Database
    vault: Vault
    http: HttpClient
    guard: EgressGuard
    project: ProjectId
    receiver: Receiver

    async def endpoint(self, *, url: str | None = None, **more: Any) -> tuple[WebhookEndpoint, str]:
        """Add an endpoint; returns it and its secret."""
        async with self.db.begin() as tx:
            row, made = await service.create(
                tx, self.vault, self.guard, self.project, url=url or self.receiver.url, **more
            )
        return row, made.secret

    async def emit(self, *records: str, account: str | None = "acc", event: str = "account.updated") -> list[Event]:
        """Emit one event per record, each in a transaction of its own."""
        out = []
        for record in records:
            async with self.db.begin() as tx:
                out.append(
                    await service.emit(
                        tx,
                        project_id=self.project,
                        event=event,
                        record_id=record,
                        account_id=account,
                        payload={"provider": "sandbox"},
                    )
                )
        return out

    def work(self, **more: Any) -> WebhookDelivery:
        defaults: dict[str, Any] = {"schedule": FAST, "pause": (0.01, 0.02)}
        return WebhookDelivery(self.db, self.vault, self.http, **(defaults | more))

    async def run(self, *, horizon: float = 0.5, seconds: float = 15, **more: Any) -> None:
        """Do all work that is due, or soon due."""
        await run_jobs(self.db, self.work(**more), horizon=horizon, seconds=seconds)

    async def deliveries(self, endpoint: WebhookEndpoint) -> dict[str, Delivery]:
        """The endpoint's deliveries by record id."""
        async with self.db.read() as tx:
            rows, _ = await history.deliveries(tx, self.project, endpoint.id, limit=500)
        return {event.record_id: row for row, event in rows}

    async def attempts(self, endpoint: WebhookEndpoint) -> Sequence[DeliveryAttempt]:
        async with self.db.read() as tx:
            rows = await tx.scalars(
                select(DeliveryAttempt).where(DeliveryAttempt.endpoint_id == endpoint.id).order_by(DeliveryAttempt.id)
            )
            return rows.all()

    async def reread(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        async with self.db.read() as tx:
            return await service.get(tx, self.project, endpoint.id)

    async def change(self, endpoint: WebhookEndpoint, **given: Any) -> WebhookEndpoint:
        async with self.db.begin() as tx:
            return await service.change(tx, self.guard, self.project, endpoint.id, given)

    async def make_due(self) -> None:
        """Let every retry be due now."""
        async with self.db.begin() as tx:
            await tx.execute(update(Delivery).values(next_attempt_at=clock.now()))
            await tx.execute(update(WebhookEndpoint).values(paused_until=None))
            await tx.execute(update(Job).values(run_at=clock.now()))

    async def clear_jobs(self) -> None:
        async with self.db.begin() as tx:
            await tx.execute(delete(Job))


def guard_for(*ports: int) -> EgressGuard:
    return EgressGuard(parse_allow(",".join(f"127.0.0.1:{port}" for port in ports)))


def vault_of(text: str) -> Vault:
    return Vault(parse_keys(text, source="the test"))
