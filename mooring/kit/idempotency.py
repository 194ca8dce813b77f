"""Idempotency-Key on creating requests: one key, one effect, one answer, also across a crash (rule R15).

A request that only writes to the database runs inside one transaction together with its record, so effect and answer
commit as one. A request that must ask a provider first claims its key in a transaction of its own, and its answer is
recorded in the transaction that saves its effect. Answers are sealed: some hold a token that is shown once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import LargeBinary, String, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from mooring import errors
from mooring.kit import clock
from mooring.kit.db import Base
from mooring.kit.vault import Vault

KEEP = timedelta(hours=24)
LEASE = timedelta(seconds=60)
_PURPOSE = "idempotency answer"


class IdempotencyRecord(Base):
    """One key of one tenant. `answer` is null while the request runs."""

    __tablename__ = "idempotency_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # hash of tenant and key
    request_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    status: Mapped[int | None]
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    lease_until: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(index=True)


@dataclass(frozen=True, slots=True)
class Key:
    """A claimed key: what to record the answer under."""

    id: str
    vault: Vault


@dataclass(frozen=True, slots=True)
class Answer:
    """A recorded answer."""

    status: int
    body: bytes


_current: ContextVar[Key | None] = ContextVar("mooring-idempotency-key", default=None)


def check(key: str) -> str:
    """The key as given. Raises ValidationFailed for one that is empty, too long or not printable ASCII."""
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise errors.ValidationFailed(
            "Validation failed", errors=["Idempotency-Key: must be 1 to 255 printable ASCII characters"]
        )
    return key


def hash_request(method: str, path: str, body: bytes) -> bytes:
    """What makes two requests the same."""
    return hashlib.sha256(b"\0".join((method.encode(), path.encode(), body))).digest()


def record_id(tenant: str, key: str) -> str:
    """The record's id: a key means something only within its tenant."""
    return hashlib.sha256(f"{tenant}\0{key}".encode()).hexdigest()


async def claim(tx: AsyncSession, vault: Vault, id: str, request_hash: bytes) -> Answer | None:
    """Claim a key, or find its answer.

    Raises Unprocessable when the key came with another request before, Conflict while the first one runs.
    """
    now = clock.now()
    await tx.execute(
        delete(IdempotencyRecord).where(IdempotencyRecord.id == id, IdempotencyRecord.created_at < now - KEEP)
    )
    insert = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    inserted = await tx.execute(
        insert(IdempotencyRecord)
        .values(id=id, request_hash=request_hash, lease_until=now + LEASE, created_at=now)
        .on_conflict_do_nothing(index_elements=["id"])
    )
    if inserted.rowcount:  # type: ignore[attr-defined]
        return None
    row = await tx.scalar(select(IdempotencyRecord).where(IdempotencyRecord.id == id).with_for_update())
    if row is None:
        raise errors.Conflict("a request with this Idempotency-Key is just ending", hint="Try again.")
    if row.request_hash != request_hash:
        raise errors.Unprocessable(
            "this Idempotency-Key was used with another request before",
            code="IdempotencyKeyReusedError",
            hint="Use a new key for a new request.",
        )
    if row.answer is not None and row.status is not None:
        return Answer(row.status, open_answer(vault, row.answer))
    if row.lease_until > now:
        raise errors.Conflict(
            "a request with this Idempotency-Key is still running",
            code="IdempotencyInFlightError",
            hint="Try again in a moment.",
            headers={"retry-after": "1"},
        )
    row.lease_until = now + LEASE  # the process that ran it died before it had any effect
    return None


def open_answer(vault: Vault, sealed: bytes) -> bytes:
    """The body of a recorded answer. Raises VaultError."""
    return vault.open_bytes(sealed, purpose=_PURPOSE)


async def record(tx: AsyncSession, key: Key, status: int, body: bytes) -> None:
    """Record the answer of a claimed key, in the transaction of its effect."""
    await tx.execute(
        update(IdempotencyRecord)
        .where(IdempotencyRecord.id == key.id)
        .values(status=status, answer=key.vault.seal_bytes(body, purpose=_PURPOSE))
    )


async def release(tx: AsyncSession, key: Key) -> None:
    """Forget a claimed key whose request had no effect, so that it may be tried again."""
    await tx.execute(
        delete(IdempotencyRecord).where(IdempotencyRecord.id == key.id, IdempotencyRecord.answer.is_(None))
    )


async def record_current(tx: AsyncSession, status: int, body: Mapping[str, Any]) -> None:
    """Record the answer of the request that is being served, if it came with a key."""
    key = _current.get()
    if key is not None:
        await record(tx, key, status, orjson.dumps(dict(body)))


def set_current(key: Key | None) -> None:
    """Say which key the request being served came with."""
    _current.set(key)


async def purge(tx: AsyncSession) -> None:
    """Drop records that are older than a day."""
    await tx.execute(delete(IdempotencyRecord).where(IdempotencyRecord.created_at < clock.now() - KEEP))
