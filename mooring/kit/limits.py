"""Keep calls inside what a provider allows, and one provider's trouble away from the others.

All of it is memory of one process and touches nothing until there is something to do: a gate exists only for who has
declared windows or was told to wait, and a breaker is two counters.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Final

from mooring import errors

QUEUE: Final = 200  # calls that may wait at one gate
SLOTS: Final = 200  # moments that a window remembers; a larger window counts in steps
GATES: Final = 20_000
PROVIDERS: Final = 4_096
IN_FLIGHT: Final = 2_000  # calls of one process that may wait for the first byte of one provider
FAILURES: Final = 10  # without an answer, one after the other: then nothing is sent for a while
OPEN_SECONDS: Final = (5.0, 60.0)  # first and longest such while


_LIMITING: Final = frozenset({"rps", "rpm", "rph", "rpd", "window", "concurrency", "pools"})


class Window:
    """At most `requests` calls in any `seconds`: right for providers that count in fixed windows and in sliding ones."""

    __slots__ = ("_counted", "_step", "_times", "requests", "seconds")

    def __init__(self, requests: int, seconds: float) -> None:
        self.requests = requests
        self.seconds = seconds
        self._step = -(-requests // SLOTS)
        self._counted = 0
        self._times: deque[float] = deque(maxlen=max(1, requests // self._step))

    def ready_at(self, now: float) -> float:
        """When the next call may go: `now`, or the moment at which the oldest counted call leaves the window."""
        times = self._times
        if len(times) < (times.maxlen or 1):
            return now
        return max(now, times[0] + self.seconds)

    def count(self, now: float) -> None:
        """Count a call that goes now."""
        if self._counted % self._step == 0:
            self._times.append(now)
        self._counted += 1

    def used(self, now: float) -> int:
        """How many calls are in the window, to the step."""
        return min(self.requests, sum(1 for t in self._times if t + self.seconds > now) * self._step)


def windows_of(rules: Mapping[str, Any], share: float) -> list[Window]:
    """The windows of a connector's `limits`, or of one of its pools. `share` is this process's part of them."""
    told = [(rules.get("rps"), 1), (rules.get("rpm"), 60), (rules.get("rph"), 3600), (rules.get("rpd"), 86400)]
    window = rules.get("window")
    if window:
        told.append((window["requests"], window["seconds"]))
    out = []
    for requests, seconds in told:
        if requests is None:
            continue
        mine = requests * share
        # Less than one call per second, shared or not, is one call in a longer time.
        out.append(Window(int(mine), seconds) if mine >= 1 else Window(1, seconds / mine))
    return out


class Gate:
    """Who may call now, for one account or one app. Waiting calls go in order; the queue has a bound."""

    def __init__(self, rules: Mapping[str, Any], share: float, *, queue: int = QUEUE) -> None:
        self._queue = queue
        self._windows = windows_of(rules, share)
        self._pools = [(pool["path"], windows_of(pool, share)) for pool in rules.get("pools", ())]
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

    def usage(self, now: float) -> list[dict[str, float]]:
        """The windows as numbers."""
        return [{"requests": w.requests, "seconds": w.seconds, "used": w.used(now)} for w in self._windows]

    async def enter(self, path: str, wait: float) -> None:
        """Wait for a place, at most `wait` seconds. Raises RateLimited; every entry needs one `leave`."""
        now = time.monotonic()
        if not self._waiting and self._admit(now, path):
            return
        ready = self._ready_at(now, path)
        if len(self._waiting) >= self._queue or (ready != math.inf and ready - now > wait) or wait <= 0:
            raise _limited(1.0 if ready == math.inf else ready - now)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, path))
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
                later = self._ready_at(time.monotonic(), path)
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

    def _concerned(self, path: str) -> list[Window]:
        if not self._pools:
            return self._windows
        return [*self._windows, *(w for start, windows in self._pools if path.startswith(start) for w in windows)]

    def _ready_at(self, now: float, path: str) -> float:
        if self.in_flight >= self._most:
            return math.inf
        ready = max(now, self.blocked_until)
        for window in self._concerned(path):
            ready = max(ready, window.ready_at(now))
        return ready

    def _admit(self, now: float, path: str) -> bool:
        if self._ready_at(now, path) > now:
            return False
        self.in_flight += 1
        for window in self._concerned(path):
            window.count(now)
        return True

    def _pump(self) -> None:
        """Let in whose turn it is, and come back when the next one's is."""
        now = time.monotonic()
        while self._waiting:
            place, path = self._waiting[0]
            if place.done():  # gave up
                self._waiting.popleft()
            elif self._admit(now, path):
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

    __slots__ = ("_most", "_pause", "_trying", "failures", "in_flight", "open_until")

    def __init__(self, *, most: int = IN_FLIGHT) -> None:
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

    def provider(self, origin: str) -> Provider:
        """The provider behind an origin."""
        found = self._providers.get(origin)
        if found is None:
            found = self._providers[origin] = Provider()
            if len(self._providers) > PROVIDERS:
                self._shrink_providers()
        return found

    def _make(self, key: str, rules: Mapping[str, Any]) -> Gate:
        gate = self._gates[key] = Gate(rules, self._share)
        if len(self._gates) > self._most_gates:
            idle = next((k for k, g in self._gates.items() if g.idle and g is not gate), None)
            if idle is not None:
                del self._gates[idle]
        return gate

    def _shrink_providers(self) -> None:
        idle = next((k for k, p in self._providers.items() if not p.in_flight and not p.failures), None)
        if idle is not None:
            del self._providers[idle]
