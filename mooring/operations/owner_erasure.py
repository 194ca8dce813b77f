"""Erase one owner: accounts, sessions, logs, events, and their names in the audit log (GDPR article 17)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import lifecycle, revocation, service
from mooring.accounts.models import Account
from mooring.connect.models import ConnectSession
from mooring.identity import audit, erasure, redaction
from mooring.identity.service import ProjectId
from mooring.kit import clock, idempotency, jobs
from mooring.kit.db import Database, record_change
from mooring.kit.idempotency import IdempotencyRecord
from mooring.kit.vault import Vault, VaultError
from mooring.logs.models import RequestDetail, RequestLog
from mooring.operations.owner_records import BITE, Owner, events, find_owner, holders, pages
from mooring.webhooks.models import Event

ACCOUNTS: Final = 50  # accounts that are shredded in one transaction
SETTLE_SECONDS: Final = 1.5  # in which a running hub writes what it still knows of calls that ended
DELETED: Final = lifecycle.event_of("archived")
KINDS: Final = ("accounts", "connect_sessions", "requests", "events", "answers", "jobs", "audit_entries", "others")


@dataclass(slots=True)
class Erased:
    """What went, by kind, and the name under which the audit log speaks of it."""

    alias: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))


async def erase(db: Database, parts: revocation.Parts, project: ProjectId, owner_id: str) -> Erased:
    """Erase the owner in small transactions. Run again after an interruption, it goes on; run twice, it finds nothing.

    Accounts come first: their secrets are shredded and their revocation is planned, so nothing new can be logged.
    """
    async with db.read() as tx:
        owner = await find_owner(tx, project, owner_id)
    erased = Erased(f"erased-{secrets.token_hex(8)}")
    await _end_sessions(db, owner)
    await _shred(db, parts, project, owner)
    if owner.account_ids:
        await asyncio.sleep(SETTLE_SECONDS)
    erased.counts["requests"] = await _drop_requests(db, owner)
    erased.counts["events"] = await _drop_events(db, owner)
    erased.counts["answers"] = await _drop_answers(db, parts.vault, owner)
    erased.counts["jobs"] = await _drop_dead_jobs(db, owner)
    erased.counts["audit_entries"] = await _redact(db, owner)
    erased.counts["others"] = await _drop_others(db, owner)
    # Last: with them the way to the rest is gone.
    erased.counts["connect_sessions"] = await _drop_sessions(db, owner)
    erased.counts["accounts"] = await _drop_accounts(db, owner)
    if any(erased.counts.values()):
        async with db.begin() as tx:
            target = ("owner", erased.alias)
            audit.note(tx, "owner.erased", project_id=project, target=target, detail=dict(erased.counts))
    return erased


async def _end_sessions(db: Database, owner: Owner) -> None:
    """Let nobody link another account meanwhile."""
    async with db.begin() as tx:
        mine = (ConnectSession.project_id == owner.project_id, ConnectSession.origin_owner_id == owner.id)
        await tx.execute(update(ConnectSession).where(*mine).values(expires_at=clock.now()))


async def _shred(db: Database, parts: revocation.Parts, project: ProjectId, owner: Owner) -> None:
    last = ""
    while True:
        async with db.begin() as tx:
            left = select(Account.id).where(
                Account.project_id == project,
                Account.origin_owner_id == owner.id,
                Account.status != "archived",
                Account.id > last,
            )
            found = (await tx.scalars(left.order_by(Account.id).limit(ACCOUNTS))).all()
            for id in found:
                await service.lock(tx, project, id)  # a refresh that ends now would leave a token unrevoked
                with contextlib.suppress(errors.NotFound):  # without a credential there is nothing to revoke
                    await revocation.enqueue(tx, parts, project, id)
                await service.remove(tx, project, id)
        if len(found) < ACCOUNTS:
            return
        last = found[-1]


async def _drop_sessions(db: Database, owner: Owner) -> int:
    """Sessions, with attempts, waiting forms and consents that are under way: they hang on the session's row."""
    async with db.begin() as tx:
        gone: Any = await tx.execute(
            delete(ConnectSession).where(
                ConnectSession.project_id == owner.project_id, ConnectSession.origin_owner_id == owner.id
            )
        )
    return int(gone.rowcount)


