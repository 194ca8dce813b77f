"""The engine of a hub without its web server: one context in this process, whose clock a test may move."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import update

from mooring.accounts import credentials, service
from mooring.accounts.context import Context
from mooring.accounts.credentials import Secrets, Times
from mooring.accounts.models import Account, Credential
from mooring.accounts.service import NewCredential, OwnerInfo
from mooring.accounts.testing import Identity
from mooring.auth_configs import service as auth_configs
from mooring.identity import service as identity
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.db import record_change
from mooring.protocol.oauth2 import TokenAnswer
from mooring.runtime import close_context, open_context
from mooring.settings import Settings

CONNECTOR = """\
connector: NAME
title: NAME
category: iam
base_url: ${origin}
auth:
  code:
    oauth2:
      authorize_url: ${origin}/authorize
      token_url: ${origin}/token
      REFRESH
    app_fields: &app {origin: {pattern: 'https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[a-z0-9_-]+'}}
    test: {get: /me, identity: id}
  key:
    bearer: ${api_key}
    fields: {api_key: {secret: true, lifetime: 90d}}
    app_fields: *app
    test: {get: /me, identity: id}
"""
CLIENT = {"client_id": "client", "client_secret": "client-secret"}


@dataclass
class Engine:
    """A context and a project in it."""

    context: Context
    project: ProjectId

    async def config(self, connector: str, method: str, origin: str) -> Any:
        setup = {"origin": origin} | (CLIENT if method == "code" else {})
        async with self.context.db.begin() as tx:
            return await auth_configs.create(
                tx,
                self.context.vault,
                self.context.registry,
                self.project,
                connector_key=connector,
                method_key=method,
                setup=setup,
            )

    async def link(self, config: Any, answer: TokenAnswer | None = None, owner: str = "owner", **fields: str) -> str:
        """Save an account as the Hub would after the test request."""
        method = self.context.registry[config.connector_key].auth[config.method_key]
        kept, times = Secrets(fields=fields), Times()
        if answer is not None:
            assert method.oauth2 is not None
            kept = credentials.with_token(kept, method.oauth2, answer)
            times = credentials.times_of(method.oauth2, answer, clock.now())
        new = NewCredential(
            config=config,
            method=method,
            probe_at=None,
            setup={},
            secrets=kept,
            times=times,
            refreshable=kept.refresh_token is not None,
            granted_scopes=None,
            missing_scopes=(),
            identity=Identity("somebody"),
        )
        async with self.context.db.begin() as tx:
            linked = await service.link(
                tx, self.context.vault, self.project, OwnerInfo(owner, owner), new, account_id=None, multiple=True
            )
            return linked.account.id

    async def row(self, account: str) -> Credential:
        async with self.context.db.read() as tx:
            return await tx.get_one(Credential, account)

    async def account(self, account: str) -> Account:
        async with self.context.db.read() as tx:
            return await tx.get_one(Account, account)

    async def alter(self, account: str, **values: Any) -> None:
        async with self.context.db.begin() as tx:
            await tx.execute(update(Credential).where(Credential.account_id == account).values(**values))
            record_change(tx, "account", account)

    async def copies(self, account: str, config: Any, count: int, **values: Any) -> None:
        """Many rows like this account's. Their credentials can't be opened; they are for queries."""
        async with self.context.db.begin() as tx:
            for table, key in ((Account, "id"), (Credential, "account_id")):
                one = await tx.get_one(table, account)
                base = {c.key: getattr(one, c.key) for c in table.__mapper__.column_attrs}
                changes: dict[str, Any] = values if table is Credential else {"owner_slot": None}
                rows = []
                for n in range(count):
                    row = base | {k: v(n) if callable(v) else v for k, v in changes.items()}
                    rows.append(row | {key: f"copy-{config.id[:8]}-{n}"})
                await tx.execute(table.__table__.insert(), [_columns(table, row) for row in rows])


def _columns(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Attribute names → column names."""
    return {c.columns[0].name: row[c.key] for c in table.__mapper__.column_attrs}


def answer(**more: Any) -> TokenAnswer:
    """A token answer with what a test cares for."""
    values: dict[str, Any] = {
        "access_token": "at-" + secrets.token_hex(8),
        "refresh_token": "rt-" + secrets.token_hex(8),
        "expires_in": 3600,
        "refresh_expires_in": None,
        "scope": None,
        "raw": {},
    }
    return TokenAnswer(**(values | more))


@asynccontextmanager
async def engine(folder: Path, *, port: int, connectors: Iterable[tuple[str, str]]) -> AsyncIterator[Engine]:
    """Open a context on a fresh SQLite database. `connectors` are names with their `refresh` line."""
    own = folder / "connectors"
    own.mkdir(parents=True)
    for name, refresh in connectors:
        (own / f"{name}.yaml").write_text(CONNECTOR.replace("NAME", name).replace("REFRESH", refresh))
    settings = Settings(data_dir=folder / "data", connectors_dir=own, egress_allow=f"127.0.0.1:{port}")
    context = await open_context(settings, public_url="http://127.0.0.1:1")
    try:
        async with context.db.begin() as tx:
            org = await identity.create_organization(tx, f"org-{uuid.uuid4()}")
            project = await identity.create_project(tx, org.id, "engine")
        yield Engine(context, ProjectId(project.id))
    finally:
        clock.shift(timedelta())
        await close_context(context)


def in_days(days: float) -> datetime:
    return clock.now() + timedelta(days=days)
