"""A redacted audit log: the chain and its anchors hold, and whoever has only the database can redact nothing unseen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from mooring.identity import audit, erasure, redaction
from mooring.identity.audit import Actor
from mooring.identity.audit_models import AuditEntry
from mooring.kit.db import Database
from mooring.kit.vault import Vault
from mooring.migrations import runner

TRACES = erasure.Traces(frozenset({"acc-1"}), frozenset({"77"}), frozenset({"owner-1", "Zoë"}))


class Log:
    """A log of twelve entries, every third of which is about the owner."""

    def __init__(self, db: Database) -> None:
        self.db, self.vault = db, Vault({"k1": bytes(range(32))})

    async def fill(self) -> None:
        audit.attach(self.db, self.vault)
        await audit.prepare(self.db)
        for n in range(12):
            async with self.db.begin() as tx:
                account = "acc-1" if n % 3 == 0 else "acc-2"
                actor = (
                    Actor("hub_session", "77", "Zoë", "192.0.2.9")
                    if n % 3 == 0
                    else Actor("user", "u", "Ann", "192.0.2.1")
                )
                label = "Zoë" if n % 3 == 0 else "Other"
                audit.note(tx, "account.updated", project_id="p", target=("account", account), label=label, actor=actor)

    async def verdict(self) -> audit.Verdict:
        return await audit.verify(self.db, self.vault)

    async def redact(self) -> list[int]:
        found = [row.seq async for row in erasure.entries(self.db, "p", TRACES.concern)]
        async with self.db.begin() as tx:
            assert await erasure.redact(tx, TRACES, "p", found) == len(found)
        return found

    async def set(self, seq: int, **values: Any) -> None:
        async with self.db.begin() as tx:
            await tx.execute(update(AuditEntry).where(AuditEntry.seq == seq).values(values))

    async def row(self, seq: int) -> AuditEntry:
        async with self.db.read() as tx:
            return (await tx.scalars(select(AuditEntry).where(AuditEntry.seq == seq))).one()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    db = Database(f"sqlite:///{tmp_path / 'x.db'}")
    await runner.upgrade(db)
    made = Log(db)
    await made.fill()
    yield made
    await db.close()


async def test_names_go_and_the_chain_and_its_old_anchors_hold(log: Log) -> None:
    before = await log.verdict()
    seqs = await log.redact()
    assert seqs == [1, 4, 7, 10]
    row = await log.row(4)
    assert (row.target_label, row.actor_label, row.address) == (None, None, None)
    assert (row.target_id, row.actor_id, row.action) == ("acc-1", "77", "account.updated")
    assert (await log.row(2)).actor_label == "Ann"
    after = await log.verdict()
    assert after.why is None and after.entries == 13
    assert before.head == (await log.row(12)).mac.hex()  # what an anchor of then names is still there


async def test_a_redacted_entry_can_be_changed_no_more_than_any_other(log: Log) -> None:
    await log.redact()
    named = (await log.row(13)).detail
    for seq, values, back, found in (
        (4, {"target_id": "acc-9"}, {"target_id": "acc-1"}, 4),
        (4, {"target_label": "Eve"}, {"target_label": None}, 4),
        (5, {"target_label": None}, {"target_label": "Other"}, 5),
        (13, {"detail": {}}, {"detail": named}, 1),  # without it, the first redacted entry is one that was changed
    ):
        await log.set(seq, **values)
        verdict = await log.verdict()
        assert verdict.why is not None and verdict.seq == found, (seq, verdict)
        await log.set(seq, **back)
        assert (await log.verdict()).why is None


async def test_what_was_taken_out_is_reported_when_it_is_back(log: Log) -> None:
    old = await log.row(4)
    kept = {name: getattr(old, name) for name in ("target_label", "actor_label", "address")}
    await log.redact()
    await log.set(4, **kept)
    verdict = await log.verdict()
    assert verdict.seq == 4 and verdict.why == "it was redacted, and says something else now"


async def test_nobody_redacts_without_the_key(log: Log) -> None:
    """Who has the database can write an entry that names redactions, but not its MAC."""
    await log.set(5, target_label=None)
    row = await log.row(5)
    said = redaction.digest({name: getattr(row, name) for name in audit.FIELDS})
    await log.set(9, action=redaction.ACTION, detail={"entries": {"5": said}})
    verdict = await log.verdict()
    assert verdict.seq == 5 and "changed" in (verdict.why or "")


async def test_a_second_erasure_redacts_what_came_since_and_names_nothing_twice(log: Log) -> None:
    await log.redact()
    assert [row.seq async for row in erasure.entries(log.db, "p", TRACES.concern)] == [1, 4, 7, 10]
    async with log.db.begin() as tx:
        assert await erasure.redact(tx, TRACES, "p", [1, 4, 7, 10]) == 0
    assert (await log.verdict()).entries == 13
