"""Tell the provider that a grant is no longer needed (RFC 7009, rule O21). Local deletion never waits for it."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Protocol

import orjson
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import lifecycle, service, tokens
from mooring.accounts.context import Context
from mooring.auth_configs import service as auth_configs
from mooring.connectors.registry import Registry
from mooring.identity.service import ProjectId
from mooring.kit import jobs
from mooring.kit.http import HttpFailure
from mooring.kit.jobs import Claim
from mooring.kit.vault import Vault, VaultError

log = structlog.get_logger(__name__)

KIND = "revoke"
_PURPOSE = "revocation"


class Parts(Protocol):
    """What of a process the planning of a revocation needs."""

    @property
    def vault(self) -> Vault: ...
    @property
    def registry(self) -> Registry: ...


async def enqueue(tx: AsyncSession, context: Parts, project: ProjectId, account_id: str) -> None:
    """Plan the revocation of an account's tokens, in the transaction that shreds them. Nothing without an endpoint.

    The job carries the tokens sealed: the account's own data key is gone by the time it runs.
    """
    account, row = await service.get(tx, project, account_id)
    if account.status == lifecycle.HANDED_OVER:
        return  # the grant is another hub's by now
    connector = context.registry.of(row)
    method = connector.auth.get(row.method_key) if connector else None
    if method is None or method.oauth2 is None or method.oauth2.revoke_url is None:
        return
    secrets, _ = await service.open_secrets(tx, context.vault, account)
    pairs = ((secrets.refresh_token, "refresh_token"), (secrets.access_token, "access_token"))
    sealed = context.vault.seal_bytes(
        orjson.dumps(
            {
                "scope": {**account.setup, **secrets.scope()},
                "tokens": [[token, hint] for token, hint in pairs if token],
            }
        ),
        purpose=_PURPOSE,
    )
    await jobs.enqueue(
        tx,
        KIND,
        {
            "project_id": project,
            "account_id": account.id,
            "auth_config_id": row.id,
            "sealed": base64.b64encode(sealed).decode(),
        },
        max_attempts=8,
    )


async def revoke(context: Context, job: Claim) -> datetime | None:
    """Revoke refresh token, then access token. An outage or a 503 is tried again with growing pauses."""
    project, account_id = ProjectId(job.payload["project_id"]), job.payload["account_id"]
    try:
        opened = context.vault.open_bytes(base64.b64decode(job.payload["sealed"]), purpose=_PURPOSE)
        async with context.db.read() as tx:
            row = await auth_configs.get(tx, project, job.payload["auth_config_id"])
            config = await auth_configs.open_config(tx, context.vault, context.registry, row)
    except (errors.NotFound, VaultError):
        log.warning("revocation given up: its auth config or key is gone", account_id=account_id)
        return None
    content = orjson.loads(opened)
    scope = {**config.setup, **content["scope"]}
    for token, hint in content["tokens"]:
        try:
            revoked = await tokens.revoke(context.http, config, scope, token, hint)
        except HttpFailure as e:
            raise errors.ProviderError(f"the provider did not take the revocation: {e}") from None
        if not revoked:
            raise errors.ProviderError("the provider refused the revocation")
        log.info("token revoked at the provider", account_id=account_id, kind=hint)
    return None


async def is_pending(tx: AsyncSession, project: ProjectId) -> bool:
    """Whether a revocation of the project still waits or runs. One that gave up counts no more."""
    rows = await tx.scalars(select(jobs.Job.payload).where(jobs.Job.kind == KIND, jobs.Job.state == "ready"))
    return any(payload.get("project_id") == project for payload in rows)
