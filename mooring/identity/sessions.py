"""Sessions of the dashboard: kept on the server, listed, ended; a new one at every sign-in (rule W7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit
from mooring.identity.roles import Rights
from mooring.identity.user_models import OrganizationMember, ProjectMember, User, UserSession
from mooring.kit import clock, ids

IDLE: Final = timedelta(hours=12)
LONGEST: Final = timedelta(days=7)
CONFIRMED: Final = timedelta(minutes=30)
SEEN: Final = timedelta(minutes=1)  # how exact "last seen" is


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who looks at a page: the person, the session, and what they may do."""

    user: User
    session: UserSession
    rights: Rights

    @property
    def actor(self) -> audit.Actor:
        """The person as the audit log names them."""
        return audit.Actor("user", self.user.id, self.user.email, self.session.address)

    @property
    def is_confirmed(self) -> bool:
        """Whether they proved who they are a short while ago (rule A8)."""
        return self.session.confirmed_at > clock.now() - CONFIRMED


async def begin(tx: AsyncSession, user: User, address: str | None, agent: str | None) -> tuple[UserSession, str]:
    """Start a session; returns it with the cookie's value, which is not kept."""
    token = ids.secret_token()
    now = clock.now()
    row = UserSession(
        id=ids.nanoid(),
        user_id=user.id,
        token_hash=ids.digest(token),
        address=address,
        agent=agent[:300] if agent else None,
        created_at=now,
        seen_at=now,
        confirmed_at=now,
        expires_at=now + LONGEST,
    )
    tx.add(row)
    user.last_sign_in_at = now
    await tx.flush()
    return row, token


async def find(tx: AsyncSession, token: str | None) -> SignedIn | None:
    """The live session of a cookie, with the person's rights as they are now; None for anything else."""
    if not token or len(token) > 200:
        return None
    now = clock.now()
    row = (
        await tx.execute(
            select(UserSession, User)
            .join(User, User.id == UserSession.user_id)
            .where(
                UserSession.token_hash == ids.digest(token),
                UserSession.expires_at > now,
                UserSession.seen_at > now - IDLE,
                User.enabled,
            )
        )
    ).first()
    if row is None:
        return None
    session, user = row
    return SignedIn(user, session, await rights_of(tx, user.id))


async def rights_of(tx: AsyncSession, user_id: str) -> Rights:
    """What a person may do."""
    own = select(OrganizationMember.organization_id, OrganizationMember.role)
    organizations = await tx.execute(own.where(OrganizationMember.user_id == user_id))
    theirs = select(ProjectMember.project_id, ProjectMember.role).where(ProjectMember.user_id == user_id)
    projects = await tx.execute(theirs)
    return Rights({row[0]: row[1] for row in organizations}, {row[0]: row[1] for row in projects})


def is_due(session: UserSession) -> bool:
    """Whether the time of the last look should be written again."""
    return session.seen_at < clock.now() - SEEN


async def seen(tx: AsyncSession, session_id: str) -> None:
    """Note that the session is in use."""
    await tx.execute(update(UserSession).where(UserSession.id == session_id).values(seen_at=clock.now()))


async def confirm(tx: AsyncSession, session_id: str) -> None:
    """Note that the person proved again who they are."""
    await tx.execute(update(UserSession).where(UserSession.id == session_id).values(confirmed_at=clock.now()))


async def search(tx: AsyncSession, user_id: str) -> Sequence[UserSession]:
    """The live sessions of a person, the latest first."""
    now = clock.now()
    return (
        await tx.scalars(
            select(UserSession)
            .where(UserSession.user_id == user_id, UserSession.expires_at > now, UserSession.seen_at > now - IDLE)
            .order_by(UserSession.seen_at.desc())
        )
    ).all()


async def end(tx: AsyncSession, user_id: str, session_id: str) -> None:
    """End one session of a person, on the server. Raises NotFound for a foreign one."""
    gone = await tx.execute(delete(UserSession).where(UserSession.id == session_id, UserSession.user_id == user_id))
    if not gone.rowcount:  # type: ignore[attr-defined]
        raise errors.NotFound("no such session")
    audit.note(tx, "session.ended", target=("session", session_id))


async def end_all(tx: AsyncSession, user_id: str, *, but: str | None = None) -> None:
    """End all sessions of a person, or all but one."""
    query = delete(UserSession).where(UserSession.user_id == user_id)
    await tx.execute(query if but is None else query.where(UserSession.id != but))


async def purge(tx: AsyncSession) -> None:
    """Drop sessions that are over."""
    now = clock.now()
    await tx.execute(delete(UserSession).where(or_(UserSession.expires_at < now, UserSession.seen_at < now - IDLE)))
