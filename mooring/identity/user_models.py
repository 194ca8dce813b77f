"""Tables of people: who they are, what they may do, where they are signed in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base


class User(Base):
    """A person who signs in to the dashboard. The secret of the second factor is sealed in `host_secrets`."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    """Lower case: the name to sign in with."""
    name: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str | None] = mapped_column(String(200))
    """Argon2id. Null for somebody who signs in elsewhere, or has not chosen one yet."""
    subject: Mapped[str | None] = mapped_column(String(300), unique=True)
    """Who the person is at the identity provider: issuer and subject."""
    totp_at: Mapped[datetime | None]
    """When the second factor was confirmed; null without one."""
    totp_step: Mapped[int] = mapped_column(default=0)
    """The last time step that was used: a code serves once (RFC 6238 §5.2)."""
    recovery: Mapped[list[str]]
    """SHA-256 of the recovery codes that are left."""
    language: Mapped[str | None] = mapped_column(String(10))
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    last_sign_in_at: Mapped[datetime | None]


class OrganizationMember(Base):
    """What a person is in an organization: `admin` may do everything in all of its projects, `basic` nothing by itself."""

    __tablename__ = "organization_members"

    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(20))


class ProjectMember(Base):
    """What a person is in a project: admin, member or viewer."""

    __tablename__ = "project_members"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(20))


class UserSession(Base):
    """One browser that is signed in. The cookie's value is kept as a hash."""

    __tablename__ = "user_sessions"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    address: Mapped[str | None] = mapped_column(String(64))
    agent: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    confirmed_at: Mapped[datetime]
    """When the person last proved who they are; what is grave asks again after a while (rule A8)."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UserToken(Base):
    """A link that lets somebody in once: the first set-up, an invitation, a forgotten password."""

    __tablename__ = "user_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(20))  # setup | invite
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Throttle(Base):
    """Failed attempts of one account or address. The subject is a hash, so that no table lists who tried."""

    __tablename__ = "throttles"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(index=True)


class HostSecret(Base):
    """A secret of this installation, sealed with a master key directly: it has no project whose data key could do it."""

    __tablename__ = "host_secrets"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class SignInState(Base):
    """A sign-in at the identity provider that is under way."""

    __tablename__ = "sign_in_states"

    state_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    browser_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """PKCE verifier, nonce, and where to go afterwards."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


Index("ix_user_sessions_user_seen", UserSession.user_id, UserSession.seen_at)
