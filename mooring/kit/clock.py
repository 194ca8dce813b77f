"""The one clock, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current time, aware, UTC."""
    return datetime.now(UTC)


def timestamp() -> float:
    """The current time as UNIX time; a tenth of the cost of `now`."""
    return time.time()


def iso(moment: datetime) -> str:
    """RFC 3339 with `T`, milliseconds and `Z`, as the published SDKs want it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
