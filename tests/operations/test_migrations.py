"""Rule S27: from every released schema, with rows in every table, killed half-way, by two starters at once: nothing lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from mooring.kit.db import Database
from mooring.migrations import runner
from mooring.operations.schema import revisions
from tests.faults.load import number
from tests.hub import Hub
from tests.operations import commands
from tests.servers.ports import free_port

KILLS = number("MIGRATION_KILLS", 0)  # from each schema; from the first one always
ROWS = number("MIGRATION_ROWS", 20)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
Rows = dict[str, set[tuple[str, ...]]]
Columns = dict[str, list[str]]
T = TypeVar("T")


@pytest.fixture(params=["sqlite", "postgres"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Hub:
    """The settings of a hub that is not running, on an empty database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    made = Hub(tmp_path, free_port(), database_url=url)
    (tmp_path / "data").mkdir(mode=0o700)
    return made


def on(hub: Hub, work: Callable[[Connection], T]) -> T:
    """Run `work(connection)` in a transaction."""

    async def run() -> T:
        db = Database(hub.database_url)
        try:
            async with db.writer.begin() as connection:
                return await connection.run_sync(work)
        finally:
            await db.close()

    return asyncio.run(run())


def bring_to(connection: Connection, revision: str) -> None:
    """Make the schema of a version, by the history alone."""
    config = Config()
    config.set_main_option("script_location", str(Path(runner.__file__).parent))
    script = ScriptDirectory.from_config(config)
    steps = lambda current, _context: script._upgrade_revs(revision, current)  # noqa: E731
    with EnvironmentContext(Config(), script, fn=steps) as environment:
        sqlite = connection.dialect.name == "sqlite"
        environment.configure(connection=connection, render_as_batch=sqlite, version_table=runner.FORMER_TABLE)
        environment.run_migrations()


def reflected(connection: Connection) -> list[sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    versions = {runner.FORMER_TABLE, runner.VERSION_TABLE}
    return [table for table in metadata.sorted_tables if table.name not in versions]


def fill(connection: Connection) -> None:
    """Put rows into every table, each value by its column's type, each reference to a row that is there."""
    for table in reflected(connection):
        for n in range(ROWS):
            values = {column.name: value_of(column, n) for column in table.columns}
            connection.execute(table.insert().values(**values))


def value_of(column: sa.Column[Any], n: int) -> Any:
    if column.foreign_keys:
        return value_of(next(iter(column.foreign_keys)).column, n)
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return n % 2 == 0
    if isinstance(kind, sa.Integer):
        return n + 1
    if isinstance(kind, sa.Numeric | sa.Float):
        return n + 0.5
    if isinstance(kind, sa.JSON):
        return {"n": n, "text": "ü"}
    if isinstance(kind, sa.LargeBinary):
        return n.to_bytes(4, "big") * 8
    if isinstance(kind, sa.DateTime):
        return (NOON + timedelta(minutes=n)).replace(tzinfo=UTC if kind.timezone else None)
    return f"{n:03}-{column.name}"[: getattr(kind, "length", None) or 500]


def kept(connection: Connection, columns: Columns | None = None) -> tuple[Rows, Columns]:
    """Every row, in the columns of before."""
    tables = {table.name: table for table in reflected(connection)}
    columns = columns or {name: sorted(table.columns.keys()) for name, table in tables.items()}
    rows = {}
    for name, names in columns.items():
        found = connection.execute(sa.select(*(tables[name].c[column] for column in names)))
        rows[name] = {tuple(map(repr, row)) for row in found}
    return rows, columns


def revision(connection: Connection) -> str | None:
    table = runner.version_table(sa.inspect(connection).get_table_names())
    return connection.scalar(sa.text(f"SELECT version_num FROM {table}")) if table else None


@pytest.mark.parametrize("released", revisions()[:-1])
def test_every_released_schema_comes_along_with_its_rows(hub: Hub, released: str) -> None:
    on(hub, lambda connection: bring_to(connection, released))
    on(hub, fill)
    before, columns = on(hub, kept)
    assert all(len(rows) == ROWS for rows in before.values()) and len(before) > 20
    killed = 0
    kills = max(KILLS, 2 if released == revisions()[0] else 0)
    for n in range(kills):
        starter = commands.start(hub, "migrate")
        time.sleep(random.uniform(0.0, 0.4 * (n + 1) / kills))
        starter.kill()
        starter.join()
        at = on(hub, revision)
        assert at in {released, revisions()[-1]}, "a migration is whole or not there"
        killed += at == released
        if at != released:
            break
    starters = [commands.start(hub, "migrate") for _ in range(2)]
    for starter in starters:
        starter.join(60)
    assert [starter.exitcode for starter in starters] == [0, 0]
    assert on(hub, revision) == revisions()[-1]
    after, _ = on(hub, lambda connection: kept(connection, columns))
    print(f"\nS27: {released}, killed {killed} times before the end, {sum(map(len, before.values()))} rows")
    assert after == before
    assert on(hub, lambda connection: len(reflected(connection))) >= len(before)
