"""The buffered writer of the request log: a moment at risk, one transaction per batch, never in a caller's way."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
import structlog
from sqlalchemy import TextClause, text

from mooring.kit.db import Database, is_away
from mooring.logs import stats

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 0.2
BATCH = 2000
LIMIT = 50_000  # rows that may wait; beyond it the oldest are dropped and counted


@dataclass(slots=True)
class Entry:
    """One row to be. Filled while the call runs; `finish` completes it."""

    id: str
    category: str
    project_id: str
    method: str
    path: str
    started_at: float  # UNIX time
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
    steps: list[dict[str, Any]] = field(default_factory=list)

    def finish(self, status: int, duration_ms: float, *, error_code: str | None = None) -> Entry:
        """Set the outcome."""
        self.status = status
        self.success = 200 <= status < 400 and error_code is None
        self.duration_ms = round(duration_ms, 3)
        self.error_code = error_code
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
            self.steps,
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
_JSON_COLUMN = len(_COLUMNS) - 1
_POSTGRES_TYPES = {
    "status": "integer",
    "success": "boolean",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    "duration_ms": "double precision",
    "steps": "jsonb",
}


def _insert(is_sqlite: bool) -> TextClause:
    """One statement with one parameter for a whole batch: the driver converts one text instead of 22 values per row,
    and SQLite writes the batch without taking Python's lock for each row."""
    names = ", ".join(_COLUMNS)
    if is_sqlite:
        values = ", ".join(f"value ->> {i}" if i < _JSON_COLUMN else f"value -> {i}" for i in range(len(_COLUMNS)))
        return text(f"INSERT INTO request_logs ({names}) SELECT {values} FROM json_each(:rows)")  # noqa: S608
    shown = [f"CAST(value ->> {i} AS {_POSTGRES_TYPES.get(name, 'text')})" for i, name in enumerate(_COLUMNS)]
    rows = "jsonb_array_elements(CAST(:rows AS jsonb))"
    return text(f"INSERT INTO request_logs ({names}) SELECT {', '.join(shown)} FROM {rows}")  # noqa: S608


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


class LogWriter:
    """Collects entries of one process and writes them in batches."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._insert = _insert(db.is_sqlite)
        self._zone = "" if db.is_sqlite else "+00"  # SQLite keeps UTC text without a zone
        self._waiting: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def add(self, entry: Entry) -> None:
        """Queue a finished entry."""
        if len(self._waiting) >= LIMIT:
            self._waiting.popleft()
            self.dropped += 1
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
                        rows = orjson.dumps([entry.row(self._zone) for entry in batch])
                        await tx.execute(self._insert, {"rows": rows.decode()})
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
                        self.dropped += 1
                        log.error("request log row refused and dropped", id=batch[0].id, error=type(e).__name__)  # noqa: TRY400 - its text holds the row

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            self._wake.clear()
            await self.flush()
            if self._waiting:  # the database was away
                await asyncio.sleep(1)
                self._wake.set()
