"""What a provider's answer says of its rate limit: for how long nothing more should be sent. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from mooring.protocol.oauth2 import parse_retry_after

LONGEST: Final = 3600.0  # seconds; a header that says more is believed for an hour and read again then
ABSURD: Final = 86_400.0  # seconds; a header that says this much is broken
UNSAID: Final = 1.0  # seconds after a 429 that names no time, or none that can be meant

_RETRY: Final = b"retry-after"
_REMAINING: Final = frozenset(
    {
        b"x-ratelimit-remaining",
        b"ratelimit-remaining",
        b"x-rate-limit-remaining",
        b"x-hubspot-ratelimit-remaining",
        b"x-ratelimit-requests-remaining",
    }
)
_RESET: Final = frozenset(
    {b"x-ratelimit-reset", b"ratelimit-reset", b"x-rate-limit-reset", b"x-ratelimit-requests-reset"}
)
_INTERVAL: Final = b"x-hubspot-ratelimit-interval-milliseconds"
_STRUCTURED: Final = (
    b"ratelimit"  # draft-ietf-httpapi-ratelimit-headers: `"default";r=0;t=12`, or `remaining=0, reset=12`
)
_READ: Final = _REMAINING | _RESET | {_RETRY, _INTERVAL, _STRUCTURED}
_LEFT: Final = re.compile(rb"(?:^|[;,\s])(?:r|remaining)=(\d{1,12})")
_TIME: Final = re.compile(rb"(?:^|[;,\s])(?:t|reset)=(\d{1,12})")


def pause_of(status: int, headers: Iterable[tuple[bytes, bytes]], clock: Callable[[], datetime]) -> float | None:
    """Seconds in which the provider wants no further call, or None when it did not say so.

    Retry-After of a 429 or 503 counts first (RFC 9110 §10.2.3, both forms); then a budget that is used up, with its reset
    as seconds, UNIX time or milliseconds. Header names are lower-case.
    """
    found: dict[bytes, bytes] | None = None
    for name, value in headers:
        if name in _READ:
            if found is None:
                found = {}
            found[name] = value
    if found is None:
        return UNSAID if status == 429 else None
    now = clock()
    if status in {429, 503} and _RETRY in found:
        seconds = parse_retry_after(found[_RETRY].decode("latin-1").strip(), now)
        if seconds is not None and seconds < ABSURD:
            return min(seconds, LONGEST)
    left, reset = _budget(found, now)
    if status == 429:
        return min(reset, LONGEST) if reset is not None else UNSAID
    if left == 0 and reset is not None and status != 503:
        return min(reset, LONGEST)
    return None


def _budget(found: dict[bytes, bytes], now: datetime) -> tuple[int | None, float | None]:
    left = next((_number(found[name]) for name in _REMAINING if name in found), None)
    reset = next((_until(_number(found[name]), now) for name in _RESET if name in found), None)
    if reset is None and _INTERVAL in found:
        interval = _number(found[_INTERVAL])
        reset = interval / 1000 if interval is not None else None
    if _STRUCTURED in found:
        told = found[_STRUCTURED]
        if left is None and (match := _LEFT.search(told)):
            left = int(match[1])
        if reset is None and (match := _TIME.search(told)):
            reset = float(match[1])
    return left, reset


def _number(value: bytes) -> int | None:
    head = value.partition(b".")[0].strip()
    return int(head) if head.isdigit() and len(head) < 16 else None


def _until(value: int | None, now: datetime) -> float | None:
    """A reset in seconds from now; large numbers are UNIX times, larger ones milliseconds of it."""
    if value is None:
        return None
    if value > 100_000_000_000:
        value //= 1000
    return max(0.0, value - now.timestamp()) if value > 1_000_000_000 else float(value)
