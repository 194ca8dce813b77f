"""Renew tokens, one at a time per account, across processes, crashes and faulty providers (rules R1 to R9).

The protocol: a short transaction takes a lease (fence + 1) and commits the intent; the token request runs outside of any
transaction with a total deadline shorter than the lease; a second short transaction stores the answer if the generation
and the fence are still ours. Waiters re-read the row and never send. Nothing is deleted on failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import structlog
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import credentials, diagnosing, lifecycle, service, tokens
from mooring.accounts.carriage import Carriage
from mooring.accounts.credentials import Secrets, Times
from mooring.accounts.forecast import expected_failure
from mooring.accounts.models import Account, Credential
from mooring.accounts.serving import Serving, ServingAccounts
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import OpenConfig
from mooring.connectors.definition import OAuth2
from mooring.connectors.registry import Registry
from mooring.courier.client import CourierClient
from mooring.courier.wire import Parcel
from mooring.diagnosis.evidence import Diagnosis, Phase, diagnosis
from mooring.diagnosis.table import CAUSES
from mooring.identity import sealing
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.counters import Counters
from mooring.kit.db import Database, now_of, record_change
from mooring.kit.http import BufferedResponse, HttpClient, HttpFailure
from mooring.kit.vault import Owner, Vault
from mooring.protocol.oauth2 import TokenAnswer, TokenNonsense, TokenRefused, missing_scopes

log = structlog.get_logger(__name__)

LEASE_SECONDS = 20.0  # longer than two token deadlines and the pause between them (rule R2)
WAIT_SECONDS = 25.0  # how long a caller waits for a refresh that somebody else runs; it outlives a dead holder's lease
AHEAD_SECONDS = 2.0  # how long a caller whose token is still good waits for the next one
POLL_SECONDS = 0.05
RETRY_PAUSE = 0.5  # before the one repetition of an uncertain request (rule R8)
BACKOFF = (5.0, 300.0)  # first and longest pause after failures
LONGEST_PAUSE = 3600.0  # whatever a provider's Retry-After asks for
CLOCK_SLACK = timedelta(seconds=60)  # what the clocks of several hosts may differ without a refresh too many
STORE_PAUSES = (0.1, 0.5, 1.5)  # seconds between tries to store an answer: it exists nowhere else

Result = Literal["refreshed", "unchanged", "failed", "over"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a refresh ended for a caller. `message` says why it failed, without secrets."""

    result: Result
    message: str | None = None
    retry_after: float | None = None
    cause: str | None = None  # of the diagnosis table


@dataclass(frozen=True, slots=True)
class _Lease:
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
        return Parcel(self.account_id, self.project_id, self.generation, self.fence)


