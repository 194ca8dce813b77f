"""Bring the schema up to date: locked against other starters, and refusing a database that is newer than this code."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mooring.errors import ConfigurationError
from mooring.kit.db import Database

LOCK = 0x6D6F6F72  # "moor": the advisory lock of starters on PostgreSQL
VERSION_TABLE = "mooring_version"
"""Where the revision is kept: not in Alembic's own table, which a host application's migrations may have beside ours."""
FORMER_TABLE = "alembic_version"
_SIGNATURE = frozenset({"organizations", "auth_configs", "data_keys", "changes"})


async def upgrade(db: Database) -> list[str]:
    """Apply the missing migrations in one transaction; returns their ids. Raises ConfigurationError.

    On SQLite the transaction begins IMMEDIATE, on PostgreSQL it takes an advisory lock, so of several starters one works
    and the others find nothing left to do.
    """
    try:
        async with db.writer.begin() as connection:
            if not db.is_sqlite:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            if db.schema is not None:
                await _make_schema(connection, db.schema)
            return await connection.run_sync(_upgrade)
    except (DBAPIError, OSError) as e:
        reason = str(e.orig if isinstance(e, DBAPIError) else e).splitlines()[0][:200]
        raise ConfigurationError(f"MOORING_DATABASE_URL: the database can't be opened: {reason}") from None


async def _make_schema(connection: AsyncConnection, name: str) -> None:
    # Looked up first: IF NOT EXISTS asks for the right to create even where there is nothing to do.
    if await connection.scalar(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": name}) is None:
        await connection.execute(text(f'CREATE SCHEMA "{name}"'))


def version_table(names: Collection[str]) -> str | None:
    """Which of these tables has the revision of Mooring's schema, or None when Mooring was never here."""
    if VERSION_TABLE in names:
        return VERSION_TABLE
    return FORMER_TABLE if FORMER_TABLE in names and set(names) >= _SIGNATURE else None


def _upgrade(connection: Connection) -> list[str]:
    # Reading the version ourselves spares a start with a current schema the loading of all scripts.
    there = inspect(connection).get_table_names()
    kept, current = version_table(there), None
    if kept == FORMER_TABLE:
        connection.execute(text(f"ALTER TABLE {FORMER_TABLE} RENAME TO {VERSION_TABLE}"))
    if kept is not None:
        current = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - our name
    names = sorted(p.stem.split("_")[0] for p in (Path(__file__).parent / "versions").glob("[0-9]*.py"))
    if not names or current == names[-1]:
        return []
    if current is not None and current not in names:
        raise ConfigurationError(
            f"MOORING_DATABASE_URL: the database has schema {current}, newer than this version of Mooring knows"
            f" ({names[-1]}). Upgrade Mooring; going back is done with a backup."
        )
    return _migrate(connection) if current is not None else _create(connection, names)


def _create(connection: Connection, names: list[str]) -> list[str]:
    """Make the newest schema at once where Mooring never was. A test holds the models equal to the migrations."""
    from mooring.migrations.tables import METADATA

    clash = sorted(set(METADATA.tables) & set(inspect(connection).get_table_names()))
    if clash:  # somebody else's: to take them for ours would read and write an application's rows
        raise ConfigurationError(
            f"MOORING_DATABASE_URL: the database has tables of another application with names that Mooring needs:"
            f" {', '.join(clash)}. Give Mooring a schema of its own (?schema=mooring, PostgreSQL) or a file of its own."
        )
    METADATA.create_all(connection)
    connection.execute(text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES (:newest)"), {"newest": names[-1]})  # noqa: S608
    return names


def _migrate(connection: Connection) -> list[str]:
    # Alembic costs ten megabytes and is needed once per upgrade: it is loaded here, not at every start.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    script = ScriptDirectory.from_config(config)
    applied: list[str] = []

    def steps(revision: object, _context: object) -> list[object]:
        found = script._upgrade_revs("head", revision)  # type: ignore[arg-type]  # noqa: SLF001 - alembic's own recipe
        applied.extend(step.revision.revision for step in found)
        return found  # type: ignore[return-value]

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(
            connection=connection,
            transactional_ddl=True,
            render_as_batch=connection.dialect.name == "sqlite",
            version_table=VERSION_TABLE,
        )
        environment.run_migrations()
    return applied
