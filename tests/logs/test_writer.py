"""The writer of the request log: nothing is lost below its bound, and beyond it memory does not grow (decision 16)."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import func, insert, select

from mooring.kit import clock, ids
from mooring.kit.db import Database
from mooring.logs import writer
from mooring.logs.models import RequestDetail, RequestLog
from mooring.logs.writer import Entry, LogWriter
from mooring.maintenance import drop_details, drop_logs
from mooring.migrations import runner
from tests.servers.postgres import PostgresServer
from tests.servers.toxic import ToxicLink


def entry(project: str = "p", **more: object) -> Entry:
    made = Entry(ids.time_uuid(), "unified", project, "GET", "/proxy/x", **more)  # type: ignore[arg-type]
    return made.finish(200, 1.5)


async def count(db: Database) -> int:
    async with db.read() as tx:
        return await tx.scalar(select(func.count()).select_from(RequestLog)) or 0


async def test_a_database_that_is_away_for_five_seconds_loses_nothing(postgres_server: PostgresServer) -> None:
    link = ToxicLink(postgres_server.port)
    await asyncio.to_thread(link.start)
    try:
        await away(link, postgres_server.create_database())
    finally:
        await asyncio.to_thread(link.stop)


async def away(link: ToxicLink, url: str) -> None:
    """Take the way to the database for five seconds, at a moment at which rows are being written."""
    parts = urlsplit(url)
    db = Database(urlunsplit(parts._replace(netloc=parts.netloc.replace(str(parts.port), str(link.port)))))
    await runner.upgrade(db)
    logs = LogWriter(db)
    logs.start()
    for _ in range(50):
        logs.add(entry())
    await asyncio.sleep(1)
    assert logs.waiting == 0  # at most a second at risk
    await asyncio.to_thread(link.stop)
    begun = time.monotonic()
    added = 50
    while time.monotonic() - begun < 5:
        for _ in range(400):
            logs.add(entry())
            added += 1
        await asyncio.sleep(0.1)
    assert 1000 < logs.waiting < writer.LIMIT
    await asyncio.to_thread(link.start)
    deadline = time.monotonic() + 30
    while logs.waiting and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    await logs.stop()
    assert await count(db) == added == logs.written and logs.dropped == 0
    await db.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_batch_that_is_written_twice_counts_once(
    kind: str, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """The connection may break after the commit and before its answer: the batch comes again."""
    db = Database(postgres_server.create_database() if kind == "postgres" else f"sqlite:///{tmp_path / 'm.db'}")
    await runner.upgrade(db)
    logs = LogWriter(db)
    batch = [entry(account_id="a", detail=b"sealed", detail_days=7) for _ in range(5)]
    for one in (*batch, *batch, entry()):
        logs.add(one)
        if one is batch[-1]:
            await logs.flush()
    await logs.flush()
    assert await count(db) == 6 and logs.dropped == 0 and logs.waiting == 0
    await db.close()


async def test_beyond_the_bound_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'm.db'}")
    await runner.upgrade(db)
    logs = LogWriter(db)
    first = [entry() for _ in range(10)]
    tracemalloc.start()
    for one in first:
        logs.add(one)
    for _ in range(writer.LIMIT):
        logs.add(entry())
    full = tracemalloc.get_traced_memory()[0]
    for _ in range(2000):
        logs.add(entry())
    assert tracemalloc.get_traced_memory()[0] < full * 1.02
    tracemalloc.stop()
    assert logs.waiting == writer.LIMIT and logs.dropped == 2010
    await logs.flush()
    assert await count(db) == writer.LIMIT == logs.written
    async with db.read() as tx:
        assert not (await tx.scalars(select(RequestLog.id).where(RequestLog.id.in_([e.id for e in first])))).all()
    await db.close()


async def test_details_have_a_bound_of_their_own(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'm.db'}")
    await runner.upgrade(db)
    logs = LogWriter(db)
    piece = bytes(1 << 20)
    for _ in range(40):
        logs.add(entry(account_id="a", detail=piece, detail_days=7))
    assert logs.waiting == 40 and logs.details_dropped == 8
    await logs.flush()
    logs.add(entry(account_id="a", detail=piece, detail_days=7))  # there is room again
    await logs.flush()
    assert logs.details_dropped == 8 and await count(db) == 41
    async with db.read() as tx:
        kept = (await tx.scalars(select(RequestDetail.expires_at))).all()
    assert len(kept) == 33
    assert all(timedelta(days=6, hours=23) < at - clock.now() <= timedelta(days=7) for at in kept)
    await db.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_old_rows_go_in_bites_and_young_ones_stay(
    kind: str, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    db = Database(postgres_server.create_database() if kind == "postgres" else f"sqlite:///{tmp_path / 'm.db'}")
    await runner.upgrade(db)
    logs = LogWriter(db)
    now = clock.now()
    for number in range(12_000):
        one = entry()
        moment = now - timedelta(days=91 if number % 4 else 89, seconds=number)
        one.id = f"{ids.first_at(moment.timestamp())[:24]}{number:012x}"
        one.started_at = moment.timestamp()
        logs.add(one)
    await logs.flush()
    assert await drop_logs(db, now - timedelta(days=90), time.monotonic() + 60)
    assert await count(db) == 3000
    async with db.read() as tx:
        oldest = await tx.scalar(select(func.min(RequestLog.started_at)))
    assert oldest is not None and oldest >= now - timedelta(days=90)
    assert await drop_logs(db, now - timedelta(days=90), time.monotonic() + 60)
    assert not await drop_logs(db, now, time.monotonic() - 1)  # no time left is not the same as nothing left
    details = [
        {"request_id": f"r{n}", "project_id": "p", "account_id": "a", "sealed": b"x", "expires_at": at}
        for n, at in enumerate([now - timedelta(days=1)] * 700 + [now + timedelta(days=1)] * 3)
    ]
    async with db.begin() as tx:
        await tx.execute(insert(RequestDetail), details)
    assert await drop_details(db, now, time.monotonic() + 60)
    async with db.read() as tx:
        assert await tx.scalar(select(func.count()).select_from(RequestDetail)) == 3
    await db.close()


def test_the_first_id_of_a_moment_sorts_before_all_of_it() -> None:
    made = ids.time_uuid()
    now = datetime.now(UTC).timestamp()
    assert ids.first_at(now - 1) < made < ids.first_at(now + 1)
    assert len(ids.first_at(now)) == 36 and ids.first_at(0) < ids.first_at(1)
