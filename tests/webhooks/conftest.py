"""A project with a receiver, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mooring.kit.db import Database
from mooring.kit.http import HttpClient
from mooring.migrations import runner
from tests.servers.postgres import PostgresServer
from tests.webhooks.receiver import Receiver
from tests.webhooks.world import World, guard_for, new_project, new_vault_text, vault_of


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty database that the tests of this folder share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('webhooks')}/webhooks.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create_database()


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    db = Database(database_url)
    await runner.upgrade(db)
    yield db
    await db.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as running:
        yield running


@pytest.fixture
async def world(database: Database, receiver: Receiver) -> AsyncIterator[World]:
    """A fresh project, and no job left of another test."""
    guard = guard_for(receiver.port)
    http = HttpClient(guard, user_agent="Mooring/test")
    world = World(database, vault_of(new_vault_text()), http, guard, await new_project(database), receiver)
    await world.clear_jobs()
    yield world
    await http.aclose()
