"""Every row that holds something sealed with a data key, and whether it opens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, and_, false, func, literal, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts.models import Account, Credential
from mooring.auth_configs.models import AuthConfig
from mooring.identity.models import DataKeyRow
from mooring.kit.db import Database
from mooring.kit.vault import Owner, Vault, VaultError, WrappedKey
from mooring.operations.schema import tables
from mooring.webhooks.models import WebhookEndpoint, WebhookSecret

BATCH = 500


@dataclass(frozen=True, slots=True)
class _Source:
    """Where owners of one kind keep what they sealed: rows (id, project_id, owner_id, sealed, generation)."""

    kind: str
    table: str
    rows: Select[*tuple[Any, ...]]
    owners: Select[*tuple[Any, ...]]  # ids of those that are alive


_SOURCES = (
    _Source(
        "account",
        "credentials",
        select(
            Credential.account_id.label("id"),
            Account.project_id,
            Account.id.label("owner_id"),
            Credential.sealed,
            Credential.generation,
        ).join(Account, and_(Account.id == Credential.account_id, Account.status != "archived")),
        select(Account.id).where(Account.status != "archived"),
    ),
    _Source(
        "auth_config",
        "auth_configs",
        select(
            AuthConfig.id,
            AuthConfig.project_id,
            AuthConfig.id.label("owner_id"),
            AuthConfig.sealed,
            AuthConfig.generation,
        ).where(AuthConfig.sealed.is_not(None)),
        select(AuthConfig.id),
    ),
    _Source(
        "webhook",
        "webhook_secrets",
        select(
            WebhookSecret.id,
            WebhookEndpoint.project_id,
            WebhookEndpoint.id.label("owner_id"),
            WebhookSecret.sealed,
            literal(0).label("generation"),
        ).join(WebhookEndpoint, WebhookEndpoint.id == WebhookSecret.endpoint_id),
        select(WebhookEndpoint.id),
    ),
)


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A sealed value and the wrapped key for it, as they stand in the database."""

    id: str
    owner: Owner
    sealed: bytes = field(repr=False)
    generation: int
    wrapped: WrappedKey | None = field(repr=False)

    def fault(self, vault: Vault) -> str | None:
        """Why the value does not open, in a few words, or None when it does."""
        if self.wrapped is None:
            return "its data key was shredded"
        if self.wrapped.kek_id not in vault.key_ids:
            return f"it needs the master key {self.wrapped.kek_id}"
        try:
            vault.unwrap(self.wrapped, self.owner).open(
                self.sealed, name=field_name(self.owner.kind, self.id), generation=self.generation
            )
        except VaultError as e:
            return str(e)
        return None


def field_name(kind: str, row_id: str) -> str:
    """The vault's name of the sealed field, as the slice that owns the row has chosen it."""
    return {"account": "credential", "auth_config": "setup"}.get(kind, row_id)


async def count(tx: AsyncSession) -> int:
    """How many sealed values there are."""
    total = 0
    for source in await _sources(tx):
        total += await tx.scalar(select(func.count()).select_from(source.rows.subquery())) or 0
    return total


async def every(db: Database) -> AsyncIterator[SealedRow]:
    """All sealed values, read in short transactions."""
    async with db.read() as tx:
        sources = await _sources(tx)
    for source in sources:
        inner = source.rows.subquery()
        owned = and_(DataKeyRow.owner_kind == source.kind, DataKeyRow.owner_id == inner.c.owner_id)
        joined = (
            select(inner, DataKeyRow.id.label("key_id"), DataKeyRow.kek_id, DataKeyRow.blob)
            .outerjoin(DataKeyRow, owned)
            .order_by(inner.c.id)
            .limit(BATCH)
        )
        after = ""
        while True:
            async with db.read() as tx:
                found = (await tx.execute(joined.where(inner.c.id > after))).all()
            for row in found:
                wrapped = WrappedKey(row.key_id, row.kek_id, row.blob) if row.key_id else None
                owner = Owner(row.project_id, source.kind, row.owner_id)
                yield SealedRow(row.id, owner, row.sealed, row.generation, wrapped)
            if len(found) < BATCH:
                break
            after = found[-1].id


async def orphan_keys(tx: AsyncSession) -> int:
    """How many data keys belong to nothing: they should have been shredded with their owner."""
    sources = await _sources(tx)
    owned = [and_(DataKeyRow.owner_kind == s.kind, DataKeyRow.owner_id.in_(s.owners)) for s in sources]
    return await tx.scalar(select(func.count()).select_from(DataKeyRow).where(not_(or_(false(), *owned)))) or 0


async def owners(tx: AsyncSession) -> set[tuple[str, str]]:
    """Everyone who may own a data key, as (kind, id)."""
    found = set()
    for source in await _sources(tx):
        found |= {(source.kind, id) for id in await tx.scalars(source.owners)}
    return found


async def _sources(tx: AsyncSession) -> list[_Source]:
    there = await tables(tx)
    return [source for source in _SOURCES if source.table in there]
