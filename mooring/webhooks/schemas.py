"""API shapes of events and webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mooring.kit.body import Body, Flag, Moment
from mooring.webhooks.models import Delivery, DeliveryAttempt, Event, WebhookEndpoint, WebhookSecret
from mooring.webhooks.secrets import MadeSecret


class SecretOut(BaseModel):
    """A signing secret. Its value is shown when it is made, and never again."""

    id: str
    active: bool
    created_at: datetime

    @classmethod
    def of(cls, row: WebhookSecret) -> SecretOut:
        return cls(id=row.id, active=row.active, created_at=row.created_at)


class SecretMade(SecretOut):
    """A new signing secret with its value."""

    secret: str

    @classmethod
    def made(cls, made: MadeSecret) -> SecretMade:
        return cls(id=made.row.id, active=made.row.active, created_at=made.row.created_at, secret=made.secret)


class EndpointOut(BaseModel):
    """A webhook endpoint."""

    id: str
    url: str
    description: str | None
    events: list[str] = Field(description="What it gets; empty means every event.")
    enabled: bool
    disabled_reason: str | None = Field(description="by_user, gone (it answered 410) or failing (for five days).")
    disabled_at: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: WebhookEndpoint) -> EndpointOut:
        return cls(**{name: getattr(row, name) for name in EndpointOut.model_fields})


class EndpointMade(EndpointOut):
    """A new endpoint with its first secret."""

    secret: SecretMade


class EndpointList(BaseModel):
    """All endpoints of a project."""

    data: list[EndpointOut]


class EndpointCreate(Body):
    """A new endpoint."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1, max_length=2000)
    description: str | None = Field(None, max_length=500)
    events: list[str] = Field(default_factory=list, max_length=200)
    enabled: Flag = True


class EndpointPatch(Body):
    """A change of an endpoint; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field("", min_length=1, max_length=2000)
    description: str | None = Field(None, max_length=500)
    events: list[str] = Field(default_factory=list, max_length=200)
    enabled: Flag = True


class SecretCreate(BaseModel):
    """A new secret; inactive until receivers know it."""

    model_config = ConfigDict(extra="forbid")

    active: Flag = False


class SecretPatch(BaseModel):
    """Switch a secret on or off."""

    model_config = ConfigDict(extra="forbid")

    active: Flag


class SecretList(BaseModel):
    """The secrets of an endpoint, oldest first."""

    data: list[SecretOut]


class EventOut(BaseModel):
    """A fact."""

    id: str
    event: str
    record_type: str
    record_id: str
    account_id: str | None
    payload: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, row: Event) -> EventOut:
        return cls(**{name: getattr(row, name) for name in EventOut.model_fields})


class EventPage(BaseModel):
    """One page of events, newest first; `next` fetches the one before."""

    data: list[EventOut]
    next: str | None


class AttemptOut(BaseModel):
    """One request to the receiver and its answer. Signatures are not kept; the answer is cut and redacted."""

    at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    request_headers: list[list[str]]
    response_headers: list[list[str]]
    response_body: str | None

    @classmethod
    def of(cls, row: DeliveryAttempt) -> AttemptOut:
        return cls(**{name: getattr(row, name) for name in AttemptOut.model_fields})


class DeliveryOut(BaseModel):
    """Telling an endpoint of an event. Its id is the event's, which the receiver sees as `webhook-id`."""

    id: str
    event: str
    record_type: str
    record_id: str
    account_id: str | None
    status: str = Field(description="pending, delivered, failed (given up) or dropped (the endpoint went off).")
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: Delivery, event: Event) -> DeliveryOut:
        return cls(**delivery_fields(row, event))


class DeliveryDetail(DeliveryOut):
    """A delivery with what was sent and its attempts, oldest first."""

    payload: dict[str, Any]
    log: list[AttemptOut]


class DeliveryPage(BaseModel):
    """One page of deliveries, newest event first; `next` fetches the one before."""

    data: list[DeliveryOut]
    next: str | None


class ReplayRequest(Body):
    """Which time to tell again."""

    model_config = ConfigDict(extra="forbid")

    since: Moment
    failed_only: Flag = Field(False, description="Only what was given up, dropped, or never sent.")


class ReplayStarted(BaseModel):
    """A replay that runs. `events` is how many events the time holds."""

    since: datetime
    events: int


class RaisedEvent(Body):
    """An event to raise by hand (contract §2.10)."""

    event: str = Field(min_length=1, max_length=80)
    record_id: str = Field(min_length=1, max_length=200)


def delivery_fields(row: Delivery, event: Event) -> dict[str, Any]:
    """The fields of `DeliveryOut`."""
    return {
        "id": event.id,
        "event": event.event,
        "record_type": event.record_type,
        "record_id": event.record_id,
        "account_id": event.account_id,
        "status": row.status,
        "attempts": row.attempts,
        "next_attempt_at": row.next_attempt_at,
        "last_status": row.last_status,
        "last_error": row.last_error,
        "delivered_at": row.delivered_at,
        "created_at": event.created_at,
    }
