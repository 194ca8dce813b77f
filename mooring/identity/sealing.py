"""Data keys as rows: make, find and shred the key of whatever holds secrets."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity.models import DataKeyRow
from mooring.identity.user_models import HostSecret
from mooring.kit import clock, ids
from mooring.kit.vault import DataKey, Owner, Vault, VaultError, WrappedKey, sealed_with


async def find_key(tx: AsyncSession, owner: Owner) -> WrappedKey | None:
    """The wrapped data key of an owner, or None when there is none (never sealed anything, or shredded)."""
    row = (
        await tx.execute(
            select(DataKeyRow.id, DataKeyRow.kek_id, DataKeyRow.blob).where(
                DataKeyRow.owner_kind == owner.kind, DataKeyRow.owner_id == owner.id
            )
        )
    ).first()
    return WrappedKey(row.id, row.kek_id, row.blob) if row else None


async def open_key(tx: AsyncSession, vault: Vault, owner: Owner) -> DataKey:
    """The open data key of an owner. Raises VaultError when it was shredded."""
    wrapped = await find_key(tx, owner)
    if wrapped is None:
        raise VaultError(f"the data key of this {owner.kind} does not exist")
    return vault.unwrap(wrapped, owner)


async def ensure_key(tx: AsyncSession, vault: Vault, owner: Owner) -> DataKey:
    """The open data key of an owner, made when there is none."""
    wrapped = await find_key(tx, owner)
    if wrapped is not None:
        return vault.unwrap(wrapped, owner)
    key, wrapped = vault.new_key(ids.nanoid(), owner)
    tx.add(
        DataKeyRow(
            id=wrapped.id,
            project_id=owner.project_id,
            owner_kind=owner.kind,
            owner_id=owner.id,
            kek_id=wrapped.kek_id,
            blob=wrapped.blob,
            created_at=clock.now(),
        )
    )
    await tx.flush()
    return key


async def shred_key(tx: AsyncSession, owner: Owner) -> None:
    """Destroy an owner's data key: nothing that it sealed opens again, wherever a copy of it lies."""
    await tx.execute(delete(DataKeyRow).where(DataKeyRow.owner_kind == owner.kind, DataKeyRow.owner_id == owner.id))


async def missing_master_keys(tx: AsyncSession, vault: Vault) -> list[str]:
    """Ids of master keys that rows need and this process lacks. A start with any of them is refused."""
    used = set((await tx.scalars(select(DataKeyRow.kek_id).distinct())).all())
    used |= {id for sealed in await tx.scalars(select(HostSecret.sealed)) if (id := sealed_with(sealed)) is not None}
    return sorted(used - vault.key_ids)


async def lacks_master_key(tx: AsyncSession, vault: Vault) -> bool:
    """Whether rows need a master key that this process lacks, as far as both ends of an index tell; asked by probes."""
    ends = (await tx.execute(select(func.min(DataKeyRow.kek_id), func.max(DataKeyRow.kek_id)))).one()
    used = {id for id in ends if id is not None}
    if used - vault.key_ids:
        vault.reload_if_changed()
    return bool(used - vault.key_ids)


async def any_key(tx: AsyncSession) -> bool:
    """Whether anything in the database is sealed."""
    found = await tx.execute(select(DataKeyRow.id).limit(1))
    return found.first() is not None or (await tx.execute(select(HostSecret.name).limit(1))).first() is not None
