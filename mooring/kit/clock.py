"""The one clock, so that tests can move it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_shift = timedelta()


def now() -> datetime:
    """The current time, aware, UTC."""
    return datetime.now(UTC) + _shift


def shift(by: timedelta) -> None:
    """Let this process's clock go wrong by so much; zero sets it right. For tests of wrong clocks."""
    global _shift
    _shift = by


def iso(moment: datetime) -> str:
    """RFC 3339 with `T`, milliseconds and `Z`, as the published SDKs want it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
