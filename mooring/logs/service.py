"""Queries on the request log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, SQLColumnExpression, and_, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.diagnosis.table import CAUSES
from mooring.identity import sealing
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.vault import Owner, Vault
from mooring.logs.models import RequestDetail, RequestLog
from mooring.logs.record import FIELD

ORDERS: dict[str, SQLColumnExpression[Any]] = {
    "eventDatetime": RequestLog.id,  # the id is made when the call starts
    "provider": func.coalesce(RequestLog.provider, ""),  # a call that was refused early has none
    "service": func.coalesce(RequestLog.service, ""),
    "status": RequestLog.status,
    "duration": RequestLog.duration_ms,
}


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What to look for (contract §2.9). Empty means no condition; values of one list are alternatives."""

    account_ids: Sequence[str] = ()
    origin_owner_ids: Sequence[str] = ()
    providers: Sequence[str] = ()
    services: Sequence[str] = ()
    resources: Sequence[str] = ()
    actions: Sequence[str] = ()
    http_methods: Sequence[str] = ()
    status_codes: Sequence[int] = ()
    request_ids: Sequence[str] = ()
    source_ids: Sequence[str] = ()
    source_types: Sequence[str] = ()
    start_date: datetime | None = None
    end_date: datetime | None = None
    success: bool | None = None
    nothing: bool = False  # asks for a value of something that no row has

    def conditions(self) -> list[ColumnElement[bool]]:
        """The filter as SQL."""
        t = RequestLog
        lists = [
            (t.account_id, self.account_ids),
            (t.origin_owner_id, self.origin_owner_ids),
            (t.provider, self.providers),
            (t.service, self.services),
            (t.resource, self.resources),
            (t.action, self.actions),
            (t.method, [m.upper() for m in self.http_methods]),
            (t.status, self.status_codes),
            (t.id, self.request_ids),
            (t.source_id, self.source_ids),
            (t.source_type, self.source_types),
        ]
        out: list[ColumnElement[bool]] = [column.in_(values) for column, values in lists if values]
        if self.start_date:
            out.append(t.started_at >= self.start_date)
        if self.end_date:
            out.append(t.started_at <= self.end_date)
        if self.nothing:
            out.append(false())
        if self.success is not None:
            out.append(t.success == self.success)
        return out


async def search(
    tx: AsyncSession,
    project: ProjectId,
    filter: LogFilter,
    *,
    category: str,
    order_by: str = "eventDatetime",
    descending: bool = True,
    after: tuple[str | float | None, str] | None = None,
    limit: int = 25,
) -> tuple[Sequence[RequestLog], tuple[str | float | None, str] | None]:
    """One page of rows and the position after it, or None at the end. Keyset paging: a page costs the same everywhere."""
    column = ORDERS[order_by]
    query = select(RequestLog, column).where(
        RequestLog.project_id == project, RequestLog.category == category, *filter.conditions()
    )
    if after is not None:
        value, id = after
        if order_by == "eventDatetime":
            query = query.where(RequestLog.id < id if descending else RequestLog.id > id)
        elif descending:
            query = query.where(or_(column < value, and_(column == value, RequestLog.id < id)))
        else:
            query = query.where(or_(column > value, and_(column == value, RequestLog.id > id)))
    order = (column.desc(), RequestLog.id.desc()) if descending else (column.asc(), RequestLog.id.asc())
    found = (await tx.execute(query.order_by(*order).limit(limit + 1))).all()
    rows = [row for row, _ in found[:limit]]
    return rows, (found[limit - 1][1], rows[-1].id) if len(found) > limit else None


async def get(tx: AsyncSession, project: ProjectId, id: str) -> RequestLog:
    """One row of the project. Raises NotFound, the same for foreign and unknown ids."""
    row = await tx.scalar(select(RequestLog).where(RequestLog.id == id, RequestLog.project_id == project))
    if row is None:
        raise errors.NotFound("no such log entry")
    return row


def cause_of(row: RequestLog) -> str | None:
    """The cause that was stored with a failed call: beside its last request to the provider, or as its code."""
    told = [step.get("cause") for step in reversed(row.steps)]
    return next((code for code in [*told, row.error_code] if code in CAUSES), None)


async def open_detail(tx: AsyncSession, vault: Vault, row: RequestLog) -> dict[str, Any] | None:
    """Headers and bodies of a call; None when they were not kept, are over their time, or their account was deleted."""
    detail = await tx.get(RequestDetail, row.id)
    if detail is None or detail.expires_at <= clock.now():
        return None
    owner = Owner(row.project_id, "account", detail.account_id)
    wrapped = await sealing.find_key(tx, owner)
    if wrapped is None:
        return None
    vault.opened += 1
    opened: dict[str, Any] = orjson.loads(vault.unwrap(wrapped, owner).open(detail.sealed, name=FIELD))
    return opened
