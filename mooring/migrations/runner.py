"""Bring the schema up to date: locked against other starters, and refusing a database that is newer than this code."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from mooring.errors import ConfigurationError
from mooring.kit.db import Database

LOCK = 0x6D6F6F72  # "moor": the advisory lock of starters on PostgreSQL


async def upgrade(db: Database) -> list[str]:
    """Apply the missing migrations in one transaction; returns their ids. Raises ConfigurationError.

    On SQLite the transaction begins IMMEDIATE, on PostgreSQL it takes an advisory lock, so of several starters one works
    and the others find nothing left to do.
    """
    try:
        async with db.writer.begin() as connection:
            if not db.is_sqlite:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            return await connection.run_sync(_upgrade)
    except (DBAPIError, OSError) as e:
        reason = str(e.orig if isinstance(e, DBAPIError) else e).splitlines()[0][:200]
        raise ConfigurationError(f"MOORING_DATABASE_URL: the database can't be opened: {reason}") from None


def _upgrade(connection: Connection) -> list[str]:
    # Reading the version ourselves spares a start with a current schema the loading of all scripts.
    current = None
    if inspect(connection).has_table("alembic_version"):
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    names = sorted(p.stem.split("_")[0] for p in (Path(__file__).parent / "versions").glob("[0-9]*.py"))
    if not names or current == names[-1]:
        return []
    if current is not None and current not in names:
        raise ConfigurationError(
            f"MOORING_DATABASE_URL: the database has schema {current}, newer than this version of Mooring knows"
            f" ({names[-1]}). Upgrade Mooring; going back is done with a backup."
        )
    if current is None and not inspect(connection).has_table("organizations"):
        return _create(connection, names)
    return _migrate(connection)


def _create(connection: Connection, names: list[str]) -> list[str]:
    """Make the newest schema at once in an empty database. A test holds the models equal to the migrations."""
    from mooring.migrations.tables import METADATA

    METADATA.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": names[-1]})
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
            connection=connection, transactional_ddl=True, render_as_batch=connection.dialect.name == "sqlite"
        )
        environment.run_migrations()
    return applied
