"""How long a provider wants to be left alone, from its own headers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.protocol.budgets import LONGEST, UNSAID, pause_of

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)


def told(**headers: object) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]


CASES = {
    "nothing said": (200, told(etag="x"), None),
    "a 429 that names no time": (429, told(etag="x"), UNSAID),
    "Retry-After in seconds": (429, told(retry_after=7), 7),
    "Retry-After as a date": (429, told(retry_after=format_datetime(LATER, usegmt=True)), 30),
    "Retry-After in the past": (429, told(retry_after=format_datetime(NOW - timedelta(days=1), usegmt=True)), 0),
    "Retry-After that is absurd": (429, told(retry_after=10**9), UNSAID),
    "Retry-After of two hours": (429, told(retry_after=7200), LONGEST),
    "Retry-After that can't be read": (429, told(retry_after="soon"), UNSAID),
    "Retry-After of a 503": (503, told(retry_after=4), 4),
    "a 503 alone": (503, told(etag="x"), None),
    "Retry-After of a 200 means something else": (200, told(retry_after=4), None),
    "used up, seconds": (200, told(x_ratelimit_remaining=0, x_ratelimit_reset=12), 12),
    "used up, UNIX time": (200, told(x_ratelimit_remaining=0, x_ratelimit_reset=int(LATER.timestamp())), 30),
    "used up, milliseconds": (200, told(x_ratelimit_remaining=0, x_ratelimit_reset=int(LATER.timestamp()) * 1000), 30),
    "something left": (200, told(x_ratelimit_remaining=1, x_ratelimit_reset=12), None),
    "used up without a reset": (200, told(x_ratelimit_remaining=0), None),
    "a 429 with a reset": (429, told(x_ratelimit_reset=5), 5),
    "with dashes": (200, told(x_rate_limit_remaining=0, x_rate_limit_reset="3"), 3),
    "an interval": (
        200,
        told(x_hubspot_ratelimit_remaining=0, x_hubspot_ratelimit_interval_milliseconds=10000),
        10,
    ),
    "the draft's new form": (200, told(ratelimit='"default";r=0;t=8'), 8),
    "the draft's old form": (200, told(ratelimit="limit=10, remaining=0, reset=9"), 9),
    "the draft, something left": (200, told(ratelimit='"default";r=5;t=8'), None),
    "numbers that are none": (200, told(x_ratelimit_remaining="none", x_ratelimit_reset="-1"), None),
    "a fraction": (200, told(x_ratelimit_remaining=0, x_ratelimit_reset="1.9"), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_what_it_says(name: str) -> None:
    status, headers, expected = CASES[name]
    assert pause_of(status, headers, lambda: NOW) == expected


@given(st.integers(100, 599), st.binary(max_size=40), st.binary(max_size=40))
def test_no_header_breaks_it(status: int, one: bytes, other: bytes) -> None:
    for name in (b"retry-after", b"x-ratelimit-reset", b"ratelimit", b"x-hubspot-ratelimit-interval-milliseconds"):
        pause = pause_of(status, [(b"x-ratelimit-remaining", one), (name, other)], lambda: NOW)
        assert pause is None or 0 <= pause <= LONGEST
