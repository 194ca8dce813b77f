"""What one process counts. Plain numbers in memory: the hot path adds to them, /metrics reads them (rules L3, R19).

Every label is from a fixed set: connector keys, our own error codes, status codes. Never an account, owner or path.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BUCKETS_MS: Final = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0)
_SLOTS: Final = len(BUCKETS_MS) + 1

CallKey = tuple[str | None, str | None, int]


class Timing:
    """How long the calls of one connector took: in all, and the wait for the provider."""

    __slots__ = ("provider", "provider_ms", "total", "total_ms")

    def __init__(self) -> None:
        self.total = [0] * _SLOTS
        self.provider = [0] * _SLOTS
        self.total_ms = 0.0
        self.provider_ms = 0.0


class Counters:
    """The numbers of one process since its start."""

    __slots__ = ("before", "callbacks_refused", "calls", "deliveries", "grants_over", "refreshes", "retries", "timings")

    def __init__(self) -> None:
        self.calls: dict[CallKey, int] = {}  # connector, our error code, status
        self.timings: dict[str, Timing] = {}  # connector
        self.refreshes: dict[tuple[str, str], int] = {}  # connector, outcome
        self.retries: dict[tuple[str, str], int] = {}  # connector, what became of it
        self.deliveries: dict[str, int] = {}  # outcome
        self.grants_over: dict[tuple[str, str], int] = {}  # connector, cause
        self.callbacks_refused: dict[str, int] = {}  # cause
        self.before: dict[str, dict[str, float]] = {}  # what an earlier life of this process counted, as samples

    def call(self, connector: str | None, code: str | None, status: int, total_ms: float, provider_ms: float) -> None:
        """Count a call through an account, refused ones included."""
        key = (connector, code, status)
        self.calls[key] = self.calls.get(key, 0) + 1
        if connector is None:
            return
        timing = self.timings.get(connector)
        if timing is None:
            timing = self.timings[connector] = Timing()
        timing.total[bisect_left(BUCKETS_MS, total_ms)] += 1
        timing.total_ms += total_ms
        if provider_ms:
            timing.provider[bisect_left(BUCKETS_MS, provider_ms)] += 1
            timing.provider_ms += provider_ms

    def refresh(self, connector: str, outcome: str) -> None:
        """Count a token refresh that this process ran."""
        key = (connector, outcome)
        self.refreshes[key] = self.refreshes.get(key, 0) + 1

    def retry(self, connector: str, outcome: str) -> None:
        """Count a repetition of a call: `sent`, or `refused` by the budget."""
        key = (connector, outcome)
        self.retries[key] = self.retries.get(key, 0) + 1

    def delivery(self, outcome: str) -> None:
        """Count an attempt to deliver a webhook."""
        self.deliveries[outcome] = self.deliveries.get(outcome, 0) + 1

    def grant_over(self, connector: str, cause: str) -> None:
        """Count a grant that ended while it was renewed, by a cause of the diagnosis."""
        key = (connector, cause)
        self.grants_over[key] = self.grants_over.get(key, 0) + 1

    def callback_refused(self, cause: str) -> None:
        """Count a callback that belongs to no live sign-in of its browser: used twice, mixed up, or made up (rule L4)."""
        self.callbacks_refused[cause] = self.callbacks_refused.get(cause, 0) + 1
