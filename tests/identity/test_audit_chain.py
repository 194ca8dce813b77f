"""Every single tampering with the audit log is found: each entry changed, deleted, doubled, swapped, and the tail cut there.

Whoever tampers has the database and no key: they rewrite the head too where that helps them. `MOORING_TEST_AUDIT_ENTRIES`
is the length of the chain; each entry is tampered with in each of five ways, so that 1,000 make 5,000 cases (S16).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from mooring.identity import audit
from mooring.identity.audit import Actor
from mooring.identity.audit_models import AuditEntry, AuditHead
from mooring.kit.db import Database
from mooring.kit.vault import Vault
from mooring.migrations import runner

ENTRIES = int(os.environ.get("MOORING_TEST_AUDIT_ENTRIES", "30"))
_NAMES = [column.name for column in AuditEntry.__table__.columns]


@dataclass
class Chain:
    """A whole chain, and what was in it before somebody touched it."""

    db: Database
    vault: Vault
    rows: list[dict[str, Any]]
    head: dict[str, Any]

    def row(self, seq: int) -> dict[str, Any]:
        return self.rows[seq - 1]

    async def verdict(self) -> audit.Verdict:
        return await audit.verify(self.db, self.vault)

    async def mend(self, seqs: list[int]) -> None:
        """Put these entries and the head back, and take away what does not belong."""
        async with self.db.begin() as tx:
            wrong = (AuditEntry.seq.in_(seqs)) | (AuditEntry.seq > len(self.rows)) | (AuditEntry.seq < 1)
            await tx.execute(delete(AuditEntry).where(wrong))
            if seqs:
                await tx.execute(insert(AuditEntry), [self.row(seq) for seq in seqs])
            await tx.execute(update(AuditHead).values(self.head))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
async def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    url = f"sqlite:///{tmp_path_factory.mktemp('audit')}/x.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").create_database()
    db, vault = Database(url), Vault({"k1": bytes(range(32))})
    await runner.upgrade(db)
    audit.attach(db, vault)
    await audit.prepare(db)
    for n in range(0, ENTRIES, 10):
        async with db.begin() as tx:
            for at in range(n, min(n + 10, ENTRIES)):
                actor = Actor("user", f"u{at % 3}", f"person-{at % 3}@example.com", "192.0.2.1")
                audit.note(
                    tx, f"thing.{at % 5}", project_id=f"p{at % 2}", organization_id=1 + at % 2,
                    target=("thing", str(at)), label=f"thing {at}", detail={"n": at}, actor=actor,
                )  # fmt: skip
    async with db.read() as tx:
        found = (await tx.scalars(select(AuditEntry).order_by(AuditEntry.seq))).all()
        head = await tx.get_one(AuditHead, 1)
        rows = [{name: getattr(row, name) for name in _NAMES} for row in found]
        kept = {"seq": head.seq, "mac": head.mac, "seal": head.seal}
    assert len(rows) == ENTRIES
    yield Chain(db, vault, rows, kept)
    await db.close()


def _other(name: str, value: Any) -> Any:
    """Another value of the same kind."""
    if name == "at":
        return value + timedelta(microseconds=1)
    if name == "organization_id":
        return value + 1
    if name == "detail":
        return {**value, "n": -1}
    if name == "mac":
        return bytes([value[0] ^ 1]) + value[1:]
    return f"{value}x"


async def change(chain: Chain, seq: int) -> list[int]:
    """Change one column of the entry; the columns take turns."""
    columns = [name for name in _NAMES if name != "seq"]
    name = columns[seq % len(columns)]
    async with chain.db.begin() as tx:
        values = {name: _other(name, chain.row(seq)[name])}
        await tx.execute(update(AuditEntry).where(AuditEntry.seq == seq).values(values))
    return [seq]


async def take_out(chain: Chain, seq: int) -> list[int]:
    """Delete the entry, and close the gap: later ones move up and the head counts one less."""
    async with chain.db.begin() as tx:
        await tx.execute(delete(AuditEntry).where(AuditEntry.seq == seq))
        await _shift(tx, seq + 1, -1)
        await tx.execute(update(AuditHead).values(seq=AuditHead.seq - 1))
    return list(range(seq, ENTRIES + 1))


async def put_in(chain: Chain, seq: int) -> list[int]:
    """Put a second copy of the entry behind it, and make room for it."""
    async with chain.db.begin() as tx:
        await _shift(tx, seq + 1, 1)
        await tx.execute(insert(AuditEntry), [{**chain.row(seq), "seq": seq + 1}])
        if seq % 2:  # every other time the head is left, so that one entry more stands there than it says
            await tx.execute(update(AuditHead).values(seq=AuditHead.seq + 1))
    return list(range(seq + 1, ENTRIES + 1))


async def swap(chain: Chain, seq: int) -> list[int]:
    """Let the entry and the next one (of the last: the first) change places, each with its MAC."""
    other = seq % ENTRIES + 1
    async with chain.db.begin() as tx:
        await tx.execute(delete(AuditEntry).where(AuditEntry.seq.in_([seq, other])))
        swapped = [{**chain.row(seq), "seq": other}, {**chain.row(other), "seq": seq}]
        await tx.execute(insert(AuditEntry), swapped)
    return sorted([seq, other])


async def cut(chain: Chain, seq: int) -> list[int]:
    """Delete the entry and all behind it, and say that the one before it is the last."""
    async with chain.db.begin() as tx:
        await tx.execute(delete(AuditEntry).where(AuditEntry.seq >= seq))
        mac = chain.row(seq - 1)["mac"] if seq > 1 else audit.START
        await tx.execute(update(AuditHead).values(seq=seq - 1, mac=mac))
    return list(range(seq, ENTRIES + 1))


async def _shift(tx: Any, first: int, by: int) -> None:
    """Move entries along by way of negative numbers: a unique key allows no other."""
    await tx.execute(text("UPDATE audit_entries SET seq = -seq WHERE seq >= :first"), {"first": first})
    await tx.execute(text("UPDATE audit_entries SET seq = -seq + :by WHERE seq < 0"), {"by": by})


Tampering = Callable[[Chain, int], Awaitable[list[int]]]


@pytest.mark.parametrize("tampering", [change, take_out, put_in, swap, cut])
async def test_whatever_is_done_to_any_entry_is_found(chain: Chain, tampering: Tampering) -> None:
    whole = await chain.verdict()
    assert (whole.entries, whole.why) == (ENTRIES, None)
    missed = []
    for seq in range(1, ENTRIES + 1):
        touched = await tampering(chain, seq)
        if (await chain.verdict()).why is None:
            missed.append(seq)
        await chain.mend(touched)
    assert missed == []
    assert await chain.verdict() == whole


@pytest.mark.parametrize("seq", [-1, 0, ENTRIES + 1, ENTRIES + 5])
async def test_an_entry_outside_of_the_chain_is_found(chain: Chain, seq: int) -> None:
    async with chain.db.begin() as tx:
        await tx.execute(insert(AuditEntry), [{**chain.row(ENTRIES), "seq": seq}])
    verdict = await chain.verdict()
    await chain.mend([ENTRIES])
    assert verdict.why is not None


async def test_the_verdict_names_the_first_entry_that_was_touched(chain: Chain) -> None:
    at = ENTRIES // 2
    for tampering, named in ((change, at), (take_out, at), (put_in, at + 1), (swap, at), (cut, at)):
        touched = await tampering(chain, at)
        verdict = await chain.verdict()
        await chain.mend(touched)
        assert verdict.seq == named, (tampering.__name__, verdict)


async def test_a_value_that_no_entry_can_hold_is_found_too(chain: Chain) -> None:
    if not chain.db.is_sqlite:
        pytest.skip("PostgreSQL refuses it itself")
    for column in ("at", "detail"):
        async with chain.db.begin() as tx:
            await tx.execute(text(f"UPDATE audit_entries SET {column} = 'nonsense' WHERE seq = 3"))
        verdict = await chain.verdict()
        await chain.mend([3])
        assert verdict.why is not None and verdict.seq is not None and verdict.seq <= 3
