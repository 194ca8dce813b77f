"""Keep calls inside what a provider allows, and one provider's trouble away from the others.

All of it is memory of one process and touches nothing until there is something to do: a gate exists only for who has
declared windows or was told to wait, and a breaker is two counters.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from mooring import errors
from mooring.kit.windows import Window, pools_of, windows_of

QUEUE: Final = 200  # calls that may wait at one gate
GATES: Final = 20_000
PROVIDERS: Final = 4_096
IN_FLIGHT: Final = 2_000  # calls of one process that may wait for the first byte of one provider
FAILURES: Final = 10  # without an answer, one after the other: then nothing is sent for a while
RETRY_SHARE: Final = 0.1  # repetitions per call to one provider
RETRY_RESERVE: Final = 10.0  # repetitions that a provider with little traffic has anyway
OPEN_SECONDS: Final = (5.0, 60.0)  # first and longest such while

_LIMITING: Final = frozenset({"rps", "rpm", "rph", "rpd", "window", "concurrency", "pools"})


class Gate:
    """Who may call now, for one account or one app. Waiting calls go in order; the queue has a bound."""

    def __init__(self, rules: Mapping[str, Any], share: float, *, queue: int = QUEUE) -> None:
        self._queue = queue
        self._windows = windows_of(rules, share)
        self._pools = pools_of(rules, share)
        concurrency = rules.get("concurrency")
        self._most = max(1, int(concurrency * share)) if concurrency else math.inf
        self._waiting: deque[tuple[asyncio.Future[None], str]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0
        self.blocked_until = 0.0  # the provider said so; monotonic

    @property
    def idle(self) -> bool:
        """Whether nobody is inside or waiting."""
        return not self.in_flight and not self._waiting

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    @property
    def blocked_for(self) -> float:
        """Seconds for which the provider wants nothing."""
        return max(0.0, self.blocked_until - time.monotonic())

    @property
    def most(self) -> float:
        """Calls that may be under way at once; infinite without a rule."""
        return self._most

    async def usage(self) -> list[dict[str, Any]]:
        """The windows as numbers; those of a pool name the paths that it is for."""
        now = time.monotonic()
        named = [(None, self._windows), *((pool.name, pool.windows) for pool in self._pools)]
        return [
            {"path": path, "requests": w.requests, "seconds": w.seconds, "used": w.used(now)}
            for path, windows in named
            for w in windows
        ]

    async def enter(self, route: str, wait: float) -> None:
        """Wait for a place for a call to a route (`GET /path`), at most `wait` seconds.

        Raises RateLimited; every entry needs one `leave`.
        """
        now = time.monotonic()
        if not self._waiting and self._admit(now, route):
            return
        ready = self._ready_at(now, route)
        if len(self._waiting) >= self._queue or (ready != math.inf and ready - now > wait) or wait <= 0:
            raise _limited(1.0 if ready == math.inf else ready - now)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, route))
        self._pump()
        try:
            async with asyncio.timeout(wait):
                await place
        except BaseException as e:
            if place.done() and not place.cancelled():
                self.leave()  # the place came in the moment in which nobody waited for it any more
            else:
                self._waiting = deque(item for item in self._waiting if item[0] is not place)
            if isinstance(e, TimeoutError):
                later = self._ready_at(time.monotonic(), route)
                raise _limited(1.0 if later == math.inf else later - time.monotonic()) from None
            raise

    def leave(self) -> None:
        """A call that entered is over."""
        self.in_flight -= 1
        if self._waiting:
            self._pump()

    def block(self, seconds: float) -> None:
        """Send nothing for a while: the provider said so."""
        self.blocked_until = max(self.blocked_until, time.monotonic() + seconds)

    def _concerned(self, route: str) -> list[Window]:
        if not self._pools:
            return self._windows
        return [*self._windows, *(w for pool in self._pools if pool.concerns(route) for w in pool.windows)]

    def _ready_at(self, now: float, route: str) -> float:
        if self.in_flight >= self._most:
            return math.inf
        ready = max(now, self.blocked_until)
        for window in self._concerned(route):
            ready = max(ready, window.ready_at(now))
        return ready

    def _admit(self, now: float, route: str) -> bool:
        if self._ready_at(now, route) > now:
            return False
        self.in_flight += 1
        for window in self._concerned(route):
            window.count(now)
        return True

    def _pump(self) -> None:
        """Let in whose turn it is, and come back when the next one's is."""
        now = time.monotonic()
        while self._waiting:
            place, route = self._waiting[0]
            if place.done():  # gave up
                self._waiting.popleft()
            elif self._admit(now, route):
                self._waiting.popleft()
                place.set_result(None)
            else:
                break
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            ready = self._ready_at(now, self._waiting[0][1])
            if ready != math.inf:
                self._timer = asyncio.get_running_loop().call_later(max(0.001, ready - now), self._pump)


def _limited(seconds: float) -> errors.RateLimited:
    return errors.RateLimited(
        "the provider's rate limit for this account is used up",
        code="ProviderRateLimitError",
        hint="Try again after the time in Retry-After, or let calls wait for longer with `Prefer: wait=SECONDS`.",
        headers={"retry-after": str(max(1, math.ceil(seconds)))},
    )


