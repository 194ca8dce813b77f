"""A hub of these tests' own, on each database: they turn its keys over, damage its rows and restart it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from mooring.identity.models import DataKeyRow
from mooring.kit import clock
from mooring.kit import ids as new_ids
from mooring.kit.db import Database
from mooring.kit.vault import Owner, Vault
from mooring.operations.schema import tables
from mooring.settings import Settings, load
from tests.hub import Hub, Project
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def own_hub(request: pytest.FixtureRequest, ports: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    url = request.getfixturevalue("postgres_server").create_database() if request.param == "postgres" else None
    folder = tmp_path_factory.mktemp(f"operations-{request.param}")
    (folder / "data").mkdir(mode=0o700)  # with PostgreSQL there may be none; its mode is one of the tests
    with Hub(folder, free_port(), database_url=url, egress_allow=f"127.0.0.1:{ports.sandbox}") as running:
        yield running


@pytest.fixture
def elsewhere(own_hub: Hub, ports: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hub]:
    """Another machine: an empty database, and the first hub's key file put in place by hand. Not started."""
    url = request.getfixturevalue("postgres_url") if own_hub.database_url.startswith("postgres") else None
    hub = Hub(
        tmp_path / "elsewhere",
        free_port(),
        database_url=url,
        egress_allow=f"127.0.0.1:{ports.sandbox}",
        env={"MOORING_MASTER_KEY_FILE": str(key_file(own_hub))},
    )
    hub.folder.mkdir()
    yield hub
    if hub.process is not None:
        hub.stop()


@pytest.fixture(scope="session")
def linked(own_hub: Hub, provider_url: str) -> Accounts:
    return _link(own_hub, provider_url)


@pytest.fixture
def accounts(own_hub: Hub, linked: Accounts) -> Accounts:
    """Three linked accounts, and an auth config that holds a secret. Tests give them back as they were."""
    return linked.at(own_hub)


@pytest.fixture
def fresh(own_hub: Hub, provider: Sandbox) -> Accounts:
    """Accounts like these in a project of their own, to be spoilt."""
    return _link(own_hub, provider.url)


def _link(hub: Hub, provider: str) -> Accounts:
    project = hub.new_project()
    keyed = project.config("sandbox", "api_key", {"sandbox_url": provider})
    ids = [project.link(keyed, {"api_key": "sandbox-key-acme"}, owner=f"owner-{n}") for n in range(2)]
    app = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    project.config("sandbox", "oauth2", {"sandbox_url": provider, **app})
    machine = project.config("sandbox", "client_credentials", {"sandbox_url": provider})
    secret = {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"}
    ids.append(project.link(machine, secret, owner="owner-2"))
    return Accounts(project, keyed, ids)


class Accounts:
    """A project and its accounts."""

    def __init__(self, project: Project, config: dict[str, Any], ids: list[str]) -> None:
        self.project = project
        self.config = config
        self.ids = ids

    def at(self, hub: Hub) -> Accounts:
        """The same accounts at a hub that has this hub's data."""
        return Accounts(Project(hub, self.project.id, self.project.key), self.config, self.ids)

    def call(self, id: str) -> int:
        return self.project.proxy(id, path="/api/me").status_code


def key_file(hub: Hub) -> Path:
    return settings_of(hub).resolved_key_file


def settings_of(hub: Hub, **more: str) -> Settings:
    return load({**hub.env, **more})


def vault_of(hub: Hub) -> Vault:
    settings = settings_of(hub)
    return Vault.from_file(settings.resolved_key_file, data_dir=settings.data_dir)


class Rows:
    """A connection beside the hub that stays open: what is asked often must not cost much."""

    def __init__(self, hub: Hub) -> None:
        self.is_postgres = hub.database_url.startswith("postgres")
        self.vault = vault_of(hub)
        self._runner = asyncio.Runner()
        self._db = Database(hub.database_url)

    def close(self) -> None:
        self._runner.run(self._db.close())
        self._runner.close()

    def query(self, sql: str, values: dict[str, Any] | list[dict[str, Any]] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement; what it writes is committed."""

        async def run() -> list[tuple[Any, ...]]:
            async with self._db.begin() as tx:
                result = await tx.execute(text(sql), values or {})
                return [tuple(row) for row in result] if result.returns_rows else []  # type: ignore[attr-defined]

        return self._runner.run(run())

    def number(self, sql: str, **values: Any) -> int:
        """Ask for one number. Reading waits for no writer."""

        async def run() -> int:
            async with self._db.read() as tx:
                return int(await tx.scalar(text(sql), values) or 0)

        return self._runner.run(run())

    def on(self, kek_id: str) -> int:
        """How many data keys are wrapped by a master key."""
        return self.number("SELECT count(*) FROM data_keys WHERE kek_id = :k", k=kek_id)

    def has_table(self, name: str) -> bool:
        async def run() -> bool:
            async with self._db.read() as tx:
                return name in await tables(tx)

        return self._runner.run(run())

    def fill(self, vault: Vault, project: str, number: int) -> None:
        """Add data keys of owners that do not exist."""
        made = [Owner(project, "filler", new_ids.nanoid()) for _ in range(number)]
        wrapped = [(owner, vault.new_key(new_ids.nanoid(), owner)[1]) for owner in made]
        now = clock.now()

        async def run() -> None:
            async with self._db.begin() as tx:
                await tx.execute(
                    insert(DataKeyRow),
                    [
                        {
                            "id": key.id,
                            "project_id": project,
                            "owner_kind": owner.kind,
                            "owner_id": owner.id,
                            "kek_id": key.kek_id,
                            "blob": key.blob,
                            "created_at": now,
                        }
                        for owner, key in wrapped
                    ],
                )

        self._runner.run(run())


@pytest.fixture
def rows(own_hub: Hub) -> Iterator[Rows]:
    opened = Rows(own_hub)
    yield opened
    opened.close()
