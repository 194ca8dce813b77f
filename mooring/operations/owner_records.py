"""What of one owner is stored: the rows that are theirs, whatever table they stand in (docs/privacy.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Table, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts.models import Account
from mooring.connect.models import ConnectSession
from mooring.identity.erasure import Traces
from mooring.kit.db import Database
from mooring.logs.models import RequestLog
from mooring.migrations.tables import METADATA
from mooring.webhooks.models import Event

BITE: Final = 500
_APART: Final = frozenset({"accounts", "connect_sessions", "request_logs", "data_keys"})
"""Tables with an owner that are treated by name; the owner of a data key is an account."""
OWNER_IN_LOG: Final = 200  # characters of the owner's id that a log row holds


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner in one project: their id, and what leads to the rest."""

    project_id: str
    id: str
    account_ids: frozenset[str]
    session_ids: frozenset[int]
    words: frozenset[str]

    @property
    def traces(self) -> Traces:
        """How the audit log knows them."""
        return Traces(self.account_ids, frozenset(str(id) for id in self.session_ids), self.words)

    def requests(self) -> ColumnElement[bool]:
        """Rows of the request log about them."""
        theirs = RequestLog.origin_owner_id == self.id[:OWNER_IN_LOG]
        if self.account_ids:
            theirs = or_(theirs, RequestLog.account_id.in_(self.account_ids))
        return (RequestLog.project_id == self.project_id) & theirs

    def is_told_by(self, event: Event) -> bool:
        """Whether an event is about them."""
        return event.account_id in self.account_ids or event.payload.get("origin_owner_id") == self.id


@lru_cache(maxsize=1)
def holders() -> tuple[tuple[Table, Column[Any]], ...]:
    """All other tables whose rows belong to an owner, with the column that says so.

    They are found by their columns: a table that is added later is exported and erased without anybody thinking of it.
    """
    found = []
    for table in METADATA.sorted_tables:
        column = next((table.c[name] for name in ("origin_owner_id", "owner_id") if name in table.c), None)
        if column is not None and "project_id" in table.c and table.name not in _APART:
            found.append((table, column))
    return tuple(found)


async def find_owner(tx: AsyncSession, project_id: str, owner_id: str) -> Owner:
    """The owner, also one of whom nothing is left but what names them by their id."""
    accounts = (
        await tx.execute(
            select(
                Account.id, Account.origin_owner_name, Account.origin_username, Account.label, Account.identity_label
            ).where(Account.project_id == project_id, Account.origin_owner_id == owner_id)
        )
    ).all()
    sessions = (
        await tx.execute(
            select(
                ConnectSession.id,
                ConnectSession.origin_owner_name,
                ConnectSession.origin_username,
                ConnectSession.label,
            ).where(ConnectSession.project_id == project_id, ConnectSession.origin_owner_id == owner_id)
        )
    ).all()
    named = [
        row[0]
        for table, column in holders()
        if (name := table.c.get("owner_name", table.c.get("origin_owner_name"))) is not None
        for row in await tx.execute(select(name).where(table.c.project_id == project_id, column == owner_id))
    ]
    words = {
        owner_id,
        *(name for name in named if name),
        *(str(word) for row in (*accounts, *sessions) for word in row[1:] if word),
    }
    return Owner(
        project_id,
        owner_id,
        frozenset(row.id for row in accounts),
        frozenset(row.id for row in sessions),
        frozenset(words),
    )


async def pages(db: Database, model: Any, key: Any, *where: ColumnElement[bool]) -> AsyncIterator[list[Any]]:
    """The rows of a table by a growing key, in pieces, without a transaction that lasts."""
    last: Any = None
    while True:
        query = select(model).where(*where).order_by(key).limit(BITE)
        async with db.read() as tx:
            rows = list((await tx.scalars(query if last is None else query.where(key > last))).all())
        if rows:
            yield rows
        if len(rows) < BITE:
            return
        last = getattr(rows[-1], key.key)


async def events(db: Database, owner: Owner) -> AsyncIterator[list[Event]]:
    """Events about the owner. Payloads can't be asked for on both databases alike, so the project's are all looked at."""
    async for rows in pages(db, Event, Event.seq, Event.project_id == owner.project_id):
        if found := [row for row in rows if owner.is_told_by(row)]:
            yield found
