"""The buffered writer of the request log: a moment at risk, one transaction per batch, never in a caller's way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson
import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.kit import ids
from mooring.kit.db import Database, is_away
from mooring.logs import stats
from mooring.logs.models import RequestDetail
from mooring.logs.record import Record

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 0.2
BATCH = 2000
LIMIT = 50_000  # rows that may wait; beyond it the oldest are dropped and counted
DETAIL_LIMIT = 32 << 20  # bytes of sealed details that may wait; beyond it a row goes without


@dataclass(slots=True)
class Entry:
    """One row to be. Filled while the call runs; `finish` completes it."""

    id: str
    category: str
    project_id: str
    method: str
    path: str
    started_at: float = field(
        init=False
    )  # UNIX time, told by the id: rows in the order of one are in that of the other
    source_type: str = "API"
    source_id: str | None = None
    source_ip: str | None = None
    account_id: str | None = None
    origin_owner_id: str | None = None
    provider: str | None = None
    service: str | None = None
    resource: str | None = None
    action: str | None = None
    url: str | None = None
    status: int = 0
    success: bool = False
    error_code: str | None = None
    duration_ms: float = 0.0
    provider_ms: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    record: Record | None = field(default=None, repr=False)  # advanced logs, while the call runs
    record_errors_only: bool = False
    detail: bytes | None = field(default=None, repr=False)  # and sealed
    detail_days: int = 0
    traceparent: str | None = None  # of the caller, where traces are exported
    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started_at = ids.seconds_of(self.id)

    def keep_details(self, *, errors_only: bool, days: int) -> None:
        """Gather headers and bodies of the call (advanced logs)."""
        self.record, self.record_errors_only, self.detail_days = Record(), errors_only, days

    def finish(self, status: int, duration_ms: float, *, error_code: str | None = None) -> Entry:
        """Set the outcome."""
        self.status = status
        self.success = 200 <= status < 400 and error_code is None
        self.duration_ms = round(duration_ms, 3)
        self.error_code = error_code
        if self.steps:
            last = self.steps[-1]
            last["up"], last["down"] = self.bytes_up, self.bytes_down
        if self.record is not None:
            if status >= 400 or not self.record_errors_only:
                self.detail = self.record.sealed(status, self.url)
            self.record = None  # it holds secrets
        return self

    def row(self, zone: str) -> list[Any]:
        """The values of the table's columns, in the order of `_COLUMNS`, as JSON knows them."""
        return [
            self.id,
            self.category,
            self.project_id,
            self.account_id,
            self.origin_owner_id,
            self.provider,
            self.service,
            _storable(self.resource, 80) if self.resource else None,
            self.action,
            _storable(self.method, 20),
            _storable(self.path, 2000),
            _storable(self.url, 2000) if self.url else None,
            self.status,
            self.success,
            self.error_code,
            _moment(self.started_at) + zone,
            _moment(self.started_at + self.duration_ms / 1000) + zone,
            self.duration_ms,
            self.source_type,
            self.source_id,
            self.source_ip,
            # As text: SQLite would walk through it for every column.
            orjson.dumps(self.steps).decode() if self.steps else "[]",
        ]


_COLUMNS = [
    "id",
    "category",
    "project_id",
    "account_id",
    "origin_owner_id",
    "provider",
    "service",
    "resource",
    "action",
    "method",
    "path",
    "url",
    "status",
    "success",
    "error_code",
    "started_at",
    "ended_at",
    "duration_ms",
    "source_type",
    "source_id",
    "source_ip",
    "steps",
]
_POSTGRES_TYPES = {
    "status": "integer",
    "success": "boolean",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    "duration_ms": "double precision",
    "steps": "jsonb",
}


_TWICE = (
    "ON CONFLICT (id) DO NOTHING"  # the connection broke after the commit and before its answer: the batch came again
)


def _insert_for_postgres() -> TextClause:
    """One statement with one parameter for a whole batch: the driver converts one text instead of 22 values per row."""
    names = ", ".join(_COLUMNS)
    shown = [f"CAST(value ->> {i} AS {_POSTGRES_TYPES.get(name, 'text')})" for i, name in enumerate(_COLUMNS)]
    rows = "jsonb_array_elements(CAST(:rows AS jsonb))"
    return text(f"INSERT INTO request_logs ({names}) SELECT {', '.join(shown)} FROM {rows} {_TWICE}")  # noqa: S608


_SQLITE_STEPS = (200, 20, 1)  # rows of one statement; SQLite takes 32,766 values at a time


