"""Volume, errors and latency per connector: counted while rows are written, read for charts."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from typing import Final, Protocol

from sqlalchemy import Insert, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.db import Base
from mooring.logs.models import LogStat

SHORT: Final = 10  # minutes
LONG: Final = 120
FINE: Final = timedelta(days=2)  # up to which a chart is made of short spans
EDGES: Final = (30, 100, 300, 1000, 3000, 10000)  # ms; the histogram's upper edges
_SUMS: Final = ("calls", "errors", "total_ms", *(f"under_{edge}" for edge in EDGES))


class Counted(Protocol):
    """What of a log entry is counted."""

    category: str
    project_id: str
    provider: str | None
    started_at: float
    success: bool
    duration_ms: float


async def count(tx: AsyncSession, entries: Iterable[Counted]) -> None:
    """Add the calls of a batch to their spans, in the transaction that writes the rows."""
    # Counted once, in short spans and by the histogram's own steps; the long spans and the sums follow from that.
    counted: dict[tuple[str, int, str], list[float]] = {}
    for entry in entries:
        if entry.category != "unified" or not entry.project_id:
            continue
        key = (entry.project_id, int(entry.started_at) // (60 * SHORT), entry.provider or "")
        row = counted.get(key)
        if row is None:
            row = counted[key] = [0.0] * (3 + len(EDGES) + 1)
        row[0] += 1
        row[2] += entry.duration_ms
        row[3 + bisect_right(EDGES, entry.duration_ms)] += 1
        if not entry.success:
            row[1] += 1
    sums: dict[tuple[str, int, datetime, str], list[float]] = defaultdict(lambda: [0.0] * len(_SUMS))
    for (project, slot, provider), row in counted.items():
        values = [*row[:3], *accumulate(row[3:-1])]  # slower than the last edge is in none of them
        for minutes in (SHORT, LONG):
            total = sums[project, minutes, _span(slot * 60 * SHORT, minutes), provider]
            for index, value in enumerate(values):
                total[index] += value
    if not sums:
        return
    # In one order, so that two processes that count the same spans can't wait for each other in a circle.
    rows = [
        {
            "project_id": key[0],
            "minutes": key[1],
            "span": key[2],
            "provider": key[3],
            **dict(zip(_SUMS, values, strict=True)),
        }
        for key, values in sorted(sums.items())
    ]
    connection = await tx.connection()
    await connection.execute(_adding(tx.get_bind().dialect.name), rows)


@cache
def _adding(dialect: str) -> Insert:
    """The statement, made once: making it costs the event loop more than running it."""
    table = Base.metadata.tables[LogStat.__tablename__]
    statement = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)
    added = {name: table.c[name] + statement.excluded[name] for name in _SUMS}
    keys = ["project_id", "minutes", "span", "provider"]
    return statement.on_conflict_do_update(index_elements=keys, set_=added)


def _span(moment: float, minutes: int) -> datetime:
    return datetime.fromtimestamp(moment // (60 * minutes) * (60 * minutes), UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a chart."""

    at: datetime
    calls: int
    errors: int
    mean_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Series:
    """All steps of one connector, or of all together, and their sums."""

    provider: str | None
    points: Sequence[Point]
    calls: int
    errors: int
    p50_ms: float
    p95_ms: float


async def series(
    tx: AsyncSession, project: ProjectId, *, since: datetime, steps: int = 48, provider: str | None = None
) -> list[Series]:
    """The time since `since` in equal steps: first all connectors together, then each, the busiest first."""
    minutes = LONG if clock.now() - since > FINE else SHORT
    query = select(LogStat.provider, LogStat.span, *(getattr(LogStat, name) for name in _SUMS)).where(
        LogStat.project_id == project, LogStat.minutes == minutes, LogStat.span >= _span(since.timestamp(), minutes)
    )
    if provider is not None:
        query = query.where(LogStat.provider == provider)
    now = clock.now()
    width = (now - since) / steps
    by_provider: dict[str, list[list[float]]] = {}
    everything = [[0.0] * len(_SUMS) for _ in range(steps)]
    for name, span, *values in await tx.execute(query):
        index = min(steps - 1, max(0, int((span - since) / width)))
        mine = by_provider.setdefault(name, [[0.0] * len(_SUMS) for _ in range(steps)])
        for target in (mine[index], everything[index]):
            for position, value in enumerate(values):
                target[position] += float(value)
    found = [_series(name, rows, since, width) for name, rows in by_provider.items()]
    found.sort(key=lambda s: (-s.calls, s.provider or ""))
    return [_series(None, everything, since, width), *found]


def _series(provider: str | None, rows: list[list[float]], since: datetime, width: timedelta) -> Series:
    points = [
        Point(since + width * i, int(r[0]), int(r[1]), r[2] / r[0] if r[0] else 0.0, _quantile(r, 0.95))
        for i, r in enumerate(rows)
    ]
    total = [sum(column) for column in zip(*rows, strict=True)]
    return Series(provider, points, int(total[0]), int(total[1]), _quantile(total, 0.5), _quantile(total, 0.95))


def _quantile(row: Sequence[float], share: float) -> float:
    """A quantile from the histogram, straight between two edges."""
    wanted = row[0] * share
    if not wanted:
        return 0.0
    low, below = 0.0, 0.0
    for edge, under in zip(EDGES, row[3:], strict=True):
        if under >= wanted:
            inside = under - below
            return low + (edge - low) * ((wanted - below) / inside if inside else 1.0)
        low, below = float(edge), under
    return float(EDGES[-1])


async def purge(tx: AsyncSession, before: datetime) -> None:
    """Drop spans that ended before a time."""
    await tx.execute(delete(LogStat).where(LogStat.span < before))
