"""Write down how an attempt to renew a token ended: each in one transaction, under the lease that it was made with.

What is stored by somebody else meanwhile (a relink, the next holder of the lease) is newer and stays.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import update

from mooring import errors
from mooring.accounts import credentials, service
from mooring.accounts.credentials import Secrets, Times
from mooring.accounts.forecast import expected_failure
from mooring.accounts.leases import Lease, Outcome, Result
from mooring.accounts.models import Credential
from mooring.diagnosis.evidence import Diagnosis
from mooring.identity import sealing
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.db import Database, now_of, record_change
from mooring.kit.vault import Owner, Vault
from mooring.protocol.oauth2 import TokenAnswer, missing_scopes

log = structlog.get_logger(__name__)

BACKOFF: Final = (5.0, 300.0)  # seconds: first and longest pause after failures
LONGEST_PAUSE: Final = 3600.0  # seconds, whatever a provider's Retry-After asks for


class Settler:
    """Stores the outcomes of attempts."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault

    async def renewed(self, lease: Lease, answer: TokenAnswer, secrets: Secrets, times: Times) -> Result:
        """Store a new token. "unchanged" when the row belongs to somebody else by now, "over" when it is gone."""
        now = clock.now()
        async with self._db.begin() as tx:
            try:
                account, _ = await service.lock(tx, ProjectId(lease.project_id), lease.account_id, project_wide=False)
            except errors.NotFound:
                return "over"
            key = await sealing.open_key(tx, self._vault, Owner(lease.project_id, "account", lease.account_id))
            stored = await tx.execute(
                update(Credential)
                .where(
                    Credential.account_id == lease.account_id,
                    Credential.generation == lease.generation,
                    Credential.fence == lease.fence,
                )
                .values(
                    generation=lease.generation + 1,
                    sealed=credentials.seal(key, secrets, lease.generation + 1),
                    expires_at=times.expires_at,
                    refresh_at=times.refresh_at,
                    refresh_expires_at=times.refresh_expires_at or Credential.refresh_expires_at,
                    refreshable=lease.oauth2.machine or secrets.refresh_token is not None,
                    lease_until=None,
                    pending_generation=None,
                    pending_since=None,
                    retry_at=None,
                    failures=0,
                    last_outcome="refreshed",
                    last_error=None,
                    updated_at=now,
                )
            )
            if stored.rowcount != 1:  # type: ignore[attr-defined]
                # Relinked, or this holder was evicted: what is stored now is newer than our answer.
                return "unchanged"
            credential = await tx.get_one(Credential, lease.account_id, populate_existing=True)
            forecast = expected_failure(
                lease.config.method,
                secrets,
                Times(times.expires_at, times.refresh_at, credential.refresh_expires_at),
                refreshable=credential.refreshable,
                typed_at=credential.typed_at,
            )
            if forecast is None or forecast.at != credential.expected_failure_at:
                credential.expected_failure_at = forecast.at if forecast else None
                credential.expected_failure_reason = forecast.reason if forecast else None
                credential.failure_announced_at = None
            if answer.scope is not None:
                account.granted_scopes = list(answer.scope)
                account.missing_scopes = list(missing_scopes(lease.config.scopes_for(lease.scope), answer.scope))
            await service.note_fact(tx, account, "worked")
            record_change(tx, "account", lease.account_id)
        return "refreshed"

    async def ended(self, lease: Lease, found: Diagnosis, text: str) -> Outcome:
        """End the grant: the provider said no to what is stored (rule O15)."""
        code = found.code
        async with self._db.begin() as tx:
            try:
                account, _ = await service.lock(tx, ProjectId(lease.project_id), lease.account_id, project_wide=False)
            except errors.NotFound:
                return Outcome("over", "the account was deleted")
            ended = await tx.execute(
                update(Credential)
                .where(
                    Credential.account_id == lease.account_id,
                    Credential.generation == lease.generation,
                    Credential.fence == lease.fence,
                )
                .values(
                    lease_until=None,
                    pending_generation=None,  # the outcome is known now
                    pending_since=None,
                    retry_at=None,
                    last_outcome=code,
                    last_error=text[:500],
                    updated_at=clock.now(),
                )
            )
            if ended.rowcount != 1:  # type: ignore[attr-defined]
                return Outcome("unchanged")
            await service.note_fact(tx, account, "grant_over", code, text, found.evidence())
        log.warning("grant is over", account_id=lease.account_id, reason=code)
        return Outcome("over", text, cause=code)

    async def failed(
        self, lease: Lease, found: Diagnosis, text: str, *, uncertain: bool, after: float | None = None
    ) -> Outcome:
        """Keep everything, note why, and wait before the next attempt."""
        first, longest = BACKOFF
        backoff = min(longest, first * 2 ** min(lease.failures, 10)) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        pause = min(after or backoff, LONGEST_PAUSE)
        async with self._db.begin() as tx:
            try:
                account, _ = await service.lock(tx, ProjectId(lease.project_id), lease.account_id, project_wide=False)
            except errors.NotFound:
                return Outcome("over", "the account was deleted")
            now = await now_of(tx)
            noted = await tx.execute(
                update(Credential)
                .where(Credential.account_id == lease.account_id, Credential.fence == lease.fence)
                .values(
                    lease_until=None,
                    pending_generation=lease.generation if uncertain else None,
                    pending_since=Credential.pending_since if uncertain else None,
                    retry_at=now + timedelta(seconds=pause),
                    failures=Credential.failures + 1,
                    last_outcome=found.code,
                    last_error=text[:500],
                )
            )
            if noted.rowcount != 1:  # type: ignore[attr-defined]
                return Outcome("unchanged")  # relinked, or evicted: this failure says nothing of what is stored now
            credential = await tx.get_one(Credential, lease.account_id, populate_existing=True)
            # Without a known end, a token is renewed when it was refused, or long before the provider forgets it.
            idle_only = credential.expires_at is None and credential.refresh_at is not None
            if not idle_only and (credential.expires_at is None or credential.expires_at <= now):
                await service.note_fact(tx, account, "refresh_failing", found.code, text, found.evidence())
            record_change(tx, "account", lease.account_id)
        log.warning(
            "token refresh failed", account_id=lease.account_id, cause=found.code, error=text, retry_in=round(pause)
        )
        return Outcome("failed", text, pause, found.code)
