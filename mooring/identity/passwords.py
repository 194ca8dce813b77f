"""Passwords: Argon2id, off the event loop, a few at a time; and what a good one is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from mooring import errors

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 200
_COMMON: Final = ("password", "passwort", "qwerty", "letmein", "welcome", "mooring", "123456", "abcdef", "iloveyou")
T = TypeVar("T")
_slots: asyncio.Semaphore | None = None


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # with its C library: only who signs in needs it

    return PasswordHasher()  # Argon2id with the parameters of RFC 9106 §4, second choice


@lru_cache(maxsize=1)
def _decoy() -> str:
    """A hash to check against when there is no account, so that the time tells nothing."""
    return _hasher().hash("a password that nobody has")


def check_strength(password: str, *about: str) -> None:
    """Raise ValidationFailed unless the password is long enough and not one of the first that somebody would try."""
    lower = password.lower()
    fault = None
    if len(password) < MIN_LENGTH:
        fault = f"must have at least {MIN_LENGTH} characters"
    elif len(password) > MAX_LENGTH:
        fault = f"must have at most {MAX_LENGTH} characters"
    elif len(set(password)) < 5:
        fault = "repeats the same few characters"
    else:
        rest = lower
        for word in (*_COMMON, *(part for text in about for part in text.lower().replace("@", " ").split() if part)):
            rest = rest.replace(word, "")
        if len(rest) < MIN_LENGTH // 2:
            fault = "is too easy to guess: it is made of common words, or of your name or address"
    if fault:
        raise errors.ValidationFailed(f"the password {fault}", errors=[f"password: {fault}"])


async def hash_password(password: str) -> str:
    """The Argon2id hash."""
    return await _in_thread(lambda: _hasher().hash(password))


async def verify(hash: str | None, password: str) -> bool:
    """Whether the password is right. Takes as long when there is none to compare with."""

    def check() -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return _hasher().verify(hash or _decoy(), password[:MAX_LENGTH]) and hash is not None
        except (VerificationError, InvalidHashError):
            return False

    return await _in_thread(check)


async def _in_thread(work: Callable[[], T]) -> T:
    """64 MiB and a tenth of a second each: never more than two at once, whoever knocks."""
    global _slots
    if _slots is None:
        _slots = asyncio.Semaphore(2)
    async with _slots:
        return await asyncio.to_thread(work)
