"""Tables of the auth config slice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base


class AuthConfig(Base):
    """One auth config. Exactly one per project and connector is the default; the partial index enforces "at most"."""

    __tablename__ = "auth_configs"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    connector_key: Mapped[str] = mapped_column(String(80))
    connector_pinned_version: Mapped[str | None] = mapped_column(String(40))
    """`1.2.0`, `1.2.x` or `1.x.x`; none follows the newest version."""
    method_key: Mapped[str] = mapped_column(String(80))
    name: Mapped[str] = mapped_column(String(200))
    environment: Mapped[str] = mapped_column(String(40), default="production")
    active: Mapped[bool] = mapped_column(default=True)
    is_default: Mapped[bool]
    setup: Mapped[dict[str, Any]]
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    generation: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (
        Index(
            "uq_auth_configs_default",
            "project_id",
            "connector_key",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
        Index("ix_auth_configs_project_created", "project_id", "created_at"),
    )


class UnavailableConnector(Base):
    """A connector that an operator switched off in one project. A connector without a row is available."""

    __tablename__ = "unavailable_connectors"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    connector_key: Mapped[str] = mapped_column(String(80), primary_key=True)
    reason: Mapped[str] = mapped_column(String(500))
    """What operators read; end users never see it."""
    changed_at: Mapped[datetime]
