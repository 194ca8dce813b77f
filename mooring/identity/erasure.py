"""Take what names a person out of the audit log; the entries stay, and so does the chain (decision 26)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity import audit, redaction
from mooring.identity.audit_models import AuditEntry
from mooring.kit.db import Database

BITE: Final = 500
CUTS: Final = (40, 80, 200, 254, None)  # characters of a name that an entry may hold
END_USERS: Final = frozenset({"hub_session", "end_user"})
OPERATORS: Final = frozenset(
    {"api_key", "audit", "auth_config", "connector", "job", "organization", "project", "session", "user", "webhook"}
)
"""Targets whose label is the operator's own word, though it may be an owner's name by chance."""


@dataclass(frozen=True, slots=True)
class Traces:
    """By what the entries about an owner are known: things that were theirs, and words that name them."""

    accounts: Collection[str]
    sessions: Collection[str]
    words: Collection[str]

    def concern(self, row: AuditEntry) -> bool:
        """Whether an entry is about the owner, or was caused by them."""
        theirs = {"account": self.accounts, "connect_session": self.sessions}.get(row.target_type or "", ())
        if row.target_id in theirs or (row.target_type not in OPERATORS and self._is_word(row.target_label)):
            return True
        return self._acted(row) or self._is_target(row) or self._is_named(row.detail)

    def without(self, row: AuditEntry) -> dict[str, Any]:
        """What the entry may go on to say: what was done to which id and when, without names and addresses of theirs."""
        values: dict[str, Any] = {}
        if row.target_type not in OPERATORS:
            values["target_label"] = None
        if self._acted(row):
            values |= {"actor_label": None, "address": None}
            if self._is_word(row.actor_id):
                values["actor_id"] = None
        if self._is_target(row):
            values["target_id"] = None
        if self._is_named(row.detail):
            values["detail"] = {}
        return values

    def _acted(self, row: AuditEntry) -> bool:
        mine = row.actor_id in self.sessions if row.actor_kind == "hub_session" else self._is_word(row.actor_id)
        return row.actor_kind in END_USERS and (mine or self._is_word(row.actor_label))

    def _is_target(self, row: AuditEntry) -> bool:
        return row.target_type == "owner" and self._is_word(row.target_id)

    def _is_word(self, text: object) -> bool:
        return isinstance(text, str) and any(
            text == word[:limit] for word in self.words for limit in (80, 200, 254, None)
        )

    def _is_named(self, detail: object) -> bool:
        if isinstance(detail, dict):
            return any(self._is_named(value) for value in detail.values())
        if isinstance(detail, list):
            return any(self._is_named(value) for value in detail)
        return self._is_word(detail)


async def entries(db: Database, project_id: str, concern: Callable[[AuditEntry], bool]) -> AsyncIterator[AuditEntry]:
    """The entries of a project that concern somebody, oldest first."""
    after = 0
    while True:
        async with db.read() as tx:
            query = select(AuditEntry).where(AuditEntry.project_id == project_id, AuditEntry.seq > after)
            rows = (await tx.scalars(query.order_by(AuditEntry.seq).limit(BITE))).all()
        for row in rows:
            if concern(row):
                yield row
        if len(rows) < BITE:
            return
        after = rows[-1].seq


async def redact(tx: AsyncSession, traces: Traces, project_id: str, seqs: Collection[int]) -> int:
    """Redact these entries, and append the entry that names them. Returns how many had something to lose."""
    mine = and_(AuditEntry.project_id == project_id, AuditEntry.seq.in_(seqs))
    digests: dict[str, str] = {}
    for row in (await tx.scalars(select(AuditEntry).where(mine).order_by(AuditEntry.seq))).all():
        values = traces.without(row)
        if all(getattr(row, name) == value for name, value in values.items()):
            continue
        for name, value in values.items():
            setattr(row, name, value)
        digests[str(row.seq)] = redaction.digest({name: getattr(row, name) for name in audit.FIELDS})
    if digests:
        audit.note(
            tx, redaction.ACTION, project_id=project_id, target=("audit", "entries"), detail={"entries": digests}
        )
    await tx.flush()
    return len(digests)