class Provider:
    """One origin as this process sees it: a bound on calls without an answer, and a circuit breaker."""

    __slots__ = (
        "_earned_at",
        "_most",
        "_pause",
        "_tokens",
        "_trying",
        "calls",
        "connector",
        "failures",
        "in_flight",
        "open_until",
    )

    def __init__(self, connector: str = "", *, most: int = IN_FLIGHT) -> None:
        self.connector = connector
        self.calls = 0
        self._tokens = RETRY_RESERVE
        self._earned_at = 0  # calls at the last look
        self._most = most
        self.in_flight = 0
        self.failures = 0
        self.open_until = 0.0
        self._pause = OPEN_SECONDS[0]
        self._trying = False

    @property
    def state(self) -> str:
        """closed, open (nothing is sent) or half-open (one call may try)."""
        if self.failures < FAILURES:
            return "closed"
        return "open" if time.monotonic() < self.open_until else "half-open"

    def begin(self, title: str) -> None:
        """Count a call that is about to be sent. Raises ProviderError or Unavailable; needs one `answered` or `failed`."""
        if self.failures >= FAILURES:
            left = self.open_until - time.monotonic()
            if left > 0 or self._trying:
                raise errors.ProviderError(
                    f"{title} did not answer {self.failures} calls in a row; it is left alone for a while",
                    code="ProviderUnavailableError",
                    hint="Try again after the time in Retry-After; nothing was sent.",
                    headers={"retry-after": str(max(1, math.ceil(left)))},
                )
            self._trying = True
        if self.in_flight >= self._most:
            self._trying = False
            raise errors.Unavailable(
                f"{self.in_flight} calls already wait for {title}",
                code="ProviderBusyError",
                hint="Try again in a moment; nothing was sent.",
                headers={"retry-after": "1"},
            )
        self.in_flight += 1
        self.calls += 1

    def may_repeat(self) -> bool:
        """Take one repetition from the budget: a tenth of the traffic, and a few in reserve (rule R11)."""
        self._tokens = min(RETRY_RESERVE, self._tokens + max(0, self.calls - self._earned_at) * RETRY_SHARE)
        self._earned_at = self.calls
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._earned_at += 1  # the repetition itself earns nothing
        return True

    def answered(self) -> None:
        """The provider answered, whatever it said."""
        self.in_flight -= 1
        if self.failures:
            self.failures = 0
            self._trying = False
            self._pause = OPEN_SECONDS[0]

    def failed(self) -> None:
        """No answer came."""
        self.in_flight -= 1
        self.failures += 1
        if self.failures >= FAILURES:
            if self._trying or self.failures == FAILURES:
                self.open_until = time.monotonic() + self._pause
                self._pause = min(OPEN_SECONDS[1], self._pause * 2)
            self._trying = False

    def given_up(self) -> None:
        """The caller went away before the provider could answer: that says nothing of the provider."""
        self.in_flight -= 1
        self._trying = False


class Limits:
    """The gates and providers of one process. `workers` processes share what a provider allows."""

    def __init__(self, *, workers: int = 1, gates: int = GATES) -> None:
        self._most_gates = gates
        self._share = 1 / max(1, workers)
        self._gates: OrderedDict[str, Gate] = OrderedDict()
        self._providers: OrderedDict[str, Provider] = OrderedDict()

    def gate(self, key: str, rules: Mapping[str, Any]) -> Gate | None:
        """The gate of an account or app; None when it has no windows and nobody was told to wait."""
        gate = self._gates.get(key)
        if gate is not None:
            self._gates.move_to_end(key)
            return gate
        return self._make(key, rules) if not _LIMITING.isdisjoint(rules) else None

    def block(self, key: str, rules: Mapping[str, Any], seconds: float) -> None:
        """Remember what a provider said."""
        gate = self._gates.get(key) or self._make(key, rules)
        gate.block(seconds)

    @property
    def share(self) -> float:
        """This process's part of what a provider allows."""
        return self._share

    def look(self, key: str, rules: Mapping[str, Any]) -> Gate:
        """The gate of an account or app as it is; for who never needed one, one that is not kept."""
        return self._gates.get(key) or self._new_gate(key, rules)

    def find_provider(self, origin: str) -> Provider:
        """The provider behind an origin as it is; one that was never called is in good health."""
        return self._providers.get(origin) or Provider()

    def gates(self) -> Iterable[Gate]:
        """Every gate there is."""
        return self._gates.values()

    def providers(self) -> Iterable[Provider]:
        """Every provider that was called."""
        return self._providers.values()

    def provider(self, origin: str, connector: str = "") -> Provider:
        """The provider behind an origin."""
        found = self._providers.get(origin)
        if found is None:
            found = self._providers[origin] = self._new_provider(origin, connector)
            if len(self._providers) > PROVIDERS:
                self._shrink_providers()
        return found

    def _new_gate(self, _key: str, rules: Mapping[str, Any]) -> Gate:
        return Gate(rules, self._share)

    def _new_provider(self, _origin: str, connector: str) -> Provider:
        return Provider(connector)

    def _make(self, key: str, rules: Mapping[str, Any]) -> Gate:
        gate = self._gates[key] = self._new_gate(key, rules)
        if len(self._gates) > self._most_gates:
            idle = next((k for k, g in self._gates.items() if g.idle and g is not gate), None)
            if idle is not None:
                del self._gates[idle]
        return gate

    def _shrink_providers(self) -> None:
        idle = next((k for k, p in self._providers.items() if not p.in_flight and not p.failures), None)
        if idle is not None:
            del self._providers[idle]
