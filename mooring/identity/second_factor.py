"""The second factor: time-based codes (RFC 6238) and recovery codes. The secret is sealed, the codes are hashed."""

from __future__ import annotations

import hmac
import secrets as random
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit, secrets
from mooring.identity.user_models import User
from mooring.kit import clock, ids
from mooring.kit.vault import Vault

STEP: Final = 30  # seconds
RECOVERY_CODES: Final = 10
_LETTERS: Final = "23456789abcdefghjkmnpqrstuvwxyz"


def _name(user: User) -> str:
    return f"totp:{user.id}"


async def enroll(tx: AsyncSession, vault: Vault, user: User) -> str:
    """A new secret, not in force before a code proves that the person's device has it. Raises Conflict."""
    import pyotp

    if user.totp_at is not None:
        raise errors.Conflict("the second factor is on", hint="Turn it off first.")
    secret = pyotp.random_base32()
    await secrets.put(tx, vault, _name(user), secret.encode())
    return secret


def link(user: User, secret: str) -> str:
    """The address that authenticator apps read from a QR code."""
    import pyotp

    return pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name="Mooring")


async def confirm(tx: AsyncSession, vault: Vault, user: User, code: str) -> list[str]:
    """Put the second factor in force; returns the recovery codes, which are shown this once. Raises ValidationFailed."""
    if user.totp_at is not None:
        raise errors.Conflict("the second factor is on")
    if not await _matches(tx, vault, user, code):
        raise errors.ValidationFailed("the code is wrong", hint="Enter the six digits that the app shows now.")
    user.totp_at = clock.now()
    codes = _new_codes(user)
    audit.note(tx, "user.second_factor_on", target=("user", user.id), label=user.email)
    return codes


def _new_codes(user: User) -> list[str]:
    codes = ["".join(random.choice(_LETTERS) for _ in range(10)) for _ in range(RECOVERY_CODES)]
    user.recovery = [ids.digest(code).hex() for code in codes]
    return [f"{code[:5]}-{code[5:]}" for code in codes]


async def check(tx: AsyncSession, vault: Vault, user: User, code: str) -> bool:
    """Whether a code of the app or a recovery code is right. Either serves once."""
    plain = code.strip().lower().replace(" ", "").replace("-", "")
    if plain.isascii() and plain.isdigit():
        return await _matches(tx, vault, user, plain)
    digest = ids.digest(plain).hex()
    left = [kept for kept in user.recovery if not hmac.compare_digest(kept, digest)]
    if len(left) == len(user.recovery):
        return False
    user.recovery = left
    actor = audit.Actor("user", user.id, user.email)
    detail = {"left": len(left)}
    audit.note(tx, "user.recovery_code_used", target=("user", user.id), label=user.email, detail=detail, actor=actor)
    return True


async def _matches(tx: AsyncSession, vault: Vault, user: User, code: str) -> bool:
    import pyotp

    kept = await secrets.get(tx, vault, _name(user))
    if kept is None or not (code.isascii() and code.strip().isdigit()):
        return False
    totp = pyotp.TOTP(kept.decode())
    now = int(clock.now().timestamp()) // STEP
    for step in (now, now - 1, now + 1):  # one step of clock drift either way
        right = hmac.compare_digest(totp.at(step * STEP), code.strip())
        if right and step > user.totp_step:
            user.totp_step = step
            return True
    return False


async def turn_off(tx: AsyncSession, user: User) -> None:
    """Take the second factor away."""
    user.totp_at, user.recovery = None, []
    await secrets.drop(tx, _name(user))
    audit.note(tx, "user.second_factor_off", target=("user", user.id), label=user.email)
