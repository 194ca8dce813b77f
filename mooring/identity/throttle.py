"""Slow down who guesses: failures are counted per account and per address, and each one makes the next wait longer."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import Final

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity.user_models import Throttle
from mooring.kit import clock

FREE: Final = {"account": 5, "address": 20}  # failures that cost nothing: people mistype, and offices share an address
FORGET: Final = timedelta(hours=12)
LONGEST: Final = 900.0  # seconds


def _subject(kind: str, value: str) -> str:
    if kind == "address":
        value = _network(value)
    return hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()


def _network(address: str) -> str:
    """An IPv6 host owns its whole /64, so the /64 is what counts."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return parsed.exploded[:19] if isinstance(parsed, IPv6Address) else address


def _until(row: Throttle, kind: str) -> datetime:
    over = row.failures - FREE[kind]
    return row.last_at + timedelta(seconds=0 if over < 0 else min(LONGEST, 2.0 ** min(over + 1, 12)))


async def check(tx: AsyncSession, account: str, address: str | None) -> None:
    """Raise RateLimited while the account or the address has to wait."""
    now = clock.now()
    for kind, value in (("account", account), ("address", address)):
        if value is None:
            continue
        row = await tx.get(Throttle, _subject(kind, value))
        if row is not None and row.last_at > now - FORGET and (until := _until(row, kind)) > now:
            seconds = int((until - now).total_seconds()) + 1
            raise errors.RateLimited(
                f"too many failed attempts; wait {seconds} seconds", headers={"retry-after": str(seconds)}
            )


async def failed(tx: AsyncSession, account: str, address: str | None) -> None:
    """Count a failure."""
    now = clock.now()
    for kind, value in (("account", account), ("address", address)):
        if value is None:
            continue
        subject = _subject(kind, value)
        row = await tx.get(Throttle, subject, with_for_update=True)
        if row is None:
            tx.add(Throttle(subject=subject, failures=1, last_at=now))
        else:
            row.failures = 1 if row.last_at <= now - FORGET else row.failures + 1
            row.last_at = now
    await tx.flush()


async def succeeded(tx: AsyncSession, account: str) -> None:
    """Forget the account's failures. The address keeps its own: a good guess must not pay for the next ones."""
    await tx.execute(delete(Throttle).where(Throttle.subject == _subject("account", account)))


async def purge(tx: AsyncSession) -> None:
    """Drop what counts no more."""
    await tx.execute(delete(Throttle).where(Throttle.last_at <= clock.now() - FORGET))
