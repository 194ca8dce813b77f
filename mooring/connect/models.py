"""Tables of the connect slice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base, BigId


class ConnectSession(Base):
    """Short-lived permission for one end user to link or relink. The token is kept only as a hash (rule W1)."""

    __tablename__ = "connect_sessions"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    origin_owner_id: Mapped[str] = mapped_column(String(500))
    origin_owner_name: Mapped[str] = mapped_column(String(500))
    origin_username: Mapped[str | None] = mapped_column(String(500))
    provider: Mapped[str | None] = mapped_column(String(80))
    integration_id: Mapped[str | None] = mapped_column(String(36))
    account_id: Mapped[str | None] = mapped_column(String(40))
    categories: Mapped[list[str] | None]
    label: Mapped[str | None] = mapped_column(String(500))
    meta: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    multiple: Mapped[bool]
    type: Mapped[str] = mapped_column(String(20))
    external_trigger_token: Mapped[str] = mapped_column(String(36))
    manage_accounts: Mapped[bool] = mapped_column(default=True)
    """Whether the Hub shows the owner's accounts, to reconnect or remove them (decision 15)."""
    browser_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    """Hash of the key of the browser that opened the session's link; null until a link was opened (rule O6)."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ConnectionAttempt(Base):
    """One OAuth popup run inside a session (contract §8)."""

    __tablename__ = "connection_attempts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("connect_sessions.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(String(20))
    account_id: Mapped[str | None] = mapped_column(String(40))
    error_code: Mapped[str | None] = mapped_column(String(100))  # of an authenticated attempt: its warning
    error_description: Mapped[str | None] = mapped_column(String(1000))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expires_at: Mapped[datetime]

    __table_args__ = (Index("ix_connection_attempts_session", "session_id", "created_at"),)


class ConnectionLaunch(Base):
    """A form that was posted for an attempt and waits for the browser to open its launch URL, once, within two minutes.

    `sealed` holds what was typed, sealed with the auth config's data key.
    """

    __tablename__ = "connection_launches"

    attempt_id: Mapped[str] = mapped_column(ForeignKey("connection_attempts.id", ondelete="CASCADE"), primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    auth_config_id: Mapped[str] = mapped_column(ForeignKey("auth_configs.id", ondelete="CASCADE"))
    account_id: Mapped[str | None] = mapped_column(String(40))
    return_url: Mapped[str] = mapped_column(String(2000))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class OAuthTransaction(Base):
    """One run of the authorization code flow. Found by the hash of `state`, consumed once, bound to one browser.

    `sealed` holds the PKCE verifier and what was typed into the form, sealed with the auth config's data key.
    """

    __tablename__ = "oauth_transactions"

    state_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    session_id: Mapped[int] = mapped_column(ForeignKey("connect_sessions.id", ondelete="CASCADE"))
    attempt_id: Mapped[str] = mapped_column(String(36))
    auth_config_id: Mapped[str] = mapped_column(ForeignKey("auth_configs.id", ondelete="CASCADE"))
    connector_key: Mapped[str] = mapped_column(String(80))
    account_id: Mapped[str | None] = mapped_column(String(40))
    """The account that is reconnected; null to link by the upsert rule."""
    browser_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    redirect_uri: Mapped[str] = mapped_column(String(2000))
    return_url: Mapped[str] = mapped_column(String(2000))
    issuer: Mapped[str | None] = mapped_column(String(500))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    consumed_at: Mapped[datetime | None]
