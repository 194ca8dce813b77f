"""The audit log: who did what to which thing, from where, with what result; appended, chained, never changed (rule L2).

A service notes what it does with `note`; the entry is written as the last thing of the same transaction, so it exists if
and only if the change does. Each entry's MAC covers the entry and the MAC before it, and the end of the chain has a
MAC of its own, so that an earlier entry can't be made the last one. The key is sealed with the master key: who has only
the database can neither change an entry, nor make one up, nor cut some off. Whoever kept an older copy of the whole log
can put that back; signed anchors of the end go into the hub's log now and then, and `verify` holds the log against them.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import orjson
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity import redaction, secrets
from mooring.identity.audit_models import AuditEntry, AuditHead
from mooring.kit import clock
from mooring.kit.db import Database, before_commit
from mooring.kit.vault import Vault

KEY: Final = "audit"  # name of the sealed MAC key
START: Final = bytes(32)  # the MAC before the first entry
BATCH: Final = 500
RECENT: Final = 1000  # entries among which `gap` looks


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


FIELDS: Final = (
    "seq", "at", "organization_id", "project_id", "actor_kind", "actor_id", "actor_label", "action", "target_type",
    "target_id", "target_label", "address", "result", "detail",
)  # fmt: skip


def _mac(key: bytes, before: bytes, values: Mapping[str, Any]) -> bytes:
    content = {name: values[name] for name in FIELDS}
    content["at"] = values["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return hmac.digest(key, before + orjson.dumps(content, option=orjson.OPT_SORT_KEYS), "sha256")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of the chain found. `seq` names the first bad entry; `why` says what is wrong with it."""

    entries: int
    head: str
    seq: int | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the chain's end was at some time, signed: kept apart from the database, it shows that a tail is gone."""

    entries: int
    head: str
    seal: str
    at: str = ""  # as the line of the log says; for people


async def anchor(db: Database, vault: Vault) -> Anchor:
    """The chain's end as it is now. Raises VaultError when the key does not open."""
    async with db.read() as tx:
        key = await secrets.get(tx, vault, KEY)
        end = await tx.get(AuditHead, 1)
    if key is None or end is None:
        return Anchor(0, START.hex(), "")
    return Anchor(end.seq, end.mac.hex(), _anchor_seal(key, end.seq, end.mac).hex())


def _anchor_seal(key: bytes, seq: int, mac: bytes) -> bytes:
    """Not the head's own MAC: whoever reads an old log must not find there what makes an old entry the last one."""
    return hmac.digest(hmac.digest(key, b"audit anchor", "sha256"), seq.to_bytes(8, "big") + mac, "sha256")


def read_anchors(lines: Sequence[str]) -> list[Anchor]:
    """The anchors among lines of the hub's log; all other lines are passed over."""
    out = []
    for line in lines:
        try:
            said = orjson.loads(line[line.index("{") :])  # a journal may have put its own words in front
            if said.get("event") == "audit log":
                out.append(Anchor(int(said["entries"]), str(said["head"]), str(said["seal"]), str(said["timestamp"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return out


def _anchored(key: bytes | None, anchors: Sequence[Anchor]) -> tuple[dict[int, Anchor], Verdict | None]:
    """The anchors by the entry that they name; a verdict when one of them is not signed, or two contradict each other."""
    known: dict[int, Anchor] = {}
    for a in anchors:
        if a.seal == "":  # from before the first entry
            continue
        try:
            mac, seal = bytes.fromhex(a.head), bytes.fromhex(a.seal)
            fine = key is not None and hmac.compare_digest(seal, _anchor_seal(key, a.entries, mac))
        except (ValueError, OverflowError):
            fine = False
        if not fine:
            return known, Verdict(0, "", a.entries, f"the anchor of {a.at} is not signed with this log's key")
        if known.setdefault(a.entries, a).head != a.head:
            why = (
                f"the anchors of {known[a.entries].at} and {a.at} name two different entries: one of them was replaced"
            )
            return known, Verdict(0, "", a.entries, why)
    return known, None


async def verify(db: Database, vault: Vault, anchors: Sequence[Anchor] = ()) -> Verdict:
    """Follow the whole chain, and hold it against anchors. Raises VaultError when the key does not open."""
    while True:
        async with db.read() as tx:
            key = await secrets.get(tx, vault, KEY)
            end = await tx.get(AuditHead, 1)
        known, bad = _anchored(key, anchors)
        if bad is not None:
            return bad
        if key is None:
            exists = end is not None and end.seq > 0
            return Verdict(0, "", 0 if exists else None, "its key is gone" if exists else None)
        redactions = redaction.Redactions()
        verdict = await _follow(db, key, end, known, redactions)
        wrong = redactions.first_wrong()
        if wrong is None or (verdict.seq is not None and verdict.seq < wrong[0]):
            return verdict
        if not await _redacted_meanwhile(db, end):
            return Verdict(wrong[0] - 1, verdict.head, *wrong)


async def _redacted_meanwhile(db: Database, end: AuditHead | None) -> bool:
    """Whether an entry behind the end that was read names redactions: then what was read says less than what is there."""
    after = end.seq if end else 0
    async with db.read() as tx:
        query = select(AuditEntry.seq).where(AuditEntry.seq > after, AuditEntry.action == redaction.ACTION).limit(1)
        head = await tx.get(AuditHead, 1)
        found = await tx.scalar(query)
    return found is not None and head is not None and after < found <= head.seq


async def _follow(
    db: Database, key: bytes, end: AuditHead | None, known: Mapping[int, Anchor], redactions: redaction.Redactions
) -> Verdict:
    """What is wrong with the order, the end and the anchors; entries that do not fit their MAC go to `redactions`."""
    count, mac = 0, START
    try:
        async for row in _rows(db, end.seq if end else 0):
            if row.seq != count + 1:
                why = f"entry {count + 1} is missing" if row.seq > count + 1 else "it stands out of order"
                return Verdict(count, mac.hex(), count + 1, why)
            values = {name: getattr(row, name) for name in FIELDS}
            if not hmac.compare_digest(_mac(key, mac, values), row.mac):
                redactions.differs(values)
            elif row.action == redaction.ACTION:
                redactions.explain(row.detail)
            count, mac = row.seq, row.mac
            if count in known and known[count].head != mac.hex():
                return Verdict(count, mac.hex(), count, f"it is not the one that the anchor of {known[count].at} names")
    except (ValueError, TypeError):  # SQLite keeps whatever somebody wrote into a column
        return Verdict(count, mac.hex(), count + 1, "it, or one soon after it, holds what no entry can hold")
    if end is None or (end.seq, end.mac, end.seal) != (count, mac, _seal(key, count, mac)):
        return Verdict(count, mac.hex(), count + 1, "the end of the chain is cut off or was replaced")
    lost = min((seq for seq in known if seq > count), default=None)
    if lost is not None:
        why = f"the log ends before it, but at {known[lost].at} it was there: its tail is cut off, or an older copy put back"
        return Verdict(count, mac.hex(), count + 1, why)
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
    """Number and MAC of the last entry."""
    row = await tx.get(AuditHead, 1)
    return (row.seq, row.mac.hex()) if row else (0, START.hex())


async def gap(tx: AsyncSession) -> tuple[int, int]:
    """How many entries the chain's end counts, and how many of the last thousand are gone: cheap enough for every scrape."""
    end = await tx.scalar(select(AuditHead.seq)) or 0
    among = (AuditEntry.seq > end - RECENT, AuditEntry.seq <= end)
    there = await tx.scalar(select(func.count()).select_from(AuditEntry).where(*among)) or 0
    return end, min(end, RECENT) - there


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
