"""The database: types, transactions, and a schema history that gives the same tables as the models on both databases."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError, StatementError

import mooring.app  # noqa: F401 - all models are known
from mooring.errors import ConfigurationError
from mooring.kit import clock, jobs
from mooring.kit.db import Base, Change, Database, is_away, record_change
from mooring.migrations import runner
from mooring.operations.schema import revision, revisions, tables
from tests.hub import Hub
from tests.servers.ports import free_port


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'empty.db'}"
    return str(request.getfixturevalue("postgres_server").create_database())


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


_COMPARED = {"compare_type": True, "compare_server_default": True, "version_table": runner.VERSION_TABLE}


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts=_COMPARED)
    return list(compare_metadata(context, Base.metadata))


def plain(part: Any) -> Any:
    return {name: plain(value) for name, value in part.items()} if isinstance(part, dict) else str(part)


async def schema_of(db: Database) -> list[str]:
    """Tables, columns, keys, indexes and constraints as text."""

    def read(connection: Connection) -> list[str]:
        seen = inspect(connection)
        out = []
        for table in sorted(set(seen.get_table_names()) - {runner.VERSION_TABLE}):
            out += sorted(
                f"{table}.{c['name']} {c['type']} {c['nullable']} {c['default']}" for c in seen.get_columns(table)
            )
            out.append(f"{table} primary key {seen.get_pk_constraint(table)['constrained_columns']}")
            parts = (seen.get_indexes(table), seen.get_unique_constraints(table), seen.get_check_constraints(table))
            out += sorted(
                f"{table} {plain(part)}" for group in (*parts, seen.get_foreign_keys(table)) for part in group
            )
        return out

    async with db.writer.begin() as connection:
        return await connection.run_sync(read)


async def test_the_history_makes_what_the_models_say(db: Database) -> None:
    """An empty database gets the models' tables at once; the history must lead to the same."""
    async with db.writer.begin() as connection:
        applied = await connection.run_sync(runner._migrate)
    assert applied == sorted(applied) and applied
    assert await runner.upgrade(db) == []
    async with db.writer.begin() as connection:
        assert await connection.run_sync(differences) == []
    by_history = await schema_of(db)
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.execute(text(f"DROP TABLE {runner.VERSION_TABLE}"))
    assert await runner.upgrade(db) == applied
    assert await schema_of(db) == by_history and len(by_history) > 100


