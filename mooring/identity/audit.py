"""The audit log: who did what to which thing, from where, with what result; appended, chained, never changed (rule L2).

A service notes what it does with `note`; the entry is written as the last thing of the same transaction, so it exists if
and only if the change does. Each entry's MAC covers the entry and the MAC before it, and the end of the chain has a
MAC of its own, so that an earlier entry can't be made the last one. The key is sealed with the master key: who has only
the database can neither change an entry, nor make one up, nor cut some off. Whoever kept an older copy of the whole log
can put that back; the end is logged now and then, so that this shows against the hub's log.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import orjson
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity import secrets
from mooring.identity.audit_models import AuditEntry, AuditHead
from mooring.kit import clock
from mooring.kit.db import Database, before_commit
from mooring.kit.vault import Vault

KEY: Final = "audit"  # name of the sealed MAC key
START: Final = bytes(32)  # the MAC before the first entry
BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, an API key, an end user's session, a command, or the hub itself."""

    kind: str
    id: str | None = None
    label: str | None = None
    address: str | None = None


SYSTEM: Final = Actor("system")
_actor: ContextVar[Actor] = ContextVar("mooring-actor", default=SYSTEM)


def act_as(actor: Actor) -> None:
    """From here on, until this task ends, `actor` is who acts."""
    _actor.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """`actor` is who acts inside the block."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


class Trail:
    """What a process needs to append: the vault, and the MAC key once it was opened."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._key: bytes | None = None
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return "<Trail>"

    async def key(self, tx: AsyncSession) -> bytes:
        """The MAC key, made when there is none. Raises VaultError."""
        if self._key is None:
            self._key = await secrets.get(tx, self._vault, KEY)
        return self._key or await self._make(tx)

    async def _make(self, tx: AsyncSession) -> bytes:
        made = os.urandom(32)
        await secrets.put(tx, self._vault, KEY, made)
        return made  # not remembered: this transaction may still be rolled back


def attach(db: Database, vault: Vault) -> None:
    """Let every write transaction of this database append to the audit log."""
    db.info["audit"] = Trail(vault)


async def prepare(db: Database) -> None:
    """Make the MAC key and the head before anybody races for them."""
    async with db.read() as tx:
        ready = await tx.get(AuditHead, 1) is not None
    if ready:
        return
    try:
        async with db.begin() as tx:
            trail: Trail = tx.info["audit"]
            if await tx.get(AuditHead, 1) is None:
                tx.add(_make_head(await trail.key(tx)))
    except IntegrityError:  # another process was faster
        pass


def note(
    tx: AsyncSession,
    action: str,
    *,
    project_id: str | None = None,
    organization_id: int | None = None,
    target: tuple[str, str] | None = None,
    label: str | None = None,
    result: str = "done",
    detail: Mapping[str, Any] | None = None,
    actor: Actor | None = None,
) -> None:
    """Note that something is done, to be written when this transaction commits. No secret may stand in it."""
    if "audit" not in tx.info:
        return
    who = actor or _actor.get()
    tx.info.setdefault("audit_entries", []).append(
        {
            "at": clock.now(),
            "organization_id": organization_id,
            "project_id": project_id,
            "actor_kind": who.kind,
            "actor_id": who.id,
            "actor_label": _cut(who.label, 254),
            "action": action,
            "target_type": target[0] if target else None,
            "target_id": _cut(target[1], 80) if target else None,
            "target_label": _cut(label, 200),
            "address": who.address,
            "result": result,
            "detail": dict(detail or {}),
        }
    )
    before_commit(tx, _append)


def _cut(text: str | None, limit: int) -> str | None:
    return None if text is None else text[:limit]


async def _append(tx: AsyncSession) -> None:
    entries = tx.info.pop("audit_entries", [])
    key = await tx.info["audit"].key(tx)
    # Last in the transaction, so whoever waits for this row holds everything else already: no circle.
    head = await tx.scalar(select(AuditHead).where(AuditHead.id == 1).with_for_update())
    if head is None:
        head = _make_head(key)
        tx.add(head)
    seq, mac = head.seq, head.mac
    for values in entries:
        seq += 1
        mac = _mac(key, mac, {"seq": seq, **values})
        tx.add(AuditEntry(seq=seq, mac=mac, **values))
    head.seq, head.mac, head.seal = seq, mac, _seal(key, seq, mac)
    await tx.flush()


def _make_head(key: bytes) -> AuditHead:
    return AuditHead(id=1, seq=0, mac=START, seal=_seal(key, 0, START))


