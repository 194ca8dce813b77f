"""Many accounts in a hub's database, made beside it by its own code: sealed as linking seals them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import insert, select

from bench.servers import CREDENTIAL
from mooring.accounts import credentials
from mooring.accounts.credentials import Secrets
from mooring.accounts.models import Account, Credential
from mooring.auth_configs import models as _auth_configs  # noqa: F401 - its tables are referred to
from mooring.identity.models import DataKeyRow
from mooring.kit import ids
from mooring.kit.db import Database
from mooring.kit.vault import Owner, Vault

BATCH = 2_000


_KEY = Secrets(fields={"api_key": CREDENTIAL})


def populate(
    home: Path, template: str, count: int, secrets: Secrets = _KEY, *, database_url: str | None = None
) -> list[str]:
    """Add `count` accounts like `template`; return their ids. The hub may run meanwhile."""
    url = database_url or f"sqlite:///{home / 'data' / 'mooring.db'}"
    return asyncio.run(_populate(home, url, template, count, secrets))


async def _populate(home: Path, url: str, template: str, count: int, secrets: Secrets) -> list[str]:
    vault = Vault.from_file(home / "data.keys", data_dir=home / "data")
    db = Database(url)
    made: list[str] = []
    try:
        async with db.read() as tx:
            account = (await tx.scalars(select(Account).where(Account.id == template))).one()
            credential = (await tx.scalars(select(Credential).where(Credential.account_id == template))).one()
        like = {c.key: getattr(account, c.key) for c in Account.__mapper__.column_attrs}
        secret = {c.key: getattr(credential, c.key) for c in Credential.__mapper__.column_attrs}
        while len(made) < count:
            rows: tuple[list[dict[str, object]], ...] = ([], [], [])
            for _ in range(min(BATCH, count - len(made))):
                id = ids.nanoid()
                owner = Owner(account.project_id, "account", id)
                key, wrapped = vault.new_key(ids.nanoid(), owner)
                sealed = credentials.seal(key, secrets, credential.generation)
                rows[0].append({**like, "id": id, "origin_owner_id": id, "owner_slot": None})
                rows[1].append({**secret, "account_id": id, "sealed": sealed, "probe_at": None})
                rows[2].append(
                    {
                        "id": wrapped.id,
                        "project_id": account.project_id,
                        "owner_kind": owner.kind,
                        "owner_id": id,
                        "kek_id": wrapped.kek_id,
                        "blob": wrapped.blob,
                        "created_at": account.created_at,
                    }
                )
                made.append(id)
            async with db.begin() as tx:
                for table, values in zip((Account, Credential, DataKeyRow), rows, strict=True):
                    await tx.execute(insert(table), values)
    finally:
        await db.close()
    return made