async def test_a_newer_schema_is_refused(db: Database) -> None:
    await runner.upgrade(db)
    async with db.begin() as tx:
        await tx.execute(text(f"UPDATE {runner.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match=r"^MOORING_DATABASE_URL: .*schema 9999, newer than"):
        await runner.upgrade(db)


async def test_a_database_of_before_keeps_its_schema(db: Database) -> None:
    """Versions up to 0.1.0 kept the revision in Alembic's own table; the next start moves it."""
    await runner.upgrade(db)
    async with db.begin() as tx:
        await tx.execute(text(f"ALTER TABLE {runner.VERSION_TABLE} RENAME TO alembic_version"))
    assert await runner.upgrade(db) == []
    async with db.read() as tx:
        assert await revision(tx) == revisions()[-1]
        assert {runner.VERSION_TABLE} == {name for name in await tables(tx) if "version" in name}


async def test_tables_of_an_application_are_never_taken_for_ours(db: Database) -> None:
    async with db.begin() as tx:
        await tx.execute(text("CREATE TABLE users (id INTEGER)"))
        await tx.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
    with pytest.raises(
        ConfigurationError, match=r"^MOORING_DATABASE_URL: .* tables of another application .*: users\."
    ):
        await runner.upgrade(db)
    async with db.begin() as tx:
        assert await tables(tx) == {"users", "alembic_version"}
        await tx.execute(text("ALTER TABLE users RENAME TO app_users"))
    assert await runner.upgrade(db)
    async with db.read() as tx:
        assert list(await tx.execute(text("SELECT * FROM alembic_version"))) == []


async def test_several_starters_at_once_migrate_once(url: str) -> None:
    starters = [Database(url) for _ in range(5)]
    try:
        applied = await asyncio.gather(*(runner.upgrade(starter) for starter in starters))
    finally:
        for starter in starters:
            await starter.close()
    assert sorted(map(len, applied))[:4] == [0, 0, 0, 0] and max(map(len, applied)) >= 1


async def test_a_migration_that_fails_leaves_nothing(db: Database) -> None:
    """The history is one transaction: a table that is in the way in the middle undoes all of it."""
    async with db.begin() as tx:
        await tx.execute(text("CREATE TABLE organizations (id INTEGER)"))
    with pytest.raises(DBAPIError):
        async with db.writer.begin() as connection:
            await connection.run_sync(runner._migrate)
    names = "SELECT name FROM sqlite_master WHERE type = 'table'" if db.is_sqlite else (
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    )  # fmt: skip
    async with db.read() as tx:
        assert list(await tx.scalars(text(names))) == ["organizations"]


def test_two_hubs_that_start_at_once_share_an_empty_database(tmp_path: Path, url: str) -> None:
    hubs = [Hub(tmp_path / name, free_port(), database_url=url) for name in "ab"]
    for hub in hubs:
        hub.env["MOORING_MASTER_KEY_FILE"] = str(tmp_path / "shared.keys")
        hub.folder.mkdir()
    starting = [
        subprocess.Popen([sys.executable, "-m", "mooring", "migrate"], env=hub.env, stderr=subprocess.PIPE)
        for hub in hubs
    ]
    assert [process.communicate(timeout=30)[1] for process in starting] == [b"", b""]
    assert [process.returncode for process in starting] == [0, 0]


def test_a_database_that_cannot_be_opened_ends_the_start_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for url in (
        f"sqlite:///{tmp_path / 'file' / 'db'}",
        "postgresql://nobody:secret-word@127.0.0.1:9/none",
        "mysql://x/y",
    ):
        hub = Hub(tmp_path / "hub", free_port(), database_url=url)
        ended = hub.command("migrate", check=False)
        assert ended.returncode == 2, ended.stderr
        (line,) = ended.stderr.strip().splitlines()
        assert line.startswith("mooring: MOORING_DATABASE_URL") and "secret-word" not in line


async def test_times_come_back_aware_and_in_utc(db: Database) -> None:
    await runner.upgrade(db)
    east = timezone(timedelta(hours=5, minutes=30))
    moments = [datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), datetime(2026, 1, 2, 3, 4, 5, tzinfo=east)]
    async with db.begin() as tx:
        tx.add_all([Change(topic="t", key=str(n), at=moment) for n, moment in enumerate(moments)])
    async with db.read() as tx:
        kept = list(await tx.scalars(select(Change.at).where(Change.topic == "t").order_by(Change.key)))
        assert kept == moments and all(moment.utcoffset() == timedelta(0) for moment in kept)
        early = await tx.scalars(select(Change.key).where(Change.at < moments[0], Change.topic == "t"))
        assert list(early) == ["1"]  # compared as times, not as texts of different zones


async def test_a_naive_time_is_refused(db: Database) -> None:
    await runner.upgrade(db)
    with pytest.raises(StatementError, match="naive"):
        async with db.begin() as tx:
            tx.add(Change(topic="t", key="k", at=datetime(2026, 1, 1)))  # noqa: DTZ001


async def test_an_exception_rolls_back(db: Database) -> None:
    await runner.upgrade(db)
    with pytest.raises(RuntimeError):
        async with db.begin() as tx:
            tx.add(Change(topic="t", key="k", at=datetime.now(UTC)))
            await tx.flush()
            raise RuntimeError
    async with db.read() as tx:
        assert list(await tx.scalars(select(Change.key))) == []


async def test_values_do_not_stand_in_errors(db: Database) -> None:
    await runner.upgrade(db)
    with pytest.raises(Exception) as caught:
        async with db.begin() as tx:
            await tx.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "do-not-show-me"})
    assert "do-not-show-me" not in str(caught.value) and "nowhere" in str(caught.value)


async def test_sqlite_is_set_up_to_survive_a_power_cut(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'd' / 'db'}")
    try:
        async with database.begin() as tx:
            pragmas = {
                name: await tx.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
    finally:
        await database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}
    assert (tmp_path / "d").stat().st_mode & 0o077 == 0


async def test_a_host_whose_clock_is_ahead_takes_no_job_that_another_is_at(postgres_url: str) -> None:
    """Leases, and the feed of changes, go by the database's clock."""
    db = Database(postgres_url)
    try:
        await runner.upgrade(db)
        async with db.begin() as tx:
            await jobs.enqueue(tx, "webhook")
        async with db.begin() as tx:
            assert len(await jobs.claim(tx, ["webhook"], 1)) == 1
        clock.shift(timedelta(minutes=10))
        async with db.begin() as tx:
            assert await jobs.claim(tx, ["webhook"], 1) == []
            record_change(tx, "api_key", "k")
        clock.shift(timedelta())
        async with db.read() as tx:
            (at,) = await tx.scalars(select(Change.at).where(Change.key == "k"))
        assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    finally:
        clock.shift(timedelta())
        await db.close()


@pytest.mark.parametrize(
    ("state", "away"),
    [("08006", True), ("53300", True), ("57P01", True), ("57P03", True), ("P0001", False), ("23505", False)],
)
async def test_a_postgres_that_goes_down_or_comes_up_is_away(postgres_url: str, state: str, away: bool) -> None:
    db = Database(postgres_url)
    with pytest.raises(DBAPIError) as caught:
        async with db.read() as tx:
            await tx.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$"))
    assert is_away(caught.value) is away
    await db.close()
