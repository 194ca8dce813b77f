"""How a person proves who they are, and the session that follows; the same for the pages and the API."""

from __future__ import annotations

from mooring import errors
from mooring.identity import audit, second_factor, sessions, users
from mooring.identity.sessions import SignedIn
from mooring.identity.user_models import User, UserSession
from mooring.kit.db import Database
from mooring.kit.vault import Vault


async def by_password(
    db: Database, vault: Vault, email: str, password: str, code: str, address: str | None
) -> User | None:
    """The person of an address, a password and, where it is on, a code; None when the code is all that is missing.

    Raises Unauthorized, the same whatever was wrong; RateLimited.
    """
    user = await users.by_password(db, email, password, address)
    if user.totp_at is not None:
        if not code:
            # The password was right, so asking for the code tells nothing that its owner does not know.
            return None
        async with db.begin() as tx:
            fresh = await tx.get_one(User, user.id, with_for_update=True)
            right = await second_factor.check(tx, vault, fresh, code)
        if not right:
            await users.note_failure(db, user.email, address, user)
            raise errors.Unauthorized(users.REFUSED, hint="Enter the code that the app shows now, or a recovery code.")
    async with db.begin() as tx:
        await users.forget_failures(tx, user)
    return user


async def start(
    db: Database, user: User, *, address: str | None, agent: str | None, how: str, instead: SignedIn | None = None
) -> tuple[UserSession, str]:
    """A new session for a person who proved who they are, with its token; the one that they had ends."""
    async with db.begin() as tx:
        if instead is not None:
            await sessions.end(tx, instead.user.id, instead.session.id)
        row, token = await sessions.begin(tx, await tx.get_one(User, user.id), address, agent)
        actor = audit.Actor("user", user.id, user.email, address)
        audit.note(
            tx, "session.started", target=("session", row.id), label=user.email, actor=actor, detail={"how": how}
        )
    return row, token


async def confirm(db: Database, signed_in: SignedIn, password: str, address: str | None) -> None:
    """Note that the person proved again who they are (rule A8). Raises Conflict for somebody who signs in elsewhere."""
    user = signed_in.user
    if user.password_hash is None:
        raise errors.Conflict("you sign in elsewhere", hint="Sign out and in again.")
    await users.by_password(db, user.email, password, address)
    async with db.begin() as tx:
        await sessions.confirm(tx, signed_in.session.id)
        audit.note(tx, "session.confirmed", target=("session", signed_in.session.id))
