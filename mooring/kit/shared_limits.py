"""Limits whose windows, pauses and bad news of providers are shared with the processes of all hosts.

While the shared server is away everything is as in `limits`: each process keeps its own part. What this process itself
sent it knows in any case, so that a server that lost its memory allows no process more than the provider does.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mooring.kit.limits import FAILURES, GATES, Gate, Limits, Provider
from mooring.kit.shared import SharedServer, digest
from mooring.kit.windows import Window, pools_of, windows_of

LOOK_SECONDS: Final = 0.25  # after which a queue looks whether anybody still waits, and whether the server is there
NOTABLE_SECONDS: Final = 0.05  # by which a pause must grow to be news


@dataclass(slots=True)
class _Lane:
    """The whole windows that the calls to some paths count in, and when the server is to be asked about them again."""

    windows: list[tuple[str, Window]]
    ready: float = 0.0  # monotonic

    def ready_at(self, now: float) -> float:
        """When the next call may go, by what is known here."""
        return max(now, self.ready, *(window.ready_at(now) for _, window in self.windows))

    def count(self, now: float) -> None:
        """Count a call that goes now."""
        for _, window in self.windows:
            window.count(now)


class SharedGate(Gate):
    """A gate that asks the shared server for each place; order, bound and concurrency are this process's own."""

    def __init__(self, server: SharedServer, key: str, rules: Mapping[str, Any], share: float) -> None:
        super().__init__(rules, share)
        self._server = server
        self._key = key
        self._of_all = [("", window) for window in windows_of(rules, 1)]
        self._whole_pools = pools_of(rules, 1)
        self._lanes: dict[tuple[int, ...], _Lane] = {}
        self._asking: asyncio.Task[None] | None = None

    async def usage(self) -> list[dict[str, Any]]:
        """The windows as numbers: the whole ones and all their calls, or this process's part while the server is away."""
        named = [*self._of_all, *((pool.name, window) for pool in self._whole_pools for window in pool.windows)]
        counts = await self._server.used(self._key, named) if named else []
        if counts is None:
            return await super().usage()
        return [
            {"path": path or None, "requests": w.requests, "seconds": w.seconds, "used": min(w.requests, used)}
            for (path, w), used in zip(named, counts, strict=True)
        ]

    async def enter(self, route: str, wait: float) -> None:
        """Wait for a place for a call to a route (`GET /path`), at most `wait` seconds.

        Raises RateLimited; every entry needs one `leave`.
        """
        if self._waiting or not self._asks(route) or not await self._take(route):
            await super().enter(route, wait)

    def _lane(self, route: str) -> _Lane:
        concerned = tuple(i for i, pool in enumerate(self._whole_pools) if pool.concerns(route))
        lane = self._lanes.get(concerned)
        if lane is None:
            pools = [self._whole_pools[i] for i in concerned]
            windows = [*self._of_all, *((pool.name, window) for pool in pools for window in pool.windows)]
            lane = self._lanes[concerned] = _Lane(windows)
        return lane

    def _asks(self, route: str) -> bool:
        return self._server.up and bool(self._lane(route).windows)

    async def _take(self, route: str) -> bool:
        """Try to get a place for a call now."""
        asked = time.monotonic()
        if self._ready_at(asked, route) > asked:
            return False
        lane = self._lane(route)
        self.in_flight += 1  # a place for the time of the question
        admitted = False
        try:
            left = await self._server.take(self._key, lane.windows)
            now = time.monotonic()
            if left:
                lane.ready = now + left
            # Others of this process may have asked meanwhile. Counted from the question on, which was before the server
            # counted, so that only a server that forgot something can be contradicted here.
            admitted = left == 0 and lane.ready_at(now) <= now
            if admitted:
                lane.count(asked)
                for window in self._concerned(route):
                    window.count(now)
            return admitted
        finally:
            if not admitted:
                self.in_flight -= 1

    def _ready_at(self, now: float, route: str) -> float:
        if not self._asks(route):
            return super()._ready_at(now, route)
        if self.in_flight >= self._most:
            return math.inf
        return max(self.blocked_until, self._lane(route).ready_at(now))

    def _admit(self, now: float, route: str) -> bool:
        if self._asks(route) or not super()._admit(now, route):  # `_take` lets in while the server is there
            return False
        lane = self._lane(route)
        lane.count(now)
        self._server.local += bool(lane.windows)
        return True

    def _pump(self) -> None:
        if not self._server.up:
            super()._pump()
        elif self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_on())

    async def _ask_on(self) -> None:
        """Let in whose turn it is. Ends when nobody waits, when a place must become free first, or with the server."""
        try:
            while self._waiting and self._server.up:
                place, route = self._waiting[0]
                now = time.monotonic()
                ready = self._ready_at(now, route)
                if place.done():  # gave up
                    self._waiting.popleft()
                elif ready == math.inf:
                    return
                elif ready > now:
                    await asyncio.sleep(min(ready - now, LOOK_SECONDS))
                elif self._admit(now, route) or await self._take(route):
                    self._hand_over(place)
        finally:
            self._asking = None
            if self._waiting and not self._server.up:
                super()._pump()

    def _hand_over(self, place: asyncio.Future[None]) -> None:
        if self._waiting and self._waiting[0][0] is place:
            self._waiting.popleft()
        if place.done():  # gave up while the server was asked
            self.in_flight -= 1
        else:
            place.set_result(None)


