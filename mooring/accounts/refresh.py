"""Renew tokens, one at a time per account, across processes, crashes and faulty providers (rules R1 to R9).

The protocol: a short transaction takes a lease (fence + 1) and commits the intent; the token request runs outside of any
transaction with a total deadline shorter than the lease; a second short transaction stores the answer if the generation
and the fence are still ours. Waiters re-read the row and never send. Nothing is deleted on failure.
`leases` holds the first transaction, `settling` the second, this module what lies between.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mooring import errors
from mooring.accounts import credentials, diagnosing, tokens
from mooring.accounts.carriage import Carriage
from mooring.accounts.leases import LEASE_SECONDS, Lease, Leases, Outcome
from mooring.accounts.serving import Serving, ServingAccounts
from mooring.accounts.settling import Settler
from mooring.connectors.registry import Registry
from mooring.courier.client import CourierClient
from mooring.courier.wire import Delivered
from mooring.diagnosis.evidence import Diagnosis, diagnosis
from mooring.kit import clock
from mooring.kit.counters import Counters
from mooring.kit.db import Database
from mooring.kit.http import HttpClient, HttpFailure
from mooring.kit.vault import Vault
from mooring.protocol.oauth2 import TokenAnswer, TokenNonsense, TokenRefused

log = structlog.get_logger(__name__)

WAIT_SECONDS = 25.0  # how long a caller waits for a refresh that somebody else runs; it outlives a dead holder's lease
AHEAD_SECONDS = 2.0  # how long a caller whose token is still good waits for the next one
POLL_SECONDS = 0.05
RETRY_PAUSE = 0.5  # before the one repetition of an uncertain request (rule R8)
CLOCK_SLACK = timedelta(seconds=60)  # what the clocks of several hosts may differ without a refresh too many
LOGIN_AGAIN = 60  # seconds after which a login that failed behind a refresh is tried again, with another refresh
STORE_PAUSES = (0.1, 0.5, 1.5)  # seconds between tries to store an answer: it exists nowhere else


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
        self._leases = Leases(db, vault, registry)
        self._settler = Settler(db, vault)
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
            taken = await self._leases.take(serving)
            if isinstance(taken, Lease):
                carriage = Carriage(self._http, self._courier, taken.parcel)
                outcome = await self._left_behind(taken, carriage) or await self._run(taken, carriage)
                self._counters.refresh(serving.connector.key, outcome.result)
                if outcome.result == "over" and outcome.cause is not None:
                    self._counters.grant_over(serving.connector.key, outcome.cause)
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
            lease = await self._leases.of_parcel(delivered.parcel)
            if lease == "taken over":
                continue
            if lease != "over":
                outcome = await self._read(lease, delivered)
                self._accounts.forget(lease.account_id)
                log.warning("answer of a dead process stored", account_id=lease.account_id, result=outcome.result)
            await self._courier.acknowledge(delivered.number)
        return len(found)

    async def _left_behind(self, lease: Lease, carriage: Carriage) -> Outcome | None:
        """Act on the answer that the last holder of this lease did not live to store, if the courier keeps one.

        Without this, whoever takes over before `recover` came round would send a refresh token that is spent already.
        """
        if not lease.uncertain:
            return None
        found = await carriage.left_behind()
        if not found:
            return None
        # Of several, the one that renewed the token says how things stand, whatever the provider answered after it.
        answer = next((d for d in found if d.response.status < 300), found[-1])
        outcome = await self._read(lease, answer)
        log.warning("answer of a dead process stored", account_id=lease.account_id, result=outcome.result)
        return outcome

    async def _read(self, lease: Lease, delivered: Delivered) -> Outcome:
        """Act on an answer that was fetched by somebody else."""
        try:
            answer = tokens.read_token_answer(lease.config, lease.scope, lease.grant, delivered.response)
        except TokenRefused as e:
            # What the request was sent with, not the lease, tells whether the token could be spent by then.
            return await self._refused(lease, e, uncertain=delivered.parcel.uncertain)
        except TokenNonsense as e:
            uncertain = delivered.parcel.uncertain or e.status < 300
            return await self._settler.failed(lease, _of(lease, e), e.reason, uncertain=uncertain, after=e.retry_after)
        return await self._store(lease, answer, datetime.fromtimestamp(delivered.at, UTC))

    async def _run(self, lease: Lease, sender: tokens.Sender) -> Outcome:
        repeat_after = 0 if lease.oauth2.refresh.grace_seconds else RETRY_PAUSE
        uncertain = lease.uncertain
        for attempt in (1, 2):
            try:
                answer = await tokens.request_token(sender, lease.config, lease.scope, lease.grant, refreshing=True)
            except TokenRefused as e:
                return await self._refused(lease, e, uncertain=uncertain)
            except TokenNonsense as e:
                # A 429 and a 5xx were refused before anything was spent, as far as anyone can know; a 2xx that can't be
                # read may have rotated the token.
                uncertain = uncertain or e.status < 300
                if e.status < 300 and e.transient and attempt == 1:
                    await asyncio.sleep(repeat_after)
                    continue
                return await self._settler.failed(
                    lease, _of(lease, e), e.reason, uncertain=uncertain, after=e.retry_after
                )
            except HttpFailure as e:
                uncertain = uncertain or e.sent
                if e.sent and attempt == 1:
                    await asyncio.sleep(repeat_after)
                    continue
                return await self._settler.failed(lease, _of(lease, e), str(e), uncertain=uncertain)
            except errors.MooringError as e:
                incomplete = diagnosis("setup_incomplete", detail=e.message)
                return await self._settler.failed(lease, incomplete, e.message, uncertain=lease.uncertain)
            return await self._store(lease, answer, clock.now())
        raise AssertionError("unreachable")

    async def _store(self, lease: Lease, answer: TokenAnswer, received_at: datetime) -> Outcome:
        answer, again = await self._logged_in(lease, answer)
        try:
            secrets = credentials.with_token(lease.secrets, lease.oauth2, answer)
        except errors.Unprocessable as e:
            unexpected = diagnosis("unexpected_token_value", detail=e.message)
            return await self._settler.failed(lease, unexpected, e.message, uncertain=True)
        times = credentials.times_of(lease.oauth2, answer, received_at, renewing=True)
        if again is not None:
            times = replace(times, refresh_at=again)
        for pause in (*STORE_PAUSES, None):
            try:
                result = await self._settler.renewed(lease, answer, secrets, times)
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

    async def _logged_in(self, lease: Lease, answer: TokenAnswer) -> tuple[TokenAnswer, datetime | None]:
        """The answer with the login after it, or as it is and when to try again.

        Whatever becomes of the login, the tokens are stored: the refresh token of this generation is spent.
        """
        try:
            return await tokens.logged_in(self._http, lease.config, lease.scope, answer), None
        except (TokenRefused, TokenNonsense, HttpFailure, errors.MooringError) as e:
            log.warning("no login after a refresh", account_id=lease.account_id, error=str(e))
            return answer, clock.now() + timedelta(seconds=LOGIN_AGAIN)

    async def _give_back(self, lease: Lease, answer: TokenAnswer) -> None:
        """Revoke tokens that came for an account deleted meanwhile: its deletion could not know of them (rule O21)."""
        token, hint = answer.access_token, "access_token"
        if answer.refresh_token is not None:
            token, hint = answer.refresh_token, "refresh_token"
        with contextlib.suppress(HttpFailure, errors.MooringError):
            await tokens.revoke(self._http, lease.config, lease.scope, token, hint)

    async def _refused(self, lease: Lease, e: TokenRefused, *, uncertain: bool) -> Outcome:
        """The provider said no. Only `invalid_grant` for the stored generation ends the grant (rule O15)."""
        if not e.dead or lease.oauth2.machine:
            return await self._settler.failed(lease, _of(lease, e), str(e), uncertain=uncertain, after=60.0)
        found = _of(lease, e, uncertain=uncertain)
        text = (
            "the provider renewed the grant but its answer was lost; the account must be reconnected"
            if uncertain
            else f"the provider ended the grant ({e})"
        )
        return await self._settler.ended(lease, found, text)


def _of(lease: Lease, fault: TokenRefused | TokenNonsense | HttpFailure, *, uncertain: bool = False) -> Diagnosis:
    """Name the cause of a failed token request."""
    if isinstance(fault, HttpFailure):
        return diagnosing.of_failure(fault, "refresh", tokens.unanswered(lease.config, lease.scope, fault), {})
    config = lease.config
    phase = diagnosing.machine_phase(lease.oauth2) or "refresh"
    return diagnosing.of_token_error(fault, config.connector, phase, method=config.method, uncertain=uncertain)
