"""When a call may be sent again, and after which pause (rules R5, R11). Only as the connector's `limits.retry` says."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from mooring.kit.http import RawHeaders
from mooring.protocol.budgets import pause_of
from mooring.protocol.headers import Header
from mooring.protocol.oauth2 import parse_retry_after

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 §9.2.2, without TRACE
MOST: Final = 3  # repetitions of one call after a 5xx
MOST_LIMITED: Final = 5  # and after a 429
FIRST_PAUSE: Final = 0.5  # seconds; the ceiling doubles with every repetition, the pause is drawn below it
LONGEST_PAUSE: Final = 20.0
SWITCH: Final = b"x-mooring-retry"  # `off` turns repetitions off for one call


def wanted(headers: Iterable[Header]) -> bool:
    """Whether the caller left repetitions on."""
    return not any(name == SWITCH and value.strip().lower() == b"off" for name, value in headers)


def is_due(rule: Mapping[str, Any], status: int, done: int) -> bool:
    """Whether the connector wants this status tried again, after `done` repetitions."""
    if done >= min(rule["max"], MOST_LIMITED if status == 429 else MOST):
        return False
    return any(entry == str(status) or (entry[1:] == "xx" and entry[0] == str(status)[0]) for entry in rule["on"])


def pause(rule: Mapping[str, Any], status: int, headers: RawHeaders, done: int, now: datetime) -> float:
    """Seconds before the next try: what the provider says, in either form of Retry-After, else full jitter."""
    name = (rule.get("after") or "retry-after").lower().encode()
    for key, value in headers:
        if key == name:
            told = parse_retry_after(value.decode("latin-1").strip(), now)
            if told is not None:
                return told
    told = pause_of(status, headers, lambda: now) if status == 429 else None
    ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2**done)
    return max(told or 0.0, random.uniform(0, ceiling))  # noqa: S311 - jitter
