"""What a database is: its tables, its schema revision, and whether this version knows it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession

import mooring.migrations
from mooring.errors import ConfigurationError
from mooring.migrations.runner import version_table


def has_file(url: str) -> bool:
    """Whether there is a database to open: opening a SQLite file that does not exist would make it."""
    parsed = make_url(url)
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file()


def require_file(url: str) -> None:
    """Raise ConfigurationError when there is no database to open."""
    if not has_file(url):
        raise ConfigurationError(
            f"MOORING_DATABASE_URL: there is no database {make_url(url).database}; start the hub once"
        )


def revisions() -> list[str]:
    """The schema revisions that this version knows, oldest first."""
    folder = Path(mooring.migrations.__file__).parent / "versions"
    return sorted(p.stem.split("_")[0] for p in folder.glob("[0-9]*.py"))


async def tables(tx: AsyncSession) -> frozenset[str]:
    """Names of the tables that exist. An older schema lacks some."""
    connection = await tx.connection()
    return frozenset(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def revision(tx: AsyncSession) -> str | None:
    """The database's schema revision, or None when Mooring was never here."""
    kept = version_table(await tables(tx))
    if kept is None:
        return None
    found: str | None = await tx.scalar(text(f"SELECT version_num FROM {kept}"))  # noqa: S608 - one of two fixed names
    return found


async def row_counts(tx: AsyncSession) -> dict[str, int]:
    """Number of rows by table."""
    out = {}
    for name in sorted(await tables(tx)):
        out[name] = int(await tx.scalar(text(f'SELECT count(*) FROM "{name}"')) or 0)  # noqa: S608 - from the catalogue
    return out
