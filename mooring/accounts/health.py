"""What proxied calls tell of an account's health, noted beside the call and never in its way.

A provider's 401 proves little: one resource may refuse what the credential may do elsewhere. So it is verified by the
connector's test request, at most once a minute for a credential, before the account goes to error. A call that works
ends an error. Healthy accounts cost no database access here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from mooring import errors
from mooring.accounts import service
from mooring.accounts.context import Context
from mooring.accounts.models import Credential
from mooring.accounts.serving import Serving
from mooring.kit import clock, jobs
from mooring.kit.http import StreamedResponse
from mooring.protocol.oauth2 import parse_retry_after

log = structlog.get_logger(__name__)

PROBE_JOB: Final = "probe"
VERIFY_PAUSE: Final = 60.0  # seconds between two verifications of one credential
WORKED_PAUSE: Final = 1.0  # seconds; other processes hear of a change within a quarter of it
UNKNOWN_WINDOW: Final = 60.0  # seconds to leave a provider alone after a 429 that does not say how long
LONGEST_WINDOW: Final = 86_400.0
_REMEMBERED: Final = 20_000


class _Recently:
    """Keys and until when they count, on the monotonic clock. Bounded; forgetting one costs a look at the database."""

    def __init__(self) -> None:
        self._until: dict[object, float] = {}

    def left(self, key: object) -> float:
        """Seconds for which the key still counts, at least 0."""
        return max(0.0, self._until.get(key, 0.0) - time.monotonic())

    def note(self, key: object, seconds: float) -> None:
        if len(self._until) >= _REMEMBERED:
            now = time.monotonic()
            self._until = {k: t for k, t in self._until.items() if t > now}
            if len(self._until) >= _REMEMBERED:
                self._until.clear()
        self._until[key] = time.monotonic() + seconds


_verified = _Recently()
_worked = _Recently()
_limited = _Recently()
_tasks: set[asyncio.Task[None]] = set()


def note_answer(context: Context, serving: Serving, answer: StreamedResponse) -> None:
    """Take in how the provider answered a proxied call, after whatever a refresh could cure was cured."""
    status = answer.status
    if 200 <= status < 300:
        note_worked(context, serving)
    elif status == 401:
        note_unauthorized(context, serving)
    elif status == 429:
        told = next((value for name, value in answer.headers if name == "retry-after"), None)
        note_limited(context, serving, parse_retry_after(told))


def note_unauthorized(context: Context, serving: Serving) -> None:
    """Have a 401 verified by the test request, unless that was done a moment ago or can't be done."""
    if serving.status != "active" or serving.method.test is None or not serving.connector.probe:
        return
    key = (serving.id, serving.generation)
    if _verified.left(key):
        return
    _verified.note(key, VERIFY_PAUSE)
    _spawn(_ask_for_probe(context, serving))


def note_worked(context: Context, serving: Serving) -> None:
    """End the error of an account whose call just worked. Costs nothing for an account without one."""
    if serving.status != "error" or _worked.left(serving.id):
        return
    _worked.note(serving.id, WORKED_PAUSE)
    _spawn(_end_error(context, serving))


def note_limited(context: Context, serving: Serving, retry_after: float | None) -> None:
    """Keep probes out of the time in which the provider wants no requests. Writes once per window."""
    seconds = min(retry_after if retry_after is not None else UNKNOWN_WINDOW, LONGEST_WINDOW)
    known = _limited.left(serving.id)
    if seconds > known:
        _limited.note(serving.id, seconds)
    if not known:
        _spawn(_postpone_probe(context, serving, seconds))


def quiet_seconds(account_id: str) -> float:
    """How long this process knows that the provider wants no requests for an account."""
    return _limited.left(account_id)


async def drain() -> None:
    """Let what was begun end; called before the database closes."""
    if _tasks:
        await asyncio.wait(_tasks, timeout=5)


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(_guarded(work), name="account-health")
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except errors.NotFound:
        return  # deleted meanwhile
    except (SQLAlchemyError, OSError, errors.MooringError) as e:
        log.warning("health of an account not noted", error=type(e).__name__)


async def _ask_for_probe(context: Context, serving: Serving) -> None:
    run_at = clock.now() + timedelta(seconds=quiet_seconds(serving.id))
    payload = {"project_id": serving.project_id, "account_id": serving.id}
    async with context.db.begin() as tx:
        # One job per account, whichever process saw the 401. A probe that fails is not repeated: calls will tell.
        await jobs.enqueue(tx, PROBE_JOB, payload, key=serving.id, run_at=run_at, max_attempts=2)


async def _end_error(context: Context, serving: Serving) -> None:
    async with context.db.begin() as tx:
        account, _ = await service.lock(tx, serving.project_id, serving.id, project_wide=False)
        credential = await tx.get_one(Credential, serving.id)
        if credential.generation == serving.generation and account.status == "error":
            await service.note_fact(tx, account, "worked")
            credential.probe_failures = 0
    context.accounts.forget(serving.id)


async def _postpone_probe(context: Context, serving: Serving, seconds: float) -> None:
    until = clock.now() + timedelta(seconds=seconds)
    async with context.db.begin() as tx:
        await tx.execute(
            update(Credential)
            .where(Credential.account_id == serving.id, Credential.probe_at < until)
            .values(probe_at=until)
        )
