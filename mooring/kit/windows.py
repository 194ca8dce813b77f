"""Windows: at most so many calls in so many seconds, by the memory of one process."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

SLOTS: Final = 200  # moments that a window remembers; a larger window counts in steps
_NAMED: Final = re.compile(r"\{\w+\}")


class Window:
    """At most `requests` calls in any `seconds`: right for providers that count in fixed windows and in sliding ones."""

    __slots__ = ("_counted", "_times", "requests", "seconds", "slots", "step")

    def __init__(self, requests: int, seconds: float) -> None:
        self.requests = requests
        self.seconds = seconds
        self.step = -(-requests // SLOTS)  # calls that one remembered moment stands for
        self.slots = max(1, requests // self.step)
        self._counted = 0
        self._times: deque[float] = deque(maxlen=self.slots)

    def ready_at(self, now: float) -> float:
        """When the next call may go: `now`, or the moment at which the oldest counted call leaves the window."""
        times = self._times
        if len(times) < self.slots:
            return now
        return max(now, times[0] + self.seconds)

    def count(self, now: float) -> None:
        """Count a call that goes now."""
        if self._counted % self.step == 0:
            self._times.append(now)
        self._counted += 1

    def used(self, now: float) -> int:
        """How many calls are in the window, to the step."""
        return min(self.requests, sum(1 for t in self._times if t + self.seconds > now) * self.step)


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


class Pool:
    """Windows for the calls to some paths, told by `method path`. `{name}` in a path stands for one segment."""

    __slots__ = ("_match", "name", "windows")

    def __init__(self, rules: Mapping[str, Any], share: float) -> None:
        method, path = rules.get("method"), str(rules["path"])
        self.name = f"{method} {path}" if method else path
        self.windows = windows_of(rules, share)
        parts = _NAMED.split(path)
        pattern = "[^/]+".join(map(re.escape, parts)) + ("$" if rules.get("whole") else "")
        self._match = re.compile((f"{method} " if method else r"(?:[^ /]+ )?") + pattern).match

    def concerns(self, route: str) -> bool:
        """Whether a call counts in it."""
        return self._match(route) is not None


def pools_of(rules: Mapping[str, Any], share: float) -> list[Pool]:
    """The pools of a connector's `limits`."""
    return [Pool(pool, share) for pool in rules.get("pools", ())]
