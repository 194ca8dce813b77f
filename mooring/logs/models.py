"""Tables of the request log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base


class RequestLog(Base):
    """One call. `id` is a version 7 UUID, so it sorts by time.

    No header, body or query value is kept, except the redacted excerpt of an exchange that failed while linking, and what
    `diagnosis.answers.to_keep` takes from the head of a refusal.
    """

    __tablename__ = "request_logs"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    category: Mapped[str] = mapped_column(String(20))  # unified: through an account | platform: management
    project_id: Mapped[str] = mapped_column(String(80))
    account_id: Mapped[str | None] = mapped_column(String(40))
    origin_owner_id: Mapped[str | None] = mapped_column(String(200))
    provider: Mapped[str | None] = mapped_column(String(80))
    service: Mapped[str | None] = mapped_column(String(40))
    resource: Mapped[str | None] = mapped_column(String(80))
    action: Mapped[str | None] = mapped_column(String(120))
    method: Mapped[str] = mapped_column(String(20))
    path: Mapped[str] = mapped_column(String(2000))
    url: Mapped[str | None] = mapped_column(String(2000))
    status: Mapped[int]
    success: Mapped[bool]
    error_code: Mapped[str | None] = mapped_column(String(80))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    duration_ms: Mapped[float]
    source_type: Mapped[str] = mapped_column(String(40))
    source_id: Mapped[str | None] = mapped_column(String(80))
    source_ip: Mapped[str | None] = mapped_column(String(64))
    steps: Mapped[list[Any]]
    """The requests to the provider; one that was refused holds `diagnosis`. The last one holds `up` and `down`, the bytes of
    the bodies exchanged with the caller: a column of its own costs every row more than these do."""

    __table_args__ = (
        Index("ix_request_logs_project_id", "project_id", "category", "id"),
        Index("ix_request_logs_account", "project_id", "account_id", "id"),
        Index("ix_request_logs_provider", "project_id", "provider", "id"),
        Index(
            "ix_request_logs_errors",
            "project_id",
            "category",
            "id",
            sqlite_where=text("NOT success"),
            postgresql_where=text("NOT success"),
        ),
    )


class RequestDetail(Base):
    """Headers and bodies of one call (advanced logs), redacted, cut, and sealed with the account's data key.

    Deleting the account shreds that key, so nothing of it stays readable, in backups either (rule V5).
    """

    __tablename__ = "request_details"

    request_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(80))
    account_id: Mapped[str] = mapped_column(String(40), index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class LogStat(Base):
    """Calls of one connector in one span of time, counted as they are logged: charts must not read every row."""

    __tablename__ = "log_stats"

    project_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    minutes: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """How long the span is: every call is counted in a short one and in a long one."""
    span: Mapped[datetime] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(String(80), primary_key=True)
    calls: Mapped[int]
    errors: Mapped[int]
    total_ms: Mapped[float]
    under_30: Mapped[int]
    under_100: Mapped[int]
    under_300: Mapped[int]
    under_1000: Mapped[int]
    under_3000: Mapped[int]
    under_10000: Mapped[int]

    __table_args__ = (Index("ix_log_stats_span", "span"),)
