"""How an account stands inside the limits of its provider."""

from __future__ import annotations

import math
import time

from pydantic import BaseModel

from mooring.accounts.context import Context
from mooring.accounts.serving import Serving
from mooring.connectors.apply import inject


class LimitWindow(BaseModel):
    """At most `requests` calls in any `seconds`; `path` is null, or the beginning of the paths that it is for."""

    path: str | None
    requests: int
    seconds: float
    used: int


class ProviderState(BaseModel):
    """The circuit breaker: closed, open (nothing is sent for `open_for` seconds) or half-open (one call may try)."""

    breaker: str
    failures: int
    open_for: float
    in_flight: int


class AccountLimits(BaseModel):
    """The limits of an account: this process's part of them, or all where they are shared (`share` is 1 then)."""

    account_id: str
    per: str  # whose limit it is: the account's, or the app's that all accounts of an auth config share
    share: float
    windows: list[LimitWindow]
    concurrency: int | None
    in_flight: int
    queued: int
    blocked_for: float  # seconds for which the provider asked for silence
    provider: ProviderState


async def limits_of(context: Context, serving: Serving) -> AccountLimits:
    """The limits now. An account that was not called yet has unused windows."""
    rules = serving.connector.limits
    gate = context.limits.look(serving.limit_key, rules)
    _, scope = serving.open(context.vault)
    provider = context.limits.find_provider(inject(serving.method, scope).base_url)
    return AccountLimits(
        account_id=serving.id,
        per="app" if rules.get("per") == "app" else "account",
        share=round(context.limits.share, 4),
        windows=[LimitWindow(**window) for window in await gate.usage()],
        concurrency=None if gate.most == math.inf else int(gate.most),
        in_flight=gate.in_flight,
        queued=gate.queued,
        blocked_for=round(gate.blocked_for, 3),
        provider=ProviderState(
            breaker=provider.state,
            failures=provider.failures,
            open_for=round(max(0.0, provider.open_until - time.monotonic()), 3),
            in_flight=provider.in_flight,
        ),
    )
