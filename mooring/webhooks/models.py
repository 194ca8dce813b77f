"""Tables of the webhooks slice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base, BigId

PENDING = "pending"
DELIVERED = "delivered"
FAILED = "failed"
DROPPED = "dropped"

NO_ACCOUNT = "-"


class Event(Base):
    """A fact, written in the transaction that made it true. `seq` is the order within an account; `id` is on the wire."""

    __tablename__ = "events"

    seq: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(80))
    record_type: Mapped[str] = mapped_column(String(60))
    record_id: Mapped[str] = mapped_column(String(200))
    account_id: Mapped[str | None] = mapped_column(String(40))
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (
        Index("ix_events_project_seq", "project_id", "seq"),
        Index("ix_events_account_seq", "project_id", "account_id", "seq"),
    )

    @property
    def lane(self) -> str:
        """Deliveries of one lane go out strictly in order: the account, or everything that has none."""
        return self.account_id or NO_ACCOUNT


class WebhookEndpoint(Base):
    """Where a project wants events sent. An empty `events` means all."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(String(2000))
    description: Mapped[str | None] = mapped_column(String(500))
    events: Mapped[list[str]]
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None] = mapped_column(String(40))  # by_user | gone | failing
    disabled_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    """The first failure after the last success."""
    paused_until: Mapped[datetime | None]
    """Nothing is sent before: the receiver is down, or asked for less."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (Index("ix_webhook_endpoints_project_created", "project_id", "created_at", "id"),)


class WebhookSecret(Base):
    """A signing secret, sealed with the endpoint's data key. All active ones sign."""

    __tablename__ = "webhook_secrets"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    active: Mapped[bool]
    created_at: Mapped[datetime]


class Delivery(Base):
    """Telling one endpoint of one event. It is named by the event's id, which receivers see as `webhook-id`."""

    __tablename__ = "webhook_deliveries"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), primary_key=True)
    event_seq: Mapped[int] = mapped_column(ForeignKey("events.seq", ondelete="CASCADE"), primary_key=True, index=True)
    lane: Mapped[str] = mapped_column(String(40))
    status: Mapped[str] = mapped_column(String(10))  # pending | delivered | failed: given up | dropped: never tried
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(String(500))
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_webhook_deliveries_lane", "endpoint_id", "lane", "status", "event_seq"),
        Index("ix_webhook_deliveries_status", "endpoint_id", "status", "event_seq"),
    )


class DeliveryAttempt(Base):
    """One request and its answer. Signatures are never kept, the answer only in part and redacted."""

    __tablename__ = "webhook_attempts"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    endpoint_id: Mapped[str] = mapped_column(String(40))
    event_seq: Mapped[int] = mapped_column(BigId)
    at: Mapped[datetime]
    duration_ms: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(500))
    request_headers: Mapped[list[Any]]
    response_headers: Mapped[list[Any]]
    response_body: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        ForeignKeyConstraint(
            ["endpoint_id", "event_seq"],
            ["webhook_deliveries.endpoint_id", "webhook_deliveries.event_seq"],
            ondelete="CASCADE",
            name="fk_webhook_attempts_delivery",
        ),
        Index("ix_webhook_attempts_delivery", "endpoint_id", "event_seq", "id"),
    )
