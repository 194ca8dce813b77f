"""Tables of the actions slice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base


class Approval(Base):
    """One call of an API key that a person has to approve. Its arguments are sealed with the account's data key."""

    __tablename__ = "approvals"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(300))
    key_id: Mapped[str] = mapped_column(String(40))
    key_label: Mapped[str] = mapped_column(String(200))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[str] = mapped_column(String(10))  # pending | approved | rejected | used
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(254))
    reason: Mapped[str | None] = mapped_column(String(500))
    used_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_approvals_key", "key_id", "account_id", "action"),
        Index("ix_approvals_project", "project_id", "created_at"),
    )
