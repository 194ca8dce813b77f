"""Secrets of this installation that belong to no project, sealed with a master key directly."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.identity.user_models import HostSecret
from mooring.kit.vault import Vault


def purpose_of(name: str) -> str:
    """What the vault binds the sealed value to: a value that is moved to another name does not open."""
    return f"host secret {name}"


async def put(tx: AsyncSession, vault: Vault, name: str, value: bytes) -> None:
    """Keep a secret under a name; an older one of that name is replaced."""
    await tx.merge(HostSecret(name=name, sealed=vault.seal_bytes(value, purpose=purpose_of(name))))
    await tx.flush()


async def get(tx: AsyncSession, vault: Vault, name: str) -> bytes | None:
    """The secret of a name, or None. Raises VaultError when it does not open."""
    row = await tx.get(HostSecret, name)
    return None if row is None else vault.open_bytes(row.sealed, purpose=purpose_of(name))


async def drop(tx: AsyncSession, name: str) -> None:
    """Forget a secret."""
    await tx.execute(delete(HostSecret).where(HostSecret.name == name))
