"""Backup and restore of Mooring's schema in a database that an application uses too."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring.errors import ConfigurationError
from mooring.kit import vault as vaults
from mooring.migrations import runner
from mooring.operations import backup as backups
from mooring.operations import restore as restores
from mooring.runtime import prepare
from mooring.settings import load
from tests.servers.postgres import PostgresServer


async def test_a_backup_holds_the_schema_alone_and_comes_back_beside_an_application(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    ours, theirs = postgres_server.create_database(), postgres_server.create_database()
    for url in (ours, theirs):
        postgres_server.sql("CREATE TABLE users (id integer)", url.rsplit("/", 1)[1])
    settings = load({"MOORING_DATA_DIR": str(tmp_path / "data"), "MOORING_DATABASE_URL": f"{ours}?schema=mooring"})
    vaults.create_key_file(settings.resolved_key_file, data_dir=settings.data_dir)
    vault = vaults.Vault.from_file(settings.resolved_key_file, data_dir=settings.data_dir)
    db = await prepare(settings)
    assert await runner.upgrade(db) == []
    await db.close()
    folder, manifest = await backups.backup(settings, vault, tmp_path / "backups", force=False)
    assert {"users", "organizations", runner.VERSION_TABLE} <= set(manifest.rows)
    with pytest.raises(ConfigurationError, match="a restore needs an empty one"):
        await restores.restore(folder, theirs, vault)
    await restores.restore(folder, f"{theirs}?schema=mooring", vault)
    count = "SELECT schemaname, count(*) FROM pg_tables WHERE schemaname IN ('public', 'mooring') GROUP BY 1 ORDER BY 1"
    assert postgres_server.sql(count, theirs.rsplit("/", 1)[1]).splitlines() == [
        f"mooring|{len(manifest.rows)}",
        "public|1",
    ]
