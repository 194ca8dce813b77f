"""Everything of one owner that may leave the hub, as one JSON document (GDPR articles 15 and 20). No secret is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import LargeBinary, select

from mooring.accounts.models import Account, Credential
from mooring.accounts.service import told
from mooring.connect.models import ConnectionAttempt, ConnectSession
from mooring.identity import audit, erasure
from mooring.kit import clock
from mooring.kit.db import Database
from mooring.logs.models import RequestLog
from mooring.operations.owner_records import Owner, events, find_owner, holders, pages

# Named one by one: a column that is added later must be thought of before it leaves the hub.
_ACCOUNT = (
    "id", "connector_key", "origin_owner_id", "origin_owner_name", "origin_username", "label", "meta", "type", "shared",
    "status", "setup", "granted_scopes", "missing_scopes", "identity", "identity_label", "created_at", "updated_at",
)  # fmt: skip
_CREDENTIAL = (
    "generation", "expires_at", "refresh_expires_at", "refreshable", "typed_at", "updated_at", "last_outcome",
    "expected_failure_at", "expected_failure_reason",
)  # fmt: skip
_SESSION = (
    "id", "origin_owner_id", "origin_owner_name", "origin_username", "provider", "account_id", "categories", "label",
    "meta", "type", "created_at", "expires_at",
)  # fmt: skip
_ATTEMPT = ("id", "session_id", "status", "account_id", "error_code", "error_description", "created_at", "updated_at")
_REQUEST = (
    "id", "category", "account_id", "origin_owner_id", "provider", "service", "resource", "action", "method", "path",
    "url", "status", "error_code", "started_at", "duration_ms", "source_type", "source_ip",
)  # fmt: skip
_EVENT = ("id", "event", "record_type", "record_id", "account_id", "payload", "created_at")
_AUDIT = (
    "seq", "at", "actor_kind", "actor_id", "actor_label", "action", "target_type", "target_id", "target_label",
    "address", "result", "detail",
)  # fmt: skip


async def export(db: Database, project_id: str, owner_id: str) -> AsyncIterator[bytes]:
    """The document, piece by piece. That it was made is noted in the audit log first."""
    async with db.begin() as tx:
        owner = await find_owner(tx, project_id, owner_id)
        audit.note(tx, "owner.exported", project_id=project_id, target=("owner", owner_id[:80]))
    head = {"project_id": project_id, "origin_owner_id": owner_id, "exported_at": clock.iso(clock.now())}
    yield orjson.dumps(head)[:-1]
    for name, rows in (
        ("accounts", _accounts(db, owner)),
        ("connect_sessions", _plain(db, owner, ConnectSession, ConnectSession.id, _SESSION)),
        ("connection_attempts", _attempts(db, owner)),
        ("requests", _requests(db, owner)),
        ("events", _events(db, owner)),
        ("others", _others(db, owner)),
        ("audit_entries", _audit(db, owner)),
    ):
        yield b',\n"%s":[' % name.encode()
        first = True
        async for row in rows:
            yield (b"\n" if first else b",\n") + orjson.dumps(row)
            first = False
        yield b"]"
    yield b"}\n"


def _shown(row: Any, names: Iterable[str]) -> dict[str, Any]:
    values = {("metadata" if name == "meta" else name): getattr(row, name) for name in names}
    return {name: clock.iso(value) if isinstance(value, datetime) else value for name, value in values.items()}


async def _accounts(db: Database, owner: Owner) -> AsyncIterator[Mapping[str, Any]]:
    mine = (Account.project_id == owner.project_id, Account.origin_owner_id == owner.id)
    async for rows in pages(db, Account, Account.id, *mine):
        async with db.read() as tx:
            found = await tx.scalars(select(Credential).where(Credential.account_id.in_([row.id for row in rows])))
            credentials = {row.account_id: _shown(row, _CREDENTIAL) for row in found}
        for row in rows:
            reasons = [told(reason) for reason in row.status_reasons]
            yield {**_shown(row, _ACCOUNT), "status_reasons": reasons, "credential": credentials.get(row.id)}


async def _plain(
    db: Database, owner: Owner, model: Any, key: Any, names: tuple[str, ...]
) -> AsyncIterator[Mapping[str, Any]]:
    mine = (model.project_id == owner.project_id, model.origin_owner_id == owner.id)
    async for rows in pages(db, model, key, *mine):
        for row in rows:
            yield _shown(row, names)


async def _attempts(db: Database, owner: Owner) -> AsyncIterator[Mapping[str, Any]]:
    theirs = ConnectionAttempt.session_id.in_(
        select(ConnectSession.id).where(
            ConnectSession.project_id == owner.project_id, ConnectSession.origin_owner_id == owner.id
        )
    )
    async for rows in pages(db, ConnectionAttempt, ConnectionAttempt.id, theirs):
        for row in rows:
            yield _shown(row, _ATTEMPT)


async def _requests(db: Database, owner: Owner) -> AsyncIterator[Mapping[str, Any]]:
    async for rows in pages(db, RequestLog, RequestLog.id, owner.requests()):
        for row in rows:
            yield _shown(row, _REQUEST)


async def _events(db: Database, owner: Owner) -> AsyncIterator[Mapping[str, Any]]:
    async for rows in events(db, owner):
        for row in rows:
            yield _shown(row, _EVENT)


async def _others(db: Database, owner: Owner) -> AsyncIterator[Mapping[str, Any]]:
    """Rows of every other table that has an owner, without what is a hash or sealed."""
    for table, column in holders():
        shown = [c for c in table.c if not isinstance(c.type, LargeBinary)]
        async with db.read() as tx:
            mine = (table.c.project_id == owner.project_id) & (column == owner.id)
            rows = (await tx.execute(select(*shown).where(mine))).mappings().all()
        for row in rows:
            yield {"table": table.name, **_shown(SimpleNamespace(**row), map(str, row))}


async def _audit(db: Database, owner: Owner) -> AsyncIterator[Mapping[str, Any]]:
    async for row in erasure.entries(db, owner.project_id, owner.traces.concern):
        yield _shown(row, _AUDIT)
