"""The one clock, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_shift = timedelta()
_shift_seconds = 0.0


def now() -> datetime:
    """The current time, aware, UTC."""
    return datetime.now(UTC) + _shift


def shift(by: timedelta) -> None:
    """Let this process's clock go wrong by so much; zero sets it right. For tests of wrong clocks."""
    global _shift, _shift_seconds
    _shift, _shift_seconds = by, by.total_seconds()


def timestamp() -> float:
    """The current time as UNIX time; a tenth of the cost of `now`."""
    return time.time() + _shift_seconds


def iso(moment: datetime) -> str:
    """RFC 3339 with `T`, milliseconds and `Z`, as the published SDKs want it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