class SharedProvider(Provider):
    """A provider whose failure is news to the other processes."""

    __slots__ = ("_server", "mark")

    def __init__(self, server: SharedServer, origin: str, connector: str) -> None:
        super().__init__(connector)
        self._server = server
        self.mark = digest(origin)  # a base URL may hold a credential

    def failed(self) -> None:
        """No answer came."""
        before = self.open_until
        super().failed()
        if self.open_until != before:
            self._server.tell("down", self.mark)

    def warn(self) -> None:
        """Hear that it failed elsewhere: one call of our own without an answer is enough now.

        Not more: the fault may be the other host's network, and must not stop this one.
        """
        self.failures = max(self.failures, FAILURES - 1)


class SharedLimits(Limits):
    """The gates and providers of one process among those of many hosts."""

    def __init__(self, server: SharedServer, *, workers: int = 1, gates: int = GATES) -> None:
        super().__init__(workers=workers, gates=gates)
        self._server = server
        self._pauses: OrderedDict[str, float] = OrderedDict()  # of who has no gate here: until when, monotonic
        server.on("pause", self._hear_pause)
        server.on("down", self._hear_down)

    @property
    def share(self) -> float:
        """This process's part of what a provider allows: all of it while it is shared call by call."""
        return 1.0 if self._server.up else super().share

    def gate(self, key: str, rules: Mapping[str, Any]) -> Gate | None:
        """The gate of an account or app; None when it has no windows and nobody was told to wait."""
        gate = super().gate(key, rules)
        if gate is None and key in self._pauses:
            gate = self._make(key, rules)
            del self._pauses[key]
        return gate

    def block(self, key: str, rules: Mapping[str, Any], seconds: float) -> None:
        """Remember what a provider said, and tell the others."""
        gate = self._gates.get(key)
        before = gate.blocked_for if gate is not None else 0.0
        super().block(key, rules, seconds)
        if seconds > before + NOTABLE_SECONDS:
            self._server.pause(key, seconds)

    def _new_gate(self, key: str, rules: Mapping[str, Any]) -> Gate:
        gate = SharedGate(self._server, key, rules, super().share)
        gate.blocked_until = self._pauses.get(key, 0.0)
        return gate

    def _new_provider(self, origin: str, connector: str) -> Provider:
        return SharedProvider(self._server, origin, connector)

    def _hear_pause(self, key: str, seconds: float) -> None:
        gate = self._gates.get(key)
        if gate is not None:
            gate.block(seconds)
            return
        until = time.monotonic() + seconds
        self._pauses[key] = max(until, self._pauses.pop(key, 0.0))
        if len(self._pauses) > self._most_gates:
            self._pauses.popitem(last=False)

    def _hear_down(self, mark: str, _seconds: float) -> None:
        for provider in self.providers():
            if isinstance(provider, SharedProvider) and provider.mark == mark:
                provider.warn()
