"""What stands in the database of a running hub, read beside it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import text

from mooring.kit.db import Database
from tests.hub import Hub


def query(hub: Hub, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows, if it has any; what it writes is committed."""

    async def run() -> list[tuple[Any, ...]]:
        db = Database(hub.database_url)
        try:
            async with db.begin() as tx:
                result = await tx.execute(text(sql), values)
                return [tuple(row) for row in result] if result.returns_rows else []  # type: ignore[attr-defined]
        finally:
            await db.close()

    with ThreadPoolExecutor(1) as pool:  # the test itself may have a loop, as those with a browser
        return pool.submit(lambda: asyncio.run(run())).result()


def counts(hub: Hub, project_id: str) -> dict[str, int]:
    """How many accounts, credentials and data keys a project has."""
    credentials = "credentials c JOIN accounts a ON a.id = c.account_id WHERE a.project_id = :p"
    tables = {
        "accounts": "accounts WHERE project_id = :p",
        "credentials": credentials,
        "data_keys": "data_keys WHERE project_id = :p",
    }
    return {name: query(hub, f"SELECT count(*) FROM {source}", p=project_id)[0][0] for name, source in tables.items()}