def _seal(key: bytes, seq: int, mac: bytes) -> bytes:
    """The MAC of the chain's end, with a key of its own: no entry's MAC can pass for it."""
    return hmac.digest(hmac.digest(key, b"audit head", "sha256"), seq.to_bytes(8, "big") + mac, "sha256")


_FIELDS: Final = (
    "seq", "at", "organization_id", "project_id", "actor_kind", "actor_id", "actor_label", "action", "target_type",
    "target_id", "target_label", "address", "result", "detail",
)  # fmt: skip


def _mac(key: bytes, before: bytes, values: Mapping[str, Any]) -> bytes:
    content = {name: values[name] for name in _FIELDS}
    content["at"] = values["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return hmac.digest(key, before + orjson.dumps(content, option=orjson.OPT_SORT_KEYS), "sha256")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of the chain found. `seq` names the first bad entry; `why` says what is wrong with it."""

    entries: int
    head: str
    seq: int | None = None
    why: str | None = None


async def verify(db: Database, vault: Vault) -> Verdict:
    """Follow the whole chain. Raises VaultError when the key does not open."""
    async with db.read() as tx:
        key = await secrets.get(tx, vault, KEY)
        end = await tx.get(AuditHead, 1)
    if key is None:
        exists = end is not None and end.seq > 0
        return Verdict(0, "", 0 if exists else None, "its key is gone" if exists else None)
    count, mac = 0, START
    try:
        async for row in _rows(db, end.seq if end else 0):
            if row.seq != count + 1:
                why = f"entry {count + 1} is missing" if row.seq > count + 1 else "it stands out of order"
                return Verdict(count, mac.hex(), count + 1, why)
            expected = _mac(key, mac, {name: getattr(row, name) for name in _FIELDS})
            if not hmac.compare_digest(expected, row.mac):
                return Verdict(count, mac.hex(), row.seq, "it was changed, or the one before it was replaced")
            count, mac = row.seq, row.mac
    except (ValueError, TypeError):  # SQLite keeps whatever somebody wrote into a column
        return Verdict(count, mac.hex(), count + 1, "it, or one soon after it, holds what no entry can hold")
    if end is None or (end.seq, end.mac, end.seal) != (count, mac, _seal(key, count, mac)):
        return Verdict(count, mac.hex(), count + 1, "the end of the chain is cut off or was replaced")
    beyond = await _beyond(db)
    return Verdict(count, mac.hex(), beyond, "it stands behind the end of the chain" if beyond is not None else None)


async def _beyond(db: Database) -> int | None:
    """The first entry behind the end of the chain, asked in one statement: entries are appended while we look."""
    last = select(func.coalesce(func.max(AuditHead.seq), 0)).scalar_subquery()
    async with db.read() as tx:
        seq: int | None = await tx.scalar(select(func.min(AuditEntry.seq)).where(AuditEntry.seq > last))
    return seq


async def _rows(db: Database, end: int) -> AsyncIterator[AuditEntry]:
    """All entries up to the head that was read, and whatever stands where it should not."""
    after: int | None = None
    while True:
        async with db.read() as tx:
            query = select(AuditEntry).where(AuditEntry.seq <= end).order_by(AuditEntry.seq).limit(BATCH)
            rows = (await tx.scalars(query if after is None else query.where(AuditEntry.seq > after))).all()
        for row in rows:
            yield row
        if len(rows) < BATCH:
            return
        after = rows[-1].seq


async def head(tx: AsyncSession) -> tuple[int, str]:
    """Number and MAC of the last entry, for a line in the log that shows whether the tail was cut."""
    row = await tx.get(AuditHead, 1)
    return (row.seq, row.mac.hex()) if row else (0, START.hex())


async def search(
    tx: AsyncSession,
    *,
    project_id: str | None = None,
    organization_id: int | None = None,
    actor_id: str | None = None,
    action: str | None = None,
    target_id: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> tuple[list[AuditEntry], int | None]:
    """One page of entries, newest first, and the position after it."""
    query = select(AuditEntry)
    if project_id is not None:
        query = query.where(AuditEntry.project_id == project_id)
    if organization_id is not None:
        query = query.where(AuditEntry.organization_id == organization_id)
    if actor_id:
        query = query.where(AuditEntry.actor_id == actor_id)
    if action:
        query = query.where(AuditEntry.action.startswith(action, autoescape=True))
    if target_id:
        query = query.where(AuditEntry.target_id == target_id)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    rows = list(await tx.scalars(query.order_by(AuditEntry.seq.desc()).limit(limit + 1)))
    return rows[:limit], rows[limit - 1].seq if len(rows) > limit else None
