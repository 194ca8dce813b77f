"""Pages of the request log for people: any filter, and never more than a bounded look into a log of millions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, TextClause, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity.service import ProjectId
from mooring.kit import ids
from mooring.logs.models import RequestLog
from mooring.logs.service import LogFilter

LOOK: Final = 20_000  # rows that one page looks through at most


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first. `next` goes on from there; `partly` says that the look ended before the page was full."""

    rows: Sequence[RequestLog]
    next: str | None
    partly: bool


@dataclass(frozen=True, slots=True)
class Search:
    """What a person looks for, beyond the filters of the API."""

    filter: LogFilter = LogFilter()
    status_from: int | None = None
    status_below: int | None = None
    path: str | None = None
    slower_ms: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The search as SQL. Times become ids, which are made from the time and are indexed."""
        t, f = RequestLog, self.filter
        out = LogFilter(
            **{**{n: getattr(f, n) for n in f.__slots__}, "start_date": None, "end_date": None}
        ).conditions()
        if f.start_date:
            out.append(t.id >= ids.first_at(f.start_date.timestamp()))
        if f.end_date:
            out.append(t.id < ids.first_at(f.end_date.timestamp()))
        if self.status_from is not None:
            out.append(t.status >= self.status_from)
        if self.status_below is not None:
            out.append(t.status < self.status_below)
        if self.slower_ms is not None:
            out.append(t.duration_ms >= self.slower_ms)
        if self.path:
            text = self.path.lower()
            out.append(or_(t.path.icontains(text, autoescape=True), t.url.icontains(text, autoescape=True)))
        return out


async def page(
    tx: AsyncSession,
    project: ProjectId,
    search: Search,
    *,
    category: str = "unified",
    before: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page:
    """One page. Looks through `LOOK` rows at most, so that it answers at once whatever is asked."""
    t = RequestLog
    base: list[ColumnElement[bool] | TextClause] = [t.project_id == project, t.category == category]
    if search.filter.account_ids:
        base.append(t.account_id.in_(search.filter.account_ids))
    if search.filter.providers:
        base.append(t.provider.in_(search.filter.providers))
    if search.filter.success is False:
        base.append(text("NOT request_logs.success"))  # as the partial index says it
    if before:
        base.append(t.id < before)
    if after:
        base.append(t.id > after)
    if search.filter.start_date:
        base.append(t.id >= ids.first_at(search.filter.start_date.timestamp()))
    if search.filter.end_date:
        base.append(t.id < ids.first_at(search.filter.end_date.timestamp()))
    end = await tx.scalar(select(t.id).where(*base).order_by(t.id.desc()).offset(LOOK).limit(1))
    query = select(t).where(*base, *search.conditions())
    if end is not None:
        query = query.where(t.id > end)
    rows = (await tx.scalars(query.order_by(t.id.desc()).limit(limit + 1))).all()
    if len(rows) > limit:
        return Page(rows[:limit], rows[limit - 1].id, partly=False)
    return Page(rows, None if end is None else _just_above(end), partly=end is not None)


def _just_above(id: str) -> str:
    """A cursor from which the row `id` itself is still ahead."""
    return id + "0"


def reached(page: Page) -> datetime | None:
    """How far back a partial look went."""
    return ids.time_of(page.next) if page.next else None
