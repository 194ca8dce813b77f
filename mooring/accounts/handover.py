"""Accounts that another hub took over: kept here, frozen, until they come back or are deleted.

A rotating refresh token must never be used in two places. So an account is frozen under the lock that refreshes take, and
only when none is under way and none ended in the unknown; from then on no refresh begins and calls are refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts import lifecycle, service
from mooring.accounts.lifecycle import HANDED_OVER
from mooring.accounts.models import Account, Credential
from mooring.identity import audit
from mooring.kit import clock
from mooring.kit.db import record_change

MOVABLE: Final = ("active", "error", "expired", "suspended")
"""The stored statuses of accounts that can be handed over, and that they come back to."""


def bundle_of(account: Account) -> str | None:
    """The bundle that an account was handed over with, or None."""
    reason = _reason(account)
    return str(reason["bundle"]) if reason is not None else None


def since(account: Account) -> str:
    """When it was handed over."""
    reason = _reason(account)
    return str(reason["timestamp"]) if reason is not None else ""


def status_before(account: Account) -> str:
    """The status that a frozen account had, or has."""
    reason = _reason(account)
    if reason is None:
        return account.status
    return str(reason["was"]) if reason["was"] in MOVABLE else "active"


def reasons_before(account: Account) -> list[Any]:
    """The reasons of that status."""
    return [r for r in account.status_reasons if r["code"] != HANDED_OVER]


def _reason(account: Account) -> dict[str, Any] | None:
    if account.status != HANDED_OVER:
        return None
    return next((r for r in reversed(account.status_reasons) if r["code"] == HANDED_OVER), None)


def obstacle(account: Account, credential: Credential, now: datetime) -> str | None:
    """Why a locked account can't be frozen at this moment, or None."""
    if account.status not in MOVABLE:
        return "it was deleted or handed over meanwhile"
    if credential.lease_until is not None and credential.lease_until > now:
        return "its token is being renewed"
    if credential.pending_generation == credential.generation:
        return "its last renewal ended in the unknown; a running hub settles that"
    return None


async def freeze(tx: AsyncSession, account: Account, bundle: str) -> None:
    """Hand a locked account over: nothing is sent for it any more, and no refresh begins."""
    reason = {
        "code": HANDED_OVER,
        "description": f"handed over with the bundle {bundle}",
        "timestamp": clock.iso(clock.now()),
        "bundle": bundle,
        "was": account.status,
    }
    account.status_reasons = [*account.status_reasons, reason][-service.REASONS_KEPT :]
    account.status = HANDED_OVER
    await _told(tx, account, "account.handed_over", bundle)


async def thaw(tx: AsyncSession, account: Account) -> None:
    """Take a locked account back as it was."""
    bundle = bundle_of(account) or ""
    status, reasons = status_before(account), reasons_before(account)
    account.status, account.status_reasons = status, reasons
    await _told(tx, account, "account.handed_back", bundle)


async def _told(tx: AsyncSession, account: Account, action: str, bundle: str) -> None:
    account.updated_at = clock.now()
    record_change(tx, "account", account.id)
    await tx.flush()
    await service.announce(tx, account, lifecycle.event_of(lifecycle.effective(account.status, config_active=True)))
    audit.note(
        tx,
        action,
        project_id=account.project_id,
        target=("account", account.id),
        label=account.label or account.origin_owner_name,
        detail={"connector": account.connector_key, "bundle": bundle},
    )