async def _drop_requests(db: Database, owner: Owner) -> int:
    count = 0
    async for rows in pages(db, RequestLog, RequestLog.id, owner.requests()):
        async with db.begin() as tx:
            await tx.execute(delete(RequestLog).where(RequestLog.id.in_([row.id for row in rows])))
        count += len(rows)
    async with db.begin() as tx:
        mine = RequestDetail.account_id.in_(owner.account_ids)
        await tx.execute(delete(RequestDetail).where(RequestDetail.project_id == owner.project_id, mine))
    return count


async def _drop_events(db: Database, owner: Owner) -> int:
    """Events with their deliveries. That accounts were deleted is still told, by their ids and nothing else."""
    count = 0
    async for rows in events(db, owner):
        async with db.begin() as tx:
            for row in rows:
                told = {"provider": row.payload.get("provider"), "status": "archived"}
                if row.event == DELETED:
                    if row.payload == told:
                        continue
                    event = await tx.get(Event, row.seq)
                    if event is not None:
                        event.payload = told
                else:
                    await tx.execute(delete(Event).where(Event.seq == row.seq))
                count += 1
    return count


async def _drop_answers(db: Database, vault: Vault, owner: Owner) -> int:
    """Recorded answers of requests with an Idempotency-Key that tell of the owner; they would live for a day."""
    count = 0
    async for rows in pages(db, IdempotencyRecord, IdempotencyRecord.id, IdempotencyRecord.answer.is_not(None)):
        theirs = [row.id for row in rows if _tells(vault, row.answer, owner)]
        async with db.begin() as tx:
            await tx.execute(delete(IdempotencyRecord).where(IdempotencyRecord.id.in_(theirs)))
        count += len(theirs)
    return count


def _tells(vault: Vault, sealed: bytes | None, owner: Owner) -> bool:
    """Whether an answer is about the owner: it names an account of theirs, or it is a session of theirs.

    The owner's id alone says nothing, for an owner of another project may have the same.
    """
    try:
        said = idempotency.open_answer(vault, sealed or b"")
        if any(id.encode() in said for id in owner.account_ids):
            return True
        answer = orjson.loads(said)
    except (VaultError, ValueError):
        return False
    return isinstance(answer, dict) and str(answer.get("id")) in owner.traces.sessions


async def _drop_dead_jobs(db: Database, owner: Owner) -> int:
    """Jobs that failed for good. Those that still try to revoke a token keep it, sealed, until that is done."""
    count = 0
    async for rows in pages(db, jobs.Job, jobs.Job.id, jobs.Job.state == "dead"):
        theirs = [row.id for row in rows if row.payload.get("account_id") in owner.account_ids]
        async with db.begin() as tx:
            await tx.execute(delete(jobs.Job).where(jobs.Job.id.in_(theirs)))
        count += len(theirs)
    return count


async def _redact(db: Database, owner: Owner) -> int:
    traces = owner.traces
    found = [row.seq async for row in erasure.entries(db, owner.project_id, traces.concern)]
    count = 0
    for start in range(0, len(found), redaction.PER_ENTRY):
        async with db.begin() as tx:
            count += await erasure.redact(tx, traces, owner.project_id, found[start : start + redaction.PER_ENTRY])
    return count


async def _drop_others(db: Database, owner: Owner) -> int:
    """Rows of every other table that has an owner; what hangs on them goes with them."""
    count = 0
    async with db.begin() as tx:
        for table, column in holders():
            mine = (table.c.project_id == owner.project_id) & (column == owner.id)
            if "id" in table.c:
                for id in (await tx.scalars(select(table.c.id).where(mine))).all():
                    record_change(tx, table.name.removesuffix("s"), str(id))
            gone: Any = await tx.execute(delete(table).where(mine))
            count += int(gone.rowcount)
    return count


async def _drop_accounts(db: Database, owner: Owner) -> int:
    count = 0
    ids = sorted(owner.account_ids)
    for start in range(0, len(ids), BITE):
        async with db.begin() as tx:
            count += await _drop_tombstones(tx, owner, ids[start : start + BITE])
    return count


async def _drop_tombstones(tx: AsyncSession, owner: Owner, ids: list[str]) -> int:
    gone: Any = await tx.execute(
        delete(Account).where(
            Account.project_id == owner.project_id,
            Account.id.in_(ids),
            Account.origin_owner_id == owner.id,
            Account.status == "archived",
        )
    )
    return int(gone.rowcount)
