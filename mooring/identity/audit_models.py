"""Tables of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base, BigId


class AuditEntry(Base):
    """Who did what to which thing, from where, with what result. Only ever appended; `mac` chains it to the one before."""

    __tablename__ = "audit_entries"

    seq: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    organization_id: Mapped[int | None] = mapped_column(BigId)
    project_id: Mapped[str | None] = mapped_column(String(80))
    actor_kind: Mapped[str] = mapped_column(String(20))  # user | api_key | hub_session | command | system
    actor_id: Mapped[str | None] = mapped_column(String(80))
    actor_label: Mapped[str | None] = mapped_column(String(254))
    action: Mapped[str] = mapped_column(String(60))
    target_type: Mapped[str | None] = mapped_column(String(40))
    target_id: Mapped[str | None] = mapped_column(String(80))
    target_label: Mapped[str | None] = mapped_column(String(200))
    address: Mapped[str | None] = mapped_column(String(64))
    result: Mapped[str] = mapped_column(String(10))  # done | refused
    detail: Mapped[dict[str, Any]]
    mac: Mapped[bytes] = mapped_column(LargeBinary(32))

    __table_args__ = (
        Index("ix_audit_entries_project_seq", "project_id", "seq"),
        Index("ix_audit_entries_organization_seq", "organization_id", "seq"),
    )


class AuditHead(Base):
    """The end of the chain, in one row: who appends locks it."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigId)
    mac: Mapped[bytes] = mapped_column(LargeBinary(32))
    seal: Mapped[bytes] = mapped_column(LargeBinary(32))
    """The MAC of this row: without the key nobody can make an earlier entry the last one."""
