"""Tables of the identity slice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, false
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base, BigId


class Organization(Base):
    """A company that runs projects. Its id is a number: old SDKs want one, new ones take its text."""

    __tablename__ = "organizations"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime]


class Project(Base):
    """The tenant: everything else belongs to exactly one project."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None] = mapped_column(index=True)
    """Set when somebody deleted it: its keys stop at once, its rows go after the days of grace."""
    ip_allowlist: Mapped[list[str]] = mapped_column(default=list)
    """Addresses, ranges and networks from which API keys may call; empty means from anywhere."""
    log_days: Mapped[int] = mapped_column(default=90)
    """How long request logs are kept (contract §2.9)."""


class ProjectSettingsRow(Base):
    """What end users see of a project, and which pages may embed its Hub. A project without a row has the defaults."""

    __tablename__ = "project_settings"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    display_name: Mapped[str | None] = mapped_column(String(120))
    logo: Mapped[bytes | None] = mapped_column(LargeBinary)
    logo_type: Mapped[str | None] = mapped_column(String(20))
    accent_light: Mapped[str | None] = mapped_column(String(7))
    accent_dark: Mapped[str | None] = mapped_column(String(7))
    support_contact: Mapped[str | None] = mapped_column(String(500))
    default_language: Mapped[str | None] = mapped_column(String(5))
    allowed_origins: Mapped[list[str]]
    return_urls: Mapped[list[str]]
    offer_all_methods: Mapped[bool] = mapped_column(default=True)
    advanced_logs: Mapped[str] = mapped_column(String(10), default="off")  # off | errors | all
    advanced_logs_days: Mapped[int] = mapped_column(default=7)
    assistants: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether its end users may let assistants work with their accounts, over OAuth at /mcp."""
    assistant_login_url: Mapped[str | None] = mapped_column(String(2000))
    """The page of the operator's product that signs its user in for an assistant."""
    updated_at: Mapped[datetime]


class ApiKey(Base):
    """An API key. Only its SHA-256 is kept; 256 bits of entropy need no slow hash (rule A1)."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    label: Mapped[str] = mapped_column(String(200))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[list[str]]
    allowed_accounts: Mapped[list[str] | None]
    """Ids of the only accounts that it may call through; none means all."""
    allowed_actions: Mapped[list[str] | None]
    """The only actions that it may run, `*` standing for any part; such a key calls nothing else."""
    approval: Mapped[str | None] = mapped_column(String(10))
    """Which of its calls a person has to approve first: delete or write; none means no call."""
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    """When it stops by itself; none means never."""
    last_used_at: Mapped[datetime | None]


class DataKeyRow(Base):
    """A wrapped data key. Deleting the row shreds all that it sealed (V5); its table can have a backup life of its own."""

    __tablename__ = "data_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    owner_kind: Mapped[str] = mapped_column(String(20))
    owner_id: Mapped[str] = mapped_column(String(40))
    kek_id: Mapped[str] = mapped_column(String(40), index=True)
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]

    __table_args__ = (Index("uq_data_keys_owner", "owner_kind", "owner_id", unique=True),)
