"""Tell the provider that a grant is no longer needed (RFC 7009, rule O21). Local deletion never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import service, tokens
from mooring.accounts.context import Context
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.service import OpenConfig
from mooring.identity.service import ProjectId
from mooring.kit.http import HttpFailure

log = structlog.get_logger(__name__)

PAUSES = (0.0, 2.0, 10.0, 60.0)  # seconds before each try; a 503 and an outage are worth more than one
_running: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens to revoke, refresh token first."""

    account_id: str
    config: OpenConfig
    scope: Mapping[str, Any] = field(repr=False)
    tokens: tuple[tuple[str, str], ...] = field(repr=False)  # (token, hint)


async def prepare(tx: AsyncSession, context: Context, project: ProjectId, account_id: str) -> Grant | None:
    """Read what is to be revoked, before the secrets are shredded. None when there is nothing to tell the provider."""
    account, row = await service.get(tx, project, account_id)
    connector = context.registry.get(row.connector_key)
    method = connector.auth.get(row.method_key) if connector else None
    if method is None or method.oauth2 is None or method.oauth2.revoke_url is None:
        return None
    config = await auth_configs.open_config(tx, context.vault, context.registry, row)
    secrets, _ = await service.open_secrets(tx, context.vault, account)
    pairs = ((secrets.refresh_token, "refresh_token"), (secrets.access_token, "access_token"))
    return Grant(
        account_id,
        config,
        {**config.setup, **account.setup, **secrets.scope()},
        tuple((token, hint) for token, hint in pairs if token),
    )


def start(context: Context, grant: Grant) -> None:
    """Revoke in the background of this process."""
    task = asyncio.create_task(_revoke(context, grant), name=f"revoke-{grant.account_id}")
    _running.add(task)
    task.add_done_callback(_running.discard)


async def drain(seconds: float) -> None:
    """Give running revocations a moment before the process ends."""
    if _running:
        await asyncio.wait(list(_running), timeout=seconds)


async def _revoke(context: Context, grant: Grant) -> None:
    for token, hint in grant.tokens:
        for pause in PAUSES:
            await asyncio.sleep(pause)
            try:
                if await tokens.revoke(context.http, grant.config, grant.scope, token, hint):
                    log.info("token revoked at the provider", account_id=grant.account_id, kind=hint)
                    break
                reason = "refused"
            except HttpFailure as e:
                reason = e.kind
            except errors.MooringError as e:
                reason = e.error_code
            log.warning("revocation failed", account_id=grant.account_id, kind=hint, reason=reason)
