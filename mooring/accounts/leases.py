"""The lease on an account's next token: whoever holds it may ask the provider, nobody else (rules R1 to R3).

It is taken in one short transaction that also commits the intent to send, and counted by a fence: a holder whose fence is
no longer the row's stores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import credentials, lifecycle, service, tokens
from mooring.accounts.credentials import Secrets
from mooring.accounts.models import Account, Credential
from mooring.accounts.serving import Serving
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import OpenConfig
from mooring.connectors.definition import OAuth2
from mooring.connectors.registry import Registry
from mooring.courier.wire import Parcel
from mooring.diagnosis.table import CAUSES
from mooring.identity import sealing
from mooring.identity.service import ProjectId
from mooring.kit.db import Database, now_of
from mooring.kit.vault import Owner, Vault

LEASE_SECONDS: Final = 20.0  # longer than two token deadlines and the pause between them (rule R2)

Result = Literal["refreshed", "unchanged", "failed", "over"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a refresh ended for a caller. `message` says why it failed, without secrets."""

    result: Result
    message: str | None = None
    retry_after: float | None = None
    cause: str | None = None  # of the diagnosis table


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to ask for one account's next token, and everything that is needed to ask."""

    project_id: str
    account_id: str
    generation: int
    fence: int
    uncertain: bool  # an earlier request for this generation was sent and its outcome is unknown
    failures: int
    secrets: Secrets
    config: OpenConfig
    scope: dict[str, Any]

    @property
    def parcel(self) -> Parcel:
        """What the courier keeps an answer under."""
        return Parcel(self.account_id, self.project_id, self.generation, self.fence, self.uncertain)

    @property
    def oauth2(self) -> OAuth2:
        """The method's OAuth 2.0 part: nothing else is renewed."""
        assert self.config.method.oauth2 is not None
        return self.config.method.oauth2

    @property
    def grant(self) -> dict[str, str]:
        """The parameters of the token request (RFC 6749 §4.4.2 and §6)."""
        if self.oauth2.machine:
            return tokens.machine_params(self.oauth2, self.config, self.scope)
        return {"grant_type": "refresh_token", "refresh_token": self.secrets.refresh_token or ""}


class Leases:
    """Takes leases in the database."""

    def __init__(self, db: Database, vault: Vault, registry: Registry) -> None:
        self._db = db
        self._vault = vault
        self._registry = registry

    async def take(self, serving: Serving) -> Lease | Outcome | None:
        """Take the lease, or say how things stand, or None while another holder is at work."""
        async with self._db.begin() as tx:
            try:
                # Both rows are locked and read after that: with the credential alone, a waiter on PostgreSQL would see
                # the account as it was before the last holder ended its grant.
                account, config_row = await service.lock(tx, serving.project_id, serving.id, project_wide=False)
            except errors.NotFound:
                return Outcome("over", "the account was deleted")
            credential = await tx.get_one(Credential, serving.id)
            # After the lock, for which this may have waited; and not by this host's clock: a holder whose clock is ten
            # minutes behind would lose its lease at once, and both would send the same refresh token.
            now = await now_of(tx)
            if credential.generation != serving.generation:
                return Outcome("unchanged")
            if lifecycle.effective(account.status, config_active=config_row.active) in {"inactive", "suspended"}:
                return Outcome("unchanged")  # nothing is sent for it; the caller looks at the account again and refuses
            if account.status == "expired":
                reason = account.status_reasons[-1]["description"] if account.status_reasons else None
                code = account.status_reasons[-1]["code"] if account.status_reasons else None
                return Outcome("over", reason or "the grant is over", cause=code)
            if not credential.refreshable:
                await service.note_fact(
                    tx,
                    account,
                    "grant_over",
                    "no_refresh_token",
                    "the token ended and the provider gave no refresh token",
                )
                return Outcome(
                    "over", "the token ended and the provider gave no refresh token", cause="no_refresh_token"
                )
            if credential.lease_until is not None and credential.lease_until > now:
                return None
            if credential.retry_at is not None and credential.retry_at > now:
                wait = (credential.retry_at - now).total_seconds()
                cause = credential.last_outcome if credential.last_outcome in CAUSES else None
                return Outcome("failed", credential.last_error or "the last attempt failed", wait, cause)
            lease = await self._open(
                tx,
                account,
                config_row,
                credential,
                fence=credential.fence + 1,
                uncertain=credential.pending_generation == credential.generation,
            )
            credential.fence = lease.fence
            credential.lease_until = now + timedelta(seconds=LEASE_SECONDS)
            credential.pending_generation = credential.generation
            credential.pending_since = now
            return lease

    async def of_parcel(self, parcel: Parcel) -> Lease | Literal["over", "taken over"]:
        """The lease that a parcel was sent under, if it still stands."""
        async with self._db.begin() as tx:
            try:
                account, config_row = await service.lock(
                    tx, ProjectId(parcel.project_id), parcel.account_id, project_wide=False
                )
            except errors.NotFound:
                return "over"
            credential = await tx.get_one(Credential, parcel.account_id)
            if credential.generation != parcel.generation:
                return "over"
            if credential.fence != parcel.fence:
                return "taken over"
            return await self._open(tx, account, config_row, credential, fence=parcel.fence, uncertain=parcel.uncertain)

    async def _open(
        self,
        tx: AsyncSession,
        account: Account,
        config_row: AuthConfig,
        credential: Credential,
        *,
        fence: int,
        uncertain: bool,
    ) -> Lease:
        config = await auth_configs.open_config(tx, self._vault, self._registry, config_row)
        key = await sealing.open_key(tx, self._vault, Owner(account.project_id, "account", account.id))
        self._vault.opened += 1
        secrets = credentials.open_(key, credential.sealed, credential.generation)
        return Lease(
            project_id=account.project_id,
            account_id=account.id,
            generation=credential.generation,
            fence=fence,
            uncertain=uncertain,
            failures=credential.failures,
            secrets=secrets,
            config=config,
            scope={**config.setup, **account.setup, **secrets.scope()},
        )
