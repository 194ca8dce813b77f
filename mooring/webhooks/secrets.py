"""Signing secrets of an endpoint: sealed, several at once, never without an active one.

To change them, read the endpoint with `service.get(…, lock=True)`: the rule is about all of its secrets together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit, sealing
from mooring.kit import clock, ids
from mooring.kit.vault import Owner, Vault
from mooring.protocol import signing
from mooring.webhooks.models import WebhookEndpoint, WebhookSecret

MAX_SECRETS = 5


@dataclass(frozen=True, slots=True)
class MadeSecret:
    """A new signing secret; `secret` is shown this once."""

    row: WebhookSecret
    secret: str = field(repr=False)


def owner_of(endpoint: WebhookEndpoint) -> Owner:
    """The vault's name for an endpoint."""
    return Owner(endpoint.project_id, "webhook", endpoint.id)


async def search(tx: AsyncSession, endpoint: WebhookEndpoint) -> Sequence[WebhookSecret]:
    """The endpoint's secrets, oldest first; they stay sealed."""
    rows = await tx.scalars(
        select(WebhookSecret)
        .where(WebhookSecret.endpoint_id == endpoint.id)
        .order_by(WebhookSecret.created_at, WebhookSecret.id)
    )
    return rows.all()


async def open_active(tx: AsyncSession, vault: Vault, endpoint: WebhookEndpoint) -> list[str]:
    """The active secrets, oldest first, for the moment of signing."""
    key = await sealing.open_key(tx, vault, owner_of(endpoint))
    return [key.open(s.sealed, name=s.id).decode() for s in await search(tx, endpoint) if s.active]


async def open_all(tx: AsyncSession, vault: Vault, endpoint: WebhookEndpoint) -> list[tuple[WebhookSecret, str]]:
    """The endpoint's secrets with their values, oldest first."""
    key = await sealing.open_key(tx, vault, owner_of(endpoint))
    return [(s, key.open(s.sealed, name=s.id).decode()) for s in await search(tx, endpoint)]


async def add(
    tx: AsyncSession, vault: Vault, endpoint: WebhookEndpoint, *, active: bool, secret: str | None = None
) -> MadeSecret:
    """Add a secret: a given one, or a new one. Raises Conflict when there are too many, ValidationFailed for a weak one."""
    if len(await search(tx, endpoint)) >= MAX_SECRETS:
        raise errors.Conflict(
            f"an endpoint has at most {MAX_SECRETS} secrets", hint="Delete one that no receiver uses any more."
        )
    key = await sealing.ensure_key(tx, vault, owner_of(endpoint))
    if secret is None:
        secret = signing.new_secret()
    elif not signing.is_secret(secret):
        raise errors.ValidationFailed(
            "the endpoint is not valid", errors=["secrets: a secret is `whsec_` and the base64 of 24 to 64 bytes"]
        )
    id = f"whs_{ids.nanoid()}"
    row = WebhookSecret(
        id=id,
        endpoint_id=endpoint.id,
        sealed=key.seal(secret.encode(), name=id),
        active=active,
        created_at=clock.now(),
    )
    tx.add(row)
    await tx.flush()
    _note(tx, endpoint, row, "webhook_secret.created")
    return MadeSecret(row, secret)


async def switch(tx: AsyncSession, endpoint: WebhookEndpoint, id: str, *, active: bool) -> WebhookSecret:
    """Switch a secret on or off. Raises NotFound, or Conflict when no active one would be left."""
    row = await _get(tx, endpoint, id)
    if not active:
        await _require_another(tx, endpoint, row)
    row.active = active
    await tx.flush()
    _note(tx, endpoint, row, "webhook_secret.activated" if active else "webhook_secret.deactivated")
    return row


async def remove(tx: AsyncSession, endpoint: WebhookEndpoint, id: str) -> None:
    """Delete a secret. Raises NotFound, or Conflict when no active one would be left."""
    row = await _get(tx, endpoint, id)
    await _require_another(tx, endpoint, row)
    await tx.delete(row)
    await tx.flush()
    _note(tx, endpoint, row, "webhook_secret.deleted")


def _note(tx: AsyncSession, endpoint: WebhookEndpoint, row: WebhookSecret, action: str) -> None:
    audit.note(tx, action, project_id=endpoint.project_id, target=("webhook_secret", row.id), label=endpoint.id)


async def forget(tx: AsyncSession, endpoint: WebhookEndpoint) -> None:
    """Destroy the key that seals the endpoint's secrets."""
    await sealing.shred_key(tx, owner_of(endpoint))


async def _get(tx: AsyncSession, endpoint: WebhookEndpoint, id: str) -> WebhookSecret:
    row = await tx.scalar(select(WebhookSecret).where(WebhookSecret.id == id, WebhookSecret.endpoint_id == endpoint.id))
    if row is None:
        raise errors.NotFound("no such secret of this webhook endpoint")
    return row


async def _require_another(tx: AsyncSession, endpoint: WebhookEndpoint, row: WebhookSecret) -> None:
    if row.active and not any(s.active for s in await search(tx, endpoint) if s.id != row.id):
        raise errors.Conflict(
            "an endpoint always has an active secret", hint="Add a second one and activate it, then take this one away."
        )
