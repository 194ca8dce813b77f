"""The life of a linked account as one pure table: (status, fact) → status."""

from __future__ import annotations

from typing import Final, Literal

Status = Literal["active", "inactive", "suspended", "error", "expired", "archived"]
Fact = Literal[
    "linked", "worked", "credentials_rejected", "refresh_failing", "grant_over", "suspended", "resumed", "deleted"
]

STATUSES: Final[tuple[Status, ...]] = ("active", "inactive", "suspended", "error", "expired", "archived")

HANDED_OVER: Final = "handed_over"
"""Stored for an account that another hub took over; callers see `suspended`. Only `handover` brings it back."""

_TABLE: Final[dict[tuple[str, Fact], Status]] = {
    ("active", "credentials_rejected"): "error",
    ("active", "refresh_failing"): "error",
    ("active", "grant_over"): "expired",
    ("active", "suspended"): "suspended",
    ("error", "linked"): "active",
    ("error", "worked"): "active",
    ("error", "grant_over"): "expired",
    ("error", "suspended"): "suspended",
    ("expired", "linked"): "active",
    ("expired", "worked"): "active",
    ("expired", "suspended"): "suspended",
    ("suspended", "resumed"): "active",
    ("active", "deleted"): "archived",
    ("error", "deleted"): "archived",
    ("expired", "deleted"): "archived",
    ("suspended", "deleted"): "archived",
    (HANDED_OVER, "deleted"): "archived",
}


def after(status: str, fact: Fact) -> Status:
    """The status after a fact. A pair that is not in the table changes nothing: archived never comes back."""
    return _TABLE.get((status, fact), status)  # type: ignore[arg-type]


_EVENTS: Final[dict[Status, str]] = {
    "error": "account.error",
    "expired": "account.expired",
    "archived": "account.deleted",
}


def event_of(status: Status) -> str:
    """The event that tells of a change to this status."""
    return _EVENTS.get(status, "account.updated")


def effective(status: str, *, config_active: bool) -> Status:
    """The status as callers see it: a disabled auth config makes its serving accounts inactive (rows 002-13, 002-14).

    Derived, so that enabling the config restores exactly what each account was (contract §3.6 C7).
    """
    if status == HANDED_OVER:
        return "suspended"
    if not config_active and status in {"active", "error", "expired"}:
        return "inactive"
    return status  # type: ignore[return-value]
