"""Tables of the grants slice. Every token, code and browser key is kept only as its SHA-256."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base


class GrantClient(Base):
    """A program that may ask for grants: it registered itself (RFC 7591), or its id is the URL of its metadata.

    Whoever asks nobody for a grant is forgotten after a day. What it says of itself is a claim and proves nothing.
    """

    __tablename__ = "grant_clients"

    id: Mapped[str] = mapped_column(String(500), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    redirect_uris: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class GrantLink(Base):
    """A link by which the operator's product says who sits at a browser. It is good for the browser that opens it."""

    __tablename__ = "grant_links"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    owner_id: Mapped[str] = mapped_column(String(500))
    owner_name: Mapped[str] = mapped_column(String(500))
    browser_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class GrantRequest(Base):
    """An authorization request that waits for its end user, in the browser that brought it (rule O6).

    `handle_hash` is of what the operator's product gets, `continue_hash` of what the browser brings back; each works once.
    """

    __tablename__ = "grant_requests"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    browser_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    handle_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    continue_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    client_id: Mapped[str] = mapped_column(String(500))
    client_name: Mapped[str] = mapped_column(String(120))
    redirect_uri: Mapped[str] = mapped_column(String(2000))
    state: Mapped[str | None] = mapped_column(String(2000))
    challenge: Mapped[str] = mapped_column(String(43))
    resource: Mapped[str] = mapped_column(String(500))
    writes: Mapped[bool]
    """Whether the client asked for more than reading."""
    owner_id: Mapped[str | None] = mapped_column(String(500))
    owner_name: Mapped[str | None] = mapped_column(String(500))
    confirmed: Mapped[bool]
    """Whether the browser that brought the request is known to be the owner's."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Grant(Base):
    """One end user's permission for one client, made at the consent page together with its one authorization code."""

    __tablename__ = "grants"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    client_id: Mapped[str] = mapped_column(String(500))
    client_name: Mapped[str] = mapped_column(String(120))
    redirect_uri: Mapped[str] = mapped_column(String(2000))
    resource: Mapped[str] = mapped_column(String(500))
    owner_id: Mapped[str] = mapped_column(String(500))
    owner_name: Mapped[str] = mapped_column(String(500))
    writes: Mapped[bool]
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    code_challenge: Mapped[str] = mapped_column(String(43))
    code_expires_at: Mapped[datetime]
    code_used_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    """When it last got a token."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None] = mapped_column(String(20))  # end_user | operator | client | reuse

    __table_args__ = (Index("ix_grants_owner", "project_id", "owner_id", "created_at"),)


class GrantAccount(Base):
    """An account that the end user chose for a grant."""

    __tablename__ = "grant_accounts"

    grant_id: Mapped[str] = mapped_column(ForeignKey("grants.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)


class GrantToken(Base):
    """An access or refresh token of a grant. `salt` makes a spent refresh token's successors again, for a moment."""

    __tablename__ = "grant_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    grant_id: Mapped[str] = mapped_column(ForeignKey("grants.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(10))  # access | refresh
    parent: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    """Hash of the refresh token that it came from."""
    salt: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)