@lru_cache(maxsize=len(_SQLITE_STEPS))
def _insert_for_sqlite(rows: int) -> str:
    """Many rows in one statement: the driver's thread takes Python's lock once for all of them, and nothing is parsed."""
    row = f"({', '.join('?' * len(_COLUMNS))})"
    values = ", ".join([row] * rows)
    return f"INSERT INTO request_logs ({', '.join(_COLUMNS)}) VALUES {values} {_TWICE}"  # noqa: S608


@lru_cache(maxsize=64)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _moment(timestamp: float) -> str:
    """UNIX time as `2026-01-31 12:00:00.123456`, UTC. Many rows of one batch share their second."""
    micros = round(timestamp * 1_000_000)
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}"


def _storable(text: str, limit: int) -> str:
    """What the caller wrote, without what a database refuses: NUL (PostgreSQL) and lone surrogates."""
    if len(text) <= limit and text.isascii() and "\0" not in text:
        return text
    return text[:limit].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _details(batch: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "request_id": entry.id,
            "project_id": entry.project_id,
            "account_id": entry.account_id,
            "sealed": entry.detail,
            "expires_at": datetime.fromtimestamp(entry.started_at, UTC) + timedelta(days=entry.detail_days),
        }
        for entry in batch
        if entry.detail is not None
    ]


class LogWriter:
    """Collects entries of one process and writes them in batches."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._insert = _insert_for_postgres()
        dialect = sqlite if db.is_sqlite else postgresql
        self._insert_details = dialect.insert(RequestDetail).on_conflict_do_nothing()
        self._zone = "" if db.is_sqlite else "+00"  # SQLite keeps UTC text without a zone
        self._waiting: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._detail_bytes = 0
        self.written = 0
        self.dropped = 0
        self.details_dropped = 0
        self.listener: Callable[[Sequence[Entry]], None] | None = None  # told of every batch that was written

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._waiting)

    def add(self, entry: Entry) -> None:
        """Queue a finished entry."""
        if len(self._waiting) >= LIMIT:
            self._forget(self._waiting.popleft())
            self.dropped += 1
        if entry.detail is not None:
            if self._detail_bytes + len(entry.detail) > DETAIL_LIMIT:
                entry.detail = None
                self.details_dropped += 1
            else:
                self._detail_bytes += len(entry.detail)
        self._waiting.append(entry)
        self._wake.set()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="log-writer")

    async def stop(self) -> None:
        """Write what waits, then stop."""
        if self._task:
            async with self._lock:  # cancelled between batches: one that is half written would be lost
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()

    async def flush(self) -> None:
        """Write all that waits now. Readers call it, so that a caller finds its own calls in the log."""
        async with self._lock:
            size = BATCH
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
                try:
                    async with self._db.begin() as tx:
                        await self._write_rows(tx, [entry.row(self._zone) for entry in batch])
                        details = _details(batch)
                        if details:
                            await tx.execute(self._insert_details, details)
                        await stats.count(tx, batch)
                except asyncio.CancelledError:
                    self._waiting.extendleft(reversed(batch))
                    raise
                except Exception as e:  # noqa: BLE001 - the writer must outlive whatever a row or the database does
                    if is_away(e):
                        self._waiting.extendleft(reversed(batch))
                        log.warning("request log not written; will try again", error=type(e).__name__, rows=len(batch))
                        return
                    if len(batch) > 1:  # one by one from here, so that a row that is refused takes no other with it
                        self._waiting.extendleft(reversed(batch))
                        size = 1
                    else:
                        self._forget(batch[0])
                        self.dropped += 1
                        log.error("request log row refused and dropped", id=batch[0].id, error=type(e).__name__)  # noqa: TRY400 - its text holds the row
                else:
                    self.written += len(batch)
                    self._tell(batch)
                    for entry in batch:
                        self._forget(entry)

    def _tell(self, batch: Sequence[Entry]) -> None:
        if self.listener is None:
            return
        try:
            self.listener(batch)
        except Exception as e:  # noqa: BLE001 - an export must not stop the log
            log.error("calls not exported", error=type(e).__name__)  # noqa: TRY400 - its text may hold a row

    def _forget(self, entry: Entry) -> None:
        if entry.detail is not None:
            self._detail_bytes -= len(entry.detail)

    async def _write_rows(self, tx: AsyncSession, rows: list[list[Any]]) -> None:
        if not self._db.is_sqlite:
            await tx.execute(self._insert, {"rows": orjson.dumps(rows).decode()})
            return
        connection = await tx.connection()
        at = 0
        for step in _SQLITE_STEPS:
            statement = _insert_for_sqlite(step)
            while len(rows) - at >= step:
                await connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows[at : at + step])))
                at += step

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            self._wake.clear()
            await self.flush()
            if self._waiting:  # the database was away
                await asyncio.sleep(1)
                self._wake.set()
