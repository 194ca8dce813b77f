"""Unguessable identifiers, and the one hash for tokens."""

from __future__ import annotations

import hashlib
import os
import secrets
import uuid
from datetime import UTC, datetime

from mooring.kit import clock

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def nanoid(size: int = 21) -> str:
    """A random id of letters and digits; 21 characters hold 123 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(size))


def random_uuid() -> str:
    """A version 4 UUID (RFC 9562 §5.4)."""
    return str(uuid.uuid4())


# Bytes asked of the system at a time: every call gets an id, and a system call for each is felt. For one thread.
_POOL = 4000
_pool = ""
_at = 0


def time_uuid() -> str:
    """A version 7 UUID (RFC 9562 §5.7): sorts by creation time, 74 bits are random."""
    global _pool, _at
    if _at >= len(_pool):
        _pool, _at = os.urandom(_POOL).hex(), 0
    tail = _pool[_at : _at + 20]
    _at += 20
    head = f"{int(clock.timestamp() * 1000):012x}"
    # The version's digit, and the variant's two bits in front of two random ones.
    return f"{head[:8]}-{head[8:]}-7{tail[:3]}-{_VARIANT[tail[3]]}{tail[4:7]}-{tail[7:19]}"


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def first_at(moment: float) -> str:
    """The least `time_uuid` of a UNIX time: what was made earlier sorts before it."""
    text = f"{max(0, int(moment * 1000)):012x}"
    return f"{text[:8]}-{text[8:]}-0000-0000-000000000000"


def seconds_of(id: str) -> float:
    """When `time_uuid` made an id, as UNIX time to the millisecond. Raises ValueError for anything else."""
    return int(id[:8] + id[9:13], 16) / 1000


def secret_token(size: int = 32) -> str:
    """`size` random bytes (256 bits by default), URL-safe."""
    return secrets.token_urlsafe(size)


def digest(token: str) -> bytes:
    """SHA-256 of a token. Enough for tokens of full entropy; passwords need Argon2 (rule A1)."""
    return hashlib.sha256(token.encode()).digest()


def time_of(id: str) -> datetime | None:
    """When `time_uuid` made an id, or None for anything else."""
    try:
        return datetime.fromtimestamp(seconds_of(id), UTC)
    except (ValueError, OverflowError, OSError):
        return None