class Refresher:
    """Runs refreshes for this process. In-process single flight sits on top of the lease in the database."""

    def __init__(
        self,
        db: Database,
        vault: Vault,
        registry: Registry,
        http: HttpClient,
        accounts: ServingAccounts,
        courier: CourierClient | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._counters = counters or Counters()
        self._db = db
        self._vault = vault
        self._registry = registry
        self._http = http
        self._accounts = accounts
        self._courier = courier
        self._running: dict[tuple[str, int], asyncio.Task[Outcome]] = {}

    async def fresh(self, serving: Serving) -> Serving:
        """The account with a token that is good to use now.

        A token that is still valid is used while its refresh fails. Raises AccountExpiredCredentials when the grant is
        over, ProviderError when the token has ended and the provider can't be asked.
        """
        now = clock.now()
        if serving.refresh_at is None or (now < serving.refresh_at and now > serving.stored_at - CLOCK_SLACK):
            return serving
        # A credential from the future means that the clock went back: its end can't be told, so it is renewed (S28).
        valid = serving.expires_at is None or now < serving.expires_at
        if valid and (not serving.refreshable or (serving.retry_at is not None and now < serving.retry_at)):
            return serving
        try:
            async with asyncio.timeout(AHEAD_SECONDS if valid else None):
                outcome = await self.refresh(serving)
        except TimeoutError:
            return serving  # the refresh goes on; this caller need not wait for a slow provider
        if outcome.result in {"refreshed", "unchanged"}:
            renewed = await self._accounts.get(serving.project_id, serving.id)
            renewed.require_serving()
            return renewed
        if outcome.result == "failed":
            if serving.expires_at is None or clock.now() < serving.expires_at:
                return serving
            headers = {"retry-after": str(max(1, round(outcome.retry_after)))} if outcome.retry_after else {}
            raise errors.ProviderError(
                f"the access token ended and {serving.connector.title} gave no new one: {outcome.message}",
                code="TokenRefreshFailedError",
                hint="The account is kept and the refresh is tried again; nothing needs to be relinked.",
                headers=headers,
                extra={"cause": outcome.cause} if outcome.cause else None,
            )
        raise errors.AccountExpiredCredentials(
            f"the account's access to {serving.connector.title} is over: {outcome.message}",
            extra={"cause": outcome.cause} if outcome.cause else None,
        )

    async def refresh(self, serving: Serving) -> Outcome:
        """Renew the token of this generation, or wait for whoever does. A caller that goes away stops nothing (R13)."""
        key = (serving.id, serving.generation)
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._refresh(serving), name=f"refresh-{serving.id}")
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for running refreshes; a stop must not cut one off (R6)."""
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=LEASE_SECONDS)

    async def _refresh(self, serving: Serving) -> Outcome:
        end = clock.now() + timedelta(seconds=WAIT_SECONDS)
        while True:
            taken = await self._take_lease(serving)
            if isinstance(taken, _Lease):
                carriage = Carriage(self._http, self._courier, taken.parcel)
                outcome = await self._left_behind(taken, carriage) or await self._run(taken, carriage)
                self._counters.refresh(serving.connector.key, outcome.result)
                await carriage.stored()
                self._accounts.forget(serving.id)
                return outcome
            if taken is not None:
                self._accounts.forget(serving.id)
                return taken
            if clock.now() > end:
                return Outcome("failed", "another process is still renewing the token", 1.0)
            await asyncio.sleep(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def recover(self, *, older_than: float) -> int:
        """Store answers that the courier still keeps because whoever asked for them died. Returns how many there were.

        The generation and the fence of the lease decide, as they do for the one who asked: an answer that came too late
        changes nothing. One whose lease somebody else took over is left for that holder, who asks for it.
        """
        if self._courier is None:
            return 0
        found = await self._courier.waiting(older_than=older_than)
        for delivered in found:
            lease = await self._lease_of(delivered.parcel)
            if lease == "taken over":
                continue
            if lease != "over":
                outcome = await self._read(lease, delivered.response, uncertain=False)
                self._accounts.forget(lease.account_id)
                log.warning("answer of a dead process stored", account_id=lease.account_id, result=outcome.result)
            await self._courier.acknowledge(delivered.number)
        return len(found)

    async def _left_behind(self, lease: _Lease, carriage: Carriage) -> Outcome | None:
        """Act on the answer that the last holder of this lease did not live to store, if the courier keeps one.

        Without this, whoever takes over before `recover` came round would send a refresh token that is spent already.
        """
        if not lease.uncertain:
            return None
        found = await carriage.left_behind()
        if not found:
            return None
        # Of several, the one that renewed the token says how things stand, whatever the provider answered after it.
        response = next((r for r in found if r.status < 300), found[-1])
        outcome = await self._read(lease, response, uncertain=len(found) > 1)
        log.warning("answer of a dead process stored", account_id=lease.account_id, result=outcome.result)
        return outcome

    async def _lease_of(self, parcel: Parcel) -> _Lease | Literal["over", "taken over"]:
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
            return await self._open_lease(tx, account, config_row, credential, fence=parcel.fence, uncertain=False)

    async def _read(self, lease: _Lease, response: BufferedResponse, *, uncertain: bool) -> Outcome:
        """Act on an answer that was fetched by somebody else."""
        oauth2 = lease.config.method.oauth2
        assert oauth2 is not None
        try:
            answer = tokens.read_token_answer(lease.config, lease.scope, _grant(oauth2, lease), response)
        except TokenRefused as e:
            return await self._refused(lease, oauth2, e, uncertain=uncertain)
        except TokenNonsense as e:
            return await self._failed(
                lease, _of(lease, e), e.reason, uncertain=uncertain or e.status < 300, after=e.retry_after
            )
        return await self._store(lease, oauth2, answer)

    async def _open_lease(
        self,
        tx: AsyncSession,
        account: Account,
        config_row: AuthConfig,
        credential: Credential,
        *,
        fence: int,
        uncertain: bool,
    ) -> _Lease:
        config = await auth_configs.open_config(tx, self._vault, self._registry, config_row)
        key = await sealing.open_key(tx, self._vault, Owner(account.project_id, "account", account.id))
        self._vault.opened += 1
        secrets = credentials.open_(key, credential.sealed, credential.generation)
        return _Lease(
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

    async def _take_lease(self, serving: Serving) -> _Lease | Outcome | None:
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
            lease = await self._open_lease(
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

    async def _run(self, lease: _Lease, sender: tokens.Sender) -> Outcome:
        oauth2 = lease.config.method.oauth2
        assert oauth2 is not None
        uncertain = lease.uncertain
        for attempt in (1, 2):
            try:
                answer = await tokens.request_token(
                    sender, lease.config, lease.scope, _grant(oauth2, lease), refreshing=True
                )
            except TokenRefused as e:
                return await self._refused(lease, oauth2, e, uncertain=uncertain)
            except TokenNonsense as e:
                # A 429 and a 5xx were refused before anything was spent, as far as anyone can know; a 2xx that can't be
                # read may have rotated the token.
                uncertain = uncertain or e.status < 300
                if e.status < 300 and e.transient and attempt == 1:
                    await asyncio.sleep(0 if oauth2.refresh.grace_seconds else RETRY_PAUSE)
                    continue
                return await self._failed(lease, _of(lease, e), e.reason, uncertain=uncertain, after=e.retry_after)
            except HttpFailure as e:
                uncertain = uncertain or e.sent
                if e.sent and attempt == 1:
                    await asyncio.sleep(0 if oauth2.refresh.grace_seconds else RETRY_PAUSE)
                    continue
                return await self._failed(lease, _of(lease, e), str(e), uncertain=uncertain)
            except errors.MooringError as e:
                incomplete = diagnosis("setup_incomplete", detail=e.message)
                return await self._failed(lease, incomplete, e.message, uncertain=lease.uncertain)
            return await self._store(lease, oauth2, answer)
        raise AssertionError("unreachable")

    async def _store(self, lease: _Lease, oauth2: OAuth2, answer: TokenAnswer) -> Outcome:
        now = clock.now()
        try:
            secrets = credentials.with_token(lease.secrets, oauth2, answer)
        except errors.Unprocessable as e:
            unexpected = diagnosis("unexpected_token_value", detail=e.message)
            return await self._failed(lease, unexpected, e.message, uncertain=True)
        times = credentials.times_of(oauth2, answer, now, renewing=True)
        for pause in (*STORE_PAUSES, None):
            try:
                result = await self._write(lease, oauth2, answer, secrets, times)
                break
            except (SQLAlchemyError, OSError) as e:
                # Once more, even when the commit itself got no reply: if it took place, the generation has moved.
                log.warning("token not stored yet", account_id=lease.account_id, error=type(e).__name__)
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        log.info("token refreshed", account_id=lease.account_id, stored=result == "refreshed")
        if result != "over":
            return Outcome(result)
        await self._give_back(lease, answer)
        return Outcome("over", "the account was deleted")

    async def _write(
        self, lease: _Lease, oauth2: OAuth2, answer: TokenAnswer, secrets: Secrets, times: Times
    ) -> Result:
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
                    refreshable=oauth2.grant == "client_credentials" or secrets.refresh_token is not None,
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
                account.missing_scopes = list(missing_scopes(lease.config.scopes, answer.scope))
            await service.note_fact(tx, account, "worked")
            record_change(tx, "account", lease.account_id)
        return "refreshed"

    async def _give_back(self, lease: _Lease, answer: TokenAnswer) -> None:
        """Revoke tokens that came for an account deleted meanwhile: its deletion could not know of them (rule O21)."""
        token, hint = answer.access_token, "access_token"
        if answer.refresh_token is not None:
            token, hint = answer.refresh_token, "refresh_token"
        with contextlib.suppress(HttpFailure, errors.MooringError):
            await tokens.revoke(self._http, lease.config, lease.scope, token, hint)

    async def _refused(self, lease: _Lease, oauth2: OAuth2, e: TokenRefused, *, uncertain: bool) -> Outcome:
        """The provider said no. Only `invalid_grant` for the stored generation ends the grant (rule O15)."""
        if not e.dead or oauth2.grant == "client_credentials":
            return await self._failed(lease, _of(lease, e), str(e), uncertain=uncertain, after=60.0)
        found = _of(lease, e, uncertain=uncertain)
        code = found.code
        text = (
            "the provider renewed the grant but its answer was lost; the account must be reconnected"
            if uncertain
            else f"the provider ended the grant ({e})"
        )
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

    async def _failed(
        self, lease: _Lease, found: Diagnosis, text: str, *, uncertain: bool, after: float | None = None
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


def _of(lease: _Lease, fault: TokenRefused | TokenNonsense | HttpFailure, *, uncertain: bool = False) -> Diagnosis:
    """Name the cause of a failed token request."""
    if isinstance(fault, HttpFailure):
        return diagnosing.of_failure(fault, "refresh", tokens.unanswered(lease.config, lease.scope, fault), {})
    config = lease.config
    machine = config.method.oauth2 is not None and config.method.oauth2.grant == "client_credentials"
    phase: Phase = "client_credentials" if machine else "refresh"
    return diagnosing.of_token_error(fault, config.connector, phase, method=config.method, uncertain=uncertain)


def _grant(oauth2: OAuth2, lease: _Lease) -> dict[str, str]:
    if oauth2.grant == "client_credentials":
        return client_credentials_params(oauth2, lease.config)
    return {"grant_type": "refresh_token", "refresh_token": lease.secrets.refresh_token or ""}


def client_credentials_params(oauth2: OAuth2, config: OpenConfig) -> dict[str, str]:
    """The parameters of a client credentials request (RFC 6749 §4.4.2)."""
    params = {"grant_type": "client_credentials"}
    if config.scopes:
        params["scope"] = oauth2.scope_separator.join(config.scopes)
    return params
