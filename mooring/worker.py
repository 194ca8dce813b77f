"""Background work: which job runs which handler, and the loop that claims and runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mooring import errors
from mooring.accounts import probes, revocation, schedule
from mooring.accounts.context import Context
from mooring.kit import jobs
from mooring.kit.jobs import Claim
from mooring.maintenance import anchor, housekeeping
from mooring.webhooks import delivery

log = structlog.get_logger(__name__)

IDLE_SECONDS = 0.5
SLOTS = 32  # jobs of one process at a time
EXTEND_SECONDS = jobs.LEASE_SECONDS / 3
STOP_SECONDS = 8.0

Handler = Callable[[Context, Claim], Awaitable[datetime | None]]
"""Runs a job. Returns None when it is done, or the time to run it again. An exception is a failure with backoff."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """A handler that runs again and again, in one process at a time."""

    every_seconds: float
    handler: Handler


HANDLERS: Mapping[str, Handler] = {
    "webhook": delivery.deliver,
    "webhook_replay": delivery.replay,
    "revoke": revocation.revoke,
    "probe": probes.probe_one,
}
PERIODIC: Mapping[str, Periodic] = {
    "refresh_due": Periodic(5.0, schedule.refresh_due),
    "expect_failures": Periodic(60.0, schedule.announce_failures),
    "probe_due": Periodic(30.0, probes.probe_due),
    "housekeeping": Periodic(300.0, housekeeping),
    "audit_anchor": Periodic(600.0, anchor),
}


class Worker:
    """Claims jobs from the database and runs them in this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._kinds = [*HANDLERS, *PERIODIC]

    async def start(self) -> None:
        """Make sure that the periodic jobs exist, and begin to claim."""
        async with self._context.db.begin() as tx:
            for kind, periodic in PERIODIC.items():
                await jobs.ensure_periodic(tx, kind, periodic.every_seconds)
        self._task = asyncio.create_task(self._run(), name="worker")

    async def stop(self) -> None:
        """Claim nothing more, and let running jobs end; what does not end in time is claimed again by another worker."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._running:
            await asyncio.wait(list(self._running), timeout=STOP_SECONDS)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self) -> None:
        failing = False
        while True:
            claims: list[Claim] = []
            try:
                free = SLOTS - len(self._running)
                if free > 0:
                    async with self._context.db.begin() as tx:
                        claims = await jobs.claim(tx, self._kinds, free)
                failing = False
            except (SQLAlchemyError, OSError) as e:
                if not failing:
                    log.warning("jobs can't be claimed; will try again", error=type(e).__name__)
                failing = True
            for claim in claims:
                task = asyncio.create_task(self._work(claim), name=f"job-{claim.kind}")
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            if not claims:
                await asyncio.sleep(IDLE_SECONDS)

    async def _work(self, claim: Claim) -> None:
        handler = HANDLERS[claim.kind] if claim.kind in HANDLERS else PERIODIC[claim.kind].handler
        keeper = asyncio.create_task(self._keep(claim))
        try:
            try:
                again = await handler(self._context, claim)
            except errors.MooringError as e:
                await self._failed(claim, f"{e.error_code}: {e.message}")
                return
            except Exception as e:
                log.exception("job failed", kind=claim.kind, job=claim.id)
                await self._failed(claim, type(e).__name__)
                return
            async with self._context.db.begin() as tx:
                if again is None:
                    await jobs.done(tx, claim)
                else:
                    await jobs.later(tx, claim, again)
        except (SQLAlchemyError, OSError) as e:
            log.warning("job's end not noted; its lease will lapse", kind=claim.kind, error=type(e).__name__)
        finally:
            keeper.cancel()

    async def _failed(self, claim: Claim, reason: str) -> None:
        async with self._context.db.begin() as tx:
            await jobs.failed(tx, claim, reason)

    async def _keep(self, claim: Claim) -> None:
        """Keep the lease of a long job."""
        while True:
            await asyncio.sleep(EXTEND_SECONDS)
            with contextlib.suppress(SQLAlchemyError, OSError):
                async with self._context.db.begin() as tx:
                    if not await jobs.extend(tx, claim):
                        log.warning("job was taken over", kind=claim.kind, job=claim.id)
                        return
